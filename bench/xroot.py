"""The drivers of root and http against the tools and the library beneath them, on one XRootD server.

Each pair is run in turn in one run, on loopback from the page cache: a whole file to a local file against
xrdcp and curl, and ranged reads against the bare client library. xrdcp is run as it comes, and once more
with its page checksums off (XRD_CPUSEPGWRTRD=0), which is the harder bar.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vse.config.settings import ProtocolSettings
from vse.storage.contract import Driver
from vse.storage.drivers.http import HttpDriver
from vse.storage.drivers.xroot import XrootDriver
from vse.storage.drivers.xroot_client import library

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the servers are those of the tests

from servers.certificates import make_certificates
from servers.xrootd import XrootdServer, xrootd

RANGE_BYTES = 64 * 1024


def timed(act: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    act()
    return time.perf_counter() - started_s


def get(driver: Driver, target: Path) -> None:
    """Copy the file to ``target``, as a transfer does but for the checksum."""
    with driver.open("/data/big") as reader, target.open("wb", buffering=0) as file:
        for piece in reader.stream():
            file.write(piece)


def in_turn(
    runs: int,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    before: Callable[[], object] = lambda: None,
) -> tuple[float, float]:
    """Return the medians of both, in seconds; each goes first every other time."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(runs):
        for mine in (number % 2 == 0, number % 2 != 0):
            before()
            times[mine].append(timed(ours if mine else theirs))
    return statistics.median(times[True]), statistics.median(times[False])


def copies(server: XrootdServer, size_bytes: int, runs: int, scratch: Path) -> list[dict[str, object]]:
    target = scratch / "copy"
    settings = {"Host": "127.0.0.1", "Path": "/data"}
    root = XrootDriver(ProtocolSettings.model_validate({**settings, "Port": server.port}))
    http = HttpDriver(ProtocolSettings.model_validate({**settings, "Port": server.http_port}))
    xrdcp = ["xrdcp", "-f", "-s", root.url("/data/big"), str(target)]
    fast = {**os.environ, "XRD_CPUSEPGWRTRD": "0"}
    curl = ["curl", "-s", "-f", "-o", str(target), http.url("/data/big")]

    def run(command: list[str], environment: dict[str, str] | None = None) -> None:
        subprocess.run(command, check=True, env=environment)
        assert target.stat().st_size == size_bytes

    def clean() -> None:
        target.unlink(missing_ok=True)
        os.sync()

    get(root, target)
    ours_s, xrdcp_s = in_turn(runs, lambda: get(root, target), lambda: run(xrdcp), clean)
    again_s, fast_s = in_turn(runs, lambda: get(root, target), lambda: run(xrdcp, fast), clean)
    http_s, curl_s = in_turn(runs, lambda: get(http, target), lambda: run(curl), clean)
    rate = size_bytes / 2**20
    return [
        {"name": "xroot get / xrdcp", "value": xrdcp_s / ours_s, "unit": "x", "bar": 0.9, "better": "higher"},
        {"name": "xroot get / xrdcp without page checksums", "value": fast_s / again_s, "unit": "x"},
        {"name": "xroot get", "value": rate / ours_s, "unit": "MiB/s"},
        {"name": "xrdcp", "value": rate / xrdcp_s, "unit": "MiB/s"},
        {"name": "xrdcp without page checksums", "value": rate / fast_s, "unit": "MiB/s"},
        {"name": "http get / curl", "value": curl_s / http_s, "unit": "x", "bar": 0.8, "better": "higher"},
        {"name": "http get", "value": rate / http_s, "unit": "MiB/s"},
        {"name": "curl", "value": rate / curl_s, "unit": "MiB/s"},
    ]


def ranges(server: XrootdServer, size_bytes: int, count: int, runs: int) -> list[dict[str, object]]:
    driver = XrootDriver(
        ProtocolSettings.model_validate({"Host": "127.0.0.1", "Path": "/data", "Port": server.port})
    )
    numbers = random.Random(1)
    offsets = [numbers.randrange(size_bytes - RANGE_BYTES) for _ in range(count)]
    bare = library().File()
    bare.open(driver.url("/data/big"), library().flags.OpenFlags.READ)
    reader = driver.open("/data/big")

    def ours() -> None:
        for offset in offsets:
            assert len(reader.pread(offset, RANGE_BYTES)) == RANGE_BYTES

    def theirs() -> None:
        for offset in offsets:
            assert len(bare.read(offset, RANGE_BYTES)[1]) == RANGE_BYTES

    theirs()
    ours_s, theirs_s = in_turn(runs, ours, theirs)
    vector_s = timed(lambda: reader.pread_many([(offset, RANGE_BYTES) for offset in offsets]))
    reader.close()
    bare.close()
    return [
        {"name": f"{count:,} ranged reads / bare client", "value": theirs_s / ours_s, "unit": "x", "bar": 0.8,
         "better": "higher"},
        {"name": f"{count:,} reads of 64 KiB", "value": ours_s, "unit": "s"},
        {"name": f"{count:,} reads of 64 KiB, as vectors", "value": vector_s, "unit": "s"},
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.xroot", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    size_bytes, runs, count = (256 * 2**20, 2, 1000) if quick else (2**30, 5, 1000)
    # In memory, so that the drivers are measured and not what a disk does with a gigabyte of dirty pages.
    memory = Path("/dev/shm")  # noqa: S108
    scratch = Path(tempfile.mkdtemp(prefix="vse-bench-", dir=memory if memory.is_dir() else None))
    try:
        with xrootd(make_certificates()) as server:
            with (server.data / "big").open("wb") as file:
                piece = random.Random(2).randbytes(2**20)
                for number in range(size_bytes // 2**20):
                    file.write(number.to_bytes(8, "big") + piece[8:])
            figures = copies(server, size_bytes, runs, scratch) + ranges(server, size_bytes, count, runs)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(
        json.dumps(
            {"figures": figures, "size_bytes": size_bytes, "runs": runs, "scratch": str(scratch.parent)}
        )
    )


if __name__ == "__main__":
    main()
