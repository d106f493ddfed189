"""Style of the benchmark page: that of the evaluation page, and what only this page has; it has no script."""

from imaging.evaluation.page.style import STYLE as EVALUATION

STYLE = (
    EVALUATION
    + """
.notice + .notice { margin-top: .5rem; }
.panel + .scroll, .scroll + .scroll { margin-top: .9rem; }
th .limits { display: block; font-weight: 400; }
tbody th { min-width: 8.5rem; }
.wide td { min-width: 6.5rem; }
.wide td:last-child { min-width: 12rem; }
.wide .number-cell, .values .number-cell { min-width: 0; }
.differences td:last-child { min-width: 9rem; }
.differences .difference { min-width: 8.5rem; }
.limits-of-it { max-width: 72ch; }
.line { fill: none; stroke: var(--accent); stroke-width: 2; }
td.home { background: var(--sunk); }
.blank { color: var(--failed); }
.items td:last-child, .items th { min-width: 11rem; }
"""
)
