"""Icons and the look that every page of this toolkit has: colours in light, dark and print, type, tiles, footer."""

ICONS = """<svg class="unseen" aria-hidden="true" focusable="false">
<symbol id="i-yes" viewBox="0 0 16 16"><circle cx="8" cy="8" r="6" fill="none"/><circle class="solid" cx="8" cy="8" \
r="2.6"/></symbol>
<symbol id="i-no" viewBox="0 0 16 16"><circle cx="8" cy="8" r="6" fill="none"/><path d="M5.2 8h5.6"/></symbol>
<symbol id="i-unknown" viewBox="0 0 16 16"><circle cx="8" cy="8" r="6" fill="none"/><path fill="none" \
d="M6.2 6.6a1.8 1.8 0 1 1 2.7 1.5c-.6.4-.9.6-.9 1.2M8 11.2v.1"/></symbol>
<symbol id="i-failed" viewBox="0 0 16 16"><path fill="none" d="M8 2 14.4 13.5H1.6ZM8 6.4v3.2M8 11.5v.1"/></symbol>
<symbol id="i-na" viewBox="0 0 16 16"><circle cx="8" cy="8" r="6" fill="none"/><path d="m3.8 12.2 8.4-8.4"/></symbol>
<symbol id="i-all" viewBox="0 0 16 16"><circle class="solid" cx="8" cy="8" r="6"/></symbol>
<symbol id="i-some" viewBox="0 0 16 16"><circle cx="8" cy="8" r="6" fill="none"/><path class="solid" \
d="M8 2a6 6 0 0 0 0 12Z"/></symbol>
<symbol id="i-none" viewBox="0 0 16 16"><circle cx="8" cy="8" r="6" fill="none" stroke-dasharray="2.4 2.3"/></symbol>
<symbol id="i-list" viewBox="0 0 16 16"><path d="M5.5 4H14M5.5 8H14M5.5 12H14M2 4h.6M2 8h.6M2 12h.6"/></symbol>
</svg>"""

