"""The Mammography CAD report as a kind of object; mammography adds it to the kinds of every result."""

from __future__ import annotations

from typing import Final

from imaging.modalities.mammography.cad.readback import check_cad_report
from imaging.modalities.mammography.cad.report import write_cad_report
from imaging.report.kind import ObjectKind

CAD_REPORT: Final = ObjectKind(
    name="cad",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.88.50",
    series_number=2,
    series_name="mammography CAD report",
    write=write_cad_report,
    check=check_cad_report,
)
