"""What is handed out and what comes back: packets, and the books of workers and of halved packets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from vse.analysis.locality import ANYWHERE, Place

MAX_LOSSES = 3
"""A packet that took so many workers with it is to blame: it is halved, down to the entries that kill."""


@dataclass(frozen=True, slots=True)
class Packet:
    """Entries ``[start, stop)`` of a file, to be processed once.

    ``tell``: the entries of the file are not known; whoever opens it tells them, and processes what
    there is of the range. ``family`` is the number of the packet that this one was cut from, ``place`` the
    copy to be read.
    """

    number: int
    lfn: str
    start: int
    stop: int
    family: int
    tell: bool = False
    losses: int = 0
    troubles: int = 0
    avoid: str = ""
    place: Place = ANYWHERE[0]

    @property
    def entries(self) -> int:
        return self.stop - self.start

    @property
    def alone(self) -> bool:
        """Whether it is under suspicion to kill workers: it then gets one for itself."""
        return self.losses >= MAX_LOSSES - 1


class PacketStats(NamedTuple):
    """What a worker measured. ``file_entries``: all of the file; ``overhead_s``: part of ``wall_s``.

    ``clusters``: the entries at which clusters of the file begin, where the worker looked; may be empty.
    """

    file_entries: int
    wall_s: float
    overhead_s: float = 0.0
    read_bytes: int = 0
    clusters: tuple[int, ...] = ()


@dataclass(slots=True)
class WorkerState:
    """A worker that is here: what it has in hand, and how it did so far."""

    host: str = ""
    site: str = ""
    overhead_s: float = 0.0
    lfn: str = ""
    outstanding: dict[int, Packet] = field(default_factory=dict)
    entries_done: int = 0
    faults: int = 0
    successes: int = 0


@dataclass(slots=True)
class Family:
    """A packet in which the user's code raised or workers died, and all that was cut from it."""

    failures: int = 0
    successes: int = 0
    listed: int = 0
    kills: int = 0
