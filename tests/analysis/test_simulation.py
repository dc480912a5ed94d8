"""Farms on paper: the packetizer's promises of speed, in numbers that do not depend on the machine."""

from __future__ import annotations

import random

import pytest

from vse.analysis.locality import Place
from vse.analysis.packetizer import Packetizer
from vse.analysis.simulation import SimulatedFile, SimulatedWorker, ideal_s, simulate


def files(number: int, entries: int, **more) -> list[SimulatedFile]:
    return [SimulatedFile(f"/f{index}", entries, **more) for index in range(number)]


def test_workers_of_different_speed_finish_together():
    """Seed 002, Figure 4.3: almost together, with quite different numbers of packets."""
    workers = [SimulatedWorker(f"w{index}", 500.0 * (1 + index % 4)) for index in range(24)]
    outcome = simulate(Packetizer(10.0), files(500, 20_000), workers)
    assert outcome.spread_s < 20
    assert max(outcome.packets.values()) > 2 * min(outcome.packets.values())
    assert ideal_s(workers, 500 * 20_000) / outcome.finished_s > 0.95


def test_workers_that_arrive_late_are_used_at_once():
    workers = [SimulatedWorker(f"w{index}", 1000.0, arrives_s=30.0 * index) for index in range(20)]
    outcome = simulate(Packetizer(10.0), files(200, 30_000), workers)
    assert ideal_s(workers, 200 * 30_000) / outcome.finished_s > 0.95


def test_workers_that_leave_cost_only_what_they_had_in_hand():
    dice = random.Random(1)
    workers = [
        SimulatedWorker(f"w{index}", 1000.0, leaves_s=dice.uniform(50, 300) if index % 5 == 0 else None)
        for index in range(40)
    ]
    packetizer = Packetizer(10.0)
    outcome = simulate(packetizer, files(300, 30_000), workers)
    assert packetizer.ledger.entries_done == 300 * 30_000
    assert not packetizer.ledger.failed_ranges()
    assert outcome.lost_entries < 8 * 2 * 20 * 1000, "two packets each, of twenty seconds at most"


def test_files_are_read_where_they_are():
    places = [Place(f"disk{index}", "torino") for index in range(10)]
    stored = [SimulatedFile(f"/f{index}", 10_000, places=[places[index % 10]]) for index in range(400)]
    workers = [
        SimulatedWorker(f"w{index}", 1000.0, host=f"disk{index % 10}", site="torino") for index in range(40)
    ]
    outcome = simulate(Packetizer(5.0), stored, workers)
    assert outcome.local_entries > 0.9 * 400 * 10_000


def test_entries_that_nobody_knew_before_are_counted_too():
    packetizer = Packetizer(5.0)
    simulate(packetizer, files(50, 12_345, entries_told=False), [SimulatedWorker("w", 10_000.0)])
    assert packetizer.ledger.entries_done == 50 * 12_345


@pytest.mark.parametrize(
    ("arrivals", "entries", "expected"),
    [([0.0], 1000, 10.0), ([0.0, 5.0], 1000, 7.5), ([5.0, 5.0], 1000, 10.0), ([0.0, 100.0], 1000, 10.0)],
)
def test_the_ideal_by_hand(arrivals, entries, expected):
    workers = [SimulatedWorker(f"w{index}", 100.0, when) for index, when in enumerate(arrivals)]
    assert ideal_s(workers, entries) == pytest.approx(expected)
