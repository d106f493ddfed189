"""Tables as hospitals save them: each kind of CSV in each form; a broken one names file, line and column."""

from __future__ import annotations

import codecs
import logging
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from imaging.commands import main
from imaging.data.images import read_image
from imaging.data.manifest import read_manifest, read_rows, with_predictions
from imaging.data.nnunet import read_cases
from imaging.data.public.frames import read_lines, read_step
from imaging.data.truth import read_truth
from imaging.errors import ConfigError, ImagingError, InputError
from imaging.modalities.prostate.psa import read_psa
from imaging.table import NEARLY_ONE, clean, file_named, near_spellings, nearest, read_table

Cells = list[list[str]]
SITE = "Hôpital d'Évry"
EVALUATION = ("case_id", "patient_id", "site", "prediction", "truth")


def training(path: Path) -> Any:
    return [(case.case_id, case.patient_id, case.site, case.spacing_mm) for case in read_manifest(path)]


def evaluation(path: Path) -> Any:
    return [(row.case_id, row.site, row.score, row.spacing_mm) for row in read_rows(path, EVALUATION)]


def compared(path: Path) -> Any:
    header = "case_id,patient_id,site,prediction,truth"
    manifest = path.with_name("others.csv")
    manifest.write_text(f"{header}\n007,p,{SITE},0.5,1\n070,q,{SITE},0.5,0\n", encoding="utf-8")
    return [(row.case_id, row.score) for row in with_predictions(read_rows(manifest, EVALUATION), path)]


def psa(path: Path) -> Any:
    return {(name, row.value) for name, row in read_psa(path).rows.items()}


def shapes(path: Path) -> Any:
    return read_truth(path, read_image(path.with_name("i.png")), row="007").points


def public(path: Path) -> Any:
    return [(line["filename"], read_step("here", "mm", line["mm"])) for _, line in read_lines(path, ("filename", "mm"))]


def nnunet(path: Path) -> Any:
    return read_cases(path)


@dataclass(frozen=True)
class Kind:
    """A kind of table: how it is read, and one with leading zeros, accents and numbers with a decimal point."""

    read: Callable[[Path], Any]
    cells: Cells


KINDS = {
    "training manifest": Kind(
        training,
        [
            ["case_id", "patient_id", "site", "split", "image", "truth", "spacing_mm"],
            ["007", "0012", SITE, "train", "i.png", "t.png", "1.25"],
            ["070", "0120", SITE, "test", "i.png", "t.png", "0.5x0.25"],
        ],
    ),
    "evaluation manifest": Kind(
        evaluation,
        [
            [*EVALUATION, "spacing_mm"],
            ["007", "0012", SITE, "0.87", "1", "0.5"],
            ["070", "0120", SITE, "0.125", "0", "0.5"],
        ],
    ),
    "predictions to compare": Kind(
        compared, [["case_id", "site", "prediction"], ["007", SITE, "0.25"], ["070", SITE, "0.75"]]
    ),
    "PSA": Kind(psa, [["PatientID", "psa_ng_ml"], ["0012", "6.5"], ["0120", "0.75"]]),
    "truth shapes": Kind(
        shapes, [["image", "label", "x", "y"], ["007", "lésion", "2.5", "3.25"], ["7", "no", "1", "1"]]
    ),
    "public set": Kind(public, [["filename", "mm"], ["007_HC.png", "0.0625"], ["070_HC.png", "0.5"]]),
    "nnU-Net cases": Kind(
        nnunet,
        [["case_id", "patient_id", "site", "split", "label"], ["007", "0012", SITE, "train", "bénin"]],
    ),
}


