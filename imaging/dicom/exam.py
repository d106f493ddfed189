"""The volumes of one exam, role by role → one Image: the key volume, with the others beside it.

Each role is read by itself, so that a broken one costs only what needs it. Without the key volume nothing has a grid to
be found on, so then no image is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from imaging.dicom.pixels.volume import Stack, find_stacks
from imaging.dicom.select import ImageRef, Reader, Volumes
from imaging.errors import ImagingError, InputError, Reason
from imaging.image import Image, SourceRef

Lost = tuple[SourceRef, ImagingError]


@dataclass(frozen=True, eq=False)
class ReadExam:
    """What was read: `image` is None where the key volume could not be; `lost` has every frame that was not read."""

    image: Image | None
    lost: tuple[Lost, ...]


def read_exam(exam: Volumes, disposable: bool = False) -> ReadExam:
    """The volume of the key role, with the others in `Image.beside`, each read as the exam's readers say.

    The notes of all volumes stand in the image's. `disposable` as in `codecs`.
    """
    volumes: dict[str, Image] = {}
    lost: list[Lost] = []
    for role, images in exam.roles.items():
        try:
            volumes[role] = _volume(role, images, exam.readers.get(role), disposable)
        except ImagingError as error:
            lost += [(ref, error) for image in images for ref in image.source_refs()]
    first = volumes.pop(exam.key, None)
    if first is None:
        reason = Reason.MISSING_ROLE
        without = InputError(f"{_study(exam)}: there is no {exam.key} that can be read; the exam needs it", reason)
        return ReadExam(None, (*lost, *((ref, without) for volume in volumes.values() for ref in volume.refs)))
    notes = dict.fromkeys((*first.notes, *(note for volume in volumes.values() for note in volume.notes)))
    return ReadExam(replace(first, beside=volumes, notes=tuple(notes)), tuple(lost))


def _volume(role: str, images: Sequence[ImageRef], reader: Reader | None, disposable: bool) -> Image:
    """The one volume of a role. Raises InputError for what makes none or several."""
    found = find_stacks(images, disposable)
    stacks = [one for one in found if isinstance(one, Stack)]
    for error in found:
        if isinstance(error, ImagingError):
            raise error
    if len(stacks) != 1:
        name = images[0].instance.name
        raise InputError(f"{name}: the {role} has {len(stacks)} volumes; allowed is one", Reason.GEOMETRY)
    volume = reader(stacks[0]) if reader else stacks[0].read()
    return replace(volume, b_value=_b_value(images[0]))


def _b_value(image: ImageRef) -> float | None:
    """The b-value of the first frame that is meant."""
    acquisition = image.instance.acquisition
    frames = acquisition.frames if acquisition else ()
    meant = [frame for frame in frames if image.frames is None or frame.number in image.frames]
    return meant[0].b_value.value if meant and meant[0].b_value else None


def _study(exam: Volumes) -> str:
    uids = {image.instance.study_uid for images in exam.roles.values() for image in images}
    return f"study {', '.join(sorted(uids))}"
