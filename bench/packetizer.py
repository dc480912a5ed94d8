"""Farms on paper: efficiency of the schedule, and what a decision costs; prints one JSON object."""

from __future__ import annotations

import argparse
import json
import random

from vse.analysis.packetizer import Packetizer
from vse.analysis.simulation import SimulatedFile, SimulatedWorker, ideal_s, simulate
from vse.analysis.vaf_bench import ramp_up_rows

WORKERS = 1_000
FILES = 100_000
ENTRIES = 10_000


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
    ]
    sites_too = {row.site.site: row.efficiency for row in sites}
    print(json.dumps({"figures": figures, "packets": outcome.packet_count, "sites": sites_too}))


if __name__ == "__main__":
    main()
