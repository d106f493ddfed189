"""What an image library says of an image (PS3.16 TID 1602, TID 1603): view, size, date of the study.

Everything comes from the source's header, or from the view that the result states; what is absent or malformed there
is left out, because every one of these rows is optional.
"""

from __future__ import annotations

import re
from typing import Final

from pydicom import Dataset

from imaging.image import View
from imaging.report.kind import Subject
from imaging.report.sr import codes, content
from imaging.report.sr.content import HAS_ACQUISITION_CONTEXT, HAS_MODIFIER
from imaging.report.sr.views import IMAGE_VIEW, IMAGE_VIEW_MODIFIER, view_codes

_STUDY_DATE_TAG: Final = 0x00080020
DATE: Final = re.compile(r"\d{8}")


def view_rows(view: View | None) -> list[Dataset]:
    """Image View with its modifiers; none where the view is unknown or has no code."""
    named, modifiers = (None, ()) if view is None else view_codes(view)
    if named is None:
        return []
    below = [content.code(HAS_MODIFIER, IMAGE_VIEW_MODIFIER, modifier) for modifier in modifiers]
    return [content.code(HAS_ACQUISITION_CONTEXT, IMAGE_VIEW, named, below)]


def size_rows(header: Dataset) -> list[Dataset]:
    """Rows and columns of the pixel data."""
    sizes = ((codes.PIXEL_DATA_ROWS, header.get("Rows")), (codes.PIXEL_DATA_COLUMNS, header.get("Columns")))
    return [
        content.number(HAS_ACQUISITION_CONTEXT, name, value, codes.PIXELS)
        for name, value in sizes
        if isinstance(value, int)
    ]


def study_date(subject: Subject) -> list[Dataset]:
    """The study's date, where the identity holds a whole one."""
    value = subject.identity.get(_STUDY_DATE_TAG, b"").decode("ascii", "replace").strip()
    return [content.date(HAS_ACQUISITION_CONTEXT, codes.STUDY_DATE, value)] if DATE.fullmatch(value) else []
