"""What a copy between any two storage elements would use: DIRAC's protocol matrix (seed 003), pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vse.config.settings import DataManagement
from vse.errors import NoPlan
from vse.storage.pairs import Abilities, Side, Way, plan_copy
from vse.storage.plugins import protocol_of


class Cell(NamedTuple):
    """One pair of elements. Where ``way`` is None nothing can be copied, for ``reason``; else that tells
    what was passed over. ``source_scheme`` and ``destination_scheme`` are those of the URLs."""

    source: str
    destination: str
    way: Way | None
    protocol: str
    source_section: str
    source_scheme: str
    destination_section: str
    destination_scheme: str
    reason: str


def protocol_matrix(
    sides: Sequence[Side], preferences: DataManagement, abilities: Mapping[str, Abilities]
) -> list[Cell]:
    """Return a cell for every ordered pair of different elements, in their order.

    ``abilities``: what the drivers can, by element and section.
    """
    return [
        _cell(source, destination, preferences, abilities)
        for source in sides
        for destination in sides
        if source.name != destination.name
    ]


def _cell(
    source: Side, destination: Side, preferences: DataManagement, abilities: Mapping[str, Abilities]
) -> Cell:
    able = abilities.get(source.name, {}), abilities.get(destination.name, {})
    try:
        plan = plan_copy(source, destination, preferences, *able)
    except NoPlan as error:
        return Cell(source.name, destination.name, None, "", "", "", "", "", error.found)
    return Cell(
        source.name,
        destination.name,
        plan.way,
        plan.protocol,
        plan.source.section,
        protocol_of(plan.source),
        plan.destination.section,
        protocol_of(plan.destination),
        "; ".join(map(str, plan.rejected)),
    )
