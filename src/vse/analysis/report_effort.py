"""Who worked how long on what: for the efficiency of an analysis, its slowest files, what was read where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import urlsplit


class WorkerResult(NamedTuple):
    """One worker. ``joined_s`` and ``left_s`` since the start; ``left_s`` None where it stayed.

    ``busy_s``: time in packets that are in the result, reading included. ``failures``: packets that it
    could not do. ``drained``: why it got no more work; empty where it was sound.
    """

    name: str
    joined_s: float
    left_s: float | None
    busy_s: float
    entries: int
    read_bytes: int
    packets: int
    failures: int
    drained: str = ""


@dataclass(slots=True)
class Effort:
    """Fed by the engine: joined, answered, left. Times in seconds since the start of the analysis."""

    workers: dict[str, WorkerResult] = field(default_factory=dict)
    file_wall_s: dict[str, float] = field(default_factory=dict)

    def joined(self, worker: str, now_s: float) -> None:
        known = self.workers.get(worker)
        self.workers[worker] = (
            known._replace(left_s=None) if known else WorkerResult(worker, now_s, None, 0.0, 0, 0, 0, 0)
        )

    def left(self, worker: str, now_s: float) -> None:
        if worker in self.workers:
            self.workers[worker] = self.workers[worker]._replace(left_s=now_s)

    def drained(self, worker: str, reason: str) -> None:
        if worker in self.workers:
            self.workers[worker] = self.workers[worker]._replace(drained=reason)

    def answered(
        self, worker: str, lfn: str, entries: int, wall_s: float, read_bytes: int, done: bool
    ) -> None:
        """A packet of ``entries`` came back; they count where it is ``done``."""
        self.file_wall_s[lfn] = self.file_wall_s.get(lfn, 0.0) + wall_s
        known = self.workers.get(worker)
        if known is None:
            return
        if not done:
            self.workers[worker] = known._replace(
                failures=known.failures + 1, read_bytes=known.read_bytes + read_bytes
            )
            return
        self.workers[worker] = known._replace(
            busy_s=known.busy_s + wall_s,
            entries=known.entries + entries,
            read_bytes=known.read_bytes + read_bytes,
            packets=known.packets + 1,
        )


def ideal_s(workers: Sequence[WorkerResult], wall_s: float) -> float:
    """Return the time of a perfect schedule: all the work, at the sum of the workers' rates as they came.

    A worker's rate is what it did while it was in packets; it counts from its arrival to its leaving.
    """
    rates: list[tuple[float, float, float]] = []
    for worker in workers:
        left_s = wall_s if worker.left_s is None else min(worker.left_s, wall_s)
        busy_s = min(worker.busy_s, left_s - worker.joined_s)
        if worker.entries and busy_s > 0:
            rates.append((worker.joined_s, left_s, worker.entries / busy_s))
    work = sum((stop - start) * rate for start, stop, rate in rates)
    entries = float(sum(worker.entries for worker in workers))
    if not rates or work <= entries:
        return wall_s
    times = sorted({time_s for start, stop, _ in rates for time_s in (start, stop)})
    for begin, end in pairwise(times):
        rate = sum(rate for start, stop, rate in rates if start <= begin and stop >= end)
        if rate * (end - begin) >= entries:
            return begin + entries / rate
        entries -= rate * (end - begin)
    return wall_s


def efficiency(workers: Sequence[WorkerResult], wall_s: float) -> float | None:
    """Return ideal over measured time, at most 1; None where no worker did anything."""
    if wall_s <= 0 or not any(worker.busy_s for worker in workers):
        return None
    return min(1.0, ideal_s(workers, wall_s) / wall_s)


def short_name(worker: str) -> str:
    """Return a worker's address without its protocol."""
    return worker.rpartition("://")[2]


class Origin(NamedTuple):
    """What was read from one place: a storage element, and whether over the network."""

    place: str
    remote: bool
    files: int
    entries: int
    read_bytes: int


def is_remote(url: str) -> bool:
    """Whether a URL of an input file leads over the network."""
    return "://" in url and not url.startswith(("file:", "zip:"))


def origins(files: Iterable[tuple[str, str, int, int]]) -> list[Origin]:
    """Add up ``(source, url, entries, read_bytes)`` by storage element, the largest first.

    A file without a storage element counts for its host.
    """
    found: dict[tuple[str, bool], Origin] = {}
    for source, url, entries, read_bytes in files:
        remote = is_remote(url)
        place = source or (urlsplit(url).hostname or "unknown" if remote else "this machine")
        known = found.get((place, remote), Origin(place, remote, 0, 0, 0))
        found[place, remote] = Origin(
            place, remote, known.files + 1, known.entries + entries, known.read_bytes + read_bytes
        )
    return sorted(found.values(), key=lambda origin: (-origin.read_bytes, origin.place))