def written(cells: Cells, delimiter: str, comma: bool) -> str:
    """The table as a spreadsheet writes it, with decimal commas if wanted, and blank lines at the end."""
    numbers = ("0.", "1.25", "6.5", "2.5", "3.25")
    rows = [
        delimiter.join(cell.replace(".", ",") if comma and cell.startswith(numbers) else cell for cell in row)
        for row in cells
    ]
    return "\r\n".join([*rows, delimiter * (len(cells[0]) - 1), ""])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, value in (("i", 90), ("t", 0)):
        Picture.fromarray(np.full((8, 9), value, np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


FORMS = {
    "UTF-8": ("utf-8", ",", False),
    "UTF-8 with a mark": ("utf-8-sig", ",", False),
    "French, UTF-8 with a mark": ("utf-8-sig", ";", True),
    "French, Windows-1252": ("cp1252", ";", True),
    "Unicode text": ("utf-16", "\t", True),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_table_in_every_form_says_the_same(kind: Kind, form: tuple[str, str, bool], folder: Path) -> None:
    path = folder / "table.csv"
    path.write_bytes(written(kind.cells, ",", False).encode("utf-8"))
    plain = kind.read(path)
    assert plain, "an empty answer would equal any other"
    encoding, delimiter, comma = form
    path.write_bytes(written(kind.cells, delimiter, comma).encode(encoding))
    assert kind.read(path) == plain
    path.write_bytes(f"sep={delimiter}\r\n{written(kind.cells, delimiter, comma)}".encode(encoding))
    assert kind.read(path) == plain


def test_values_are_those_that_were_written(folder: Path) -> None:
    """By hand, so that two wrong readings cannot agree."""
    for name, expected in (
        ("training manifest", [("007", "0012", SITE, (1.25, 1.25)), ("070", "0120", SITE, (0.5, 0.25))]),
        ("evaluation manifest", [("007", SITE, 0.87, (0.5,)), ("070", SITE, 0.125, (0.5,))]),
        ("predictions to compare", [("007", 0.25), ("070", 0.75)]),
        ("public set", [("007_HC.png", 0.0625), ("070_HC.png", 0.5)]),
    ):
        path = folder / "table.csv"
        path.write_bytes(written(KINDS[name].cells, ";", True).encode("cp1252"))
        assert KINDS[name].read(path) == expected
    path.write_bytes(written(KINDS["truth shapes"].cells, ";", True).encode("cp1252"))
    assert [(point.label, point.at) for point in shapes(path)] == [("lésion", (3.25, 2.5))]


BROKEN: dict[str, tuple[Callable[[Cells], Cells], str]] = {
    "a cell too many": (
        lambda c: [*c[:-1], [*c[-1], "5"]],
        r"table\.csv, line {last}, column {more} \(without a name\)",
    ),
    "a cell too few": (lambda c: [*c[:-1], c[-1][:-1]], r"table\.csv, line {last}, column {count} \('"),
    "a column twice": (lambda c: [[*c[0], c[0][0]], *([*r, "x"] for r in c[1:])], r"columns 1 and {more} have"),
    "a value without a column": (lambda c: [[*c[0], ""], *([*r, "x"] for r in c[1:])], r"line 2, column {more}: has a"),
    "a column that is missing": (lambda c: [["other", *c[0][1:]], *c[1:]], r"line 1: found columns .*; missing \['"),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_table_names_file_line_and_column(
    kind: Kind, broken: tuple[Callable[[Cells], Cells], str], folder: Path
) -> None:
    change, message = broken
    count = len(kind.cells[0])
    expected = message.format(last=len(kind.cells), more=count + 1, count=count)
    (folder / "table.csv").write_text("\n".join(",".join(row) for row in change(kind.cells)), encoding="utf-8")
    if kind.read is psa and "missing" in message:
        expected = r"line 1: found columns \['another', 'psa_ng_ml'\]; allowed are psa_ng_ml and one of"
    with pytest.raises(ImagingError, match=expected):
        kind.read(folder / "table.csv")


BYTES = {
    "a spreadsheet": (b"PK\x03\x04rest", "it is a spreadsheet; save it as 'CSV UTF-8'"),
    "an old spreadsheet": (codecs.BOM_UTF8[:0] + b"\xd0\xcf\x11\xe0rest", "it is a spreadsheet"),
    "no encoding": (b"a,b\n1,\x81\n", "line 2: byte 0x81 is no cp1252: cannot be read"),
    "zero bytes": (b"a,b\n1,\0\n", "line 2: holds a zero byte: cannot be read"),
    "half a character": (codecs.BOM_UTF16_LE + b"a\0b", "line 1: byte 0x62 is no utf-16"),
    "an open quote": (b'a,b\n1,"2\n3,4\n', r"line 2: cannot be read as CSV"),
    "nothing": (b"", r"line 1: found columns \[\]; missing"),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("content", BYTES.values(), ids=BYTES)
def test_what_is_no_table_is_refused(kind: Kind, content: tuple[bytes, str], folder: Path) -> None:
    (folder / "table.csv").write_bytes(content[0])
    with pytest.raises((ConfigError, InputError), match=content[1]):
        kind.read(folder / "table.csv")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0,5", 0.5), ("0.5", 0.5), ("12", 12.0), ("-1,25e2", -125.0), (",5", 0.5), ("1,250", None), ("1 250", None),
     ("0,5,5", None), ("", None), ("nan", None), ("1_0", None), ("٣", None)],
)  # fmt: skip
def test_numbers(text: str, value: float | None, tmp_path: Path) -> None:
    """Quoted beside commas; what may be thousands, or is no number, is refused with its column."""
    path = tmp_path / "t.csv"
    path.write_text(f'a,b\n"{text}",x\n', encoding="utf-8")
    [line] = read_table(path, "t.csv", ("a",)).lines
    if value is not None:
        assert line.decimal("a") == value
        return
    with pytest.raises(ConfigError, match=rf"t\.csv, line 2: a is '{text}'; allowed is a number"):
        line.decimal("a")


def test_a_column_of_two_decimal_marks_is_refused(tmp_path: Path) -> None:
    """1.250 beside 6,5 may be more than a thousand."""
    path = tmp_path / "t.csv"
    path.write_text("a;b\n6,5;0,5\n1.250;7\n", encoding="utf-8")
    first, second = read_table(path, "t.csv", ("a",)).lines
    assert (first.decimal("b"), second.decimal("b")) == (0.5, 7.0)
    with pytest.raises(ConfigError, match=r"line 3: a is '1\.250'; .* decimal commas and decimal points"):
        second.decimal("a")


def test_names_that_look_alike_are_one(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Blanks, no-break spaces and both forms of an accent; case and missing accents are told and stay apart."""
    decomposed = unicodedata.normalize("NFD", SITE)
    names = {clean(name) for name in (SITE, f"{SITE} ", f"\u00a0{decomposed}", decomposed.replace(" ", "\u00a0"))}
    assert names == {SITE}
    assert clean("P\u200b1\ufeff") == "P1"
    assert near_spellings("site", [SITE, "hopital d'evry", "Other", SITE]) == [
        f'site {SITE!r} and "hopital d\'evry" {NEARLY_ONE}; they count as different'
    ]
    head = "case_id,patient_id,site,split,image,truth,colour\n"
    rows = [f"c1,P1,{SITE},train,i.png,t.png,red", f"c2,P2,{decomposed}\u00a0,train,i.png,t.png,",
            "c3,p2,HOPITAL D'EVRY,train,i.png,t.png,"]  # fmt: skip
    (folder / "m.csv").write_text(head + "\n".join(rows), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert [case.site for case in read_manifest(folder / "m.csv")] == [SITE, SITE, "HOPITAL D'EVRY"]
    assert "manifest m.csv: not used are the columns colour" in caplog.messages
    assert any(
        "differ by case, accents, dashes or leading zeros alone" in message and "site" in message
        for message in caplog.messages
    )
    assert any("patient_id 'P2' and 'p2'" in message for message in caplog.messages)
    (folder / "m.csv").write_text(head + rows[0] + "\nc4,P1\u00a0,A,test,i.png,t.png,", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"1 patients stand in two splits, first 'P1' in \['test', 'train'\]"):
        read_manifest(folder / "m.csv")


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["Paris", "PARIS", "paris"], 1),
        (["Saint-Denis", "Saint\u2010Denis", "Saint\u2013Denis", "saint denis", "Saint_Denis"], 1),
        (["007", "7", "0007"], 1),
        (["P7", "P007", "p-7"], 1),
        (["P1", "\uff30\uff11"], 1),
        (["P10", "P1", "P100", "1-11", "11-1", "111"], 0),
        ([f"{form}{k}" for k in range(8) for form in "Pp"], 6),
    ],
)
def test_spellings_that_are_told(names: list[str], count: int) -> None:
    """Of more than five groups the rest is counted: a hospital may write every id in two ways."""
    assert len(near_spellings("patient_id", names)) == count


@pytest.mark.parametrize("column", ["spacing", "Spacing_mm", "pixel_spacing", "spacing_x"])
def test_spacing_has_one_name(column: str, folder: Path) -> None:
    (folder / "m.csv").write_text(f"{','.join(EVALUATION)},{column}\nc,p,s,a,b,0.1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"line 1: column '{column}' is unknown; the name is 'spacing_mm'"):
        read_rows(folder / "m.csv", EVALUATION)


def test_a_column_nearly_named(tmp_path: Path) -> None:
    assert nearest("Site", ["site", "split"]) == "site"
    assert nearest("patient", ["patient_id"]) == "patient_id"
    assert nearest("vendor", ["site", "split", "truth"]) == ""
    (tmp_path / "m.csv").write_text("case_id,patient_id,Site,prediction,truth\na,b,c,d,e\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"missing \['site'\]; is 'Site' meant to be 'site'\?"):
        read_rows(tmp_path / "m.csv", EVALUATION)


def test_files_are_found_by_the_names_that_other_systems_write(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "é.png").write_bytes(b"")
    assert file_named("a\\e\u0301.png", tmp_path) == tmp_path / "a" / "é.png"
    assert file_named("a\\é.png", tmp_path) == tmp_path / "a" / "é.png"
    (tmp_path / "a\\b.png").write_bytes(b"")
    assert file_named("a\\b.png", tmp_path) == tmp_path / "a\\b.png", "as it is written comes first"
    assert file_named("none\\b.png", tmp_path) == tmp_path / "none\\b.png", "an error names what the table says"


def test_lines_count_as_an_editor_counts_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n"one\ntwo",1\n\n3,4\n', encoding="utf-8")
    assert [line.number for line in read_table(tmp_path / "t.csv", "t.csv", ("a",)).lines] == [2, 5]


def test_lost_zeros_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "m.csv").write_text(f"{','.join(EVALUATION)}\n007,p,s,0.1,1\nx,q,s,0.2,0\n", encoding="utf-8")
    rows = read_rows(tmp_path / "m.csv", EVALUATION)
    (tmp_path / "other.csv").write_text("case_id,prediction\n7,0.1\nx,0.2\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert [row.score for row in with_predictions(rows, tmp_path / "other.csv")] == [None, 0.2]
    assert "first '7'; the manifest has '007': were leading zeros lost?" in caplog.text
    (tmp_path / "other.csv").write_text("case_id,prediction\n7,0.1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"1 cases are not in the manifest, first '7'; .*'007'"):
        with_predictions(rows, tmp_path / "other.csv")


def test_the_command_ends_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A decimal comma without quotes once cut 0,87 to 0 and changed every figure in silence."""
    table = tmp_path / "comma.csv"
    table.write_text("case_id,patient_id,site,truth,prediction\nc0,p0,A,0,0,12\nc1,p1,A,1,0,87\n", encoding="utf-8")
    words = ["evaluate", "classification", "--manifest", str(table), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "manifest comma.csv, line 2, column 6 (without a name): found 6 values; allowed are 5" in error
    assert "a decimal comma needs quotes, or semicolons between the columns" in error
    table.write_bytes(b"PK\x03\x04")
    assert main(words) == 2
    assert main(["data", "to-nnunet", "--manifest", str(table), "--out", str(tmp_path / "n"), "--key", "T2W"]) == 2
