"""Style and script of the result page: plain CSS, plain JavaScript, nothing from elsewhere.

Without the script everything is still there to read; it adds the filter, the search, the keys and the enlarging.
"""

from imaging.html.style import BASE

STYLE = (
    BASE
    + """
.toolbar {
  display: flex; flex-wrap: wrap; gap: .5rem .75rem; align-items: center; padding: .6rem 0; margin-bottom: .6rem;
  background: var(--ground); border-bottom: 1px solid var(--rule);
}
.search { position: relative; flex: 1 1 13rem; display: flex; }
.search input {
  flex: 1; min-width: 0; font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--quiet);
  border-radius: 6px; padding: .4rem 2.2rem .4rem .75rem;
}
.search input::placeholder { color: var(--quiet); opacity: 1; }
.search kbd { position: absolute; right: .6rem; top: .55rem; }
kbd { border: 1px solid var(--rule); border-radius: 3px; padding: 0 .4em; color: var(--quiet); line-height: 1.5; }
.search input:focus + kbd { display: none; }
button { font: inherit; color: inherit; cursor: pointer; }
.toolbar button {
  background: var(--paper); border: 1px solid var(--quiet); border-radius: 6px; padding: .4rem .8rem;
}
.toolbar button[aria-pressed="true"] { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
#status { color: var(--quiet); font-size: .9rem; }
.card {
  background: var(--paper); border: 1px solid var(--rule); border-left: 5px solid var(--tone); border-radius: 6px;
  padding: 1.1rem clamp(.9rem, 2.5vw, 1.5rem) 1.25rem; margin-bottom: 1rem;
}
.failed { --tone: var(--failed); --soft: var(--failed-soft); }
.unknown { --tone: var(--unknown); --soft: var(--unknown-soft); }
.yes { --tone: var(--yes); --soft: var(--yes-soft); }
.no { --tone: var(--no); --soft: var(--no-soft); }
h3 { font-size: 1.1rem; font-weight: 650; line-height: 1.35; }
.card h3 { display: flex; flex-wrap: wrap; gap: .35rem .75rem; align-items: center; }
.outcome { color: var(--tone); background: var(--soft); border-radius: 5px; padding: .15rem .65rem .15rem .55rem; }
.failed .stated { color: var(--ink); background: var(--sunk); }
.completeness { font-size: .95rem; font-weight: 500; }
.card > header > .caution {
  padding: .5rem .75rem; border-radius: 5px; background: var(--failed-soft); font-weight: 650;
}
.headline { margin-top: .55rem; max-width: 68ch; }
.card > header > p:not(.headline) { margin-top: .55rem; font-size: .9rem; }
.reason code { white-space: normal; }
.origin {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .4rem 1.25rem; margin-top: .8rem;
  padding-top: .7rem; border-top: 1px solid var(--rule); font-size: .92rem;
}
.card h4 { margin-top: 1.1rem; }
.card h4 .icon { margin-right: .4em; }
.unread { margin-top: 1rem; padding: .7rem .95rem .8rem; border-radius: 5px; background: var(--unknown-soft); }
.failed .unread { background: var(--failed-soft); }
.unread h4 { margin: 0 0 .3rem; color: var(--unknown); }
.failed .unread h4 { color: var(--failed); }
.unread .quiet, .unread code, .unread .images, .unread summary { color: var(--ink); }
.unread > ul > li + li { margin-top: .55rem; }
.images { font-size: .85rem; }
.evidence {
  display: grid; grid-template-columns: minmax(0, 1.15fr) minmax(0, 1fr); gap: 0 1.75rem; margin-top: 1.1rem;
}
.no-pictures { grid-template-columns: minmax(0, 1fr); margin-top: 0; }
.evidence:not(.no-pictures) > .details > h4:first-child { margin-top: 0; }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 14.5rem), 1fr)); gap: .75rem; }
.gallery.clear { grid-template-columns: repeat(auto-fill, minmax(min(100%, 10.5rem), 1fr)); }
.pictures details { margin-top: .6rem; }
figcaption { font-size: .85rem; line-height: 1.4; margin-top: .3rem; }
figcaption .quiet { display: block; font-size: .9em; }
.frame {
  position: relative; display: flex; width: 100%; padding: 0; border: 0; border-radius: 4px; overflow: hidden;
  background: var(--well); justify-content: center; cursor: zoom-in;
}
.frame:focus-visible { outline-offset: -3px; outline-color: #ffd84d; }
.frame > img { display: block; width: 100%; height: auto; }
.gallery .wide { grid-column: 1 / -1; }
.wide .frame { cursor: zoom-out; }
.overlay { position: absolute; inset: 0; width: 100%; height: 100%; overflow: hidden; }
.overlay polygon { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.halo { stroke: #000; stroke-opacity: .75; stroke-width: 4px; }
.line { stroke: #ffd84d; stroke-width: 2px; }
.organ { stroke: #7fd4ff; stroke-width: 1.5px; stroke-dasharray: 5 4; }
.overlay text {
  font: 700 .85rem system-ui, sans-serif; fill: #ffd84d; stroke: #000; stroke-width: 3px; paint-order: stroke;
}
.no-outlines .overlay { display: none; }
.missing { border: 1px dashed var(--rule); border-radius: 4px; padding: 2rem 1rem; text-align: center; }
.findings > li { padding: .65rem 0; border-top: 1px solid var(--rule); }
.findings > li:first-child { border-top: 0; padding-top: 0; }
.finding-title { display: flex; gap: .6rem; align-items: baseline; }
.number {
  flex: none; min-width: 1.5em; text-align: center; border-radius: 4px; background: var(--yes-soft); color: var(--yes);
  font-weight: 700; font-size: .9rem;
}
.score { margin-left: auto; color: var(--quiet); font-size: .9rem; white-space: nowrap; }
.score b { color: var(--ink); }
.values { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; margin: .3rem 0; }
.notes li { padding-left: 1rem; position: relative; }
.notes li::before { content: "–"; position: absolute; left: 0; color: var(--quiet); }
.left-out { margin-top: .3rem; font-size: .9rem; }
.left-out li { padding: .2rem 0; }
.lesions { width: 100%; border-collapse: collapse; font-size: .92rem; }
.lesions th {
  font-size: .8rem; font-weight: 500; color: var(--quiet); text-align: left; vertical-align: bottom;
  overflow-wrap: normal;
}
.lesions th, .lesions td { padding: .45rem .9rem .45rem 0; border-bottom: 1px solid var(--rule); }
.lesions td { vertical-align: top; white-space: nowrap; }
.lesions td:first-child { white-space: normal; }
.lesions td:first-child > div { display: flex; gap: .7rem; }
.lesions .number { align-self: start; }
.lesions td .quiet { font-size: .82rem; }
.objects li { display: grid; margin-bottom: .3rem; }
.objects .quiet { font-size: .78rem; }
.rows { border: 1px solid var(--rule); border-radius: 6px; background: var(--paper); }
.rows li {
  display: grid; grid-template-columns: 5.5rem minmax(0, 1.3fr) minmax(0, 1fr) minmax(0, 1.6fr); gap: .2rem 1.25rem;
  padding: .6rem .9rem; font-size: .9rem;
}
.rows li + li { border-top: 1px solid var(--rule); }
.section-rows > .quiet { margin: -.5rem 0 .7rem; font-size: .92rem; }
.file-state { margin-bottom: 1.4rem; }
.file-state h3 { font-size: 1rem; }
.file-state > p { font-size: .9rem; margin-bottom: .35rem; }
details > summary { cursor: pointer; }
.files details { background: var(--paper); border: 1px solid var(--rule); margin-top: -1px; }
.files summary { padding: .5rem .85rem; font-size: .92rem; display: flex; gap: .85rem; align-items: baseline; }
.files summary::before { content: "▸"; color: var(--quiet); flex: none; width: .8em; }
.files [open] > summary::before { content: "▾"; }
.files summary::-webkit-details-marker { display: none; }
.tally { min-width: 2.5rem; text-align: right; flex: none; }
.paths {
  font-family: var(--mono); font-size: .8rem; padding: .25rem .85rem .75rem; max-height: 28rem; overflow: auto;
  border-top: 1px solid var(--rule);
}
.paths li { padding: .08rem 0; }
.empty { border: 1px dashed var(--quiet); border-radius: 6px; padding: 1.25rem 1.5rem; background: var(--paper); }
.empty ul { list-style: disc; padding-left: 1.2rem; margin-top: .4rem; }
@media (min-width: 48rem) and (min-height: 34rem) {
  .toolbar { position: sticky; top: 0; z-index: 2; }
  .pictures { position: sticky; top: 4.75rem; align-self: start; max-height: calc(100vh - 5.5rem); overflow-y: auto; }
}
@media (max-width: 48rem) {
  .evidence { grid-template-columns: minmax(0, 1fr); }
  .evidence:not(.no-pictures) > .details { margin-top: 1rem; }
  .rows li { grid-template-columns: minmax(0, 1fr); }
  .lesions, .lesions tbody, .lesions tr, .lesions td { display: block; }
  .lesions thead { display: none; }
  .lesions tr { padding: .5rem 0; border-bottom: 1px solid var(--rule); }
  .lesions td { display: flex; justify-content: space-between; gap: .5rem; padding: .1rem 0; border: 0; }
  .lesions td:not(:first-child)::before { content: attr(data-head); color: var(--quiet); }
}
@media (max-width: 26rem) {
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .origin { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media (prefers-reduced-motion: no-preference) {
  html { scroll-behavior: smooth; }
  .tile, .toolbar button { transition: border-color .12s; }
}
@media print {
  body { font-size: 10pt; }
  .pictures, .toolbar { position: static; max-height: none; overflow: visible; }
  .toolbar label, .toolbar button, .skip, .legend span, legend span { display: none !important; }
  .card header, figure, .findings > li, .unread, .tile { break-inside: avoid; }
  .outcome { border: 1px solid currentColor; }
  .frame, .overlay { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .gallery { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
"""
)

