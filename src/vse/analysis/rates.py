"""How fast things are, as measured: sums and medians that cost nothing to ask for."""

from __future__ import annotations

from bisect import bisect_left, insort

WEIGHT = 0.5
"""Of a new measurement, against all before it."""


class Rates:
    """A rate for each of many keys (entries a second of workers, bytes a second of sources)."""

    def __init__(self) -> None:
        self._rates: dict[object, float] = {}
        self._sorted: list[float] = []
        self.total = 0.0
        """The sum over all keys."""

    def __len__(self) -> int:
        return len(self._rates)

    def get(self, key: object) -> float | None:
        """Return the rate of a key; None where nothing was measured."""
        return self._rates.get(key)

    def measure(self, key: object, rate: float) -> None:
        """Take a measurement in: the mean of it and of what was known."""
        known = self._rates.get(key)
        self._put(key, rate if known is None else known + WEIGHT * (rate - known))

    def forget(self, key: object) -> None:
        known = self._rates.pop(key, None)
        if known is not None:
            del self._sorted[bisect_left(self._sorted, known)]
            self.total = self.total - known if self._rates else 0.0

    def _put(self, key: object, rate: float) -> None:
        self.forget(key)
        self._rates[key] = rate
        insort(self._sorted, rate)
        self.total += rate

    @property
    def typical(self) -> float | None:
        """The median; None where nothing was measured."""
        return self._sorted[len(self._sorted) // 2] if self._sorted else None
