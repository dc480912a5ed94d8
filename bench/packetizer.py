"""Farms on paper: efficiency of the schedule, and what a decision costs; prints one JSON object.

Idle workers: files that only so many may read at a time keep four workers busy and leave a thousand with
nothing, all of which would take what there is. It is the engine's own round, without a cluster.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from typing import Any

from vse.analysis.crew import Crew
from vse.analysis.locality import Place
from vse.analysis.packetizer import Packet, Packetizer, PacketStats
from vse.analysis.partials import Partials
from vse.analysis.runs import AnalysisOptions
from vse.analysis.script import ScriptSource
from vse.analysis.simulation import SimulatedFile, SimulatedWorker, ideal_s, simulate
from vse.analysis.vaf_bench import ramp_up_rows

WORKERS = 1_000
FILES = 100_000
ENTRIES = 10_000
READERS = 4
ROUNDS = 5_000


class PaperCrew(Crew):
    """A crew whose tasks go nowhere. ``begun``: the packets that were handed out."""

    def __init__(self, packetizer: Packetizer) -> None:
        source, options = ScriptSource("", ""), AnalysisOptions()
        unused: Any = None
        super().__init__(None, packetizer, Partials(), options, source, "", unused, unused, unused)
        self.begun: list[tuple[str, Packet]] = []

    def _submit(self, worker: str, member: Any, packets: list[Packet]) -> None:
        member.tasks[packets[0].number] = packets[0].entries
        self.begun += [(worker, packet) for packet in packets]

    def end(self, worker: str, packet: Packet) -> None:
        self.packetizer.done(packet, PacketStats(ENTRIES, 1.0))
        self.members[worker].tasks.pop(packet.number, None)
        self.wanting[worker] = None


def round_us(workers: int, rounds: int) -> float:
    """Return what a round of the engine takes, in which a packet is ended and the next one handed out."""
    packetizer = Packetizer(fixed_entries=ENTRIES, readers_a_host=READERS)
    crew = PaperCrew(packetizer)
    for number in range(workers):
        crew.joined(f"tls://127.0.0.1:{number}")
    for number in range(rounds + READERS):
        packetizer.add_file(f"/f{number}", ENTRIES, 1000, (Place("127.0.0.2"),))
    crew.hand_out()
    begun = time.process_time()
    for number in range(rounds):
        crew.end(*crew.begun[number])
        crew.drop_the_silent()
        crew.hand_out()
    assert len(crew.begun) == rounds + READERS
    return 1e6 * (time.process_time() - begun) / rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    number = FILES // 10 if parser.parse_args().quick else FILES
    sites = list(ramp_up_rows())
    dice = random.Random(2)
    workers = [
        SimulatedWorker(f"w{index}", dice.uniform(500, 2000), dice.uniform(0, 60)) for index in range(WORKERS)
    ]
    files = [SimulatedFile(f"/f{index}", ENTRIES, 10_000_000) for index in range(number)]
    outcome = simulate(Packetizer(10.0), files, workers)
    efficiency = ideal_s(workers, number * ENTRIES) / outcome.finished_s
    few_us, many_us = (
        min(round_us(count, ROUNDS) for _ in range(3)) for count in (READERS, WORKERS + READERS)
    )
    figures = [
        {
            "name": "ramp_ups_efficiency",
            "value": min(row.efficiency for row in sites),
            "unit": "",
            "bar": 0.95,
        },
        {"name": "thousand_workers_efficiency", "value": efficiency, "unit": "", "bar": 0.95},
        {
            "name": "decision_a_packet",
            "value": 1e3 * outcome.scheduling_s / outcome.packet_count,
            "unit": "ms",
            "bar": 1.0,
            "better": "lower",
        },
        {"name": "round of the engine", "value": few_us / 1e3, "unit": "ms"},
        {"name": "round with 1,000 idle workers", "value": many_us / 1e3, "unit": "ms", "bar": 1.0,
         "better": "lower"},
    ]  # fmt: skip
    sites_too = {row.site.site: row.efficiency for row in sites}
    print(json.dumps({"figures": figures, "packets": outcome.packet_count, "sites": sites_too}))


if __name__ == "__main__":
    main()
