"""The image library of a Mammography CAD report (PS3.16 TID 4020): side, view, orientation, spacing of each image.

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
from imaging.modalities.mammography.cad import codes as mammo
from imaging.report.kind import Subject
from imaging.report.sr import codes, content
from imaging.report.sr.content import HAS_ACQUISITION_CONTEXT
from imaging.report.sr.projections import DATE, size_rows, study_date, view_rows
from imaging.report.sr.views import IMAGE_LATERALITY

_STUDY_TIME_TAG: Final = 0x00080030
_TIME: Final = re.compile(r"([01]\d|2[0-3])[0-5]\d[0-5]\d(\.\d{1,6})?")
_ORIENTATION: Final = re.compile(r"[ALPRHF]{1,3}")


def library_rows(subject: Subject, uid: str) -> list[Dataset]:
    """The rows of TID 4020 for one image of the result, in the template's order."""
    header, view = subject.sources[uid], subject.result.views.get(uid)
    context = HAS_ACQUISITION_CONTEXT
    sides = [] if view is None else [content.code(context, IMAGE_LATERALITY, mammo.SIDES[view.laterality])]
    return [
        *sides,
        *view_rows(view),
        *(content.text(context, name, value) for name, value in orientation(header)),
        *_times(subject, header),
        *(content.spacing(context, name, value, mammo.MILLIMETRE) for name, value in spacings(header)),
        *(content.number(context, mammo.PRIMARY_ANGLE, value, mammo.DEGREES) for value in _angle(header)),
        *size_rows(header),
    ]


def spacings(header: Dataset) -> list[tuple[Code, float]]:
    """Horizontal and vertical pixel spacing at the image receptor (111026, 111066 DCM), in millimetres.

    Imager Pixel Spacing is measured there; Pixel Spacing stands in where it is absent.
    """
    pair = _numbers(header, "ImagerPixelSpacing") or _numbers(header, "PixelSpacing")
    if len(pair) != 2 or min(pair) <= 0:
        return []
    return [(mammo.HORIZONTAL_SPACING, pair[1]), (mammo.VERTICAL_SPACING, pair[0])]


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
    return [(mammo.ORIENTATION_ROW, values[0]), (mammo.ORIENTATION_COLUMN, values[1])]


def _times(subject: Subject, header: Dataset) -> Iterator[Dataset]:
    yield from study_date(subject)
    study_time = subject.identity.get(_STUDY_TIME_TAG, b"").decode("ascii", "replace").strip()
    if _TIME.fullmatch(study_time):
        yield content.time(HAS_ACQUISITION_CONTEXT, codes.STUDY_TIME, study_time)
    if DATE.fullmatch(made := str(header.get("ContentDate") or "")):
        yield content.date(HAS_ACQUISITION_CONTEXT, mammo.CONTENT_DATE, made)
    if _TIME.fullmatch(at := str(header.get("ContentTime") or "").strip()):
        yield content.time(HAS_ACQUISITION_CONTEXT, mammo.CONTENT_TIME, at)
