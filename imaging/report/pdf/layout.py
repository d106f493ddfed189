"""A readable report on A4 pages as the bytes of a PDF: the same subject gives the same bytes, whatever the clock."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from xml.sax.saxutils import escape

from PIL import Image as Bitmap
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.pdfmetrics import getRegisteredFontNames, registerFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate

from imaging.findings import Thumbnail
from imaging.report.kind import Subject
from imaging.report.pdf import letters
from imaging.report.pdf.content import BANNER, TITLE, Section, picture_words, sections
from imaging.report.sr.statements import Roi, rois

_MARGIN: Final = 18 * mm
_LARGEST_PICTURE: Final = (120 * mm, 95 * mm)
_OUTLINE: Final = HexColor("#ffd400")
_WARNING: Final = HexColor("#8a1c00")
_TEXT: Final = ParagraphStyle("text", fontName=letters.LATIN, fontSize=9, leading=12, spaceAfter=2)
_HEADING: Final = ParagraphStyle("heading", _TEXT, fontName="Helvetica-Bold", fontSize=11, leading=14, spaceBefore=8)
_TITLE: Final = ParagraphStyle("title", _HEADING, fontSize=15, leading=19)
# reportlab's own constant time of a document that is to have no clock; as long as what takes its place.
_NO_TIME: Final = b"D:20000101000000+00'00'"


class OutlinedPicture(Flowable):
    """A thumbnail with the outlines of the regions that lie on its frame, in vectors, so that they stay sharp."""

    def __init__(self, thumbnail: Thumbnail, regions: Sequence[Roi]) -> None:
        super().__init__()
        self._thumbnail, self._regions = thumbnail, regions
        rows, columns = thumbnail.pixels.shape[:2]
        scale = min(_LARGEST_PICTURE[0] / columns, _LARGEST_PICTURE[1] / rows)
        self.width, self.height = columns * scale, rows * scale

    def draw(self) -> None:
        bitmap = ImageReader(Bitmap.fromarray(self._thumbnail.pixels))
        self.canv.drawImage(bitmap, 0, 0, self.width, self.height)
        self.canv.setStrokeColor(_OUTLINE)
        self.canv.setFillColor(_OUTLINE)
        self.canv.setFont(letters.LATIN, 7)
        for roi in self._regions:
            points = [self._place(x, y) for x, y in roi.measured.key.outline_px]
            outline = self.canv.beginPath()
            outline.moveTo(*points[0])
            for point in points[1:]:
                outline.lineTo(*point)
            outline.close()
            self.canv.setDash([] if roi.is_finding else [3, 2])
            self.canv.drawPath(outline)
            self.canv.drawString(min(x for x, _ in points), max(y for _, y in points) + 2, letters.drawn(roi.name))

    def _place(self, x: float, y: float) -> tuple[float, float]:
        """A place on the source frame, in points from the lower left corner of the picture."""
        x0, y0, x1, y1 = self._thumbnail.box.xy
        return (x - x0) / (x1 - x0) * self.width, (y1 - y) / (y1 - y0) * self.height


def pdf_of(subject: Subject) -> bytes:
    """The report of a subject; an even number of bytes, as DICOM wants them."""
    stream = io.BytesIO()
    document = SimpleDocTemplate(
        stream,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN + 8 * mm,
        bottomMargin=_MARGIN,
        title=TITLE,
        author=letters.drawn(subject.result.algorithm.manufacturer),
        invariant=1,
        pageCompression=0,  # the read-back finds the words in the bytes
    )

    def frame(canvas: Canvas, _: SimpleDocTemplate) -> None:
        _frame(canvas, subject.result.study_uid)

    document.build(
        [_paragraph(TITLE, _TITLE), *_text(sections(subject)), *_pictures(subject)],
        onFirstPage=frame,
        onLaterPages=frame,
    )
    data = _dated(stream.getvalue(), subject.content_time)
    return data + b"\n" * (len(data) % 2)


def _frame(canvas: Canvas, study_uid: str) -> None:
    """Banner, study and page number on every page."""
    width, height = A4
    canvas.setFillColor(_WARNING)
    canvas.setFont("Helvetica-Bold", 10)
    canvas.drawString(_MARGIN, height - _MARGIN, BANNER)
    canvas.setFont(letters.LATIN, 7)
    canvas.setFillColor(HexColor("#444444"))
    canvas.drawString(_MARGIN, 10 * mm, f"Study {study_uid}")
    canvas.drawRightString(width - _MARGIN, 10 * mm, f"Page {canvas.getPageNumber()}")


def _text(parts: Sequence[Section]) -> list[Flowable]:
    flowables: list[Flowable] = []
    for part in parts:
        flowables.append(_paragraph(part.heading, _HEADING))
        flowables += [_paragraph(line, _TEXT) for line in part.lines]
    return flowables


def _pictures(subject: Subject) -> list[Flowable]:
    """Each thumbnail below its words, with the outlines of what lies on it."""
    flowables: list[Flowable] = []
    for number, thumbnail in enumerate(subject.pictures):
        shown = [roi for roi in rois(subject.result) if roi.measured.key.ref == thumbnail.ref]
        words = _paragraph(picture_words(subject.result, thumbnail.ref, shown), _TEXT)
        heading = [] if number else [_paragraph("Pictures", _HEADING)]
        flowables.append(KeepTogether([*heading, words, OutlinedPicture(thumbnail, shown)]))
    return flowables


def _paragraph(text: str, style: ParagraphStyle) -> Paragraph:
    pieces = []
    for run in letters.runs(text):
        if run.font == letters.LATIN:
            pieces.append(escape(run.text))
            continue
        if run.font not in getRegisteredFontNames():
            registerFont(UnicodeCIDFont(run.font))
        pieces.append(f'<font name="{run.font}">{escape(run.text)}</font>')
    return Paragraph("".join(pieces), style)


def _dated(data: bytes, at: datetime) -> bytes:
    """The file with the reading's time for the time of its making; offsets in the file stay as they are."""
    made = at.strftime("D:%Y%m%d%H%M%S").encode()
    return data.replace(b"(" + _NO_TIME + b")", b"(" + made + b")" + b" " * (len(_NO_TIME) - len(made)))
