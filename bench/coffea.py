"""Many small files: against coffea's own Runner with its DaskExecutor, on the same workers, in turns.

Copies of one real file of 2,304 events, one coffea processor, two local Dask workers. The first run of each
is from workers that have imported everything and opened nothing. Each side's second run knows what its
first one found: coffea keeps its metadata in the process, VSE keeps the number of entries in its catalogue.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "uproot-Zmumu.root"
EVENTS = 2304
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


def measure(directory: Path, copies: int, rounds: int) -> dict[str, Any]:
    from coffea.nanoevents import BaseSchema
    from coffea.processor import DaskExecutor, Runner

    from vse.analysis.cluster import LocalWorkers
    from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse
    from vse.analysis.script import load_script

    paths = [str(shutil.copyfile(DATA, directory / f"zmumu_{number:03d}.root")) for number in range(copies)]
    size_bytes = DATA.stat().st_size
    source = directory / "dimuon_processor.py"
    source.write_text(SCRIPT)
    script = load_script(source)
    sys.path.insert(0, str(directory))
    times: dict[str, list[float]] = {"vse": [], "coffea": []}
    with LocalWorkers(2) as workers:
        workers.client.wait_for_workers(2)
        workers.client.upload_file(str(source))
        processor = importlib.import_module("dimuon_processor").Dimuon()

        def ours(number: int) -> Any:
            known = EVENTS if number else None
            files = [InputFile(path, path, "events", known, size_bytes) for path in paths]
            feed = Feed(files, closed=True)
            result = analyse(script, feed, workers.client, AnalysisOptions())
            assert result.complete
            return result.output

        def theirs(_: int) -> Any:
            executor = DaskExecutor(client=workers.client, status=False)
            run = Runner(executor=executor, schema=BaseSchema)
            return run({"zmumu": paths}, processor_instance=processor, treename="events")

        for number in range(rounds + 1):
            outputs = []
            for name, side in (("vse", ours), ("coffea", theirs)):
                begun = time.perf_counter()
                outputs.append(side(number))
                times[name].append(time.perf_counter() - begun)
            assert outputs[0]["entries"] == outputs[1]["entries"] == EVENTS * copies
            assert (outputs[0]["mass"].values() == outputs[1]["mass"].values()).all()
    later = {name: statistics.median(values[1:]) for name, values in times.items()}
    figures = [
        {"name": "first run / coffea", "value": times["vse"][0] / times["coffea"][0], "unit": "x", "bar": 1.0,
         "better": "lower"},
        {"name": "later runs / coffea", "value": later["vse"] / later["coffea"], "unit": "x", "bar": 1.0,
         "better": "lower"},
        {"name": "first run", "value": times["vse"][0], "unit": "s"},
        {"name": "later runs", "value": later["vse"], "unit": "s"},
    ]  # fmt: skip
    return {"figures": figures, "files": copies, "times_s": times}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.coffea", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="vse-bench-") as directory:
        print(json.dumps(measure(Path(directory), 60 if quick else 200, 2 if quick else 4)))


if __name__ == "__main__":
    main()
