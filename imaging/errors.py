"""What can go wrong, as one family of errors: one class per remedy, one reason code per cause.

A reason code is the short, stable name that results, logs and the summary carry. Codes never hold patient data.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why an input was not used or a result could not be given. The text beside each is its meaning for a reader."""

    NOT_DICOM = "not_dicom"
    DICOMDIR = "dicomdir"
    SYMLINK = "symlink"
    NOT_A_FILE = "not_a_regular_file"
    FILE_TOO_LARGE = "file_too_large"
    EXECUTABLE = "executable_preamble"
    UNREADABLE_HEADER = "unreadable_header"
    TRUNCATED_HEADER = "truncated_header"
    NESTED_TOO_DEEPLY = "nested_too_deeply"
    ELEMENT_TOO_LONG = "element_too_long"
    TOO_MANY_ELEMENTS = "too_many_elements"
    INFLATES_TOO_MUCH = "inflates_too_much"
    IMAGE_TOO_LARGE = "image_too_large"
    BAD_PALETTE = "bad_palette"
    MISSING_UID = "missing_uid"
    NOT_AN_IMAGE = "not_an_image"
    DUPLICATE = "duplicate"
    DUPLICATE_UID = "duplicate_uid_different_bytes"
    MIXED_PATIENTS = "mixed_patients_in_study"
    NO_PACKAGE = "no_package"
    UNSUPPORTED_OBJECT = "unsupported_object"
    OTHER_ANATOMY = "other_anatomy"
    UNKNOWN_ANATOMY = "unknown_anatomy"
    NO_TISSUE_REGION = "no_tissue_region"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported_transfer_syntax"
    UNSUPPORTED_PIXELS = "unsupported_pixels"
    PIXEL_DATA_TOO_SHORT = "pixel_data_too_short"
    DECODE_FAILED = "decode_failed"
    WORKER_DIED = "worker_died"
    WORKER_TIMED_OUT = "worker_timed_out"
    WORKER_MEMORY = "worker_out_of_memory"
    WORKER_FAILED = "worker_failed"
    PREDICTION_FAILED = "prediction_failed"
    REPORT_FAILED = "report_failed"
    READBACK_FAILED = "readback_failed"
    PACKAGE_INVALID = "package_invalid"
    CONFIG_INVALID = "config_invalid"
    OUTPUT_FAILED = "output_failed"
    GEOMETRY = "geometry"

    @property
    def meaning(self) -> str:
        """One sentence for the report and the page."""
        return _MEANING[self]


_MEANING: dict[Reason, str] = {
    Reason.NOT_DICOM: "not a DICOM file",
    Reason.DICOMDIR: "a DICOMDIR is never followed; the files it lists are found by themselves",
    Reason.SYMLINK: "symbolic links are never followed",
    Reason.NOT_A_FILE: "not a regular file (a pipe, a socket or a device), so it was never opened",
    Reason.FILE_TOO_LARGE: "the file is larger than the limit for one file",
    Reason.EXECUTABLE: "the preamble holds the beginning of a program; no scanner writes that",
    Reason.UNREADABLE_HEADER: "the DICOM header cannot be read",
    Reason.TRUNCATED_HEADER: "the file ends inside its header",
    Reason.NESTED_TOO_DEEPLY: "sequences are nested deeper than any real object nests them",
    Reason.ELEMENT_TOO_LONG: "one element before the pixel data is longer than the limit",
    Reason.TOO_MANY_ELEMENTS: "the header has more elements than the limit",
    Reason.INFLATES_TOO_MUCH: "a deflated file inflates beyond the limit, in size or in ratio",
    Reason.IMAGE_TOO_LARGE: "rows, columns, frames, samples or bits are beyond the limit, or more than the bytes hold",
    Reason.BAD_PALETTE: "the colour palette is missing, too large, or does not hold what its descriptor says",
    Reason.MISSING_UID: "a Study, Series or SOP Instance UID is missing",
    Reason.NOT_AN_IMAGE: "a DICOM object without pixel data",
    Reason.DUPLICATE: "the same object, byte for byte, as another file",
    Reason.DUPLICATE_UID: "another file has the same SOP Instance UID and different bytes",
    Reason.MIXED_PATIENTS: "files of this study disagree about the patient",
    Reason.NO_PACKAGE: "no package is made for this kind of image",
    Reason.UNSUPPORTED_OBJECT: "this kind of DICOM object is not one that is read here",
    Reason.OTHER_ANATOMY: "the body part is not one the package is made for",
    Reason.UNKNOWN_ANATOMY: "the body part is not stated; name the package with --package to run it all the same",
    Reason.NO_TISSUE_REGION: "no 2-D tissue region: only Doppler, M-mode or spectral regions",
    Reason.UNSUPPORTED_TRANSFER_SYNTAX: "the transfer syntax has no decoder here",
    Reason.UNSUPPORTED_PIXELS: "this kind of pixel data is not supported",
    Reason.PIXEL_DATA_TOO_SHORT: "the pixel data is shorter than rows, columns, frames and bits require",
    Reason.DECODE_FAILED: "the pixel data cannot be decoded",
    Reason.WORKER_DIED: "the helper process that worked on this item died of it (the decoder or parser crashed)",
    Reason.WORKER_TIMED_OUT: "the helper process gave no answer within its time limit and was ended",
    Reason.WORKER_MEMORY: "the helper process needed more memory than its limit",
    Reason.WORKER_FAILED: "the helper process met an unexpected error",
    Reason.PREDICTION_FAILED: "the model could not analyse this image",
    Reason.REPORT_FAILED: "the result could not be written as DICOM",
    Reason.READBACK_FAILED: "a written object did not agree with its source when read back, so nothing was released",
    Reason.PACKAGE_INVALID: "the model package is damaged or not what it says",
    Reason.CONFIG_INVALID: "a setting is wrong",
    Reason.OUTPUT_FAILED: "the output folder cannot be written",
    Reason.GEOMETRY: "positions, spacing or grids do not agree",
}


class ImagingError(Exception):
    """Base of every error this toolkit raises on purpose.

    The message names the object, the field, what was found and what is allowed; `reason` is the stable code.
    """

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImagingError], tuple[str, Reason]]:
        return type(self), (str(self), self.reason)


class InputError(ImagingError):
    """An input file or image cannot be used. Remedy: replace or repair that file; the others go on."""


class PackageError(ImagingError):
    """A model package is damaged or does not fit. Remedy: another package, or train it again."""


class ConfigError(ImagingError):
    """A setting, manifest or command is wrong. Remedy: correct the named key."""


class GeometryError(ImagingError):
    """Two grids or frames do not fit together. Remedy: give both on the grid that the message names."""


class ReadbackError(ImagingError):
    """A written object disagrees with its source. Remedy: none for the user; nothing was released, report it."""


class OutputError(ImagingError):
    """Results cannot be stored. Remedy: free space or correct permissions, then run the same command again."""


class WorkerError(ImagingError):
    """A helper process ended, hung or failed over one item. Remedy: replace that item; the others were not touched."""
