"""Style of the evaluation page; it has no script."""

from imaging.html.style import BASE

STYLE = (
    BASE
    + """
.lead { max-width: 72ch; margin-bottom: .8rem; }
h3 { font-size: 1.02rem; font-weight: 650; line-height: 1.35; margin: 1.6rem 0 .5rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin-top: 1rem; font-size: .92rem; }
.tile-warned:not(.zero) { background: var(--failed-soft); }
.tile-warned:not(.zero) .tile-title, .tile-warned:not(.zero) .tile-number { color: var(--failed); }
.counted .tiles { grid-template-columns: repeat(auto-fit, minmax(8.6rem, 1fr)); }
.counted + .counted { margin-top: .9rem; }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 6px; background: var(--paper); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .45rem .8rem; vertical-align: top; border-top: 1px solid var(--rule); }
thead th { border-top: 0; font-size: .8rem; color: var(--quiet); font-weight: 600; vertical-align: bottom; }
thead th { overflow-wrap: normal; }
tbody th { font-weight: 500; min-width: 7rem; max-width: 18rem; }
td { overflow-wrap: break-word; }
.number-cell { text-align: right; white-space: nowrap; }
.bad { color: var(--failed); font-weight: 650; }
.total th, .total td { font-weight: 650; background: var(--sunk); }
.values td { min-width: 8.5rem; }
.limits { color: var(--quiet); font-size: .88em; display: inline-block; }
.at { display: block; font-weight: 500; }
.coverage { display: block; color: var(--unknown); }
.absent { color: var(--unknown); }
.forests, .plots { display: grid; gap: 1.1rem 1.4rem; }
.forests { grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
.plots { grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); }
.panel { background: var(--paper); border: 1px solid var(--rule); border-radius: 6px; padding: .8rem 1rem 1rem; }
.panel h3 { margin: 0 0 .4rem; }
.forest > li { display: grid; grid-template-columns: minmax(0, 8.5rem) minmax(0, 1fr) 8.6rem; gap: 0 .7rem;
  align-items: center; font-size: .85rem; line-height: 1.3; }
.forest .limits, td .limits { display: block; }
.forest .name .quiet { display: block; font-size: .92em; }
.forest > li > span { padding: .3rem 0; }
.forest > li > .drawing { position: relative; align-self: stretch; min-height: 1.3rem; }
.forest .summary { border-top: 1px solid var(--rule); }
.forest .summary .name { font-weight: 600; }
.forest-plot { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.forest-ticks { width: 100%; height: 1.2rem; overflow: visible; display: block; }
svg text { fill: var(--quiet); font-size: 12px; }
.grid { stroke: var(--rule); stroke-width: 1; fill: none; }
.ideal, .reference { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 4 4; fill: none; }
.reach { stroke: var(--accent); stroke-width: 2; }
.reach.mean { stroke: var(--ink); stroke-width: 3; }
.reach.new { stroke: var(--unknown); stroke-width: 5; }
.dot { fill: var(--accent); }
.diamond { fill: var(--ink); }
.plot { width: 100%; height: auto; display: block; max-width: 30rem; }
.plot .name { fill: var(--ink); }
.band { fill: var(--accent); opacity: .2; }
.curve { fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; }
.curve.thin { stroke-width: 1; }
.whisker { stroke: var(--accent); stroke-width: 1.5; fill: none; }
.panel p { font-size: .85rem; color: var(--quiet); }
.reasons { font-size: .9rem; }
.reasons li { padding: .3rem 0; border-top: 1px solid var(--rule); }
.reasons li:first-child { border-top: 0; }
.reasons b { font-weight: 600; }
.failures h3 { margin-top: 0; }
.failures { background: var(--failed-soft); border-radius: 6px; padding: .6rem 1rem; margin-top: .9rem; }
.failures .quiet { color: var(--ink); }
details { margin-top: .8rem; }
details > summary { cursor: pointer; padding: .3rem 0; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: 1rem; }
.frame { position: relative; background: var(--well); border-radius: 4px; overflow: hidden; }
.frame > img { display: block; width: 100%; height: auto; }
.overlay { position: absolute; inset: 0; width: 100%; height: 100%; }
.overlay path { fill: none; vector-effect: non-scaling-stroke; }
.halo { stroke: #000; stroke-opacity: .7; stroke-width: 4px; }
.line.truth { stroke: #35d6c8; stroke-width: 2px; }
.line.prediction { stroke: #ffb000; stroke-width: 2px; stroke-dasharray: 5 3; }
figcaption { font-size: .85rem; line-height: 1.4; margin-top: .35rem; }
figcaption .quiet, figcaption .wrong { display: block; }
.keys { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; font-size: .9rem; margin-bottom: .8rem; }
.keys svg { width: 2.2em; height: .9em; background: #0a0d11; border-radius: 3px; margin-right: .45em;
  vertical-align: -.1em; }
.protocol dl {
  display: grid; gap: .5rem 1.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr));
}
.protocol dd { font-size: .92rem; }
@media (max-width: 30rem) {
  .forest > li { grid-template-columns: minmax(7rem, 1fr) minmax(0, 10.5rem); }
  .forest > li > .value { text-align: right; }
  .forest > li > .drawing { grid-column: 1 / -1; grid-row: 2; }
  th, td { padding: .4rem .55rem; }
}
@media print {
  body { font-size: 9.5pt; }
  .skip, nav { display: none; }
  .panel, figure, .tile, tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding: .25rem .4rem; }
  .values td, tbody th { min-width: 0; }
  details::details-content { content-visibility: visible; display: block; block-size: auto; }
  .frame, .overlay, .band, .dot, .reach { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
)
