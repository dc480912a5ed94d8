"""Run every benchmark in a process of its own; print one table and keep it as JSON.

Each benchmark module prints one JSON object as its last line: ``{"figures": [{"name", "value", "unit",
"bar", "better": "higher"|"lower"}, ...], ...}``; anything else in it is kept beside the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

MODULES = (
    "catalogue",
    "rucio",
    "door",
    "xroot",
    "analysis",
    "queue",
    "cold",
    "transfers",
    "consistency",
    "packetizer",
    "coffea",
    "vaf_real",
    "vaf_costs",
)
RESULTS = Path(__file__).parent / "results"


def noise() -> dict[str, float]:
    """Time the same work ten times: how far the machine drifts, as (max - min) / median."""
    data = b"x" * 1_000_000
    times = []
    for _ in range(10):
        start = time.perf_counter()
        for _ in range(20):
            hashlib.sha256(data).digest()
        times.append(time.perf_counter() - start)
    middle = statistics.median(times)
    return {"spread": (max(times) - min(times)) / middle, "load_1min": os.getloadavg()[0]}


def run(module: str, quick: bool) -> dict[str, object]:
    """Run one benchmark module; a failure is a result too."""
    command = [sys.executable, "-m", f"bench.{module}", *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"failed": f"exit code {done.returncode}", "figures": []}
    result: dict[str, object] = json.loads(lines[-1])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a look, not a measurement")
    parser.add_argument("modules", nargs="*", default=MODULES, help=f"some of {', '.join(MODULES)}")
    options = parser.parse_args()
    console = Console()
    report: dict[str, object] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "kernel": platform.release(),
        },
        "noise_before": noise(),
        "quick": options.quick,
    }
    table = Table(title="VSE, measured in one run", box=None, title_justify="left")
    for heading in ("benchmark", "figure", "value", "bar", ""):
        table.add_column(heading, justify="right" if heading in ("value", "bar") else "left")
    missed = 0
    for module in options.modules:
        console.print(f"[dim]bench.{module} ...[/dim]")
        result = run(module, options.quick)
        report[module] = result
        if "failed" in result:
            table.add_row(module, f"[red]{result['failed']}[/red]")
            missed += 1
        for figure in result["figures"]:  # type: ignore[attr-defined]
            bar = figure.get("bar")
            higher = figure.get("better", "higher") == "higher"
            good = bar is None or (figure["value"] >= bar if higher else figure["value"] <= bar)
            missed += not good
            sign = "" if bar is None else (">= " if higher else "<= ") + f"{bar:,g}"
            mark = "" if bar is None else ("[green]met[/green]" if good else "[red]missed[/red]")
            table.add_row(module, figure["name"], f"{figure['value']:,.4g} {figure['unit']}", sign, mark)
    report["noise_after"] = noise()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    console.print(table)
    spread = report["noise_before"]["spread"]  # type: ignore[index]
    console.print(
        f"The machine's noise: {spread:.0%} between equal runs. Kept in {path.relative_to(Path.cwd())}"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
