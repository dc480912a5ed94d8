"""What a packet costs, beside its work, and what the client needs for many of them; the first result.

Two local workers, a script that only counts, packets of a fixed size. The overhead of a packet is the time of
all workers together over the number of packets: opening the file, reading the tree and the events, the way
to the worker and back, adding up.

The client's memory is that of its process, in which the scheduler of local workers runs, too. Dask keeps the
names of the last 100,000 tasks; they are filled in before, so that they do not count as growth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.coffea import DATA, EVENTS, copies_of_zmumu, cpu_s

WORKERS = 2
FILES = 200
COUNT = """
def process(events):
    return {"entries": len(events)}
"""
SLOW = """
import time


def process(events):
    time.sleep(len(events) / 2000)
    return {"entries": len(events)}
"""
MIB = 1024 * 1024


def peak_bytes() -> int:
    """Return the most memory that this process had at a time since `forget_peak`."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024


def fill_names() -> None:
    from dask.utils import key_split

    for number in range(key_split.cache_info().maxsize):
        key_split(f"vse-0123456789ab-{number}")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


class Bench:
    """The workers, and one way to run a script on them."""

    def __init__(self, directory: Path) -> None:
        from vse.analysis.cluster import LocalWorkers

        self.directory = directory
        self.paths = copies_of_zmumu(directory, FILES)
        self.workers = LocalWorkers(WORKERS)
        self.workers.client.wait_for_workers(WORKERS)
        pids = self.workers.client.run(_pid).values()
        self.processes = [psutil.Process(pid) for pid in pids]

    def run(self, text: str, on_partial: Any = None, control: Any = None, **options: Any) -> Any:
        from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse
        from vse.analysis.script import load_script

        source = self.directory / "script.py"
        source.write_text(text)
        size_bytes = DATA.stat().st_size
        files = [InputFile(path, path, "events", EVENTS, size_bytes) for path in self.paths]
        return analyse(
            load_script(source),
            Feed(files, closed=True),
            self.workers.client,
            AnalysisOptions(**options),
            on_partial=on_partial,
            control=control,
        )

    def counted(self, packets_a_file: int) -> tuple[int, float, float]:
        """Return the number of packets, the wall time, and the processor time of all."""
        begun, before_s = time.perf_counter(), cpu_s(self.processes)
        result = self.run(COUNT, packet_entries=-(-EVENTS // packets_a_file))
        assert result.output["entries"] == EVENTS * FILES
        return result.packets, time.perf_counter() - begun, cpu_s(self.processes) - before_s

    def first_result_s(self) -> float:
        """Return when the first sum was there, of an analysis of minutes that is stopped then."""
        from vse.analysis.engine import Control

        control, seen = Control(), []

        def look(output: Any, progress: Any) -> None:
            seen.append(time.perf_counter())
            control.stop()

        begun = time.perf_counter()
        self.run(SLOW, look, control)
        return seen[0] - begun


def _pid() -> int:
    import os

    return os.getpid()


def measure(directory: Path, quick: bool) -> dict[str, Any]:
    bench = Bench(directory)
    with bench.workers:
        fill_names()
        bench.counted(3)
        first_s = [bench.first_result_s() for _ in range(2 if quick else 4)]
        forget_peak()
        few, few_s, few_cpu_s = bench.counted(2 if quick else 10)
        few_bytes = peak_bytes()
        forget_peak()
        many, many_s, many_cpu_s = bench.counted(20 if quick else 100)
        many_bytes = peak_bytes()
    figures = [
        {"name": "overhead of a packet", "value": 1e3 * many_s * WORKERS / many, "unit": "ms", "bar": 15.0,
         "better": "lower"},
        {"name": "overhead of a packet, processor time", "value": 1e3 * many_cpu_s / many, "unit": "ms"},
        {"name": f"client memory, {many:,} packets / {few:,}", "value": many_bytes / few_bytes, "unit": "x",
         "bar": 1.05, "better": "lower"},
        {"name": "start to first result, slowest", "value": max(first_s), "unit": "s", "bar": 3.0,
         "better": "lower"},
    ]  # fmt: skip
    return {
        "figures": figures,
        "few": {"packets": few, "wall_s": few_s, "cpu_s": few_cpu_s, "peak_mib": few_bytes / MIB},
        "many": {"packets": many, "wall_s": many_s, "cpu_s": many_cpu_s, "peak_mib": many_bytes / MIB},
        "first_result_s": first_s,
        "first_result_median_s": statistics.median(first_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.vaf_costs", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="vse-bench-") as directory:
        print(json.dumps(measure(Path(directory), quick)))


if __name__ == "__main__":
    main()
