"""What can go wrong, as one family of errors: one class per remedy, one reason code per cause.

A reason code is the short, stable name that results, logs and the summary carry. Codes never hold patient data. The
codes here may be met by any modality; what only one can meet stands beside it (`imaging.modalities`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class ReasonCode(StrEnum):
    """Base of every reason code: a string, with what it means to a reader and what to do, in one row.

    Each member is `code, meaning, remedy`, and `rank` where it may answer for a study of which no image fits: of
    several the lowest is told, which helps the user most. `docs/reasons.md` lists all.
    """

    meaning: str
    remedy: str
    rank: int | None

    def __new__(cls, code: str, meaning: str, remedy: str, rank: int | None = None) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        member.remedy = remedy
        member.rank = rank
        return member


_SEND_AGAIN = "Send or copy the file again from its source, then run the same command again."
_IF_REAL = "If the object is real and not an attack, raise the limit of that name (`Limits`) and report it."


class Reason(ReasonCode):
    """Why an input was not used or a result could not be given, whatever the modality."""

    NOT_DICOM = (
        "not_dicom",
        "not a DICOM file",
        "Nothing, if the file is no image. Otherwise look whether the export wrote it whole.",
    )
    EMPTY_FILE = "empty_file", "the file is empty, or begins with zeros where its header should be", _SEND_AGAIN
    DICOMDIR = "dicomdir", "a DICOMDIR is never followed; the files it lists are found by themselves", "Nothing."
    SYMLINK = "symlink", "symbolic links are never followed", "Copy the file itself into the export if it is meant."
    NOT_A_FILE = (
        "not_a_regular_file",
        "not a regular file (a pipe, a socket or a device), so it was never opened",
        "Find out who put it into an export.",
    )
    NOT_PERMITTED = (
        "not_permitted",
        "the account that reads may not open this file or folder, so nobody knows what is in it",
        "Give the account the right to read it, then run the same command again.",
    )
    PATH_TOO_LONG = (
        "path_too_long",
        "the path is longer than the system can reach",
        "Move the folder up, or export with shorter names.",
    )
    ARCHIVE = (
        "archive",
        "an archive or compressed file, in which images may be",
        "Run again with --unpack (zip, tar), unpack it yourself, or take it out if it holds no images.",
    )
    UNPACKED = "unpacked", "an archive whose files were read in its place", "Nothing."
    FILE_TOO_LARGE = "file_too_large", "the file is larger than the limit for one file", _IF_REAL
    EXECUTABLE = (
        "executable_preamble",
        "the preamble holds the beginning of a program; no scanner writes that",
        "Have the security officer look at the file and at where it came from.",
    )
    UNREADABLE_HEADER = "unreadable_header", "the DICOM header cannot be read", _SEND_AGAIN
    TRUNCATED_HEADER = "truncated_header", "the file ends inside its header", _SEND_AGAIN
    NESTED_TOO_DEEPLY = "nested_too_deeply", "sequences are nested deeper than any real object nests them", _IF_REAL
    ELEMENT_TOO_LONG = "element_too_long", "one element before the pixel data is longer than the limit", _IF_REAL
    TOO_MANY_ELEMENTS = "too_many_elements", "the header has more elements than the limit", _IF_REAL
    INFLATES_TOO_MUCH = (
        "inflates_too_much",
        "a deflated file inflates beyond the limit, in size or in ratio",
        _IF_REAL,
    )
    IMAGE_TOO_LARGE = (
        "image_too_large",
        "rows, columns, frames, samples or bits are beyond the limit, or more than the bytes hold",
        _IF_REAL,
    )
    BAD_PALETTE = (
        "bad_palette",
        "the colour palette is missing, too large, or does not hold what its descriptor says",
        _SEND_AGAIN,
    )
    MISSING_UID = (
        "missing_uid",
        "a Study, Series or SOP Instance UID is missing",
        "Correct the object at its source: without these UIDs no result can refer to it.",
    )
    NOT_AN_IMAGE = "not_an_image", "a DICOM object without pixel data", "Nothing."
    DUPLICATE = (
        "duplicate",
        "the same object as another file, byte for byte or in another encoding",
        "Nothing: the other copy is used.",
    )
    DUPLICATE_UID = (
        "duplicate_uid_different_bytes",
        "another file has the same SOP Instance UID and another content",
        "Find out which file is true and export that one alone.",
    )
    REJECTED = (
        "rejected_image",
        "a Key Object or presentation state of the study rejects this image",
        "Nothing. If the rejection is a mistake, withdraw it at the source and export again.",
    )
    QUALITY_CONTROL = (
        "quality_control_image",
        "an image for quality control, not of a patient's examination",
        "Nothing.",
    )
    SAME_SLICE = (
        "same_slice_twice",
        "the same slice with the same pixels as another image of the series, under another UID",
        "Nothing: the other one is used.",
    )
    MIXED_PATIENTS = (
        "mixed_patients_in_study",
        "files of this study disagree about the patient",
        "Correct patient or study at the source. Nothing of the study is released until then.",
    )
    NO_PACKAGE = (
        "no_package",
        "no package is made for this kind of image",
        "Nothing, or name a package that is made for it with --package.",
        19,
    )
    UNSUPPORTED_OBJECT = (
        "unsupported_object",
        "this kind of DICOM object is not one that is read here",
        "Nothing, or export the images of the study as original objects.",
    )
    OTHER_ANATOMY = "other_anatomy", "the body part is not one the package is made for", "Nothing.", 2
    UNKNOWN_ANATOMY = (
        "unknown_anatomy",
        "the body part is not stated; name the package with --package to run it all the same",
        "Name the package with --package if the body part is known to fit.",
        1,
    )
    NO_TISSUE_REGION = (
        "no_tissue_region",
        "no 2-D tissue region: only Doppler, M-mode or spectral regions",
        "Nothing.",
        11,
    )
    UNSUPPORTED_TRANSFER_SYNTAX = (
        "unsupported_transfer_syntax",
        "the transfer syntax has no decoder here",
        "Export again with a transfer syntax that docs/codecs.md lists.",
    )
    UNSUPPORTED_PIXELS = (
        "unsupported_pixels",
        "this kind of pixel data is not supported",
        "Export the original image rather than a derived one.",
    )
    PIXEL_DATA_TOO_SHORT = (
        "pixel_data_too_short",
        "the pixel data is shorter than rows, columns, frames and bits require",
        _SEND_AGAIN,
    )
    PIXEL_DATA_TOO_LONG = (
        "pixel_data_too_long",
        "the pixel data is longer than rows, columns, frames and bits require",
        "Export again: the header is not that of these pixels, or frames are not counted.",
    )
    NO_SIGNAL = (
        "no_signal",
        "one grey value throughout: there is no picture in which to look",
        "Look at the image. If it has a picture in another viewer, export it again.",
    )
    DECODE_FAILED = "decode_failed", "the pixel data cannot be decoded", _SEND_AGAIN
    WORKER_DIED = (
        "worker_died",
        "the helper process that worked on this item died of it (the decoder or parser crashed)",
        "Keep the file away from other readers, and report it: a decoder crashed on it.",
    )
    WORKER_TIMED_OUT = (
        "worker_timed_out",
        "the helper process gave no answer within its time limit and was ended",
        "Run again on an idle machine or with a longer limit; if it stays, report the file.",
    )
    WORKER_MEMORY = (
        "worker_out_of_memory",
        "the helper process needed more memory than its limit",
        "Run again with a higher memory limit if the image is really that large.",
    )
    WORKER_FAILED = (
        "worker_failed",
        "the helper process met an unexpected error",
        "Report it with the code and the type of error that the log names.",
    )
    PREDICTION_FAILED = (
        "prediction_failed",
        "the model could not analyse this image",
        "Run again; if it stays, report it with the package's name and version.",
    )
    REPORT_FAILED = (
        "report_failed",
        "the result could not be written as DICOM",
        "Report it: the result could not be expressed.",
    )
    READBACK_FAILED = (
        "readback_failed",
        "a written object did not agree with its source when read back, so nothing was released",
        "Report it: nothing was released.",
    )
    PACKAGE_INVALID = (
        "package_invalid",
        "the model package is damaged or not what it says",
        "Get the package again, or train it again.",
    )
    CONFIG_INVALID = "config_invalid", "a setting is wrong", "Correct the named key."
    OUTPUT_FAILED = (
        "output_failed",
        "the output folder cannot be written",
        "Free space or correct permissions, then run the same command again.",
    )
    OUTPUT_IN_USE = (
        "output_in_use",
        "another run is writing to the output folder",
        "Wait for the other run, or name another folder.",
    )
    STUDY_TIMED_OUT = (
        "study_timed_out",
        "the time limit of the study had passed before this image's turn came",
        "Run again with a longer limit or more workers.",
    )
    GEOMETRY = (
        "geometry",
        "positions, spacing or grids do not agree",
        "Give both on the grid that the message names, or export the series whole.",
    )
    FRAME_OF_REFERENCE = (
        "other_frame_of_reference",
        "its positions and those of the T2W have no Frame of Reference UID in common, so nothing relates them",
        "Export the T2W of the same session. If it is one session, correct the Frame of Reference UID at the source.",
    )
    LOCALISER = "localiser", "a localiser: a few slices by which a scan was planned", "Nothing."
    NOT_AXIAL = (
        "not_axial",
        "slices that are not axial, by their orientation in the patient",
        "Nothing: the axial series is read.",
        13,
    )
    OTHER_CONTRAST = "other_contrast", "an MR image of another weighting than the ones that are read", "Nothing.", 18
    SUBTRACTION = "subtraction", "a difference of two images, not an image that was acquired", "Nothing."
    DERIVED_MAP = "derived_map", "a map or projection computed from images, and not the one that is read", "Nothing."
    DIFFUSION_TENSOR = "diffusion_tensor", "diffusion in so many directions that it was made for a tensor", "Nothing."
    NO_B_VALUE = (
        "no_b_value",
        "a diffusion image of which nothing states the b-value",
        "Export it with the maker's private elements. If they are there, report maker and model.",
        14,
    )
    BAD_B_VALUE = (
        "bad_b_value",
        "the b-value that the header states is no possible one",
        "Correct it at the source, or export the original images.",
    )
    TOO_COARSE = (
        "too_coarse",
        "pixels larger than those of any scan of its kind that is read",
        "Export the original series rather than a reduced one.",
        16,
    )
    MISSING_SLICE = (
        "missing_slice",
        "slices are missing in the series; they are never interpolated",
        "Export the series whole.",
    )
    INCOMPLETE_VOLUME = (
        "incomplete_volume",
        "too few slices to cover the organ, or fewer than another scan of the same kind",
        "Export the series whole if it has more.",
        17,
    )
    LESS_SUITED = (
        "less_suited_series",
        "another series of the study fits the same role better",
        "Nothing: the better one is read.",
    )
    REPEATED_SERIES = (
        "repeated_series",
        "a later, complete scan of the same kind was made",
        "Nothing: the later scan is read.",
    )
    IMPLAUSIBLE_ADC = (
        "implausible_adc",
        "the values of the ADC map are none that tissue has, in any unit that is known",
        "Export the diffusion series, from which the ADC is computed again.",
    )
    MISSING_ROLE = (
        "missing_role",
        "a series that the exam cannot be analysed without is missing or cannot be read",
        "Export the study whole. If the series was never made, this package cannot read the study.",
        12,
    )
    ROLE_NOT_READ = "role_not_read", "a series that this package does not read", "Nothing."
    UNSEEN_ACQUISITION = (
        "unseen_acquisition",
        "the package learnt from phantoms alone, and they did not stand for an acquisition like this one",
        "Nothing: it knows nothing of such images. Named with --package it runs all the same, and its answer says so.",
    )
    ANOTHER_STANDS_IN = (
        "another_stands_in",
        "another package, which fits this acquisition better, answers the same question in its place",
        "Nothing: the other one's answer stands. Name both with --package to compare them.",
    )
    IMPLAUSIBLE_ORGAN = (
        "implausible_organ",
        "what was taken for the organ has a size, shape or place that no such organ has",
        "Look at the images. If they show the organ whole, report it with the package's name.",
    )
    ORGAN_NOT_FOUND = (
        "organ_not_found",
        "the organ in which to look was not found in the volume",
        "Look whether the study shows the organ; if it does, report it with the package's name.",
    )
    NOT_INSTALLED = (
        "not_installed",
        "the package needs something that is not installed here",
        "Install what the message names.",
    )


class ImagingError(Exception):
    """Base of every error this toolkit raises on purpose.

    The message names the object, the field, what was found and what is allowed; `reason` is the stable code.
    """

    def __init__(self, message: str, reason: ReasonCode) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImagingError], tuple[str, ReasonCode]]:
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
