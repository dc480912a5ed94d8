"""How workers arrive at Grid sites, and what that costs: the formulas and the numbers of seed 002 §4.4.9.1.

Equations are numbered as there. Times are seconds, computing times too. Pure.
"""

from __future__ import annotations

import math
from typing import NamedTuple

DAY_S = 86400.0
REQUESTED = 100


class RampUp(NamedTuple):
    """A site's n(t) = p0 t / (1 + p1 t) (4.1), with the errors of its fit (Table 4.4).

    ``seed_s``: the times to 25, 50 and 75 workers that Table 4.3 gives; None for never within an hour.
    """

    site: str
    p0: float
    p0_error: float
    p1: float
    p1_error: float
    seed_s: tuple[float | None, float | None, float | None]

    def workers(self, t_s: float) -> float:
        """Return how many workers there are after ``t_s`` (4.1)."""
        return self.p0 * t_s / (1 + self.p1 * t_s)

    def time_to_s(self, workers: float) -> float | None:
        """Return when there are so many workers (4.4); None for more than the site ever gives (4.2)."""
        return workers / (self.p0 - self.p1 * workers) if self.p1 * workers < self.p0 else None

    def computed_s(self, t_s: float) -> float:
        """Return the serial computing time of all workers until ``t_s`` (4.5)."""
        return self.p0 / self.p1**2 * (self.p1 * t_s - math.log1p(self.p1 * t_s))

    def pull_s(self, serial_s: float) -> float:
        """Return when an analysis of ``serial_s`` ends if no worker ever waits: (4.5), inverted."""
        low, high = 0.0, self.push_s(serial_s)
        while high - low > 1e-9 * high:
            middle = (low + high) / 2
            low, high = (middle, high) if self.computed_s(middle) < serial_s else (low, middle)
        return high

    def push_jobs(self, serial_s: float) -> float:
        """Return into how many jobs an analysis is best divided beforehand (4.7)."""
        root = math.sqrt(serial_s)
        return self.p0 * root / (math.sqrt(self.p0) + self.p1 * root)

    def push_s(self, serial_s: float) -> float:
        """Return when the last of the best number of jobs ends (4.8)."""
        return (2 * math.sqrt(self.p0 * serial_s) + self.p1 * serial_s) / self.p0


SITES = (
    RampUp("CERN", 0.28250, 0.01440, 0.00258, 0.00016, (133.0, 312.4, 547.9)),
    RampUp("CNAF", 0.25351, 0.01776, 0.00271, 0.00023, (138.6, 497.7, 1346.4)),
    RampUp("Roma 1", 0.04272, 0.00202, 0.00030, 0.00004, (806.4, 1769.4, None)),
    RampUp("Napoli", 0.07610, 0.00458, 0.00084, 0.00008, (520.2, 1562.8, None)),
    RampUp("Milano", 0.03842, 0.00227, 0.00036, 0.00005, (868.9, 2302.4, None)),
)


class PushPull(NamedTuple):
    """A row of Table 4.5: hours and minutes as printed there, for CERN."""

    days: float
    push_min: int
    pull_min: int
    speedup: float


TABLE_4_5 = (
    PushPull(0.5, 19, 13, 0.28),
    PushPull(1, 31, 23, 0.26),
    PushPull(2, 52, 40, 0.25),
    PushPull(5, 110, 86, 0.21),
    PushPull(10, 197, 162, 0.18),
)
