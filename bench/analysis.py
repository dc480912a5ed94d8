"""A warm analysis against a plain script on the same files: wall time against wall time.

The plain script is what a physicist would write without VSE: a pool of as many processes, uproot, the
same branches, the same histograms, added at the end. Both start from nothing: a new Python process that
imports, starts its workers, reads, merges and ends. Bar: VSE takes at most 1.15 times as long.

Prints one JSON object. ``--quick`` takes a sixth of the events; the start of the workers (1 to 2 s,
whatever the size) weighs more then, and the bar is not applied. ``--keep DIR`` keeps the files.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BAR = 1.15
SCRIPT = Path(__file__).resolve().parents[1] / "src" / "vse" / "demo" / "dimuon.py"

PLAIN = """
import json, multiprocessing, sys

def one(path):
    import runpy
    import uproot
    global script
    if "script" not in globals():
        script = runpy.run_path({script!r})
    with uproot.open(path) as file:
        events = file["Events"].arrays(filter_name=script["branches"])
    return script["process"](events)

if __name__ == "__main__":
    paths = json.load(open(sys.argv[1]))
    total = None
    with multiprocessing.get_context("spawn").Pool(int(sys.argv[2])) as pool:
        for part in pool.imap_unordered(one, paths):
            total = part if total is None else {{key: total[key] + part[key] for key in part}}
    print(json.dumps([total["entries"], total["pairs"], total["dimuon_mass"].values(flow=True).tolist()]))
"""

OURS = """
import json, sys

def main():
    from vse.analysis.cluster import start_local
    workers = start_local(int(sys.argv[2]))
    from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse
    from vse.analysis.script import load_script
    paths = json.load(open(sys.argv[1]))
    script = load_script({script!r})
    feed = Feed([InputFile(path, path, "Events", {entries}, {size}) for path in paths], closed=True)
    with workers:
        result = analyse(script, feed, workers.client, AnalysisOptions(), lambda progress: None)
    assert result.complete
    total = result.output
    print(json.dumps([total["entries"], total["pairs"], total["dimuon_mass"].values(flow=True).tolist()]))

if __name__ == "__main__":
    main()
"""


def prepare(directory: Path, copies: int, events: int) -> tuple[list[str], int]:
    """Twenty different files, and as many names for each of them as are wanted."""
    from vse.demo.generate import generate

    made = generate(directory, files=20, events_per_file=events)
    paths: list[str] = []
    for number in range(copies):
        for file in made:
            name = directory / f"{file.path.stem}_{number:03d}.root"
            name.unlink(missing_ok=True)
            os.link(file.path, name)
            paths.append(str(name))
    return paths, made[0].size_bytes


def timed(program: Path, listing: Path, processes: int) -> tuple[float, float, Any]:
    """Return the wall time, the processor time of all processes together, and the output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(program), str(listing), str(processes)],
        check=True,
        capture_output=True,
        text=True,
    )
    wall_s = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall_s, cpu_s, json.loads(done.stdout)


def measure(directory: Path, quick: bool, processes: int, rounds: int) -> dict[str, Any]:
    events = 40_000
    paths, size = prepare(directory, 10 if quick else 60, events)
    listing = directory / "files.json"
    listing.write_text(json.dumps(paths))
    programs = {}
    for name, text in (("plain", PLAIN), ("vse", OURS)):
        programs[name] = directory / f"program_{name}.py"
        programs[name].write_text(text.format(script=str(SCRIPT), entries=events, size=size))
    times: dict[str, list[float]] = {name: [] for name in programs}
    cpu: dict[str, list[float]] = {name: [] for name in programs}
    outputs: dict[str, Any] = {}
    for _ in range(rounds):  # in turns, so that both see the same machine
        for name, program in programs.items():
            wall_s, cpu_s, outputs[name] = timed(program, listing, processes)
            times[name].append(wall_s)
            cpu[name].append(cpu_s)
    assert outputs["plain"] == outputs["vse"], "the two disagree"
    plain_s, vse_s = min(times["plain"]), min(times["vse"])
    figures = [
        {"name": "warm analysis / plain script", "value": vse_s / plain_s, "unit": "x",
         "bar": None if quick else BAR, "better": "lower"},
        {"name": "warm analysis", "value": outputs["vse"][0] / vse_s / 1e6, "unit": "M events/s"},
    ]  # fmt: skip
    return {
        "figures": figures,
        "files": len(paths),
        "events": outputs["vse"][0],
        "processes": processes,
        "plain_s": round(plain_s, 3),
        "vse_s": round(vse_s, 3),
        "all_plain_s": [round(value, 3) for value in times["plain"]],
        "all_vse_s": [round(value, 3) for value in times["vse"]],
        "plain_cpu_s": round(min(cpu["plain"]), 3),
        "vse_cpu_s": round(min(cpu["vse"]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if options.keep is not None:
        print(json.dumps(measure(options.keep, options.quick, options.processes, options.rounds)))
        return
    with tempfile.TemporaryDirectory(prefix="vse-bench-") as directory:
        print(json.dumps(measure(Path(directory), options.quick, options.processes, options.rounds)))


if __name__ == "__main__":
    main()
