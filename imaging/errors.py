"""What can go wrong, as one family of errors: one class per remedy, one reason code per cause.

A reason code is the short, stable name that results, logs and the summary carry. Codes never hold patient data.
"""

from __future__ import annotations

import sys
from enum import StrEnum


class Reason(StrEnum):
    """Why an input was not used or a result could not be given. The text beside each is its meaning for a reader."""

    NOT_DICOM = "not_dicom"
    DICOMDIR = "dicomdir"
    SYMLINK = "symlink"
    NOT_A_FILE = "not_a_regular_file"
    NOT_PERMITTED = "not_permitted"
    PATH_TOO_LONG = "path_too_long"
    ARCHIVE = "archive"
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
    PIXEL_DATA_TOO_LONG = "pixel_data_too_long"
    NO_SIGNAL = "no_signal"
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
    OUTPUT_IN_USE = "output_in_use"
    STUDY_TIMED_OUT = "study_timed_out"
    GEOMETRY = "geometry"
    FOR_PROCESSING = "for_processing"
    TOMOSYNTHESIS = "tomosynthesis"
    SYNTHETIC_2D = "synthetic_2d"
    CONTRAST_MAMMOGRAM = "contrast_mammogram"
    SPECIMEN = "specimen"
    IMPLANT_DISPLACED = "implant_displaced"
    SPOT_OR_MAGNIFICATION = "spot_or_magnification"
    OTHER_VIEW = "other_view"
    UNKNOWN_VIEW = "unknown_view"
    PARTIAL_VIEW = "partial_view"
    MODIFIED_VIEW = "modified_view"
    REPEATED_VIEW = "repeated_view"
    LOCALISER = "localiser"
    NOT_AXIAL = "not_axial"
    OTHER_CONTRAST = "other_contrast"
    DYNAMIC_CONTRAST = "dynamic_contrast"
    SUBTRACTION = "subtraction"
    DERIVED_MAP = "derived_map"
    DIFFUSION_TENSOR = "diffusion_tensor"
    DIFFUSION_DIRECTION = "diffusion_direction"
    CALCULATED_B = "calculated_b"
    NO_B_VALUE = "no_b_value"
    BAD_B_VALUE = "bad_b_value"
    NO_HIGH_B = "no_high_b_value"
    TOO_COARSE = "too_coarse"
    MISSING_SLICE = "missing_slice"
    INCOMPLETE_VOLUME = "incomplete_volume"
    LESS_SUITED = "less_suited_series"
    REPEATED_SERIES = "repeated_series"
    IMPLAUSIBLE_ADC = "implausible_adc"
    MISSING_ROLE = "missing_role"
    ROLE_NOT_READ = "role_not_read"
    ORGAN_NOT_FOUND = "organ_not_found"
    NOT_INSTALLED = "not_installed"

    @property
    def meaning(self) -> str:
        """One sentence for the report and the page."""
        return _MEANING[self]

    @property
    def remedy(self) -> str:
        """What a user can do about it. `docs/reasons.md` lists it beside the meaning."""
        return _REMEDY[self]


