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

import sqlalchemy as sa


def server_programs() -> Path | None:
    """Return the directory of the newest server that is installed, None where there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return programs[-1] if programs else None


@contextmanager
def running_postgresql(programs: Path, *settings: str) -> Iterator[str]:
    """Start a server on a socket of its own; give the URL of its first database.

    ``settings`` are ``name=value``. It keeps nothing safe from a crash of the machine (fsync is off).
    """
    place = Path(tempfile.mkdtemp(prefix="vse-pg-"))
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(place, "postgres", "postgres")
    url = f"postgresql+psycopg://vse@/postgres?host={place}"
    data = place / "data"
    try:
        _run(programs / "initdb", "-D", data, "-A", "trust", "-U", "vse", "-E", "UTF8")
        with (data / "postgresql.conf").open("a") as file:
            for setting in (f"unix_socket_directories={place}", "listen_addresses=", "fsync=off", *settings):
                name, _, value = setting.partition("=")
                file.write(f"{name} = '{value}'\n")
        start_postgresql(url, programs)
        try:
            yield url
        finally:
            if (data / "postmaster.pid").exists():
                stop_postgresql(url, programs)
    finally:
        shutil.rmtree(place)


def start_postgresql(url: str, programs: Path | None = None) -> None:
    """Start the server of `running_postgresql` again; it answers when this returns."""
    _control(url, programs, "start")


def stop_postgresql(url: str, programs: Path | None = None, *, mode: str = "immediate") -> None:
    """Stop the server of `running_postgresql`: as if it crashed, or ``mode="fast"`` as for a restart."""
    _control(url, programs, "-m", mode, "stop")


def _control(url: str, programs: Path | None, *words: str) -> None:
    programs = programs or server_programs()
    assert programs is not None  # it was started by them
    place = Path(str(sa.make_url(url).query["host"]))
    _run(programs / "pg_ctl", "-D", place / "data", "-w", "-l", place / "log", *words)


def _run(*words: str | Path) -> None:
    user = "postgres" if os.geteuid() == 0 else None
    subprocess.run([*map(str, words)], check=True, stdout=subprocess.DEVNULL, cwd="/", user=user)


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
