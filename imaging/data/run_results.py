"""The folder that `infer.py` wrote → what it answered for the study of an image, joined by the UIDs in the headers.

Nobody has to know how the folder is laid out. A study that was not answered has the reason instead of files, so that it
counts as a failure and does not vanish.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imaging.dicom.index import read_header
from imaging.errors import ConfigError, InputError, Reason

_SUMMARY: Final = "summary.json"
_REPORTS: Final = "1.2.840.10008.5.1.4.1.1.88."
_SEGMENTATIONS: Final = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """The reports and segmentations of one study by one package; `why_none` says why there are no files.

    `image_uid` is the SOP Instance UID of the image that was asked for, empty for a whole study. `is_joined` is False
    where the image has no UIDs by which it could be looked for.
    """

    files: tuple[Path, ...]
    why_none: str = ""
    image_uid: str = ""
    is_joined: bool = True


@dataclass(frozen=True)
class RunFolder:
    """What a run holds of one package, by Study Instance UID."""

    package: str
    answers: Mapping[str, RunAnswer]

    def answer(self, image: Path) -> RunAnswer:
        """What the run says of an image: a DICOM file, or the folder of a study."""
        try:
            study, sop_uid = image_uids(image)
        except InputError as error:
            return RunAnswer((), f"its study is unknown: {error}", is_joined=False)
        found = self.answers.get(study)
        if found is None:
            return RunAnswer((), f"the run has no answer of package {self.package} for its study", sop_uid)
        return RunAnswer(found.files, found.why_none, sop_uid)


def is_run(folder: Path) -> bool:
    """Whether a folder holds the results of a run."""
    return (folder / _SUMMARY).is_file()


def read_run(folder: Path, package: str | None = None) -> RunFolder:
    """The answers of a run by one package, which must be named where the run holds several.

    Raises ConfigError for a folder without a summary, a damaged one, and a package that the run does not hold.
    """
    path = folder / _SUMMARY
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        held = [one["name"] for one in summary["packages"]]
        name = _chosen(folder, held, package)
        results: dict[str, list[Any]] = defaultdict(list)
        for study in summary["studies"]:
            results[study["study_uid"]] += [one for one in study["results"] if one["package"] == name]
        answers = {study: _answer(folder, found) for study, found in results.items() if found}
    except OSError as error:
        raise ConfigError(
            f"--run {folder}: {_SUMMARY}: {error.strerror}; allowed is a folder that infer.py wrote",
            Reason.CONFIG_INVALID,
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--run {path}: {type(error).__name__} {error}; allowed is a summary that infer.py wrote",
            Reason.CONFIG_INVALID,
        ) from error
    return RunFolder(name, answers)


def image_uids(path: Path) -> tuple[str, str]:
    """Study and SOP Instance UID of a DICOM file; of a folder, the UID of its one study, and no SOP Instance UID.

    Raises InputError for what is no DICOM, and for a folder of several studies or none.
    """
    if not path.is_dir():
        header = read_header(path)
        return str(header.get("StudyInstanceUID", "")), str(header.get("SOPInstanceUID", ""))
    studies = set()
    for file in sorted(path.rglob("*")):
        try:
            studies |= {str(read_header(file).get("StudyInstanceUID", ""))} if file.is_file() else set()
        except InputError:
            continue  # a study's folder may hold other files
    if len(studies) != 1:
        raise InputError(
            f"image {path.name}: found {len(studies)} DICOM studies in the folder; allowed is one",
            Reason.CONFIG_INVALID,
        )
    return studies.pop(), ""


def _chosen(folder: Path, held: Sequence[str], package: str | None) -> str:
    if package is None and len(held) == 1:
        return held[0]
    if package in held:
        return str(package)
    found = "none was named" if package is None else f"'{package}' was named"
    raise ConfigError(
        f"--run {folder}: holds the packages {', '.join(held) or 'none'}, {found}; name one with --package",
        Reason.CONFIG_INVALID,
    )


def _answer(folder: Path, results: Sequence[Mapping[str, Any]]) -> RunAnswer:
    """The reports and segmentations of all groups of a study; else the reasons why there are none."""
    objects = [one for result in results for one in result["objects"]]
    files = tuple(
        folder / one["path"]
        for one in objects
        if str(one["sop_class_uid"]).startswith(_REPORTS) or one["sop_class_uid"] in _SEGMENTATIONS
    )
    if missing := [file.name for file in files if not file.is_file()]:
        return RunAnswer((), f"{len(missing)} of its results are no longer there, first {missing[0]}")
    if files:
        return RunAnswer(files)
    reasons = dict.fromkeys(str(one["reason_meaning"] or one["completeness"]) for one in results)
    return RunAnswer((), f"the run has no result for its study: {'; '.join(reasons)}")
