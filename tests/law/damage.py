"""Every kind of damage, in the order by which cases are numbered."""

from tests.law import damage_files, damage_images, damage_volumes
from tests.law.kinds import KINDS, OPEN, Kind, fits

__all__ = ["KINDS", "OPEN", "Kind", "damage_files", "damage_images", "damage_volumes", "fits"]
