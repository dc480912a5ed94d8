"""``python -m soak``: a long soak on one database or both; exit code 1 where something is wrong."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from soak.faults import FAULTS, kill
from soak.run import Verdict, database, for_kills, for_seconds, soak
from vse.testing.postgresql import server_programs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES", "60")))
    parser.add_argument("--kills", type=int, default=int(os.environ.get("SOAK_KILLS", "200")))
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", type=Path, help="leave the sites here, with their logs")
    asked = parser.parse_args()
    if asked.database != "sqlite" and server_programs() is None:
        sys.exit("no PostgreSQL server is installed")
    kinds = ["sqlite", "postgresql"] if asked.database == "both" else [asked.database]
    good = True
    with tempfile.TemporaryDirectory(prefix="vse-soak-") as place:
        for kind in kinds:
            phases: dict[str, tuple[Callable[[Verdict], bool], dict]] = {}
            if asked.kills:
                phases["kills"] = (for_kills(asked.kills), {kill: 1})
            if asked.minutes:
                phases["faults"] = (for_seconds(asked.minutes * 60 / len(kinds)), dict(FAULTS))
            for name, (go_on, faults) in phases.items():
                root = (asked.keep or Path(place)) / f"{kind}-{name}"
                with database(kind, root) as url:
                    verdict = soak(root, url, go_on, seed=asked.seed, faults=faults)
                print(f"{kind}, {name}: {verdict}", flush=True)
                good = good and not verdict.wrong
    sys.exit(0 if good else 1)


main()