_MEANING: dict[Reason, str] = {
    Reason.NOT_DICOM: "not a DICOM file",
    Reason.DICOMDIR: "a DICOMDIR is never followed; the files it lists are found by themselves",
    Reason.SYMLINK: "symbolic links are never followed",
    Reason.NOT_A_FILE: "not a regular file (a pipe, a socket or a device), so it was never opened",
    Reason.NOT_PERMITTED: "the account that reads may not open this file or folder, so nobody knows what is in it",
    Reason.PATH_TOO_LONG: "the path is longer than the system can reach",
    Reason.ARCHIVE: "an archive or compressed file, in which images may be",
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
    Reason.DUPLICATE: "the same object as another file, byte for byte or in another encoding",
    Reason.DUPLICATE_UID: "another file has the same SOP Instance UID and another content",
    Reason.MIXED_PATIENTS: "files of this study disagree about the patient",
    Reason.NO_PACKAGE: "no package is made for this kind of image",
    Reason.UNSUPPORTED_OBJECT: "this kind of DICOM object is not one that is read here",
    Reason.OTHER_ANATOMY: "the body part is not one the package is made for",
    Reason.UNKNOWN_ANATOMY: "the body part is not stated; name the package with --package to run it all the same",
    Reason.NO_TISSUE_REGION: "no 2-D tissue region: only Doppler, M-mode or spectral regions",
    Reason.UNSUPPORTED_TRANSFER_SYNTAX: "the transfer syntax has no decoder here",
    Reason.UNSUPPORTED_PIXELS: "this kind of pixel data is not supported",
    Reason.PIXEL_DATA_TOO_SHORT: "the pixel data is shorter than rows, columns, frames and bits require",
    Reason.PIXEL_DATA_TOO_LONG: "the pixel data is longer than rows, columns, frames and bits require",
    Reason.NO_SIGNAL: "one grey value throughout: there is no picture in which to look",
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
    Reason.OUTPUT_IN_USE: "another run is writing to the output folder",
    Reason.STUDY_TIMED_OUT: "the time limit of the study had passed before this image's turn came",
    Reason.GEOMETRY: "positions, spacing or grids do not agree",
    Reason.FOR_PROCESSING: "an image meant for processing, not for reading; its view was not analysed from it",
    Reason.TOMOSYNTHESIS: "tomosynthesis: projections or slices, not a two-dimensional mammogram",
    Reason.SYNTHETIC_2D: "a two-dimensional image computed from tomosynthesis, not an exposure of its own",
    Reason.CONTRAST_MAMMOGRAM: "a high-energy or recombined image of contrast-enhanced mammography",
    Reason.SPECIMEN: "an image of a tissue specimen, not of a breast",
    Reason.IMPLANT_DISPLACED: "a view with the implant pushed back, not a standard view",
    Reason.SPOT_OR_MAGNIFICATION: "a spot compression or magnification view, not a standard view",
    Reason.OTHER_VIEW: "a mammographic view other than the standard CC and MLO",
    Reason.UNKNOWN_VIEW: "the header does not say which view of which breast this is, so it was not analysed",
    Reason.PARTIAL_VIEW: "it shows a part of a breast that another image shows whole",
    Reason.MODIFIED_VIEW: "a modified image of a view of which there is a plain one",
    Reason.REPEATED_VIEW: "a later image of the same view was taken",
    Reason.LOCALISER: "a localiser: a few slices by which a scan was planned",
    Reason.NOT_AXIAL: "slices that are not axial, by their orientation in the patient",
    Reason.OTHER_CONTRAST: "an MR image of another weighting than the ones that are read",
    Reason.DYNAMIC_CONTRAST: "one phase of a dynamic contrast-enhanced scan",
    Reason.SUBTRACTION: "a difference of two images, not an image that was acquired",
    Reason.DERIVED_MAP: "a map or projection computed from images, and not the one that is read",
    Reason.DIFFUSION_TENSOR: "diffusion in so many directions that it was made for a tensor",
    Reason.DIFFUSION_DIRECTION: "diffusion along one direction only, not the mean over directions",
    Reason.CALCULATED_B: "diffusion at a b-value that was calculated, while an acquired one is there",
    Reason.NO_B_VALUE: "a diffusion image of which nothing states the b-value",
    Reason.BAD_B_VALUE: "the b-value that the header states is no possible one",
    Reason.NO_HIGH_B: "diffusion without a usable high b-value beside it",
    Reason.TOO_COARSE: "pixels larger than those of any scan of its kind that is read",
    Reason.MISSING_SLICE: "slices are missing in the series; they are never interpolated",
    Reason.INCOMPLETE_VOLUME: "too few slices to cover the organ, or fewer than another scan of the same kind",
    Reason.LESS_SUITED: "another series of the study fits the same role better",
    Reason.REPEATED_SERIES: "a later, complete scan of the same kind was made",
    Reason.MISSING_ROLE: "a series that the exam cannot be analysed without is missing or cannot be read",
    Reason.ORGAN_NOT_FOUND: "the organ in which to look was not found in the volume",
    Reason.NOT_INSTALLED: "the package needs something that is not installed here",
    Reason.ROLE_NOT_READ: "a series that this package does not read",
    Reason.IMPLAUSIBLE_ADC: "the values of the ADC map are none that tissue has, in any unit that is known",
}

