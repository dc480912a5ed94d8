"""The facility with real workers that are unlike: efficiency, and against coffea and a static split.

The workers sleep so long for each entry as their speed says, so that eight of them fit on two cores and what
is measured is who gets what and when. The speeds are spread over a factor of four; in the run for the
efficiency three of the eight are throttled to half of theirs on the way. Ideal is that nobody ever waits, who
comes late works from then on.

No schedule saves more of coffea's time than the ideal does. Where that is less than the 15 % of the bar, the
bar is that we are not slower.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.coffea import EVENTS, copies_of_zmumu, static_split

SPEEDS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.25)
THROTTLED = (0, 3, 6)
ENTRIES_A_FILE = 200_000
FILES = 12
IDEAL_S = 8.0
SAVED, NOT_SLOWER = 0.15, 0.0
ARRIVING = (0.5, 0.4, 1.0, 0.25, 0.9, 0.7, 0.6, 0.8)
"""Speeds, in the order of arrival: two are there, the others come one after the other."""
SCRIPT = """
import json
import os
import time

from coffea import processor
from coffea.nanoevents import BaseSchema
from distributed import get_worker


def place(roll):
    # In which place, from 0, this worker began to work in this run.
    name = str(get_worker().name)
    names = open(roll).read().split() if os.path.exists(roll) else []
    if name not in names:
        with open(roll, "a") as file:
            file.write(name + "\\n")
        names = open(roll).read().split()
    return names.index(name)


def entries_per_s():
    with open(__PLAN__) as file:
        plan = json.load(file)
    number = (place(plan["roll"]) if plan["roll"] else int(get_worker().name)) % len(plan["speeds"])
    throttled = number in plan["throttled"] and time.time() > plan["throttled_at"]
    return plan["entries_per_s"] * plan["speeds"][number] * (0.5 if throttled else 1.0)


class Sleeper(processor.ProcessorABC):
    schema = BaseSchema

    def process(self, events):
        time.sleep(len(events) / entries_per_s())
        return {"entries": len(events)}

    def postprocess(self, accumulator):
        pass
"""
Run = Callable[[], int]
"""One analysis; returns how many entries are in its output."""


class Bench:
    """Workers, the script that sleeps, and three ways to run it over a set of files."""

    def __init__(self, directory: Path, workers: int) -> None:
        from vse.analysis.cluster import LocalWorkers
        from vse.analysis.script import load_script

        self.plan = directory / f"plan_{workers}.json"
        self.runs = 0
        self.source = directory / f"sleeper_{workers}.py"
        self.source.write_text(SCRIPT.replace("__PLAN__", repr(str(self.plan))))
        self.script = load_script(self.source)
        self.workers = LocalWorkers(workers)
        self.client = self.workers.client
        self.client.wait_for_workers(workers)
        self.client.upload_file(str(self.source))
        sys.path.insert(0, str(directory))
        self.processor = importlib.import_module(self.source.stem).Sleeper()

    def set_speed(
        self,
        entries_per_s: float,
        throttled_in_s: float | None = None,
        speeds: Sequence[float] = SPEEDS,
        as_they_come: bool = False,
    ) -> None:
        """Say how many entries a worker of speed 1 takes in a second, from now on.

        ``as_they_come``: the first that works has the first of ``speeds``; else that of its name.
        """
        self.runs += 1
        plan = {
            "speeds": speeds,
            "roll": str(self.plan.with_suffix(f".roll{self.runs}")) if as_they_come else "",
            "entries_per_s": entries_per_s,
            "throttled": () if throttled_in_s is None else THROTTLED,
            "throttled_at": time.time() + (throttled_in_s or 0.0),
        }
        self.plan.write_text(json.dumps(plan))

    def ours(self, paths: list[str], entries: int, tree: str, **options: Any) -> Any:
        from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse

        size_bytes = Path(paths[0]).stat().st_size
        files = [InputFile(path, path, tree, entries, size_bytes) for path in paths]
        result = analyse(self.script, Feed(files, closed=True), self.client, AnalysisOptions(**options))
        assert result.complete
        return result

    def coffea(self, paths: list[str], tree: str) -> Any:
        from coffea.nanoevents import BaseSchema
        from coffea.processor import DaskExecutor, Runner

        run = Runner(executor=DaskExecutor(client=self.client, status=False), schema=BaseSchema)
        return run({"sleep": paths}, processor_instance=self.processor, treename=tree)

    def sides(self, paths: list[str], entries: int, tree: str) -> dict[str, Run]:
        def split() -> int:
            return int(static_split(self.client, self.script.source, paths, entries, tree)["entries"])

        return {
            "vse": lambda: int(self.ours(paths, entries, tree).output["entries"]),
            "coffea": lambda: int(self.coffea(paths, tree)["entries"]),
            "static split": split,
        }


def large_files(directory: Path) -> list[str]:
    """Twelve names of one file of 200,000 entries: two of coffea's chunks each."""
    import numpy as np
    import uproot

    first = directory / "large_00.root"
    with uproot.recreate(first) as file:
        tree = file.mktree("events", {"x": "int32"})
        for start in range(0, ENTRIES_A_FILE, 20_000):
            tree.extend({"x": np.arange(start, start + 20_000, dtype="int32")})
    for number in range(1, FILES):
        (directory / f"large_{number:02d}.root").hardlink_to(first)
    return [str(directory / f"large_{number:02d}.root") for number in range(FILES)]


