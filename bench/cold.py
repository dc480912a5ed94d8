"""A first analysis, when nothing is here, against the pure transfer of the same bytes over the same line.

The seed's facility lost a factor of 12 where its line was 4.5 times slower (seed 002, Table 4.1), because
it asked the catalogue file by file. Both sides here go through the demo's wide-area line (100 ms a
catalogue query, 12.5 MiB/s in all); the peer is curl with as many parallel transfers as the stager's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from vse.demo import remote
from vse.demo.remote import GENERATED_BASE, WideAreaLink
from vse.demo.run import Demo, Pass

PARALLEL = 8


def transfer(demo: Demo, scratch: Path) -> float:
    """Fetch every file of the remote site with curl; return the seconds it took."""
    source = remote.as_remote(demo.remote_directory)
    token = source.token_file.read_text().strip()
    files = sorted((demo.remote_directory / "storage" / GENERATED_BASE[1:]).glob("*.root"))
    config = scratch / "curl.cfg"
    config.touch(mode=0o600)
    lines = [f'header = "Authorization: Bearer {token}"', "no-progress-meter", "fail"]
    for path in files:
        lines += [
            f'url = "{source.url}/data{GENERATED_BASE}/{path.name}"',
            f'output = "{scratch / path.name}"',
        ]
    config.write_text("\n".join(lines) + "\n")
    command = ["curl", "--parallel", "--parallel-max", str(PARALLEL), "--config", str(config)]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    wall_s = time.perf_counter() - started
    received = sum((scratch / path.name).stat().st_size for path in files)
    assert received == demo.remote_bytes, (received, demo.remote_bytes)
    for path in files:
        (scratch / path.name).unlink()
    return wall_s


def cold_and_warm(demo: Demo) -> tuple[Pass, Pass]:
    """Analyse twice at a new local site."""
    demo.make_local()
    passes = []
    for _ in ("cold", "warm"):
        demo.wait_for_workers()
        dataset = demo.begin()
        passes.append(demo.finish(dataset, lambda _: None, lambda _: None))
    first, second = passes
    assert first.result.complete
    assert first.result.entries_processed == second.result.entries_processed
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cold", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    files, runs = (10, 1) if quick else (40, 3)
    scratch = Path(tempfile.mkdtemp(prefix="vse-bench-"))
    link = WideAreaLink()
    ratios, colds, warms, pures = [], [], [], []
    try:
        with Demo(scratch / "demo", link, 0) as demo:
            demo.make_remote(None, files, 40_000, 2014, lambda: None)
            for _ in range(runs):
                pure_s = transfer(demo, scratch)
                cold, warm = cold_and_warm(demo)
                demo.site.close()
                shutil.rmtree(demo.site_directory)
                pures.append(pure_s)
                colds.append(cold.wall_s)
                warms.append(warm.wall_s)
                ratios.append(cold.wall_s / pure_s)
            size_bytes = demo.remote_bytes
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    figures = [
        {"name": "cold analysis / pure transfer", "value": statistics.median(ratios), "unit": "x", "bar": 1.3,
         "better": "lower"},
        {"name": "cold analysis", "value": statistics.median(colds), "unit": "s"},
        {"name": "pure transfer (curl)", "value": statistics.median(pures), "unit": "s"},
        {"name": "the same analysis again", "value": statistics.median(warms), "unit": "s"},
    ]  # fmt: skip
    print(json.dumps({"figures": figures, "ratios": ratios, "files": files, "size_bytes": size_bytes}))


if __name__ == "__main__":
    main()
