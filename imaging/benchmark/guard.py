"""While a network is made, nothing of its test cases may be opened: a leak stops the training instead of its figures.

Python tells every file that it opens (PEP 578), so decoders, truths and caches alike are met, whatever the way by
which a path reached them. What a library opens in C without Python is not met: of the readers here SimpleITK's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imaging.errors import ConfigError, Reason


class _Watch:
    """What may not be opened now. A hook of the interpreter cannot be taken away, so there is one, made when needed."""

    def __init__(self) -> None:
        self.files: frozenset[str] = frozenset()
        self.folders: frozenset[str] = frozenset()
        self.is_set = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not (self.files or self.folders):
            return
        if not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path in self.files or any(path.startswith(f"{folder}{os.sep}") for folder in self.folders):
            raise ConfigError(
                f"{path}: opened while a network is trained or chosen that is tested on it; allowed are the network's "
                "own training and validation cases: a recipe, task or reader looks elsewhere",
                Reason.CONFIG_INVALID,
            )


_WATCH = _Watch()


@contextmanager
def held_out(files: Iterable[Path]) -> Iterator[None]:
    """Opening one of these files, or a file in one of these folders, raises ConfigError naming it."""
    if not _WATCH.is_set:
        sys.addaudithook(_WATCH)
        _WATCH.is_set = True
    before = _WATCH.files, _WATCH.folders
    named = {os.path.realpath(path) for path in files}
    _WATCH.folders = frozenset(name for name in named if Path(name).is_dir())
    _WATCH.files = frozenset(named) - _WATCH.folders
    try:
        yield
    finally:
        _WATCH.files, _WATCH.folders = before
