"""Many small files: against coffea's own Runner with its DaskExecutor, on the same workers, in turns.

Copies of one real file of 2,304 events, one coffea processor, two local Dask workers. The first run of each
is from workers that have imported everything and opened nothing. Each side's second run knows what its
first one found: coffea keeps its metadata in the process, VSE keeps the number of entries in its catalogue.
The third side is a split made beforehand: each worker gets half of the files in one piece, and no more
is asked of the cluster than two tasks; on two equal workers nothing can be quicker.

Beside wall time the processor time of the client, the scheduler (in the same process) and the workers is
compared: it says the same on a machine that has other things to do, where wall time does not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "uproot-Zmumu.root"
EVENTS = 2304
COPIES = 200
FIRST_AIM_S, LATER_AIM_S = 2.5, 1.6
SCRIPT = """
import hist
import numpy as np
from coffea import processor
from coffea.nanoevents import BaseSchema


class Dimuon(processor.ProcessorABC):
    schema = BaseSchema

    def process(self, events):
        energy = events.E1 + events.E2
        momentum2 = sum((events[f"p{axis}1"] + events[f"p{axis}2"]) ** 2 for axis in "xyz")
        mass = hist.Hist.new.Reg(60, 60, 120, name="mass").Double()
        mass.fill(np.sqrt(np.maximum(np.asarray(energy**2 - momentum2), 0)))
        return {"entries": len(events), "mass": mass}

    def postprocess(self, accumulator):
        pass
"""


def copies_of_zmumu(directory: Path, number: int) -> list[str]:
    return [str(shutil.copyfile(DATA, directory / f"zmumu_{index:03d}.root")) for index in range(number)]


def static_share(source: Any, paths: list[str], entries: int | None, tree: str) -> bytes:
    """Process whole files, in a worker; return the sum of their outputs, pickled."""
    from vse.analysis.packets import Packet
    from vse.analysis.worker import Order, run_packets
    from vse.analysis.worker_partials import Where, take

    last = 2**31 if entries is None else entries
    orders = [
        Order(Packet(index, path, 0, last, index), path, tree, entries) for index, path in enumerate(paths)
    ]
    answer = run_packets(source, orders, "", Where("static", 0, 2**31))
    assert all(one.outcome == "done" for one in answer.answers)
    return take("static", 0, source)


def static_split(client: Any, source: Any, paths: list[str], entries: int | None, tree: str) -> Any:
    """Give every worker that is there an equal share of the files, once; return the sum."""
    from vse.analysis.merging import merge

    there = list(client.scheduler_info(n_workers=-1)["workers"])
    shares = [
        client.submit(
            static_share, source, paths[index :: len(there)], entries, tree, workers=[worker], pure=False
        )
        for index, worker in enumerate(there)
    ]
    total: Any = None
    for part in client.gather(shares):
        total = merge(total, pickle.loads(part))  # noqa: S301 - our own worker wrote it
    return total


def cpu_s(workers: list[psutil.Process]) -> float:
    """Return the processor time that this process and the workers have taken."""
    return float(sum(sum(process.cpu_times()[:2]) for process in (psutil.Process(), *workers)))


def measure(directory: Path, copies: int, rounds: int) -> dict[str, Any]:
    from coffea.nanoevents import BaseSchema
    from coffea.processor import DaskExecutor, Runner

    from vse.analysis.cluster import LocalWorkers
    from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse
    from vse.analysis.script import load_script

    paths = copies_of_zmumu(directory, copies)
    size_bytes = DATA.stat().st_size
    source = directory / "dimuon_processor.py"
    source.write_text(SCRIPT)
    script = load_script(source)
    sys.path.insert(0, str(directory))
    times: dict[str, list[float]] = {"vse": [], "coffea": [], "static": []}
    cpu: dict[str, list[float]] = {name: [] for name in times}
    with LocalWorkers(2) as workers:
        workers.client.wait_for_workers(2)
        workers.client.upload_file(str(source))
        processor = importlib.import_module("dimuon_processor").Dimuon()
        processes = [psutil.Process(pid) for pid in workers.client.run(os.getpid).values()]

        def ours(known: int | None) -> Any:
            files = [InputFile(path, path, "events", known, size_bytes) for path in paths]
            result = analyse(script, Feed(files, closed=True), workers.client, AnalysisOptions())
            assert result.complete
            return result.output

        def theirs(_: int | None) -> Any:
            executor = DaskExecutor(client=workers.client, status=False)
            run = Runner(executor=executor, schema=BaseSchema)
            return run({"zmumu": paths}, processor_instance=processor, treename="events")

        def split(known: int | None) -> Any:
            return static_split(workers.client, script.source, paths, known, "events")

        for number in range(rounds + 1):
            outputs = []
            for name, side in (("vse", ours), ("coffea", theirs), ("static", split)):
                begun, cpu_before_s = time.perf_counter(), cpu_s(processes)
                outputs.append(side(EVENTS if number else None))
                times[name].append(time.perf_counter() - begun)
                cpu[name].append(cpu_s(processes) - cpu_before_s)
            assert all(output["entries"] == EVENTS * copies for output in outputs)
            assert all((output["mass"].values() == outputs[0]["mass"].values()).all() for output in outputs)
    return {"figures": figures(times, cpu, copies == COPIES), "files": copies, "times_s": times, "cpu_s": cpu}


def figures(times: dict[str, list[float]], cpu: dict[str, list[float]], whole: bool) -> list[dict[str, Any]]:
    """``whole``: the seconds that are aimed at are for as many files as are measured."""
    later = {name: statistics.median(values[1:]) for name, values in times.items()}
    later_cpu = {name: statistics.median(values[1:]) for name, values in cpu.items()}
    lower = {"unit": "x", "bar": 1.0, "better": "lower"}
    first_s = {"bar": FIRST_AIM_S, "better": "lower"} if whole else {}
    later_s = {"bar": LATER_AIM_S, "better": "lower"} if whole else {}
    return [
        {"name": "first run / coffea", "value": times["vse"][0] / times["coffea"][0], **lower},
        {"name": "later runs / coffea", "value": later["vse"] / later["coffea"], **lower},
        {"name": "later runs / coffea, processor time", "value": later_cpu["vse"] / later_cpu["coffea"],
         **lower},
        {"name": "later runs / static split", "value": later["vse"] / later["static"], **lower},
        {"name": "later runs / static split, processor time", "value": later_cpu["vse"] / later_cpu["static"],
         "unit": "x"},
        {"name": "first run", "value": times["vse"][0], "unit": "s", **first_s},
        {"name": "later runs", "value": later["vse"], "unit": "s", **later_s},
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.coffea", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="vse-bench-") as directory:
        print(json.dumps(measure(Path(directory), 60 if quick else COPIES, 2 if quick else 4)))


if __name__ == "__main__":
    main()
