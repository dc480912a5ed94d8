"""The process of the demo's remote site: its door, behind a wide-area line. Run by `RemoteProcess`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vse.app.door import build_door
from vse.app.site import Site
from vse.config.load import load
from vse.demo.wan import WideArea
from vse.errors import VseError, exit_code
from vse.monitor.log import log_to_stderr


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m vse.demo.remote_process")
    parser.add_argument("settings", type=Path)
    parser.add_argument("--query-latency-s", type=float, required=True)
    parser.add_argument("--bandwidth-bytes-per-s", type=float, required=True)
    options = parser.parse_args()
    log_to_stderr()
    try:
        with Site.open(load(options.settings)) as site:
            server = build_door(
                site, lambda app: WideArea(app, options.query_latency_s, options.bandwidth_bytes_per_s)
            )
            server.run(ready=_tell)
    except VseError as error:
        sys.stderr.write(f"{error}\n")
        return exit_code(error)
    return 0


def _tell(url: str) -> None:
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
