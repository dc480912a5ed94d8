"""Bandwidth caps: how many bytes a second may come from a source, go to a destination, and move at all.

A cap is a bucket that fills at its rate and is drawn from before bytes are asked for. It may be overdrawn
by one piece, and who overdraws it waits until that is paid: pieces of any size keep to the rate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple, Self

from vse.config.settings import StagerSettings
from vse.model import Clock

_BURST_S = 0.25
"""How much may go at once after a pause, in seconds of the rate."""
_NONE: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Bucket:
    """Pure. ``level_bytes`` may be gone at ``at_s``; below zero it is a debt."""

    rate_bytes_s: float
    level_bytes: float
    at_s: float

    def filled(self, now_s: float) -> Bucket:
        """Return the bucket as it is by now; a clock that went back adds nothing."""
        gained = self.rate_bytes_s * max(0.0, now_s - self.at_s)
        level = min(self.rate_bytes_s * _BURST_S, self.level_bytes + gained)
        return replace(self, level_bytes=level, at_s=now_s)

    def draw(self, size_bytes: int, now_s: float) -> tuple[Bucket, float]:
        """Take bytes out; return the bucket after that, and how long to wait before they go."""
        full = self.filled(now_s)
        drawn = replace(full, level_bytes=full.level_bytes - size_bytes)
        return drawn, max(0.0, -drawn.level_bytes / self.rate_bytes_s)

    def at_rate(self, rate_bytes_s: float, now_s: float) -> Bucket:
        """Return the bucket with another rate from now on; a debt is paid at that one."""
        return replace(self.filled(now_s), rate_bytes_s=rate_bytes_s)


class Rates(NamedTuple):
    """In bytes a second; what is missing, or 0, is not capped."""

    overall: float = 0.0
    sources: Mapping[str, float] = _NONE
    destinations: Mapping[str, float] = _NONE

    @classmethod
    def of(cls, settings: StagerSettings) -> Self:
        return cls(settings.max_rate, settings.source_rates, settings.destination_rates)


class Caps:
    """The buckets of a process, shared by all its slots. ``rates`` are those of the whole site.

    Each of ``divide_by`` processes that move files takes its part of them.
    """

    def __init__(self, rates: Rates, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rates = rates
        self._parts = 1
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def set(self, rates: Rates, divide_by: int = 1) -> None:
        """Go by other rates from now on."""
        with self._lock:
            if (rates, divide_by) == (self._rates, self._parts):
                return
            self._rates, self._parts = rates, max(1, divide_by)
            now_s = self._clock()
            wanted = ((key, bucket, self._rate(key)) for key, bucket in self._buckets.items())
            self._buckets = {key: bucket.at_rate(rate, now_s) for key, bucket, rate in wanted if rate}

    def wait_s(self, source_se: str, destination_se: str, size_bytes: int) -> float:
        """Draw ``size_bytes`` on the way between two elements; return how long to wait before they go."""
        if not (self._rates.overall or self._rates.sources or self._rates.destinations):
            return 0.0
        with self._lock:
            now_s = self._clock()
            keys = (("", ""), ("source", source_se), ("destination", destination_se))
            return max(self._draw(key, size_bytes, now_s) for key in keys)

    def _draw(self, key: tuple[str, str], size_bytes: int, now_s: float) -> float:
        rate = self._rate(key)
        if not rate:
            return 0.0
        bucket = self._buckets.get(key) or Bucket(rate, rate * _BURST_S, now_s)
        self._buckets[key], wait_s = bucket.draw(size_bytes, now_s)
        return wait_s

    def _rate(self, key: tuple[str, str]) -> float:
        kind, se = key
        rates = {"": self._rates.overall, "source": self._rates.sources.get(se, 0.0)}
        return rates.get(kind, self._rates.destinations.get(se, 0.0)) / self._parts


Pace = Callable[[str, str, int], float]
"""`Caps.wait_s`."""


def at_once(source_se: str, destination_se: str, size_bytes: int) -> float:
    """Go without any cap."""
    return 0.0
