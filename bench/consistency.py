"""What comparing a million files with a storage's listing costs; prints one JSON object."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from functools import partial
from pathlib import Path

from bench.catalogue_rows import place
from vse.app.consistency import check
from vse.app.init import init_site
from vse.app.site import Site
from vse.config.load import load
from vse.model import Lfn, NewFile

FILES = 1_000_000
BATCH = 50_000
LOST = 100


def _held(se: str, lfn: Lfn, size_bytes: int) -> NewFile:
    return NewFile(lfn, size_bytes, se=se)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    files = FILES // 20 if parser.parse_args().quick else FILES
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        init_site(root, name="bench")
        with Site.open(load(root / "vse.toml", {}, {"consistency.grace_s": "0"})) as site:
            element = site.destination
            for start in range(0, files, BATCH):
                numbers = range(start, min(files, start + BATCH))
                names = (Lfn("/".join(place(number))) for number in numbers)
                site.catalogue.register(map(partial(_held, element.name), names, numbers))
            base = element.settings.protocols[0].path
            listing = root / "listing.txt"
            with listing.open("w") as lines:
                for number in range(LOST, files):
                    lines.write(f"{base}{'/'.join(place(number))} {number} 100\n")
            began_s, before_s = time.perf_counter(), time.process_time()
            checked = check(site, element.name, listing=listing)
            cpu_s, wall_s = time.process_time() - before_s, time.perf_counter() - began_s
            assert (checked.tally.known, checked.tally.lost) == (files, LOST)
    per_million_s = cpu_s * 1e6 / files
    figures = [
        {"name": "cpu_a_million_files", "value": per_million_s, "unit": "s", "bar": 60, "better": "lower"},
        {"name": "wall_a_million_files", "value": wall_s * 1e6 / files, "unit": "s", "better": "lower"},
    ]
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"figures": figures, "files": files, "peak_mib": peak_mib}))


if __name__ == "__main__":
    main()
