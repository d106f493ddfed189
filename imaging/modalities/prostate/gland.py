"""What a prostate can look like at all in an MR study that was planned to show it.

* Volume: that of men of 21 to 30 years weighs 20 g, standard deviation 6 (Berry et al., J Urol 1984;132:474), so 8 ml
  are two standard deviations less. Beyond 300 ml there are single cases; of those the answer is "unknown".
* Extent: a ball of 8 ml has a diameter of 25 mm and one of 300 ml of 83 mm. The least extents are half of the former
  and more, because young glands are flat from front to back; the largest leave a third to oblique and long glands.
* Shape: an ellipsoid fills 52 % of the box along its axes. Zones that are outlined one by one touch each other.
* Place: PI-RADS v2.1 has T2W made with a field of view of 12 to 20 cm that encompasses the whole gland, so the gland is
  near its middle; wider ones of the pelvis have it nearer still, measured by the side of the slice.
* Reach: what a good outline misses at apex and base, where networks err most, is up to three slices of 3 mm.
"""

from __future__ import annotations

from typing import Final

from imaging.modalities.prostate.conclusions import ORGANS
from imaging.organ import OrganBounds

GLAND: Final = OrganBounds(
    name="the prostate",
    labels=frozenset(ORGANS),
    volume_ml=(8.0, 300.0),
    extent_mm=((20.0, 110.0), (12.0, 110.0), (15.0, 110.0)),
    largest_part=0.9,
    filling=0.25,
    off_centre=0.25,
    reach_mm=10.0,
)
