"""When will it be here? An estimate from what was measured, with honest bounds; nothing measured, none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_GAP_S = 60.0
_SLICES = 8


class Sample(NamedTuple):
    """A transfer that moved ``size_bytes`` between two times (a running one: until now)."""

    started_s: float
    ended_s: float
    size_bytes: int


class Rate(NamedTuple):
    """What all slots together carried: ``low`` and ``high`` are the slowest and fastest stretches."""

    bytes_per_s: float
    files_per_s: float
    low: float
    high: float


class Estimate(NamedTuple):
    """Seconds from now; ``likely_s`` lies between the bounds."""

    low_s: float
    likely_s: float
    high_s: float


def measure(samples: Sequence[Sample]) -> Rate | None:
    """Return the rate over the latest busy time; None where nothing was moved in it.

    Only transfers without a gap of a minute count, so that an idle night does not slow the rate. The
    bounds are the lower and upper quarter of equal slices of that time, factors of at least 1.25 apart
    from the mean, and of 2 where there are fewer than four samples.
    """
    busy: list[Sample] = []
    start_s = float("inf")
    for one in sorted(samples, key=lambda sample: -sample.ended_s):
        if busy and one.ended_s < start_s - _GAP_S:
            break
        busy.append(one)
        start_s = min(start_s, one.started_s)
    total = sum(one.size_bytes for one in busy)
    if not busy or total <= 0:
        return None
    span_s = max(busy[0].ended_s - start_s, 1e-3)
    mean = total / span_s
    slices = sorted(_slices(busy, start_s, span_s))
    spread = 1.25 if len(busy) >= 4 else 2.0
    low = min(slices[len(slices) // 4], mean / spread)
    high = max(slices[-1 - len(slices) // 4], mean * spread)
    return Rate(mean, len(busy) / span_s, max(low, mean / 10), high)


def _slices(busy: Sequence[Sample], start_s: float, span_s: float) -> list[float]:
    """Return the bytes a second in equal slices of time, each sample spread evenly over its own."""
    width_s = span_s / _SLICES
    carried = [0.0] * _SLICES
    for one in busy:
        lasted_s = max(one.ended_s - one.started_s, 1e-6)
        for number in range(_SLICES):
            from_s = start_s + number * width_s
            overlap_s = min(one.ended_s, from_s + width_s) - max(one.started_s, from_s)
            carried[number] += one.size_bytes * max(0.0, overlap_s) / lasted_s
    return [size / width_s for size in carried]


def estimate(rate: Rate | None, ahead_bytes: int, ahead_files: int, wait_s: float = 0.0) -> Estimate | None:
    """Return when ``ahead_bytes`` in ``ahead_files`` will be through.

    ``wait_s``: nothing comes before that (a back-off). Many small files take as long as their number
    says, whatever their bytes: the upper bound knows both.
    """
    if rate is None:
        return None
    likely_s = ahead_bytes / rate.bytes_per_s
    by_number_s = ahead_files / rate.files_per_s
    low_s = min(ahead_bytes / rate.high, likely_s)
    high_s = max(ahead_bytes / rate.low, by_number_s, likely_s)
    return Estimate(low_s + wait_s, likely_s + wait_s, high_s + wait_s)
