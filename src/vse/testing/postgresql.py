"""A PostgreSQL server (Debian's) of one's own, without a port: for tests and benchmarks."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa


def server_programs() -> Path | None:
    """Return the directory of the newest server that is installed, None where there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return programs[-1] if programs else None


@contextmanager
def running_postgresql(programs: Path, *settings: str) -> Iterator[str]:
    """Start a server on a socket of its own; give the URL of its first database.

    ``settings`` are ``name=value``. It keeps nothing safe from a crash (fsync is off).
    """
    place = Path(tempfile.mkdtemp(prefix="vse-pg-"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(place, "postgres", "postgres")
        user = {"user": "postgres"}
    given = " ".join(f"-c {setting}" for setting in ("listen_addresses=", "fsync=off", *settings))
    control: list[Any] = [programs / "pg_ctl", "-D", place / "data", "-w", "-l", place / "log"]
    initialise: list[Any] = [
        programs / "initdb",
        "-D",
        place / "data",
        "-A",
        "trust",
        "-U",
        "vse",
        "-E",
        "UTF8",
    ]
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/", **user}
    try:
        subprocess.run(initialise, **quiet)
        subprocess.run([*control, "-o", f"-k {place} {given}", "start"], **quiet)
        try:
            yield f"postgresql+psycopg://vse@/postgres?host={place}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
    finally:
        shutil.rmtree(place)


@contextmanager
def fresh_database(server_url: str, copy_of: str | None = None) -> Iterator[str]:
    """Make a database on a server; give its URL, and drop it at the end.

    ``copy_of`` is the URL of another one on it, to which nobody is connected: what it holds.
    """
    template = sa.make_url(copy_of).database if copy_of else "template1"
    name = f"t{uuid.uuid4().hex}"
    # Connected anew each time: the server may have been restarted in between.
    server = sa.create_engine(server_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield server_url.replace("/postgres?", f"/{name}?")
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        server.dispose()
