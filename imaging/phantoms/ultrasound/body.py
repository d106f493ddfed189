"""One synthetic body: the anatomy around, what was planted in it, and the truth about that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import ndimage

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
    """A body whose anatomy is drawn from `seed`; its lesions and, in a uterus, the fetal head are given.

    `bystanders` are shown and are not in the truth: cysts that nobody outlines.
    """

    anatomy: Anatomy
    seed: int
    lesions: tuple[PlantedLesion, ...] = ()
    head: Head | None = None
    bystanders: tuple[PlantedLesion, ...] = ()

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
        for lesion in (*self.bystanders, *self.lesions):
            found = with_lesion(found, lesion, x, z)
        return found

    def truth(self, x: Floats, z: Floats) -> Mask:
        """The points that lie in a lesion, or in the head within the outer border of its skull."""
        inside = np.zeros(x.shape, dtype=np.bool_)
        for planted in (*self.lesions, *((self.head,) if self.head else ())):
            inside |= planted.contains(x, z)
        return inside


@dataclass(frozen=True)
class SampledBreast:
    """A breast sampled once on a lattice in millimetres: beams of any frequency meet the same, interpolated tissue.

    Nothing finer than `step_mm` is left of it. `width_mm` lies left and right of the probe's middle, half each.
    """

    body: Body
    depth_mm: float
    width_mm: float
    step_mm: float = 0.25

    @property
    def seed(self) -> int:
        return self.body.seed

    @cached_property
    def lattice(self) -> EchoTissue:
        """The tissue on the lattice (down, across)."""
        z = np.arange(0, self.depth_mm + 2 * self.step_mm, self.step_mm)
        x = np.arange(-self.width_mm / 2, self.width_mm / 2 + self.step_mm, self.step_mm)
        down, across = np.meshgrid(z, x, indexing="ij")
        return self.body.tissue(across, down, down)

    def tissue(self, x: Floats, z: Floats, below_face: Floats) -> EchoTissue:
        """As of a Body seen by a linear array."""
        del below_face
        where = [z / self.step_mm, (x + self.width_mm / 2) / self.step_mm]
        found = self.lattice
        return EchoTissue(
            *(
                np.asarray(ndimage.map_coordinates(values, where, order=1, mode="nearest"))
                for values in (found.echo_db, found.mirror, found.absorption)
            )
        )

    def truth(self, x: Floats, z: Floats) -> Mask:
        """Exact, of the body itself."""
        return self.body.truth(x, z)
