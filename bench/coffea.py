"""Many small files: against coffea's own Runner with its DaskExecutor, on the same workers, in turns.

Copies of one real file of 2,304 events, one coffea processor, two local Dask workers. The first run of each
is from workers that have imported everything and opened nothing. Each side's second run knows what its
first one found: coffea keeps its metadata in the process, VSE keeps the number of entries in its catalogue.
The third side is a split made beforehand: each worker gets half of the files in one piece, and runs coffea's
own serial executor over them. The limit is the same split with our reading in it, and no packets: no more is
asked of the cluster than two tasks, and on two equal workers nothing can be quicker.

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
from collections.abc import Callable, Iterable, Sequence
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
from coffea.processor import executor
from rich.progress import Progress


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


def serially(paths):
    executor.rich_bar = lambda: Progress(disable=True)  # it draws one whatever the status says
    run = processor.Runner(executor=processor.IterativeExecutor(status=False), schema=BaseSchema)
    return run({"zmumu": paths}, processor_instance=Dimuon(), treename="events")
"""
Times = dict[str, list[float]]
MORE_COPIES = 1000
"""So many that what is paid once does not count."""


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
    parts = shared_out(client, paths, lambda share: (static_share, source, share, entries, tree))
    return added(pickle.loads(part) for part in parts)  # noqa: S301 - our own workers wrote them


def shared_out(client: Any, paths: list[str], task: Callable[[list[str]], tuple[Any, ...]]) -> list[Any]:
    there = list(client.scheduler_info(n_workers=-1)["workers"])
    shares = [
        client.submit(*task(paths[index :: len(there)]), workers=[worker], pure=False)
        for index, worker in enumerate(there)
    ]
    return list(client.gather(shares))


def added(parts: Iterable[Any]) -> Any:
    from vse.analysis.merging import merge

    total: Any = None
    for part in parts:
        total = merge(total, part)
    return total


def cpu_s(workers: list[psutil.Process]) -> float:
    """Return the processor time that this process and the workers have taken."""
    return float(sum(sum(process.cpu_times()[:2]) for process in (psutil.Process(), *workers)))


class Sides:
    """The ways to run the processor over the same files, on the same two workers."""

    def __init__(self, client: Any, source: Path, paths: list[str]) -> None:
        from vse.analysis.script import load_script

        self.client = client
        self.script = load_script(source)
        self.paths = paths
        self.module = importlib.import_module(source.stem)

    def vse(self, known: int | None) -> Any:
        from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse

        size_bytes = DATA.stat().st_size
        files = [InputFile(path, path, "events", known, size_bytes) for path in self.paths]
        result = analyse(self.script, Feed(files, closed=True), self.client, AnalysisOptions())
        assert result.complete
        return result.output

    def coffea(self, _: int | None) -> Any:
        from coffea.nanoevents import BaseSchema
        from coffea.processor import DaskExecutor, Runner

        run = Runner(executor=DaskExecutor(client=self.client, status=False), schema=BaseSchema)
        return run({"zmumu": self.paths}, processor_instance=self.module.Dimuon(), treename="events")

    def static(self, _: int | None) -> Any:
        return added(shared_out(self.client, self.paths, lambda share: (self.module.serially, share)))

    def limit(self, known: int | None) -> Any:
        return static_split(self.client, self.script.source, self.paths, known, "events")

    def in_turns(self, names: Sequence[str], rounds: int) -> tuple[Times, Times]:
        """Return wall and processor times of ``rounds`` rounds after a first one, by name."""
        processes = [psutil.Process(pid) for pid in self.client.run(os.getpid).values()]
        wall_s: Times = {name: [] for name in names}
        taken_s: Times = {name: [] for name in names}
        for number in range(rounds + 1):
            outputs = []
            for name in names:
                begun, cpu_before_s = time.perf_counter(), cpu_s(processes)
                outputs.append(getattr(self, name)(EVENTS if number else None))
                wall_s[name].append(time.perf_counter() - begun)
                taken_s[name].append(cpu_s(processes) - cpu_before_s)
            assert all(output["entries"] == EVENTS * len(self.paths) for output in outputs)
            assert all((one["mass"].values() == outputs[0]["mass"].values()).all() for one in outputs)
        return wall_s, taken_s


def measure(directory: Path, copies: int, more_copies: int, rounds: int) -> dict[str, Any]:
    from vse.analysis.cluster import LocalWorkers

    paths = copies_of_zmumu(directory, more_copies)
    source = directory / "dimuon_processor.py"
    source.write_text(SCRIPT)
    sys.path.insert(0, str(directory))
    with LocalWorkers(2) as workers:
        workers.client.wait_for_workers(2)
        workers.client.upload_file(str(source))
        some = Sides(workers.client, source, paths[:copies])
        times, cpu = some.in_turns(("vse", "coffea", "static", "limit"), rounds)
        more, _ = Sides(workers.client, source, paths).in_turns(("vse", "limit"), rounds)
    return {
        "figures": figures(times, cpu, more, copies == COPIES),
        "files": copies,
        "more_files": more_copies,
        "times_s": times,
        "cpu_s": cpu,
        "more_times_s": more,
    }


def figures(times: Times, cpu: Times, more: Times, whole: bool) -> list[dict[str, Any]]:
    """``whole``: the seconds that are aimed at are for as many files as are measured."""

    def ratio(of: Times, other: str) -> float:
        return statistics.median(of["vse"][1:]) / statistics.median(of[other][1:])

    lower = {"unit": "x", "bar": 1.0, "better": "lower"}
    first_s = {"bar": FIRST_AIM_S, "better": "lower"} if whole else {}
    later_s = {"bar": LATER_AIM_S, "better": "lower"} if whole else {}
    return [
        {"name": "first run / coffea", "value": times["vse"][0] / times["coffea"][0], **lower},
        {"name": "later runs / coffea", "value": ratio(times, "coffea"), **lower},
        {"name": "later runs / coffea, processor time", "value": ratio(cpu, "coffea"), **lower},
        {"name": "first run / static split", "value": times["vse"][0] / times["static"][0], **lower},
        {"name": "later runs / static split", "value": ratio(times, "static"), **lower},
        {"name": "later runs / static split, processor time", "value": ratio(cpu, "static"), **lower},
        {"name": "later runs / the limit", "value": ratio(times, "limit"), "unit": "x"},
        {"name": "later runs / the limit, processor time", "value": ratio(cpu, "limit"), "unit": "x"},
        {"name": "later runs / the limit, more files", "value": ratio(more, "limit"), "unit": "x"},
        {"name": "first run", "value": times["vse"][0], "unit": "s", **first_s},
        {"name": "later runs", "value": statistics.median(times["vse"][1:]), "unit": "s", **later_s},
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.coffea", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="vse-bench-") as directory:
        sizes = (60, 120, 2) if quick else (COPIES, MORE_COPIES, 4)
        print(json.dumps(measure(Path(directory), *sizes)))


if __name__ == "__main__":
    main()
