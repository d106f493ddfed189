"""One synthetic body: the anatomy around, what was planted in it, and the truth about that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from imaging.phantoms.ultrasound.head import Head, uterus, with_head
from imaging.phantoms.ultrasound.tissue import (
    AVERAGE_ABSORPTION,
    EchoTissue,
    Floats,
    Mask,
    PlantedLesion,
    breast,
    heart,
    with_lesion,
)

Anatomy = Literal["breast", "heart", "uterus", "homogeneous"]


@dataclass(frozen=True, slots=True)
class Body:
    """A body whose anatomy is drawn from `seed`; its lesions and, in a uterus, the fetal head are given."""

    anatomy: Anatomy
    seed: int
    lesions: tuple[PlantedLesion, ...] = ()
    head: Head | None = None

    def tissue(self, x: Floats, z: Floats, below_face: Floats) -> EchoTissue:
        """What is at the points (x, z), lesions and head included. The first axis runs along the beam.

        `below_face`: distance of each point from the face of the probe, which is z for a linear array. Millimetres.
        """
        if self.anatomy == "homogeneous":
            found = EchoTissue(np.zeros_like(x), np.zeros_like(x), np.full_like(x, AVERAGE_ABSORPTION))
        elif self.anatomy == "breast":
            found = breast(self.seed, x, below_face)
        elif self.anatomy == "heart":
            found = heart(self.seed, x, z)
        else:
            found = uterus(self.seed, x, z, below_face, self.head)
        if self.head is not None:
            found = with_head(found, self.head, x, z)
        for lesion in self.lesions:
            found = with_lesion(found, lesion, x, z)
        return found

    def truth(self, x: Floats, z: Floats) -> Mask:
        """The points that lie in a lesion, or in the head within the outer border of its skull."""
        inside = np.zeros(x.shape, dtype=np.bool_)
        for planted in (*self.lesions, *((self.head,) if self.head else ())):
            inside |= planted.contains(x, z)
        return inside
