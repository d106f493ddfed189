"""Preview pictures on the result page, with the outlines of the findings drawn over them in source pixels."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from pathlib import Path

from imaging.html.markup import Json, Markup, count, element, inner_link, joined, quoted

# Previews beyond this are linked, not embedded: a browser must still open the page of a large export.
EMBEDDED_BYTES_LIMIT = 96 * 2**20
PREVIEWS_SHOWN_AT_ONCE = 6


@dataclass
class PreviewPictures:
    """The preview pictures under `out`, embedded until the page holds `EMBEDDED_BYTES_LIMIT` bytes of them."""

    out: Path
    embedded: int = 0

    def link(self, path: str) -> str | None:
        """A relative URL for a picture that is there, under `out`; None for any other path."""
        link = inner_link(path)
        try:
            file = (self.out / path).resolve()
            there = link is not None and file.is_relative_to(self.out.resolve()) and file.is_file()
        except (OSError, ValueError):
            return None
        return link if there else None

    def embed(self, path: str) -> tuple[Markup, int, int] | None:
        """The picture as a data URI with its width and height; None when it is missing, not a PNG or too much."""
        if self.link(path) is None:
            return None
        file = self.out / path
        try:
            if self.embedded + file.stat().st_size > EMBEDDED_BYTES_LIMIT:
                return None
            content = file.read_bytes()
        except OSError:
            return None
        # PNG (ISO/IEC 15948): signature, then an IHDR chunk that begins with width and height.
        if not content.startswith(b"\x89PNG\r\n\x1a\n") or content[12:16] != b"IHDR" or len(content) < 24:
            return None
        self.embedded += len(content)
        width, height = struct.unpack(">II", content[16:24])
        return Markup(f"data:image/png;base64,{base64.b64encode(content).decode()}"), width, height


def figures(result: Json, previews: PreviewPictures) -> list[Markup]:
    """Pictures with findings first; those beyond `PREVIEWS_SHOWN_AT_ONCE` are folded away."""
    numbered = list(enumerate(result["findings"], start=1))
    frames = [(preview["source_sop_uid"], preview["frame"]) for preview in result["previews"]]
    seen = [(preview, [(n, f) for n, f in numbered if _shows(preview, f)]) for preview in result["previews"]]
    seen.sort(key=lambda pair: not pair[1])
    drawn = [
        _figure(preview, result, found, previews, frames.count((preview["source_sop_uid"], preview["frame"])) > 1)
        for preview, found in seen
    ]
    shown, folded = drawn[:PREVIEWS_SHOWN_AT_ONCE], drawn[PREVIEWS_SHOWN_AT_ONCE:]
    blocks = [element("div", *shown, class_=f"gallery{'' if numbered else ' clear'}")] if shown else []
    if folded:
        summary = element("summary", f"Show {count(len(folded), 'more image')}")
        blocks.append(element("details", summary, element("div", *folded, class_="gallery clear")))
    return blocks


def _shows(preview: Json, finding: Json) -> bool:
    return all(preview[key] == finding[key] for key in ("source_sop_uid", "frame", "region"))


def _figure(
    preview: Json, result: Json, found: list[tuple[int, Json]], previews: PreviewPictures, one_of_several: bool
) -> Markup:
    """One picture with its view, if known; its region is named only where the same frame is shown in several."""
    picture = previews.embed(preview["path"])
    where = "" if preview["frame"] is None else f" frame {preview['frame']}"
    if one_of_several and preview["region"] is not None:
        where += f" region {preview['region']}"
    view = result["views"].get(preview["source_sop_uid"])
    organs = [organ for organ in result["structures"] if _shows(preview, organ)]
    if picture is None:
        link = previews.link(preview["path"])
        words = element("a", "Picture not embedded", href=link) if link else "Picture missing"
        frame = element("p", words, class_="missing")
    else:
        frame = _frame(picture, preview["box_px"], found, organs, where)
    caption = _caption(found, organs)
    source = element("span", element("bdi", preview["source_sop_uid"], class_="uid"), where, class_="quiet")
    side = None if view is None else element("b", quoted(view), " ")
    return element("figure", frame, element("figcaption", side, caption, source))


def _caption(found: list[tuple[int, Json]], organs: list[Json]) -> Markup:
    """What is outlined, and on which slice of a volume; the organs are dashed."""
    numbers = ", ".join(str(number) for number, _ in found)
    names = ", ".join(organ["label"] for organ in organs)
    parts: list[object] = [f"{'Finding' if len(found) == 1 else 'Findings'} {numbers}"] if numbers else []
    parts += [joined(["dashed: " if parts else "Dashed: ", quoted(names)])] if names else []
    outlined = [*(one for _, one in found), *organs]
    parts += [f"slice {outlined[0]['slice']}"] if outlined and outlined[0]["slice"] is not None else []
    if not outlined:
        return joined(["Nothing outlined"])
    return joined(piece for n, part in enumerate(parts) for piece in ((", ", part) if n else (part,)))


def _frame(
    picture: tuple[Markup, int, int], box: list[float], found: list[tuple[int, Json]], organs: list[Json], where: str
) -> Markup:
    source, width, height = picture
    told = f"Tissue region{where}, {count(len(found), 'outlined finding')}"
    image = element("img", src=source, width=width, height=height, alt=told, decoding="async")
    return element(
        "button",
        image,
        _overlay(box, found, organs),
        type="button",
        class_="frame",
        aria_expanded="false",
        title="Enlarge or reduce",
    )


def _overlay(box: list[float], found: list[tuple[int, Json]], organs: list[Json]) -> Markup | None:
    """Outlines in source pixels over the part `box` of the frame, whatever pixel size the picture has."""
    x0, y0, x1, y1 = box
    if not (found or organs) or x1 <= x0 or y1 <= y0:
        return None
    shapes = [element("polygon", points=_points(organ), class_="organ") for organ in organs]
    badges = []
    for number, finding in found:
        shapes += [element("polygon", points=_points(finding), class_=layer) for layer in ("halo", "line")]
        left, top = (finding["box_px"][0] - x0) / (x1 - x0), (finding["box_px"][1] - y0) / (y1 - y0)
        badges.append(_badge(number, min(max(left, 0.0), 0.94), min(max(top, 0.08), 1.0)))
    view = f"{_plain(x0)} {_plain(y0)} {_plain(x1 - x0)} {_plain(y1 - y0)}"
    drawing = element("svg", *shapes, viewBox=view, preserveAspectRatio="none", width="100%", height="100%")
    return element("svg", drawing, *badges, class_="overlay", aria_hidden="true")


def _points(finding: Json) -> str:
    return " ".join(f"{_plain(x)},{_plain(y)}" for x, y in finding["outline_px"] or _corners(finding["box_px"]))


def _badge(number: int, left: float, top: float) -> Markup:
    """The finding's number at its upper left corner: placed in per cent, so that it is never stretched."""
    return element("text", number, x=f"{left:.2%}", y=f"{top:.2%}", dy="-4", dx="1")


def _corners(box: list[float]) -> list[tuple[float, float]]:
    x0, y0, x1, y1 = box
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def _plain(value: float) -> str:
    """A coordinate to a hundredth of a pixel, without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
