"""`imaging data check`: a table of cases → what is wrong with it, printed and as a page with pictures."""

from __future__ import annotations

import argparse
import base64
import io
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from imaging.commands.data import progress_bar
from imaging.commands.studies import recipe_of
from imaging.data.check import Checked, Survey, survey
from imaging.data.duplicates import Duplicate
from imaging.data.manifest import read_manifest
from imaging.errors import OutputError, Reason
from imaging.html.markup import Markup, element, head, quoted
from imaging.html.style import BASE
from imaging.image import Array
from imaging.table import remarks_kept

_SIDE = 160
_MOST_SHOWN = 40
_STYLE = BASE + "body{max-width:70rem;margin:2rem auto;padding:0 1rem}td,th{text-align:left;padding:.2rem .8rem}"


def run(args: argparse.Namespace) -> int:
    """Exit status 0, 1 where something is wrong; raises ImagingError for a wrong table or page folder."""
    with remarks_kept() as remarks:
        cases = read_manifest(args.manifest)
        with progress_bar(args.manifest.name) as show:
            found = survey(cases, recipe_of, show)
    for problem in found.problems:
        print(f"problem  {problem}", file=sys.stderr)
    for doubt in found.doubts:
        print(f"look at  {doubt}", file=sys.stderr)
    for case in found.cases:
        if case.unread:
            print(f"not looked into: case '{case.case.case_id}': {case.unread}", file=sys.stderr)
    for row in site_rows(found.cases):
        print("  ".join(row))
    print(f"{len(cases)} cases, {len(found.problems)} problems, {len(found.duplicates)} pairs with one picture")
    if args.out is not None:
        _write(args.out, page(args.manifest.name, found, list(remarks)))
        print(f"page     {(args.out / 'index.html').resolve()}")
    return 1 if found.problems else 0


def site_rows(checked: Sequence[Checked]) -> list[tuple[str, ...]]:
    """Of each site: its name, cases by split, sizes, range of values, cases with each label."""
    by_site: dict[str, list[Checked]] = defaultdict(list)
    for one in checked:
        by_site[one.case.site].append(one)
    rows: list[tuple[str, ...]] = []
    for site, ones in sorted(by_site.items()):
        splits, grids = Counter(one.case.split for one in ones), Counter(one.grid.partition(" from")[0] for one in ones)
        ends = [one.values for one in ones if one.values is not None]
        labels = Counter(value for one in ones for value, _ in one.labels)
        rows.append((
            site,
            ", ".join(f"{splits[side]} {side}" for side in ("train", "val", "test")),
            "; ".join(f"{n}: {grid or 'not read'}" for grid, n in grids.most_common(3)),
            f"values {min(low for low, _ in ends):g} to {max(high for _, high in ends):g}" if ends else "no values",
            ", ".join(f"label {value} in {n}" for value, n in sorted(labels.items())) or "no labels",
        ))  # fmt: skip
    return rows


def page(name: str, found: Survey, remarks: Sequence[str] = ()) -> str:
    """The survey as a page of its own: sites, problems, remarks, pictures that stand twice, a case of each site."""
    title = f"Check of {name}"
    shown = {case.case.case_id: case for case in found.cases}
    by_site = {case.case.site: case for case in reversed(found.cases) if case.shown is not None}
    samples = [_figure(by_site[site], site) for site in sorted(by_site)]
    body = element(
        "main",
        element("h1", title),
        _section("Sites", [element("table", *(_row(row) for row in site_rows(found.cases)))]),
        _section("Problems", [element("ul", *(element("li", quoted(text)) for text in found.problems))]),
        _section("Remarks", [element("ul", *(element("li", quoted(text)) for text in (*found.doubts, *remarks)))]),
        _section("Pictures that stand twice", (_pair(pair, shown) for pair in found.duplicates[:_MOST_SHOWN])),
        _section("A case of each site", samples),
    )
    return f'<!doctype html>\n<html lang="en">{head(title, _STYLE)}{element("body", body)}</html>\n'


def _section(title: str, parts: Iterable[Markup]) -> Markup:
    return element("section", element("h2", title), *parts)


def _row(cells: Sequence[str]) -> Markup:
    return element("tr", *(element("td", quoted(cell)) for cell in cells))


def _pair(pair: Duplicate, shown: dict[str, Checked]) -> Markup:
    both = [shown[case.case_id] for case in (pair.first, pair.second)]
    return element("div", element("p", quoted(f"{pair} (likeness {pair.likeness:.2f})")),
                   *(_figure(one, one.case.case_id) for one in both))  # fmt: skip


def _figure(one: Checked, told: str) -> Markup:
    source = "" if one.shown is None else f"data:image/png;base64,{_thumbnail(one.shown)}"
    return element("figure", element("img", src=source, alt=""), element("figcaption", quoted(told)))


def _thumbnail(plane: Array) -> str:
    low, high = (float(value) for value in np.percentile(plane, (1, 99)))
    grey = np.clip((plane.astype(np.float64) - low) * 255 / max(high - low, 1e-9), 0, 255).astype(np.uint8)
    small = Picture.fromarray(grey)
    small.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    small.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def _write(folder: Path, text: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"--out {folder}: {error.strerror}; allowed is a writable folder", Reason.OUTPUT_FAILED
        ) from error