SCRIPT = """
"use strict";
const root = document.documentElement;
const all = (selector) => [...document.querySelectorAll(selector)];
const entries = all("[data-kinds]");
const search = document.getElementById("search");
const outlines = document.getElementById("outlines");
root.classList.add("live");

function filter() {
  const kind = document.querySelector("[name=show]:checked").value;
  const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  for (const entry of entries) {
    const { kinds, find } = entry.dataset;
    entry.hidden = !((kind === "all" || kinds.split(" ").includes(kind)) && words.every((word) => find.includes(word)));
    shown += entry.hidden ? 0 : 1;
  }
  for (const section of all(".section-rows")) section.hidden = !section.querySelector("[data-kinds]:not([hidden])");
  document.getElementById("no-match").hidden = shown > 0;
  document.getElementById("status").textContent = `${shown} of ${entries.length} answers shown`;
}

function toggleOutlines() {
  const hidden = root.classList.toggle("no-outlines");
  outlines.setAttribute("aria-pressed", String(!hidden));
}

function enlarge(frame) {
  const wide = frame.closest("figure").classList.toggle("wide");
  frame.setAttribute("aria-expanded", String(wide));
}

if (search) {
  for (const choice of all("[name=show]")) choice.addEventListener("change", filter);
  search.addEventListener("input", filter);
  outlines.addEventListener("click", toggleOutlines);
  for (const frame of all(".frame")) frame.addEventListener("click", () => enlarge(frame));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === search) {
      if (event.key === "Escape") { search.value = ""; filter(); search.blur(); }
    } else if (event.key === "/") {
      event.preventDefault(); search.focus();
    } else if (event.key === "o") {
      toggleOutlines();
    }
  });
  window.addEventListener("beforeprint", () => all(".card details").forEach((part) => { part.open = true; }));
  filter();
}
"""
