"""The places of an export: every file and folder, which of them nobody could look into, and what that may have cost.

A folder that is closed, a path that the system cannot reach, an archive, a file whose header tells no study: each may
hold an image of some study. Which one, the folders tell, as exports are written: a place belongs to the studies that
lie around it, and to no study that lies wholly elsewhere.
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from imaging.errors import Reason

# Why the system would not open a place, by its error number.
_CLOSED: Final = {
    errno.EACCES: Reason.NOT_PERMITTED,
    errno.EPERM: Reason.NOT_PERMITTED,
    errno.ENAMETOOLONG: Reason.PATH_TOO_LONG,
}


def closed_reason(error: OSError) -> Reason:
    """The reason code of a place that cannot be opened."""
    return _CLOSED.get(error.errno or 0, Reason.UNREADABLE_HEADER)


def walk(export: Path, closed: dict[str, Reason] | None = None) -> Iterator[str]:
    """Every file below a folder, by its path in it, in a stable order; symbolic links are named, never entered.

    `closed` is told the path of each folder that could not be listed ("." for the export itself), and why.
    """
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        folders: list[str] = []
        names: list[str] = []
        try:
            # Strings: a Path for every one of 100 000 files costs as much as a fifth of reading their headers.
            with os.scandir(os.path.join(export, prefix)) as entries:  # noqa: PTH118 - see above
                for entry in entries:
                    (folders if entry.is_dir(follow_symlinks=False) else names).append(entry.name)
        except OSError as error:
            if closed is not None:
                closed[prefix.rstrip("/") or "."] = closed_reason(error)
        for name in sorted(names):
            yield prefix + name
        waiting += [f"{prefix}{name}/" for name in sorted(folders, reverse=True)]


def leads_outside(export: Path, link: str) -> bool:
    """Whether a symbolic link points to what is not seen by itself: outside of the export, or to nothing at all."""
    top, target = os.path.realpath(export), os.path.realpath(export / link)
    return os.path.commonpath((top, target)) != top or not os.path.exists(target)  # noqa: PTH110 - of a real path


def may_hold(unseen: Iterable[str], studies: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """The studies that an unseen place may hold images of, each with these places; `studies` names their files.

    These are the studies in the innermost folder around the place that holds any, when all of them lie wholly in it;
    else the folder around that one counts. In the whole export every study lies.
    """
    places = sorted(unseen)
    inside: dict[str, set[str]] = defaultdict(set)
    homes: dict[str, str] = {}
    for study, files in studies.items() if places else ():
        paths = list(files)
        homes[study] = os.path.commonpath(["/" + _parent(path) for path in paths])[1:]
        for path in paths:
            folder = _parent(path)
            while study not in inside[folder]:
                inside[folder].add(study)
                folder = _parent(folder)
    found: dict[str, list[str]] = defaultdict(list)
    for place in places:
        folder = _parent(place)
        while folder and not (inside[folder] and all(_is_in(homes[study], folder) for study in inside[folder])):
            folder = _parent(folder)
        for study in inside[folder] if folder else studies:
            found[study].append(place)
    return {study: tuple(found[study]) for study in sorted(found)}


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
