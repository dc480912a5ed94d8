"""How much of bare SQLite's speed the catalogue keeps; prints one JSON object.

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.db.tables import directories, elements, files, principals, replicas
from vse.model import Lfn, NewFile

FILES_A_DIRECTORY = 100
BATCH_FILES = 50_000
ROUNDS = 5
NAMES_A_CALL = 10_000
STATS = 5_000
FIGURES = {
    "resolve_ratio": ("of bare SQLite", 0.3),
    "find_ratio": ("of bare SQLite", 0.2),
    "stats_per_s": ("/s", 20_000),
    "stat_median": ("us", None),
    "resolves_per_s": ("/s", None),
    "find_rows_per_s": ("/s", None),
    "load_ratio": ("of bare SQLite", None),
    "loads_per_s": ("/s", None),
}
"""What is printed: name, unit, and the least that will do."""

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


def place(number: int) -> tuple[str, str]:
    run, event = divmod(number, FILES_A_DIRECTORY)
    return f"/lhc/data/2013/run{run:06d}", f"events_{event:05d}.root"


def new_files(start: int, end: int) -> Iterator[NewFile]:
    for number in range(start, end):
        path, name = place(number)
        yield NewFile(Lfn(f"{path}/{name}"), number, number, "TORINO", guid=number.to_bytes(16, "big"))


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


def measure(catalogue: SqlCatalogue, bare: sqlite3.Connection, count: int) -> dict[str, float]:
    resolves, finds, rates = [], [], []
    rng = random.Random(1)
    for _ in range(ROUNDS):
        names = [place(number) for number in rng.sample(range(count), min(count, NAMES_A_CALL))]
        lfns = [Lfn(f"{path}/{name}") for path, name in names]

        def bare_resolve(names: list[tuple[str, str]] = names) -> None:
            assert len(bare.execute(BARE_RESOLVE, (json.dumps(names),)).fetchall()) == len(names)

        def resolve(lfns: list[Lfn] = lfns) -> None:
            assert len(catalogue.resolve(lfns).ok) == len(lfns)

        resolve()  # the same pages are warm for both
        seconds = timed(resolve)
        resolves.append(timed(bare_resolve) / seconds)
        rates.append(len(lfns) / seconds)
    for _ in range(2):
        seconds = timed(lambda: _drained(catalogue.find(Lfn("/lhc"), "*.root"), count))
        finds.append((timed(lambda: _drained(bare.execute(BARE_FIND), count)) / seconds, count / seconds))
    singles = [Lfn("/".join(place(rng.randrange(count)))) for _ in range(STATS)]
    took = [timed_once(catalogue, lfn) for lfn in singles]
    return {
        "resolve_ratio": statistics.median(resolves),
        "resolves_per_s": statistics.median(rates),
        "find_ratio": max(finds)[0],
        "find_rows_per_s": max(finds)[1],
        "stat_median": statistics.median(took) * 1e6,
        "stats_per_s": len(took) / sum(took),
    }


def timed_once(catalogue: SqlCatalogue, lfn: Lfn) -> float:
    began = time.perf_counter()
    catalogue.stat([lfn]).one(lfn)
    return time.perf_counter() - began


def _drained(rows: Iterator[Any], count: int) -> None:
    assert sum(1 for _ in rows) == count


def run(count: int, place_dir: Path) -> dict[str, float]:
    bare_s = bare_load(place_dir / "bare.db", count)
    database = Database.open(f"sqlite:///{place_dir}/vse.db")
    catalogue = SqlCatalogue(database, time.time)

    def load() -> None:
        for start in range(0, count, BATCH_FILES):
            batch = new_files(start, min(count, start + BATCH_FILES))
            assert not catalogue.register(batch).failed

    load_s = timed(load)
    found: dict[str, float] = {"load_ratio": bare_s / load_s, "loads_per_s": count / load_s}
    bare = open_bare(place_dir / "vse.db")
    found.update(measure(catalogue, bare, count))
    bare.close()
    database.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000, help="files in the catalogue (default 10^6)")
    parser.add_argument("--quick", action="store_true", help="10^5 files: a look, not a measurement")
    given = parser.parse_args()
    count = min(given.files, 100_000) if given.quick else given.files
    with tempfile.TemporaryDirectory(prefix="vse-bench-") as place_dir:
        found = run(count, Path(place_dir))
    figures = [
        {"name": name, "value": round(found[name], 3), "unit": unit, "bar": bar, "better": better(unit)}
        for name, (unit, bar) in FIGURES.items()
    ]
    print(json.dumps({"files": count, "figures": figures}))


def better(unit: str) -> str:
    return "lower" if unit == "us" else "higher"


if __name__ == "__main__":
    main()
