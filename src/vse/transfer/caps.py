"""Bandwidth caps: how many bytes a second may come from a source, go to a destination, and move at all.

A cap is a bucket that fills at its rate and is drawn from before bytes are asked for. It may be overdrawn
by one piece, and who overdraws it waits until that is paid: pieces of any size keep to the rate.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
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

    @property
    def any(self) -> bool:
        return bool(self.overall or self.sources or self.destinations)


Key = tuple[str, str]
"""What a cap is of: ``("source", SE)``, ``("destination", SE)``, or ``OVERALL``."""
OVERALL: Key = ("", "")


class Moving(NamedTuple):
    """Files that a stager moves from one element to another."""

    owner: str
    source_se: str
    destination: str
    files: int


def parts_of(owner: str, moving: Iterable[Moving]) -> dict[Key, float]:
    """Return which part of each cap a stager may take, by what all stagers of the site move: pure.

    A cap is divided as the files are that it holds for, so that nobody keeps back what another could use,
    and the parts of all stagers are one together.
    """
    ours: Counter[Key] = Counter()
    everybodys: Counter[Key] = Counter()
    for one in moving:
        for key in (OVERALL, ("source", one.source_se), ("destination", one.destination)):
            everybodys[key] += one.files
            ours[key] += one.files if one.owner == owner else 0
    return {key: number / everybodys[key] for key, number in ours.items() if number}


class Caps:
    """The buckets of a process, shared by all its slots. ``rates`` are those of the whole site."""

    def __init__(self, rates: Rates, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rates = rates
        self._parts: Mapping[Key, float] = {}
        self._buckets: dict[Key, Bucket] = {}

    def set(self, rates: Rates, parts: Mapping[Key, float] | None = None) -> None:
        """Go by other rates from now on, and take other parts of them (`parts_of`), where given."""
        with self._lock:
            parts = self._parts if parts is None else parts
            if (rates, parts) == (self._rates, self._parts):
                return
            self._rates, self._parts = rates, parts
            now_s = self._clock()
            wanted = ((key, bucket, self._rate(key)) for key, bucket in self._buckets.items())
            self._buckets = {key: bucket.at_rate(rate, now_s) for key, bucket, rate in wanted if rate}

    def wait_s(self, source_se: str, destination_se: str, size_bytes: int) -> float:
        """Draw ``size_bytes`` on the way between two elements; return how long to wait before they go."""
        if not self._rates.any:
            return 0.0
        with self._lock:
            now_s = self._clock()
            keys = (OVERALL, ("source", source_se), ("destination", destination_se))
            return max(self._draw(key, size_bytes, now_s) for key in keys)

    def _draw(self, key: Key, size_bytes: int, now_s: float) -> float:
        rate = self._rate(key)
        if not rate:
            return 0.0
        bucket = self._buckets.get(key) or Bucket(rate, rate * _BURST_S, now_s)
        self._buckets[key], wait_s = bucket.draw(size_bytes, now_s)
        return wait_s

    def _rate(self, key: Key) -> float:
        kind, se = key
        rates = {"": self._rates.overall, "source": self._rates.sources.get(se, 0.0)}
        part = self._parts.get(key) or self._parts.get(OVERALL, 1.0)  # a source it has only just turned to
        return rates.get(kind, self._rates.destinations.get(se, 0.0)) * part


Pace = Callable[[str, str, int], float]
"""`Caps.wait_s`."""


def at_once(source_se: str, destination_se: str, size_bytes: int) -> float:
    """Go without any cap."""
    return 0.0
