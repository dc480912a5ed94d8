"""How much faster names are looked up here than at a real Rucio with the same files; prints one JSON object.

Rucio runs on SQLite, as the cache does, on this machine, in this run; it is asked as its own client asks
(in bulk, a thousand names a call, one connection), and once more without its sorting by distance, which
costs most of its time where it has no map.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import urllib3
from pydantic import SecretStr

from vse.catalogue.lookup import Lookup
from vse.catalogue.sql import SqlCatalogue
from vse.catalogue.upstream import build
from vse.config.settings import UpstreamSettings
from vse.db import Database
from vse.model import Lfn

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from servers.rucio import ACCOUNT, PASSWORD, USERNAME, RucioServer, rucio

AT_ONCE = 1000
ROUNDS = 5
SINGLES = 15
CACHED_SINGLES = 3000
SCOPE = "lhc"
FIGURES = {
    "resolve_ratio": ("of list_replicas", 50),
    "cached_ratio": ("of asking", 1000),
    "unsorted_ratio": ("of list_replicas", None),
    "resolves_per_s": ("/s", None),
    "rucio_per_s": ("/s", None),
    "rucio_unsorted_per_s": ("/s", None),
    "asked_per_s": ("/s", None),
    "asking_one": ("ms", None),
    "cached_one": ("us", None),
}
"""What is printed: name, unit, and the least that will do."""


def name_of(number: int) -> str:
    return f"run{number // 100:06d}/events_{number % 100:05d}.root"


@contextmanager
def filled(count: int) -> Iterator[RucioServer]:
    """A Rucio that knows ``count`` files."""
    with rucio() as server:
        server.add_element("FAR_RSE", "root://far.example.org:1094//data")
        server.add_scope(SCOPE)
        files = [
            {
                "scope": SCOPE,
                "name": name_of(number),
                "bytes": number + 1,
                "adler32": f"{number:08x}",
                "pfn": f"root://far.example.org:1094//data/{name_of(number)}",
            }
            for number in range(count)
        ]
        for start in range(0, count, 500):
            server.add_replicas("FAR_RSE", files[start : start + 500])
        yield server


def seconds(call: Callable[[], object], rounds: int) -> float:
    """The median time of a call."""
    took = []
    for _ in range(rounds):
        gc.collect()
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def each(call: Callable[[Lfn], object], names: list[Lfn]) -> float:
    """The median time of a call with one name."""
    took = []
    for name in names:
        began = time.perf_counter()
        call(name)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


class Client:
    """Rucio's own way of asking: one token, one connection, `AT_ONCE` names a call."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(retries=False, timeout=120.0)
        login = {"X-Rucio-Account": ACCOUNT, "X-Rucio-Username": USERNAME, "X-Rucio-Password": PASSWORD}
        answer = self._pool.request("GET", f"{url}/auth/userpass", headers=login)
        self._headers = {"X-Rucio-Auth-Token": answer.headers["X-Rucio-Auth-Token"]}

    def list_replicas(self, count: int, **options: object) -> None:
        told = 0
        for start in range(0, count, AT_ONCE):
            numbers = range(start, min(count, start + AT_ONCE))
            body = {"dids": [{"scope": SCOPE, "name": name_of(number)} for number in numbers], **options}
            url = f"{self._url}/replicas/list"
            answer = self._pool.request("POST", url, json=body, headers=self._headers)
            told += len([json.loads(line) for line in answer.data.splitlines()])
        assert told == count


def measure(server: RucioServer, count: int, root: Path, stack: ExitStack) -> dict[str, float]:
    settings = UpstreamSettings(
        name="far",
        type="rucio",
        url=server.url,
        account=ACCOUNT,
        username=USERNAME,
        password=SecretStr(PASSWORD),
    )
    upstream = build(settings)
    stack.callback(upstream.close)
    database = Database.open(f"sqlite:///{root / 'vse.db'}")
    stack.callback(database.close)
    lookup = Lookup(SqlCatalogue(database, time.time), [upstream], time.time)
    names = [Lfn(f"/{SCOPE}/{name_of(number)}") for number in range(count)]

    def resolve() -> None:
        assert len(lookup.resolve(names).ok) == count

    client = Client(server.url)
    client.list_replicas(min(count, AT_ONCE))
    asking_s = seconds(resolve, 1)  # the first time: asked, and stored
    asked = lookup.queries
    sorted_s = seconds(lambda: client.list_replicas(count), 2)
    unsorted_s = seconds(lambda: client.list_replicas(count, sort="random"), 2)
    cached_s = seconds(resolve, ROUNDS)
    asking_one_s = each(lambda name: upstream.resolve([name]), names[:SINGLES])
    cached_one_s = each(lambda name: lookup.resolve([name]), (names * CACHED_SINGLES)[:CACHED_SINGLES])
    assert lookup.queries == asked, "the cache was not used"
    return {
        "resolve_ratio": sorted_s / cached_s,
        "cached_ratio": asking_one_s / cached_one_s,
        "unsorted_ratio": unsorted_s / cached_s,
        "resolves_per_s": count / cached_s,
        "rucio_per_s": count / sorted_s,
        "rucio_unsorted_per_s": count / unsorted_s,
        "asked_per_s": count / asking_s,
        "asking_one": asking_one_s * 1e3,
        "cached_one": cached_one_s * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    count = 1_000 if parser.parse_args().quick else 5_000
    with ExitStack() as stack, tempfile.TemporaryDirectory() as root:
        server = stack.enter_context(filled(count))
        values = measure(server, count, Path(root), stack)
        stack.pop_all().close()
    figures = []
    for name, (unit, bar) in FIGURES.items():
        better = "lower" if unit in ("ms", "us") else "higher"
        figure: dict[str, object] = {"name": name, "value": values[name], "unit": unit, "better": better}
        figures.append(figure if bar is None else {**figure, "bar": bar})
    print(json.dumps({"figures": figures, "files": count}))


if __name__ == "__main__":
    main()
