"""The measurement report as a kind of object."""

from __future__ import annotations

from typing import Final

from imaging.report.kind import ObjectKind
from imaging.report.sr.readback import check_report
from imaging.report.sr.tid1500 import write_report

MEASUREMENT_REPORT: Final = ObjectKind(
    name="sr",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
    series_number=1,
    series_name="measurement report",
    write=write_report,
    check=check_report,
)
