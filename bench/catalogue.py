"""How much of a bare database's speed the catalogue keeps, and what it does over HTTP; prints JSON.

Every ratio is ours over bare `sqlite3` doing the same on the same rows, taken turn by turn in this run,
so that a slow or busy machine slows both.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from bench.catalogue_http import measure_http
from bench.catalogue_rows import (
    FILES_A_DIRECTORY,
    LOOK_EVERY,
    NAMES_A_CALL,
    ROUNDS,
    new_files,
    place,
    private_mib,
)
from vse.catalogue.port import Catalogue
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.db.tables import directories, elements, files, principals, replicas
from vse.model import Lfn, NewFile
from vse.testing.postgresql import fresh_database, running_postgresql, server_programs

BATCH_FILES = 50_000
STATS = 5_000
FIGURES: dict[str, tuple[str, float | None]] = {
    "resolve_ratio": ("of a bare join", 0.4),
    "resolves_per_s": ("/s", None),
    "find_ratio": ("of a bare join", 0.2),
    "find_rows_per_s": ("/s", 300_000),
    "first_row": ("ms", 20),
    "find_memory": ("MiB", 96),
    "list_memory": ("MiB", 96),
    "stat_median": ("us", 50),
    "stat_ratio": ("of a bare look-up", None),
    "stats_per_s": ("/s", 20_000),
    "load_ratio": ("of bare sqlite3", 0.25),
    "loads_per_s": ("/s", None),
    "http_resolves_per_s": ("/s", 30_000),
    "http_upstream_resolves_per_s": ("/s", None),
    "http_find_rows_per_s": ("/s", None),
    "http_first_row": ("ms", None),
    "http_find_memory": ("MiB", 96),
}
"""What is printed of each database: name, unit, and the bar."""

_COLUMNS = """d.path, f.name, f.size_bytes, f.adler32, f.guid, f.owner_id, f.group_id, f.mode, f.created_s,
    f.modified_s, r.element_id, r.url, r.state, r.accessed_s"""
_SELECT = f"SELECT {_COLUMNS} "
BARE_RESOLVE = (
    _SELECT
    + """FROM json_each(?) AS j
    JOIN directories AS d ON d.path = json_extract(j.value, '$[0]')
    JOIN files AS f ON f.directory_id = d.id AND f.name = json_extract(j.value, '$[1]')
    LEFT JOIN replicas AS r ON r.file_id = f.id"""
)
BARE_FIND = (
    _SELECT
    + """FROM directories AS d JOIN files AS f ON f.directory_id = d.id
    LEFT JOIN replicas AS r ON r.file_id = f.id
    WHERE d.path > '/lhc/' AND d.path < '/lhc0' AND f.name GLOB '*.root' ORDER BY d.path, f.name"""
)


POSTGRESQL_RESOLVE = (
    _SELECT
    + """FROM json_array_elements(%s::json) AS j
    JOIN directories AS d ON d.path = j ->> 0
    JOIN files AS f ON f.directory_id = d.id AND f.name = j ->> 1
    LEFT JOIN replicas AS r ON r.file_id = f.id"""
)
POSTGRESQL_FIND = (
    _SELECT
    + """FROM directories AS d JOIN files AS f ON f.directory_id = d.id
    LEFT JOIN replicas AS r ON r.file_id = f.id
    WHERE d.path > '/lhc/' AND d.path < '/lhc0' AND f.name LIKE '%.root' ORDER BY d.path, f.name"""
)


BARE_STAT = (
    "SELECT d.path, f.name, f.size_bytes, f.adler32, f.guid, f.owner_id, f.group_id, f.mode, f.created_s, "
    "f.modified_s FROM files AS f JOIN directories AS d ON f.directory_id = d.id "
    "WHERE d.path = ? AND f.name = ?"
)
POSTGRESQL_STAT = BARE_STAT.replace("?", "%s")


class Bare(NamedTuple):
    """The same questions asked of the driver."""

    resolve: Callable[[str], list[Any]]
    find: Callable[[], Iterable[Any]]
    stat: Callable[[str, str], list[Any]]


def timed(call: Callable[[], Any]) -> float:
    gc.collect()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def open_bare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "cache_size=-65536",
        "mmap_size=1073741824",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}").close()
    return connection


def bare_load(path: Path, count: int) -> float:
    """Seconds to put the same rows into the same tables by `executemany`, in as many transactions."""
    connection = open_bare(path)
    for table in (principals, elements, directories, files, replicas):
        connection.execute(str(CreateTable(table).compile(dialect=sqlite.dialect())))
        for index in table.indexes:
            connection.execute(str(CreateIndex(index).compile(dialect=sqlite.dialect())))

    def load() -> None:
        for start in range(0, count, BATCH_FILES):
            numbers = range(start, min(count, start + BATCH_FILES))
            runs = range(numbers[0] // FILES_A_DIRECTORY, numbers[-1] // FILES_A_DIRECTORY + 1)
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT OR IGNORE INTO directories VALUES (?, ?, 0, 1, 1, 493, 1.5, 1.5)",
                ((run + 1, place(run * FILES_A_DIRECTORY)[0]) for run in runs),
            )
            connection.executemany(
                "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, 1, 1, 420, 1.5, 1.5, NULL)",
                (
                    (n + 1, n // FILES_A_DIRECTORY + 1, place(n)[1], n, n, n.to_bytes(16, "big"))
                    for n in numbers
                ),
            )
            connection.executemany(
                "INSERT INTO replicas VALUES (?, 1, NULL, 'available', NULL, NULL, NULL)",
                ((n + 1,) for n in numbers),
            )
            connection.execute("COMMIT")

    seconds = timed(load)
    connection.close()
    return seconds


def measure(catalogue: Catalogue, bare: Bare, count: int) -> dict[str, float]:
    resolves, finds, rates, firsts = [], [], [], []
    rng = random.Random(1)
    for _ in range(ROUNDS):
        names = [place(number) for number in rng.sample(range(count), min(count, NAMES_A_CALL))]
        lfns = [Lfn(f"{path}/{name}") for path, name in names]

        def bare_resolve(names: list[tuple[str, str]] = names) -> None:
            assert len(bare.resolve(json.dumps(names))) == len(names)

        def resolve(lfns: list[Lfn] = lfns) -> None:
            assert len(catalogue.resolve(lfns).ok) == len(lfns)

        resolve()  # the same pages are warm for both
        seconds = timed(resolve)
        resolves.append(timed(bare_resolve) / seconds)
        rates.append(len(lfns) / seconds)
        firsts.append(timed(lambda: next(catalogue.find(Lfn("/lhc"), "*.root"))))
    grown = 0.0
    for _ in range(2 if count <= 1_000_000 else 1):
        before = private_mib()
        began = time.perf_counter()
        grown = max(grown, _drained(catalogue.find(Lfn("/lhc"), "*.root"), count) - before)
        seconds = time.perf_counter() - began
        finds.append((timed(lambda: _drained(bare.find(), count)) / seconds, count / seconds))
    singles = [place(rng.randrange(count)) for _ in range(STATS)]
    names = [Lfn("/".join(pair)) for pair in singles]
    stats, bare_stats = timed_in_turns(
        STATS,
        lambda number: catalogue.stat([names[number]]).one(names[number]),
        lambda number: bare.stat(*singles[number]),
    )
    return {
        "resolve_ratio": statistics.median(resolves),
        "resolves_per_s": statistics.median(rates),
        "find_ratio": max(finds)[0],
        "find_rows_per_s": max(finds)[1],
        "find_memory": grown,
        "first_row": max(firsts) * 1e3,
        "stat_median": statistics.median(stats) * 1e6,
        "stat_ratio": statistics.median(bare_stats) / statistics.median(stats),
        "stats_per_s": STATS / sum(stats),
    }


def measure_list(catalogue: Catalogue, count: int) -> dict[str, float]:
    """The memory that listing one directory of ``count`` files takes."""
    for start in range(0, count, BATCH_FILES):
        numbers = range(start, min(count, start + BATCH_FILES))
        batch = (NewFile(Lfn(f"/flat/{number:09d}"), number, number) for number in numbers)
        assert not catalogue.register(batch).failed
    before = private_mib()
    return {"list_memory": _drained(catalogue.list(Lfn("/flat")), count) - before}


def timed_in_turns(count: int, *calls: Callable[[int], Any]) -> list[list[float]]:
    """The times (s) of each of ``calls``, which take turns with one number after the other."""
    took: list[list[float]] = [[] for _ in calls]
    for number in range(count):
        for call, times in zip(calls, took, strict=True):
            began = time.perf_counter()
            call(number)
            times.append(time.perf_counter() - began)
    return took


def _drained(rows: Iterable[Any], count: int) -> float:
    """Read all ``rows``; return the most memory seen meanwhile."""
    seen, most = 0, 0.0
    for seen, _ in enumerate(rows, 1):
        if not seen % LOOK_EVERY:
            most = max(most, private_mib())
    assert seen == count
    return max(most, private_mib())


def load(catalogue: Catalogue, count: int) -> None:
    for start in range(0, count, BATCH_FILES):
        batch = new_files(start, min(count, start + BATCH_FILES))
        assert not catalogue.register(batch).failed


def over_sqlite(count: int, place_dir: Path) -> dict[str, float]:
    bare_s = bare_load(place_dir / "bare.db", count)
    (place_dir / "bare.db").unlink()
    url = f"sqlite:///{place_dir}/vse.db"
    database = Database.open(url)
    catalogue = SqlCatalogue(database, time.time)
    load_s = timed(lambda: load(catalogue, count))
    found: dict[str, float] = {"load_ratio": bare_s / load_s, "loads_per_s": count / load_s}
    connection = open_bare(place_dir / "vse.db")
    bare = Bare(
        lambda names: connection.execute(BARE_RESOLVE, (names,)).fetchall(),
        lambda: connection.execute(BARE_FIND),
        lambda *pair: connection.execute(BARE_STAT, pair).fetchall(),
    )
    found |= measure(catalogue, bare, count)
    connection.close()
    found |= measure_list(catalogue, count // 10)
    found |= measure_http(url, count)
    database.close()
    return found


def over_postgresql(count: int) -> dict[str, float]:
    """Without what waits for a disk; bare is a cursor of psycopg on the server's side."""
    import psycopg

    programs = server_programs()
    if programs is None:
        return {}
    settings = ("shared_buffers=1GB", "max_wal_size=4GB", "synchronous_commit=off")
    with running_postgresql(programs, *settings) as server, fresh_database(server) as url:
        database = Database.open(url)
        catalogue = SqlCatalogue(database, time.time)
        found = {"loads_per_s": count / timed(lambda: load(catalogue, count))}
        plain = url.replace("+psycopg", "")
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")

        def bare_find() -> Iterator[Any]:
            with psycopg.connect(plain) as own, own.cursor(name="find") as cursor:
                cursor.itersize = 4096
                yield from cursor.execute(POSTGRESQL_FIND)

        with psycopg.connect(plain, autocommit=True) as connection:
            bare = Bare(
                lambda names: connection.execute(POSTGRESQL_RESOLVE, (names,)).fetchall(),
                bare_find,
                lambda *pair: connection.execute(POSTGRESQL_STAT, pair).fetchall(),
            )
            found |= measure(catalogue, bare, count)
        found |= measure_list(catalogue, count // 10)
        found |= measure_http(url, count)
        database.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000_000, help="files in the catalogue (default 10^7)")
    parser.add_argument("--quick", action="store_true", help="10^5 files: a look, not a measurement")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="measure one database")
    given = parser.parse_args()
    count = min(given.files, 100_000) if given.quick else given.files
    figures = []
    if given.only != "postgresql":
        with tempfile.TemporaryDirectory(prefix="vse-bench-") as place_dir:
            figures += shown("", over_sqlite(count, Path(place_dir)), judged=True)
    if given.only != "sqlite":
        figures += shown("postgresql_", over_postgresql(count), judged=False)
    print(json.dumps({"files": count, "figures": figures}))


def shown(prefix: str, found: dict[str, float], *, judged: bool) -> list[dict[str, Any]]:
    """The figures in their order; ``judged``: with their bars."""
    return [
        {
            "name": prefix + name,
            "value": round(found[name], 3),
            "unit": unit,
            "bar": bar if judged else None,
            "better": "lower" if unit in ("us", "ms", "MiB") else "higher",
        }
        for name, (unit, bar) in FIGURES.items()
        if name in found
    ]


if __name__ == "__main__":
    main()
