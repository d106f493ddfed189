"""Every kind of damage, in the order by which cases are numbered."""

from tests.law import damage_files, damage_images, damage_volumes
from tests.law.kinds import KINDS, Kind, fits

__all__ = ["KINDS", "Kind", "damage_files", "damage_images", "damage_volumes", "fits"]
