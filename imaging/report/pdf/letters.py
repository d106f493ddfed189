"""Letters on the pages of a readable report: which of the fonts that every PDF reader has draws each of them.

Latin letters are drawn in Helvetica. Others, among them Greek and Cyrillic, are drawn in a CJK font that the reader's
program has or replaces (ISO 32000-1, 9.7.5.2), so the text stays text and no font is shipped. A letter that none of
them holds is drawn without its accents, as its other form, or as a question mark, and the page says so.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

LATIN: Final = "Helvetica"
# What a national character set holds is in the font of that script (Adobe-Japan1, -Korea1, -GB1, -CNS1).
_FONTS: Final = {
    "shift_jis": "HeiseiKakuGo-W5",
    "euc_kr": "HYGothic-Medium",
    "gb2312": "STSong-Light",
    "big5": "MSung-Light",
}


@dataclass(frozen=True, slots=True)
class FontRun:
    """Letters that one font draws."""

    font: str
    text: str


def runs(text: str) -> tuple[FontRun, ...]:
    """The text as it is drawn, in runs of one font."""
    placed = [(_font(letter) or LATIN, letter) for letter in _best(text)]
    by_font = groupby(placed, lambda pair: pair[0])
    return tuple(FontRun(font, "".join(letter for _, letter in letters)) for font, letters in by_font)


def is_latin(text: str) -> bool:
    """Whether Helvetica, which every reader has, draws all of it."""
    return all(run.font == LATIN for run in runs(text))


def is_exact(text: str) -> bool:
    """Whether every letter is drawn as it is."""
    return drawn(text) == unicodedata.normalize("NFC", text)


def drawn(text: str) -> str:
    """The text with the letters that are drawn in its place."""
    return "".join(run.text for run in runs(text))


def _best(text: str) -> Iterator[str]:
    for letter in unicodedata.normalize("NFC", text):
        base = unicodedata.normalize("NFD", letter)[0]
        # A final sigma folds to a sigma.
        yield next(
            (instead for instead in (letter, base, base.casefold()) if len(instead) == 1 and _font(instead)), "?"
        )


def _font(letter: str) -> str | None:
    if not letter.isprintable():
        return None
    if _holds("cp1252", letter):
        return LATIN
    return next((font for codec, font in _FONTS.items() if _holds(codec, letter)), None)


def _holds(codec: str, letter: str) -> bool:
    try:
        letter.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
