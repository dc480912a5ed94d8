"""What a file costs in a slot, as measured: so much for each file and so much for each byte. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vse.transfer.lifecycle import PRIORITY

_BEYOND = 4.0
"""How many times as large as any that was measured a file may be before two readings of it are told."""


class Sample(NamedTuple):
    """A transfer that moved ``size_bytes`` between two times (a running one: so far, until now)."""

    started_s: float
    ended_s: float
    size_bytes: int
    source_se: str = ""
    created_s: float = 0.0
    share: str = ""
    priority: int = PRIORITY
    failures: int = 0

    @property
    def lasted_s(self) -> float:
        return max(self.ended_s - self.started_s, 1e-3)


class Cost(NamedTuple):
    """Seconds in a slot: for each file, and for each byte.

    ``each_s`` and ``each_bytes`` are those of the mean sample, ``most_bytes`` the size up to which the two
    can be told apart (0: they cannot, all samples were of about the same size).
    """

    file_s: float
    byte_s: float
    each_s: float = 0.0
    each_bytes: float = 0.0
    most_bytes: float = math.inf

    def of(self, files: float, size_bytes: float) -> float:
        return files * self.file_s + size_bytes * self.byte_s

    def bounds(self, files: float, size_bytes: float) -> tuple[float, float]:
        """Return the least and the most that the samples allow: files of a size unlike any that was seen
        may cost what a file did, or what its bytes did."""
        likely_s = self.of(files, size_bytes)
        if files <= 0 or size_bytes / files <= _BEYOND * self.most_bytes or self.each_bytes <= 0:
            return likely_s, likely_s
        readings = (likely_s, files * self.each_s, size_bytes * self.each_s / self.each_bytes)
        return min(readings), max(readings)


def cost_of(samples: Sequence[Sample]) -> Cost:
    """Return what files cost that lasted as ``samples`` did: their sum is right, outliers do not tilt it.

    Where all are of about the same size nothing tells what a byte costs from what a file does; then it is
    all in the bytes, and `Cost.bounds` tells how far that may be wrong.
    """
    by_size = sorted(samples, key=lambda one: one.size_bytes)
    third = max(1, len(by_size) // 3)
    small, large = by_size[:third], by_size[-third:]
    small_bytes, large_bytes = middle(one.size_bytes for one in small), middle(o.size_bytes for o in large)
    small_s, large_s = middle(one.lasted_s for one in small), middle(one.lasted_s for one in large)
    slope, file_s, most_bytes = 0.0, 0.0, 0.0
    if len(by_size) >= 6 and large_bytes > 1.5 * small_bytes:
        slope = max(0.0, (large_s - small_s) / (large_bytes - small_bytes))
        file_s = max(0.0, small_s - slope * small_bytes)
        most_bytes = float(by_size[-1].size_bytes)
    elif large_bytes > 0:
        slope = 1.0
    if slope <= 0 and file_s <= 0:
        file_s = 1.0
    guess = Cost(file_s, slope)
    number, total_s = len(by_size), sum(one.lasted_s for one in by_size)
    total_bytes = sum(one.size_bytes for one in by_size)
    scale = total_s / max(guess.of(number, total_bytes), 1e-9)
    return Cost(file_s * scale, slope * scale, total_s / number, total_bytes / number, most_bytes)


def middle(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return float(ordered[len(ordered) // 2])