_SEND_AGAIN = "Send or copy the file again from its source, then run the same command again."
_IF_REAL = "If the object is real and not an attack, raise the limit of that name (`Limits`) and report it."

_REMEDY: dict[Reason, str] = {
    Reason.NOT_DICOM: "Nothing, if the file is no image. Otherwise look whether the export wrote it whole.",
    Reason.DICOMDIR: "Nothing.",
    Reason.SYMLINK: "Copy the file itself into the export if it is meant.",
    Reason.NOT_A_FILE: "Find out who put it into an export.",
    Reason.NOT_PERMITTED: "Give the account the right to read it, then run the same command again.",
    Reason.PATH_TOO_LONG: "Move the folder up, or export with shorter names.",
    Reason.ARCHIVE: "Unpack it and run again, or take it out of the export if it holds no images.",
    Reason.FILE_TOO_LARGE: _IF_REAL,
    Reason.EXECUTABLE: "Have the security officer look at the file and at where it came from.",
    Reason.UNREADABLE_HEADER: _SEND_AGAIN,
    Reason.TRUNCATED_HEADER: _SEND_AGAIN,
    Reason.NESTED_TOO_DEEPLY: _IF_REAL,
    Reason.ELEMENT_TOO_LONG: _IF_REAL,
    Reason.TOO_MANY_ELEMENTS: _IF_REAL,
    Reason.INFLATES_TOO_MUCH: _IF_REAL,
    Reason.IMAGE_TOO_LARGE: _IF_REAL,
    Reason.BAD_PALETTE: _SEND_AGAIN,
    Reason.MISSING_UID: "Correct the object at its source: without these UIDs no result can refer to it.",
    Reason.NOT_AN_IMAGE: "Nothing.",
    Reason.DUPLICATE: "Nothing: the other copy is used.",
    Reason.DUPLICATE_UID: "Find out which file is true and export that one alone.",
    Reason.MIXED_PATIENTS: "Correct patient or study at the source. Nothing of the study is released until then.",
    Reason.NO_PACKAGE: "Nothing, or name a package that is made for it with --package.",
    Reason.UNSUPPORTED_OBJECT: "Nothing, or export the images of the study as original objects.",
    Reason.OTHER_ANATOMY: "Nothing.",
    Reason.UNKNOWN_ANATOMY: "Name the package with --package if the body part is known to fit.",
    Reason.NO_TISSUE_REGION: "Nothing.",
    Reason.UNSUPPORTED_TRANSFER_SYNTAX: "Export again with a transfer syntax that docs/codecs.md lists.",
    Reason.UNSUPPORTED_PIXELS: "Export the original image rather than a derived one.",
    Reason.PIXEL_DATA_TOO_SHORT: _SEND_AGAIN,
    Reason.PIXEL_DATA_TOO_LONG: "Export again: the header is not that of these pixels, or frames are not counted.",
    Reason.NO_SIGNAL: "Look at the image. If it has a picture in another viewer, export it again.",
    Reason.DECODE_FAILED: _SEND_AGAIN,
    Reason.WORKER_DIED: "Keep the file away from other readers, and report it: a decoder crashed on it.",
    Reason.WORKER_TIMED_OUT: "Run again on an idle machine or with a longer limit; if it stays, report the file.",
    Reason.WORKER_MEMORY: "Run again with a higher memory limit if the image is really that large.",
    Reason.WORKER_FAILED: "Report it with the code and the type of error that the log names.",
    Reason.PREDICTION_FAILED: "Run again; if it stays, report it with the package's name and version.",
    Reason.REPORT_FAILED: "Report it: the result could not be expressed.",
    Reason.READBACK_FAILED: "Report it: nothing was released.",
    Reason.PACKAGE_INVALID: "Get the package again, or train it again.",
    Reason.CONFIG_INVALID: "Correct the named key.",
    Reason.OUTPUT_FAILED: "Free space or correct permissions, then run the same command again.",
    Reason.OUTPUT_IN_USE: "Wait for the other run, or name another folder.",
    Reason.STUDY_TIMED_OUT: "Run again with a longer limit or more workers.",
    Reason.GEOMETRY: "Give both on the grid that the message names, or export the series whole.",
    Reason.FOR_PROCESSING: "Export the For Presentation image of this view.",
    Reason.TOMOSYNTHESIS: "Nothing, or export the two-dimensional mammogram of this view.",
    Reason.SYNTHETIC_2D: "Nothing, or export the mammogram that was exposed for this view.",
    Reason.CONTRAST_MAMMOGRAM: "Nothing: the low-energy image of the view is the one that is read.",
    Reason.SPECIMEN: "Nothing.",
    Reason.IMPLANT_DISPLACED: "Nothing.",
    Reason.SPOT_OR_MAGNIFICATION: "Nothing.",
    Reason.OTHER_VIEW: "Nothing.",
    Reason.UNKNOWN_VIEW: "Correct ImageLaterality and ViewPosition at the source, then export again.",
    Reason.PARTIAL_VIEW: "Nothing: the whole image is used.",
    Reason.MODIFIED_VIEW: "Nothing: the plain image is used.",
    Reason.REPEATED_VIEW: "Nothing: the later image is used.",
    Reason.LOCALISER: "Nothing.",
    Reason.NOT_AXIAL: "Nothing: the axial series is read.",
    Reason.OTHER_CONTRAST: "Nothing.",
    Reason.DYNAMIC_CONTRAST: "Nothing.",
    Reason.SUBTRACTION: "Nothing.",
    Reason.DERIVED_MAP: "Nothing.",
    Reason.DIFFUSION_TENSOR: "Nothing.",
    Reason.DIFFUSION_DIRECTION: "Export the trace images of the series as well.",
    Reason.CALCULATED_B: "Nothing: it is calculated again from the acquired ones where it is needed.",
    Reason.NO_B_VALUE: "Export it with the maker's private elements. If they are there, report maker and model.",
    Reason.BAD_B_VALUE: "Correct it at the source, or export the original images.",
    Reason.NO_HIGH_B: "Export all b-values of the scan.",
    Reason.TOO_COARSE: "Export the original series rather than a reduced one.",
    Reason.MISSING_SLICE: "Export the series whole.",
    Reason.INCOMPLETE_VOLUME: "Export the series whole if it has more.",
    Reason.LESS_SUITED: "Nothing: the better one is read.",
    Reason.REPEATED_SERIES: "Nothing: the later scan is read.",
    Reason.MISSING_ROLE: "Export the study whole. If the series was never made, this package cannot read the study.",
    Reason.ROLE_NOT_READ: "Nothing.",
    Reason.ORGAN_NOT_FOUND: "Look whether the study shows the organ; if it does, report it with the package's name.",
    Reason.NOT_INSTALLED: "Install what the message names.",
    Reason.IMPLAUSIBLE_ADC: "Export the diffusion series, from which the ADC is computed again.",
}


def reasons_page() -> str:
    """docs/reasons.md: every code with its meaning and what to do. `python -m imaging.errors` prints it."""
    rows = (f"| `{reason}` | {reason.meaning} | {reason.remedy} |" for reason in Reason)
    head = "# Reason codes\n\nMade by `python -m imaging.errors`; change the text there.\n"
    return "\n".join((head, "| code | meaning | what to do |", "|---|---|---|", *rows)) + "\n"


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


if __name__ == "__main__":
    sys.stdout.write(reasons_page())
