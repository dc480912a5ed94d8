"""Who comes next: priorities, fair shares of owners within one, and slots. Pure.

Start-time fair queueing (P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queuing", SIGCOMM 1996) with
files of one weight: an owner's next file gets the place behind the owner's last one, or behind what is
being served where the owner had nothing queued. Places are given when a file is queued, so that the
next file is the first row of an index. A lane (destination, source, priority) has a virtual time of its
own: one that was shut for long because its slots were taken does not make newcomers wait for all of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, Self

from vse.config.settings import StagerSettings


class Lane(NamedTuple):
    """Files that wait for the same slots, in the order of their places. ``source_se`` empty: not known."""

    destination: str
    source_se: str
    priority: int


def next_place(virtual: int, last: int) -> int:
    """Return the place of an owner's next file: ``virtual`` time of its lane, ``last`` of the owner."""
    return max(virtual, last) + 1


class Slots(NamedTuple):
    """How many transfers may run at once: over all, from one source, to one destination.

    ``sources`` and ``destinations`` hold other numbers for some elements. ``per_destination`` 0: no limit.
    ``known``: the elements that anything may go to (None: all). What is for another one waits: it may be
    missing only for as long as somebody saves the settings.
    """

    overall: int
    per_source: int
    per_destination: int = 0
    sources: Mapping[str, int] = {}
    destinations: Mapping[str, int] = {}
    known: Collection[str] | None = None

    @classmethod
    def of(cls, settings: StagerSettings, known: Collection[str] | None = None) -> Self:
        return cls(
            settings.slots,
            settings.slots_per_source,
            settings.slots_per_destination,
            settings.source_slots,
            settings.destination_slots,
            known,
        )

    def from_source(self, se: str) -> int:
        """Return how many may be read from ``se``; where it is not known yet, that is no limit."""
        return self.sources.get(se, self.per_source) if se else self.overall

    def to_destination(self, se: str) -> int:
        if self.known is not None and se not in self.known:
            return 0
        return self.destinations.get(se, self.per_destination or self.overall)

    def to(self, se: str) -> Self:
        """Return the slots that transfers to one destination have, whatever goes elsewhere."""
        return self._replace(overall=min(self.overall, self.to_destination(se)))


class Usage:
    """Which slots are taken; counts along while files are taken."""

    def __init__(self, slots: Slots, running: Mapping[tuple[str, str], int]) -> None:
        """``running``: how many run, by destination and source ('' for a source that is not known)."""
        self._slots = slots
        self._sources: dict[str, int] = {}
        self._destinations: dict[str, int] = {}
        self._all = 0
        for (destination, source_se), number in running.items():
            self._count(destination, source_se, number)

    def free(self, destination: str, source_se: str) -> int:
        """Return how many more may run from a source to a destination."""
        return max(
            0,
            min(
                self._slots.overall - self._all,
                self._slots.to_destination(destination) - self._destinations.get(destination, 0),
                self._slots.from_source(source_se) - self._sources.get(source_se, 0),
            ),
        )

    def take(self, destination: str, source_se: str) -> bool:
        """Take a slot; False where there is none."""
        if not self.free(destination, source_se):
            return False
        self._count(destination, source_se, 1)
        return True

    def _count(self, destination: str, source_se: str, number: int) -> None:
        self._all += number
        self._sources[source_se] = self._sources.get(source_se, 0) + number
        self._destinations[destination] = self._destinations.get(destination, 0) + number
