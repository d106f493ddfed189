"""What the result page says of volumes: a table of their findings, the organs, and which series were read as what."""

from __future__ import annotations

from imaging.html.markup import Json, Markup, amount, count, element, joined, quoted, reason_of, sentence, terms
from imaging.report.page.measures import measure, rating


def lesion_table(result: Json) -> Markup | None:
    """A row for each finding of a volume; on a narrow screen a row becomes a list of its cells, each with its head."""
    rows = [_cells(n, f) for n, f in enumerate(result["findings"], start=1) if f["volume_ml"] is not None]
    if not rows:
        return None
    heads = element("tr", *(element("th", head, scope="col") for head, _ in rows[0]))
    body = [
        element("tr", *(element("td", element("div", value), data_head=head) for head, value in row)) for row in rows
    ]
    table = element("table", element("thead", heads), element("tbody", *body), class_="lesions")
    return joined([element("h4", count(len(rows), "finding")), table])


def structures(result: Json) -> Markup | None:
    """The organs in which was looked, each with its volume."""
    pairs = [(sentence(organ["label"]), f"{amount(organ['volume_ml'])} ml") for organ in result["structures"]]
    return joined([element("h4", "Outlined organs"), terms(pairs, "values")]) if pairs else None


def selection(result: Json) -> Markup | None:
    """Which series were read as what, and, folded, which were left out and why."""
    if not result["roles"]:
        return None
    pairs = [(sentence(role), joined(_series(sery) for sery in series)) for role, series in result["roles"].items()]
    return joined([element("h4", "Read as"), terms(pairs, "values"), _left_out(result["rejected"])])


def _left_out(rejected: list[Json]) -> Markup | None:
    if not rejected:
        return None
    lines = [element("li", _series(one), reason_of(one, starts=True)) for one in rejected]
    number = count(len({one["series_uid"] for one in rejected}), "series", "series")
    summary = element("summary", f"{number} with images that were left out")
    return element("details", summary, element("ul", *lines, class_="left-out"))


def _cells(number: int, finding: Json) -> list[tuple[str, object]]:
    """Head and content of each cell of one finding."""
    frame = "" if finding["frame"] is None else f" frame {finding['frame']}"
    name = [
        element("strong", quoted(finding["label"])),
        element("div", quoted(finding["site"]["meaning"])) if finding["site"] else None,
        element("div", quoted(finding["source_sop_uid"], "uid"), frame, class_="quiet"),
    ]
    cells: list[tuple[str, object]] = [
        ("Finding", joined([element("span", number, class_="number"), element("div", *name)])),
        ("Score", element("b", f"{finding['score']:.2f}")),
        measure("volume_ml", finding["volume_ml"]),
        measure("longest_diameter_mm", finding["longest_diameter_mm"]),
        *(measure(name, value) for name, value in finding["measures"].items()),
        ("Slice", finding["slice"]),
        ("Center (LPS)", f"{', '.join(map(amount, finding['center_lps_mm']))} mm"),
    ]
    return cells if finding["rating"] is None else [*cells, rating(finding["rating"])]


def _series(series: Json) -> Markup:
    images = count(series["instances"], "image")
    return element("div", f"Series {series['series_number']}, {images}", title=series["series_uid"])
