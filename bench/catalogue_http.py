"""The catalogue over HTTP on loopback: a door in a process of its own, and the client in this one."""

from __future__ import annotations

import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from bench.catalogue_rows import LOOK_EVERY, NAMES_A_CALL, ROUNDS, place, private_mib
from vse.catalogue.remote import RemoteCatalogue
from vse.catalogue.sql import SqlCatalogue
from vse.catalogue.upstream.vse import VseUpstream
from vse.db import Database
from vse.doors.http.access import DoorAccess, ensure_token
from vse.doors.http.app import create_app
from vse.doors.http.serve import HttpServer
from vse.model import Lfn

MOST_FOUND = 1_000_000


def serve(url: str, token_file: Path, told: Connection) -> None:
    catalogue = SqlCatalogue(Database.open(url), time.time)
    access = DoorAccess("token", "token", ensure_token(token_file))
    HttpServer(create_app(access, catalogue=catalogue, whole=catalogue)).run(told.send)


@contextmanager
def running(url: str, token_file: Path) -> Iterator[str]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(url, token_file, there))
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def measure_http(url: str, count: int) -> dict[str, float]:
    """Bulk resolve (by our own client, and as another site asks), and a find of at most `MOST_FOUND`."""
    rng = random.Random(2)
    rates: dict[str, list[float]] = {"http_resolves_per_s": [], "http_upstream_resolves_per_s": []}
    with tempfile.TemporaryDirectory(prefix="vse-bench-") as place_dir:
        token_file = Path(place_dir) / "token"
        with running(url, token_file) as door, RemoteCatalogue(door, token_file) as remote:
            upstream = VseUpstream("far", door, token_file)
            for _ in range(ROUNDS):
                numbers = rng.sample(range(count), min(count, NAMES_A_CALL))
                lfns = [Lfn("/".join(place(number))) for number in numbers]
                for name, resolve in zip(rates, (remote.resolve, upstream.resolve), strict=True):
                    resolve(lfns)  # the same pages are warm
                    began = time.perf_counter()
                    assert len(resolve(lfns).ok) == len(lfns)
                    rates[name].append(len(lfns) / (time.perf_counter() - began))
            found = measure_find(remote, min(count, MOST_FOUND))
    return {name: statistics.median(several) for name, several in rates.items()} | found


def measure_find(remote: RemoteCatalogue, count: int) -> dict[str, float]:
    before = most = private_mib()
    began = time.perf_counter()
    first_s, seen = 0.0, 0
    stream = remote.find(Lfn("/lhc"), "*.root")
    for _ in stream:
        seen += 1
        if seen == 1:
            first_s = time.perf_counter() - began
        if not seen % LOOK_EVERY:
            most = max(most, private_mib())
        if seen == count:
            break
    seconds = time.perf_counter() - began
    assert seen == count
    return {
        "http_find_rows_per_s": count / seconds,
        "http_first_row": first_s * 1e3,
        "http_find_memory": most - before,
    }
