"""Clinical facts that no image states: what a modality may be told, and by whom it was told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Key = Literal["StudyInstanceUID", "PatientID"]


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact that a modality declares.

    Args:
        name: As measures name it, with its unit (psa_ng_ml).
        title: In words (PSA).
        exams: What kind of exam it is asked for, in words.
        option: The command line option that gives a table of it.
    """

    name: str
    title: str
    exams: str
    option: str


@dataclass(frozen=True, slots=True)
class Stated:
    """The value of a fact that somebody states and, in words, for whom and where."""

    value: float
    source: str


# What is known of one exam: the name of each fact, and its value.
Context = Mapping[str, Stated]


@dataclass(frozen=True, slots=True)
class Row:
    """One value and the line of the table in which it stands."""

    value: float
    line: int


@dataclass(frozen=True)
class FactTable:
    """The values of a fact by what `key` names: the Study Instance UID as it is, or the digest of the PatientID.

    `remarks` say what had to be assumed of the file.
    """

    fact: Fact
    key: Key
    rows: Mapping[str, Row]
    remarks: tuple[str, ...] = ()
