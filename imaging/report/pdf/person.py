"""Patient and study as words, decoded from the raw bytes that every object of a result echoes."""

from __future__ import annotations

import warnings
from typing import Final

from pydicom.charset import convert_encodings, decode_bytes

from imaging.report.document import ECHOED, Identity

UNDECODABLE: Final = "cannot be shown; the header of this object holds it"
EMPTY: Final = "empty"
_CHARACTER_SET: Final = 0x00080005
_ROWS: Final = {
    0x00100010: "Patient's name",
    0x00100020: "Patient ID",
    0x00100021: "Issuer of patient ID",
    0x00100030: "Birth date",
    0x00100040: "Sex",
    0x00080050: "Accession number",
    0x00080020: "Study date",
    0x00080030: "Study time",
    0x00200010: "Study ID",
    0x00081030: "Study description",
    0x0020000D: "Study Instance UID",
}
_ALWAYS: Final = {0x00100010, 0x00100020, 0x00100030, 0x00100040}
_OF_CHARACTER_SET: Final = {"PN", "LO", "SH"}  # values that Specific Character Set governs (PS3.5 6.1.2.3)
# Where a code extension ends (PS3.5 6.1.2.5.3); within names also at component and group delimiters.
_DELIMITERS: Final = {"PN": {0xD, 0xA, 0x9, 0xC, 0x5E, 0x3D}}
_TEXT_DELIMITERS: Final = {0xD, 0xA, 0x9, 0xC}


def identity_rows(identity: Identity) -> list[tuple[str, str]]:
    """What each value is called, and the value; the patient's own values also where they are empty."""
    rows = [(name, _text(identity, tag)) for tag, name in _ROWS.items()]
    always = {_ROWS[tag] for tag in _ALWAYS}
    return [(name, value or EMPTY) for name, value in rows if value or name in always]


def _text(identity: Identity, tag: int) -> str:
    value, vr = identity.get(tag, b"").strip(b" \0"), ECHOED[tag][0]
    terms = identity.get(_CHARACTER_SET, b"").decode("ascii", "replace").strip(" \0")
    if vr not in _OF_CHARACTER_SET:
        return value.decode("ascii", "replace")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # pydicom guesses, with a warning, where it does not know
            encodings = convert_encodings([term.strip() for term in terms.split("\\")])
            return str(decode_bytes(value, encodings, _DELIMITERS.get(vr, _TEXT_DELIMITERS))).strip()
    except (UnicodeError, LookupError, UserWarning):
        return UNDECODABLE
