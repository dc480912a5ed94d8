"""What breaks around the daemons. Each fault is over when its function returns, however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from soak.daemons import Daemon
from soak.field import Field
from vse.errors import VseError
from vse.testing.postgresql import start_postgresql, stop_postgresql

Fault = Callable[[Field], None]


def kill(field: Field) -> None:
    """Kill -9 of a daemon, mostly one that works, at times wherever it is; another one starts at once."""
    victim = field.chance.choice(field.daemons)
    if field.chance.random() < 0.8:
        working = wait_for_work(field)
        victim = field.chance.choice(working) if working else victim
        time.sleep(field.chance.uniform(0.0, 1.2))
    field.kill(victim)
    field.start()


def wait_for_work(field: Field) -> list[Daemon]:
    """Return the daemons that move files, of which there is one soon."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        at_work = field.at_work()
        if working := [one for one in field.daemons if one.pid in at_work]:
            return working
        time.sleep(0.05)
    return []


def source_away(field: Field) -> None:
    """The source answers nobody."""
    field.source.away = True
    try:
        time.sleep(field.chance.uniform(0.5, 3.0))
    finally:
        field.source.away = False


def typo(field: Field) -> None:
    """Somebody saves vse.toml with a mistake in it, and mends it after a while."""
    wrong = field.chance.choice((field.settings.replace("slots = 8", "slotz = 8"), "this is no TOML [", ""))
    try:
        field.write_settings(wrong)
        time.sleep(field.chance.uniform(0.5, 2.5))
    finally:
        field.write_settings(field.settings)


def other_settings(field: Field) -> None:
    """The administrator changes the number of slots, and back."""
    try:
        field.write_settings(field.settings.replace("slots = 8", "slots = 3"))
        time.sleep(field.chance.uniform(0.5, 2.5))
    finally:
        field.write_settings(field.settings)


def vanish(field: Field) -> None:
    """A dataset vanishes from the catalogue and the source while its files are on their way."""
    with suppress(VseError):
        field.vanish()


def reader_hangs(field: Field) -> None:
    """A process that looks into files stands still, for longer than it may."""
    daemons = {one.pid for one in field.daemons}
    readers = [pid for pid in field.processes() if pid not in daemons]
    if readers:
        reader = field.chance.choice(readers)
        with suppress(ProcessLookupError):
            os.kill(reader, signal.SIGSTOP)
        time.sleep(field.site.settings.stager.verify_timeout_s * 1.5)
        with suppress(ProcessLookupError):
            os.kill(reader, signal.SIGCONT)


def disk_full(field: Field) -> None:
    """Somebody else fills the file system of the pool, and cleans up after a while."""
    ballast = field.root / "pool" / ".ballast"
    try:
        with suppress(OSError), ballast.open("wb") as file:
            while shutil.disk_usage(field.root / "pool").free > 0:
                file.write(bytes(100_000))
                file.flush()
        time.sleep(field.chance.uniform(0.5, 2.0))
    finally:
        ballast.unlink(missing_ok=True)


def database_away(field: Field) -> None:
    """The database answers nobody: locked for long (SQLite), or its server is down (PostgreSQL)."""
    url = field.site.settings.database.url
    away_s = field.chance.uniform(1.0, 8.0)
    if url.startswith("sqlite"):
        _lock(Path(url.removeprefix("sqlite:///")), away_s)
    else:
        _restart(url, away_s)


def _lock(path: Path, away_s: float) -> None:
    with suppress(sqlite3.OperationalError):
        connection = sqlite3.connect(path, timeout=5, isolation_level=None)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(away_s)
            connection.execute("ROLLBACK")
        finally:
            connection.close()


def _restart(url: str, away_s: float) -> None:
    stop_postgresql(url)
    try:
        time.sleep(away_s)
    finally:
        start_postgresql(url)


FAULTS: dict[Fault, int] = {
    kill: 10,
    source_away: 2,
    typo: 2,
    other_settings: 1,
    vanish: 3,
    reader_hangs: 2,
    disk_full: 2,
    database_away: 1,
}
"""Every fault, and how often it comes, relative to the others."""
