"""How full a storage element is (seed 003, "Space occupancy"): plugins, and answers that never block."""

from vse.storage.occupancy.answers import UNKNOWN, Occupancies, Occupancy, occupancy_of
from vse.storage.occupancy.plugins import PLUGINS, measure

__all__ = ["PLUGINS", "UNKNOWN", "Occupancies", "Occupancy", "measure", "occupancy_of"]
