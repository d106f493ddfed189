"""WRITES results: ExamResult → DICOM SR and SEG, read back by another path before anyone may have them; the page."""