BASE = """
:root {
  --ground: #f4f6f8; --paper: #ffffff; --sunk: #eef1f5; --ink: #17202b; --quiet: #55606e; --rule: #d5dbe3;
  --accent: #0b5cad; --failed: #a8201a; --failed-soft: #fdeeec; --unknown: #7d5200; --unknown-soft: #fdf4e3;
  --yes: #5b35b5; --yes-soft: #f2eefc; --no: #1f6350; --no-soft: #e9f4f0; --well: #0a0d11;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0f1419; --paper: #171e26; --sunk: #1f2831; --ink: #e4e9ef; --quiet: #a0acb9; --rule: #323e4a;
    --accent: #7db8f5; --failed: #ff9b90; --failed-soft: #38201f; --unknown: #eebd62; --unknown-soft: #33290f;
    --yes: #bfa8ff; --yes-soft: #2a2340; --no: #7fcfb4; --no-soft: #16302a;
  }
}
*, *::before, *::after { box-sizing: border-box; }
[hidden], :root:not(.live) .wants-js { display: none !important; }
html { color-scheme: light dark; scroll-padding-top: 5rem; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "Noto Sans", Arial, sans-serif; font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
.masthead, main, body > footer { max-width: 72rem; margin-inline: auto; padding-inline: clamp(1rem, 4vw, 2.5rem); }
h1, h2, h3, h4, p, dl, dd, ul, ol, figure, fieldset { margin: 0; padding: 0; }
ul, ol { list-style: none; }
h1 { font-size: clamp(1.6rem, 1.2rem + 2vw, 2.2rem); line-height: 1.2; letter-spacing: -.015em; font-weight: 650; }
h2 { font-size: 1.2rem; line-height: 1.3; font-weight: 650; margin: 2.75rem 0 .9rem; }
h4, .legend, legend { font-size: .8rem; font-weight: 600; color: var(--quiet); padding: 0; margin: 0 0 .4rem; }
a { color: var(--accent); text-underline-offset: .15em; }
:focus-visible, input:focus-visible + .tile {
  outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px;
}
.unseen {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
.skip { position: absolute; left: -100vw; top: .5rem; background: var(--paper); padding: .5rem 1rem; z-index: 3; }
.skip:focus { left: .5rem; }
.quiet { color: var(--quiet); font-weight: 400; }
.small { font-size: .85rem; }
.nowrap { white-space: nowrap; }
.uid, code, kbd { font-family: var(--mono); font-size: .86em; }
code { color: var(--quiet); }
.icon {
  width: 1em; height: 1em; flex: none; stroke: currentColor; stroke-width: 1.6; stroke-linecap: round;
  stroke-linejoin: round; vertical-align: -.13em; margin-right: .45em;
}
.icon use, .solid { fill: currentColor; }
.tag {
  display: inline-block; font-size: .75rem; line-height: 1.35; padding: 0 .45em;
  border: 1px solid currentColor; border-radius: 3px; color: var(--unknown); white-space: nowrap;
}
.masthead { padding-top: 1.25rem; }
.notice {
  border: 1px solid var(--unknown); background: var(--unknown-soft); color: var(--unknown); border-radius: 6px;
  padding: .5rem .85rem; font-size: .92rem;
}
.eyebrow { color: var(--quiet); font-size: .9rem; margin-top: 1.6rem; }
.facts { display: flex; flex-wrap: wrap; gap: .35rem 2.25rem; margin-top: .9rem; font-size: .95rem; }
dt { color: var(--quiet); font-size: .8rem; line-height: 1.4; }
.inline li { display: inline; }
.inline li + li::before { content: " · "; color: var(--quiet); white-space: pre; }
.overview h2 { margin-top: 1.75rem; }
.overview > p { margin-bottom: .6rem; }
fieldset { border: 0; min-width: 0; margin-bottom: 1.1rem; }
.tiles { display: grid; gap: .5rem; grid-template-columns: repeat(auto-fill, minmax(9.1rem, 1fr)); }
.choice { position: relative; display: grid; }
.choice input { position: absolute; inset: 0; opacity: 0; margin: 0; pointer-events: none; }
.tile {
  display: flex; flex-direction: column; gap: .1rem; padding: .6rem .75rem .65rem; border: 1px solid var(--rule);
  border-radius: 6px; background: var(--paper); color: inherit; text-decoration: none;
}
.live .tile { cursor: pointer; }
.live .tile:hover { border-color: var(--accent); }
.live input:checked + .tile { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
.tile-number { font-size: 1.75rem; line-height: 1.15; font-weight: 600; letter-spacing: -.01em; }
.tile-title { font-size: .85rem; font-weight: 600; line-height: 1.35; }
.tile-detail { font-size: .78rem; line-height: 1.35; color: var(--quiet); }
.tile-failed:not(.zero) { background: var(--failed-soft); }
.tile-failed:not(.zero) .tile-title, .tile-failed:not(.zero) .tile-number { color: var(--failed); }
.tile-unread:not(.zero) .tile-title, .tile-unread:not(.zero) .tile-number,
.tile-unknown:not(.zero) .tile-title, .tile-unknown:not(.zero) .tile-number { color: var(--unknown); }
.tile-yes:not(.zero) .tile-title, .tile-yes:not(.zero) .tile-number { color: var(--yes); }
.tile-no:not(.zero) .tile-title, .tile-no:not(.zero) .tile-number { color: var(--no); }
.file-states { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; font-size: .95rem; }
.file-states a { color: inherit; text-decoration-color: var(--rule); }
.file-states a:hover { text-decoration-color: currentColor; }
.file-states .some-refused { color: var(--failed); }
.zero .tile-title, .zero .tile-number { color: var(--quiet); font-weight: 400; }
body > footer {
  margin-top: 3rem; padding-block: 1.25rem 2.5rem; border-top: 1px solid var(--rule); color: var(--quiet);
  font-size: .85rem;
}
body > footer > * + * { margin-top: .5rem; }
@media print {
  :root {
    --ground: #fff; --paper: #fff; --sunk: #fff; --ink: #000; --quiet: #444; --rule: #aaa; --accent: #000;
    --failed: #8d1510; --failed-soft: #fff; --unknown: #6b4600; --unknown-soft: #fff; --yes: #47278f; --yes-soft: #fff;
    --no: #174c3d; --no-soft: #fff; color-scheme: light;
  }
}
"""
