"""HTML that is safe by construction: whatever is not `Markup` is escaped, and hidden characters are spelled out."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

Json = Mapping[str, Any]

# Unicode categories that a browser does not draw, or that reorder what it draws.
_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


class Markup(str):
    """Text that is HTML already. Everything else is escaped when it enters an element."""

    __slots__ = ()


def visible(text: object) -> str:
    """The text with every control, format, surrogate or private character spelled out, as in ⟨U+202E⟩."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in _INVISIBLE else c for c in text)


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """One HTML element. None and False leave a child or an attribute out; True gives a bare attribute."""
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        safe = value if isinstance(value, Markup) else html.escape(visible(value))
        parts.append(attribute if value is True else f'{attribute}="{safe}"')
    opening = f"<{' '.join(parts)}>"
    if name in {"img", "input", "link", "meta"}:
        return Markup(opening)
    return Markup(f"{opening}{joined(children)}</{name}>")


def joined(children: Iterable[object]) -> Markup:
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(visible(child), quote=False)
            for child in children
            if child is not None and child is not False
        )
    )


def quoted(text: object, class_: str | None = None) -> Markup:
    """Text from the input: isolated, so that its writing direction cannot move what stands beside it."""
    return element("bdi", text, class_=class_)


def icon(name: str) -> Markup:
    return element("svg", element("use", href=f"#i-{name}"), class_=f"icon icon-{name}", aria_hidden="true")


def terms(pairs: Iterable[tuple[str, object]], class_: str) -> Markup | None:
    rows = [element("div", element("dt", term), element("dd", value)) for term, value in pairs]
    return element("dl", *rows, class_=class_) if rows else None


def amount(value: float | None) -> str:
    """Three significant digits at least, whole numbers from a hundred on; a dash when unknown."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def grouped(number: int) -> str:
    """A count with narrow spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")


def count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{grouped(number)} {noun if number == 1 else plural or noun + 's'}"


def inner_link(path: str) -> str | None:
    """A relative URL for a path that stays inside the folder of the page; None for any other path."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or {"..", "."} & set(path.split("/")):
        return None
    return quote(path, safe="/", errors="surrogateescape")


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def reason_of(entry: Json, starts: bool = False) -> Markup:
    """A reason in words with its code, for one who reads and one who searches the logs; `starts` a sentence or not."""
    meaning = entry["reason_meaning"]
    code = joined([" ", element("code", quoted(entry["reason"]))]) if entry["reason"] else None
    return element("span", quoted(sentence(meaning) if starts else meaning), code, class_="reason")


def head(title: str, style: str, script: str = "") -> Markup:
    """The head of a page that loads nothing: its policy allows this style, this script and pictures within it."""
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src {_source_hash(style)}",
            f"script-src {_source_hash(script)}" if script else "script-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Markup(style)),
    )


def _source_hash(source: str) -> str:
    """The hash by which a Content-Security-Policy allows one inline style or script (CSP level 3, 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
