"""Style, script and icons of the result page: plain CSS, plain JavaScript, nothing from elsewhere.

Without the script everything is still there to read; it adds the filter, the search, the keys and the enlarging.
"""

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

STYLE = """
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
body > footer {
  margin-top: 3rem; padding-block: 1.25rem 2.5rem; border-top: 1px solid var(--rule); color: var(--quiet);
  font-size: .85rem;
}
body > footer > * + * { margin-top: .5rem; }
@media (min-width: 48rem) and (min-height: 34rem) {
  .toolbar { position: sticky; top: 0; z-index: 2; }
  .pictures { position: sticky; top: 4.75rem; align-self: start; max-height: calc(100vh - 5.5rem); overflow-y: auto; }
}
@media (max-width: 48rem) {
  .evidence { grid-template-columns: minmax(0, 1fr); }
  .evidence:not(.no-pictures) > .details { margin-top: 1rem; }
  .rows li { grid-template-columns: minmax(0, 1fr); }
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
  :root {
    --ground: #fff; --paper: #fff; --sunk: #fff; --ink: #000; --quiet: #444; --rule: #aaa; --accent: #000;
    --failed: #8d1510; --failed-soft: #fff; --unknown: #6b4600; --unknown-soft: #fff; --yes: #47278f; --yes-soft: #fff;
    --no: #174c3d; --no-soft: #fff; color-scheme: light;
  }
  body { font-size: 10pt; }
  .pictures, .toolbar { position: static; max-height: none; overflow: visible; }
  .toolbar label, .toolbar button, .skip, .legend span, legend span { display: none !important; }
  .card header, figure, .findings > li, .unread, .tile { break-inside: avoid; }
  .outcome { border: 1px solid currentColor; }
  .frame, .overlay { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .gallery { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
"""

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