def timed(run: Run, entries: int) -> float:
    begun = time.perf_counter()
    assert run() == entries
    return time.perf_counter() - begun


def gains(times: dict[str, list[float]], ideal_s: float, what: str) -> list[dict[str, Any]]:
    """How much of the others' time is saved, beside what the ideal would save.

    The seed computed 18 to 28 % for pull over push. Coffea hands out chunks one by one, too.
    """
    ours_s = statistics.median(times["vse"])
    found = []
    for other in ("coffea", "static split"):
        theirs_s = statistics.median(times[other])
        most = 1 - ideal_s / theirs_s
        found += [
            {"name": f"faster than {other}, {what}", "value": 1 - ours_s / theirs_s, "unit": "",
             "bar": SAVED if most > SAVED else NOT_SLOWER},
            {"name": f"the ideal is faster than {other}, {what}", "value": most, "unit": ""},
        ]  # fmt: skip
    return found


def in_turns(
    sides: dict[str, Run], entries: int, rounds: int, before: Callable[[], None]
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            before()
            times[name].append(timed(run, entries))
    return times


def unequal(directory: Path, ideal_s: float, rounds: int) -> dict[str, Any]:
    """Eight workers: efficiency with some of them throttled, then against the others, in turns."""
    bench = Bench(directory, len(SPEEDS))
    large, small = large_files(directory), copies_of_zmumu(directory, 200)
    kept: dict[str, Any] = {"ideal_s": ideal_s}
    with bench.workers:
        bench.set_speed(1e9)
        for paths, entries in ((large, ENTRIES_A_FILE), (small, EVENTS)):
            for run in bench.sides(paths, entries, "events").values():
                run()  # coffea keeps what it found of the files
        total, speed = ENTRIES_A_FILE * FILES, sum(SPEEDS)
        slower = speed - sum(SPEEDS[number] for number in THROTTLED) / 2
        efficiencies = []
        for _ in range(rounds):
            # Half of the work is done at full speed, the other half while three are throttled.
            rate = total * (0.5 / speed + 0.5 / slower) / ideal_s
            bench.set_speed(rate, throttled_in_s=total / 2 / speed / rate)
            taken_s = timed(bench.sides(large, ENTRIES_A_FILE, "events")["vse"], total)
            efficiencies.append(ideal_s / taken_s)
        figures = [efficiency("8 unequal workers, 3 of them throttled", statistics.median(efficiencies))]
        for name, paths, entries in (
            ("24 chunks", large, ENTRIES_A_FILE),
            ("200 small files", small, EVENTS),
        ):
            total = entries * len(paths)
            rate = total / speed / ideal_s
            sides = bench.sides(paths, entries, "events")
            times = in_turns(sides, total, rounds, lambda rate=rate: bench.set_speed(rate))
            figures += gains(times, ideal_s, f"8 unequal workers, {name}")
            figures.append(
                efficiency(f"8 unequal workers, {name}", ideal_s / statistics.median(times["vse"]))
            )
            kept[name] = times
    return {"figures": figures, "efficiencies": efficiencies, **kept}


def efficiency(what: str, value: float) -> dict[str, Any]:
    return {"name": f"efficiency, {what}", "value": value, "unit": "", "bar": 0.90}


def joining(directory: Path, ideal_s: float, rounds: int) -> dict[str, Any]:
    """Two workers, and others that start a while after the analysis: two equal ones, six unequal ones."""
    bench = Bench(directory, 2)
    paths = large_files(directory)
    total = ENTRIES_A_FILE * FILES
    report: dict[str, Any] = {"figures": []}
    with bench.workers:
        bench.set_speed(1e9)
        sides = bench.sides(paths, ENTRIES_A_FILE, "events")
        for run in sides.values():
            run()
        for name, speeds, in_steps, rate in (
            ("2 workers and 2 that join late", (1.0,) * 4, [2], total / 4 / ideal_s),
            ("2 workers and 6 unlike ones that join one by one", ARRIVING, [1] * 6,
             total / sum(ARRIVING) / ideal_s),
        ):  # fmt: skip
            late = Latecomers(bench.workers, 2, in_steps, ideal_s / 4)

            def before(late=late, rate=rate, speeds=speeds) -> None:
                late.begin()
                bench.set_speed(rate, speeds=speeds, as_they_come=True)

            times = in_turns(sides, total, rounds, before)
            late.wait()
            ideals = [ideal_of(total / rate, speeds, arrivals) for arrivals in late.arrivals_s]
            best_s = statistics.median(ideals[:: len(sides)])
            report["figures"] += gains(times, best_s, name)
            report["figures"].append(efficiency(name, best_s / statistics.median(times["vse"])))
            report[name] = {"times_s": times, "arrivals_s": late.arrivals_s, "ideals_s": ideals}
    return report


def ideal_of(work_s: float, speeds: Sequence[float], arrivals_s: Sequence[float]) -> float:
    """Return when ``work_s`` of a worker of speed 1 would be done, were nobody ever to wait."""
    speed, now_s = 0.0, 0.0
    for more, arrival_s in zip(speeds, arrivals_s, strict=True):
        if speed * (arrival_s - now_s) >= work_s:
            break
        work_s -= speed * (arrival_s - now_s)
        speed, now_s = speed + more, arrival_s
    return now_s + work_s / speed


class Latecomers:
    """Workers that start while an analysis runs: ``in_steps`` at a time, the first after ``late_s``."""

    def __init__(self, workers: Any, few: int, in_steps: Sequence[int], late_s: float) -> None:
        self.workers = workers
        self.few = few
        self.in_steps = in_steps
        self.late_s = late_s
        self.arrivals_s: list[list[float]] = []
        """Of each run, when each of its workers was there."""
        self.watcher: threading.Thread | None = None

    def begin(self) -> None:
        """Send those of before home; new ones come."""
        self.wait()
        self._scale(self.few)
        while len(self.workers.client.scheduler_info(n_workers=-1)["workers"]) != self.few:
            time.sleep(0.1)
        self.watcher = threading.Thread(target=self._bring)
        self.watcher.start()

    def _scale(self, count: int) -> None:
        self.workers.count = count
        self.workers.client.cluster.scale(count)

    def _bring(self) -> None:
        begun, there = time.perf_counter(), self.few
        arrivals_s = [0.0] * there
        time.sleep(self.late_s)
        for more in self.in_steps:
            there += more
            self._scale(there)
            self.workers.client.wait_for_workers(there, timeout=300)
            arrivals_s += [round(time.perf_counter() - begun, 2)] * more
        self.arrivals_s.append(arrivals_s)

    def wait(self) -> None:
        if self.watcher is not None:
            self.watcher.join()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.vaf_real", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    report: dict[str, Any] = {"figures": []}
    for part in (unequal, joining):
        with tempfile.TemporaryDirectory(prefix="vse-bench-") as directory:
            found = part(Path(directory), 3.0 if quick else IDEAL_S, 1 if quick else 2)
        report["figures"] += found.pop("figures")
        report[part.__name__] = found
    print(json.dumps(report))


if __name__ == "__main__":
    main()
