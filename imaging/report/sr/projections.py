"""What an image library says of a projection (PS3.16 TID 4020; TID 1602 and 1603): side, view, orientation, spacing.

Everything comes from the source's header, or from the view that the result states; what is absent or malformed there
is left out, because every one of these rows is optional.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final

from pydicom import Dataset

from imaging.findings import Code
from imaging.image import View
from imaging.report.document import Case
from imaging.report.sr import codes, content, image_codes
from imaging.report.sr.content import HAS_ACQUISITION_CONTEXT, HAS_MODIFIER

_STUDY_DATE_TAG: Final = 0x00080020
_STUDY_TIME_TAG: Final = 0x00080030
_DATE: Final = re.compile(r"\d{8}")
_TIME: Final = re.compile(r"([01]\d|2[0-3])[0-5]\d[0-5]\d(\.\d{1,6})?")
_ORIENTATION: Final = re.compile(r"[ALPRHF]{1,3}")


def library_rows(case: Case, uid: str) -> list[Dataset]:
    """The rows of TID 4020 for one image of the result, in the template's order."""
    header, view = case.sources[uid], case.result.views.get(uid)
    context = HAS_ACQUISITION_CONTEXT
    sides = (
        []
        if view is None
        else [content.code(context, image_codes.IMAGE_LATERALITY, image_codes.SIDES[view.laterality])]
    )
    return [
        *sides,
        *view_rows(view),
        *(content.text(context, name, value) for name, value in orientation(header)),
        *_times(case, header),
        *(content.spacing(context, name, value, image_codes.MILLIMETRE) for name, value in spacings(header)),
        *(content.number(context, image_codes.PRIMARY_ANGLE, value, image_codes.DEGREES) for value in _angle(header)),
        *size_rows(header),
    ]


def view_rows(view: View | None) -> list[Dataset]:
    """Image View with its modifiers; none where the view is unknown or has no code."""
    named, modifiers = (None, ()) if view is None else image_codes.view_codes(view)
    if named is None:
        return []
    below = [content.code(HAS_MODIFIER, image_codes.IMAGE_VIEW_MODIFIER, modifier) for modifier in modifiers]
    return [content.code(HAS_ACQUISITION_CONTEXT, image_codes.IMAGE_VIEW, named, below)]


def size_rows(header: Dataset) -> list[Dataset]:
    """Rows and columns of the pixel data."""
    sizes = ((codes.PIXEL_DATA_ROWS, header.get("Rows")), (codes.PIXEL_DATA_COLUMNS, header.get("Columns")))
    return [
        content.number(HAS_ACQUISITION_CONTEXT, name, value, codes.PIXELS)
        for name, value in sizes
        if isinstance(value, int)
    ]


def study_date(case: Case) -> list[Dataset]:
    """The study's date, where the identity holds a whole one."""
    value = case.identity.get(_STUDY_DATE_TAG, b"").decode("ascii", "replace").strip()
    return [content.date(HAS_ACQUISITION_CONTEXT, codes.STUDY_DATE, value)] if _DATE.fullmatch(value) else []


def spacings(header: Dataset) -> list[tuple[Code, float]]:
    """Horizontal and vertical pixel spacing at the image receptor (111026, 111066 DCM), in millimetres.

    Imager Pixel Spacing is measured there; Pixel Spacing stands in where it is absent.
    """
    pair = _numbers(header, "ImagerPixelSpacing") or _numbers(header, "PixelSpacing")
    if len(pair) != 2 or min(pair) <= 0:
        return []
    return [(image_codes.HORIZONTAL_SPACING, pair[1]), (image_codes.VERTICAL_SPACING, pair[0])]


def _angle(header: Dataset) -> list[float]:
    return _numbers(header, "PositionerPrimaryAngle")


def _numbers(header: Dataset, keyword: str) -> list[float]:
    """The finite numbers of an attribute; none where it is absent or malformed, which is not this report's to judge."""
    try:
        value = header.get(keyword)
        found = [float(one) for one in (value if hasattr(value, "append") else [value])]
    except (TypeError, ValueError):
        return []
    return found if all(map(math.isfinite, found)) else []


def orientation(header: Dataset) -> list[tuple[Code, str]]:
    """Directions of rows and columns, as two values of Patient Orientation (PS3.3 C.7.6.1.1.1); else none."""
    values = [str(value) for value in header.get("PatientOrientation") or []]
    if len(values) != 2 or not all(_ORIENTATION.fullmatch(value) for value in values):
        return []
    return [(image_codes.ORIENTATION_ROW, values[0]), (image_codes.ORIENTATION_COLUMN, values[1])]


def _times(case: Case, header: Dataset) -> Iterator[Dataset]:
    yield from study_date(case)
    study_time = case.identity.get(_STUDY_TIME_TAG, b"").decode("ascii", "replace").strip()
    if _TIME.fullmatch(study_time):
        yield content.time(HAS_ACQUISITION_CONTEXT, codes.STUDY_TIME, study_time)
    if _DATE.fullmatch(made := str(header.get("ContentDate") or "")):
        yield content.date(HAS_ACQUISITION_CONTEXT, image_codes.CONTENT_DATE, made)
    if _TIME.fullmatch(at := str(header.get("ContentTime") or "").strip()):
        yield content.time(HAS_ACQUISITION_CONTEXT, image_codes.CONTENT_TIME, at)
