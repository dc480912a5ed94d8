"""The measurements of seed 002 (Tables 4.1, 4.3 to 4.5, Figure 4.3) again, with VSE's own packetizer.

What was a Grid site there is a simulated farm here; what decides is the code that decides in an analysis.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vse.analysis.packetizer import Packetizer
from vse.analysis.ramp_ups import DAY_S, REQUESTED, SITES, TABLE_4_5, RampUp
from vse.analysis.simulation import Outcome, SimulatedFile, SimulatedWorker, ideal_s, simulate

RATE = 1000.0
"""Entries a second of a simulated worker."""
TARGET_S = 10.0
OVERHEAD_S = 0.015
"""What a task costs beside its entries, as measured."""
FILE_S = 20.0
"""How long a worker of `RATE` takes for one file."""
_HOUR_S = 3600.0


class RampUpRow(NamedTuple):
    """A site: times (s) to 25, 50, 75 workers, by the fitted curve and as the seed printed them (Table 4.3);
    and the curve fitted anew to arrivals drawn from it (Table 4.4)."""

    site: RampUp
    times_s: tuple[float | None, ...]
    fitted_p0: float
    fitted_p1: float
    efficiency: float


class PushPullRow(NamedTuple):
    """Seconds to the results of an analysis of ``days`` of serial computing, at CERN (Table 4.5)."""

    days: float
    push_s: float
    pull_s: float
    pull_simulated_s: float
    seed_push_s: float
    seed_pull_s: float
    seed_speedup: float

    @property
    def speedup(self) -> float:
        """By how much pull is faster than push, with the real packetizer."""
        return 1 - self.pull_simulated_s / self.push_s


class CacheRow(NamedTuple):
    """The seed's Table 4.1: 24 workers, small files, seconds in all."""

    cold_s: float
    warm_s: float


def arrivals(site: RampUp, number: int = REQUESTED, within_s: float | None = None) -> list[float]:
    """Return when each of up to ``number`` workers arrives: the whole numbers of (4.1), the first at 0."""
    found: list[float] = []
    for worker in range(number):
        when_s = site.time_to_s(worker)
        if when_s is None or (within_s is not None and when_s > within_s):
            break
        found.append(when_s)
    return found


def farm(times_s: Sequence[float], speeds: Sequence[float] = (1.0,)) -> list[SimulatedWorker]:
    """Return workers that arrive at ``times_s``, with ``speeds`` (of `RATE`) in turn."""
    return [
        SimulatedWorker(f"w{number:04d}", RATE * speeds[number % len(speeds)], when_s)
        for number, when_s in enumerate(times_s)
    ]


def files_of(serial_s: float) -> list[SimulatedFile]:
    """Return files that take one worker of `RATE` ``serial_s`` in all."""
    number = max(100, round(serial_s / FILE_S))
    return [SimulatedFile(f"/f{index:06d}", round(serial_s * RATE / number)) for index in range(number)]


def ramp_up_rows(seed: int = 1) -> Iterator[RampUpRow]:
    """Yield a row for each site. Efficiency: half a day of computing on workers that differ by 4."""
    for site in SITES:
        times_s = tuple(site.time_to_s(number) for number in (25, 50, 75))
        p0, p1 = _fitted(site, random.Random(seed))
        workers = farm(arrivals(site), speeds=(0.5, 2.0, 1.0, 1.5))
        files = files_of(DAY_S / 2)
        outcome = simulate(Packetizer(TARGET_S), files, workers, overhead_s=OVERHEAD_S)
        ideal = ideal_s(workers, sum(file.entries for file in files))
        yield RampUpRow(site, times_s, p0, p1, ideal / outcome.finished_s)


def _fitted(site: RampUp, dice: random.Random) -> tuple[float, float]:
    """Fit (4.3) to an hour of arrivals with the scatter of real ones, as the seed did."""
    import numpy as np
    from scipy.optimize import curve_fit

    shifted = [when_s + dice.gauss(0, 0.03 * when_s + 5) for when_s in arrivals(site, within_s=_HOUR_S)]
    times_s = np.asarray(sorted(max(0.0, one) for one in shifted))
    counts = np.arange(1, len(times_s) + 1, dtype=float)

    def curve(t_s: object, p0: float, p1: float, p2: float) -> object:
        return p0 * (t_s + p2) / (1 + p1 * (t_s + p2))  # type: ignore[operator]

    (p0, p1, _), _ = curve_fit(curve, times_s, counts, p0=(0.1, 0.001, 1.0))
    return float(p0), float(p1)


def push_pull_rows() -> Iterator[PushPullRow]:
    """Yield Table 4.5 again: formulas, and the packetizer on workers that arrive as at CERN."""
    site = SITES[0]
    for row in TABLE_4_5:
        serial_s = row.days * DAY_S
        # (4.1) allows fractions of workers; the last whole one is there long before the end.
        workers = farm(arrivals(site, number=int(site.p0 / site.p1)))
        outcome = simulate(Packetizer(TARGET_S), files_of(serial_s), workers, overhead_s=OVERHEAD_S)
        yield PushPullRow(
            row.days,
            site.push_s(serial_s),
            site.pull_s(serial_s),
            outcome.finished_s,
            row.push_min * 60.0,
            row.pull_min * 60.0,
            row.speedup,
        )


def uniform_completion(workers: int = 24) -> tuple[Outcome, float]:
    """Return Figure 4.3 again: unequal workers on one analysis, and the ideal time (s)."""
    dice = random.Random(43)
    speeds = [dice.uniform(0.5, 2.0) for _ in range(workers)]
    staff = farm([0.0] * workers, speeds)
    files = files_of(workers * 600.0)
    outcome = simulate(Packetizer(TARGET_S), files, staff, overhead_s=OVERHEAD_S)
    return outcome, ideal_s(staff, sum(file.entries for file in files))


SEED_CACHE = CacheRow(cold_s=12 * 60 + 43, warm_s=66.0)
_FILE_MIB = 12.0
_COLD_MIB_S, _WARM_MIB_S = 12.5, 56.6


def cache_row(query_s: float = 1.5) -> CacheRow:
    """Return Table 4.1 again: the same files and links, with one bulk query in place of one each.

    The link from afar carries 12.5 MiB/s, the local storage 56.6 MiB/s, as there. ``query_s``: what a
    question to the catalogue took there, from the seed's own total: (12:43 - data / 12.5 MiB/s) / files.
    Cold, files are analysed as they come.
    """
    files = round(SEED_CACHE.warm_s * _WARM_MIB_S / _FILE_MIB)
    data_mib = files * _FILE_MIB
    return CacheRow(cold_s=query_s + data_mib / _COLD_MIB_S, warm_s=data_mib / _WARM_MIB_S)
