"""A catalogue in a fresh database, and a clock that is held.

Where a PostgreSQL server (Debian's) and psycopg are installed, a test that asks for `postgresql` gets a
fresh database on a server of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from vse.catalogue.sql import SqlCatalogue
from vse.db import Database


class HeldClock:
    """Stands still until it is told to move."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock(1_700_000_000.0)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path}/vse.db")
    yield database
    database.close()


@pytest.fixture
def catalogue(database: Database, clock: HeldClock) -> SqlCatalogue:
    return SqlCatalogue(database, clock)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Start a server on a socket of its own; yield the URL of its first database."""
    pytest.importorskip("psycopg", reason="the extra 'postgresql' is not installed")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("no PostgreSQL server is installed")
    place = Path(tempfile.mkdtemp(prefix="vse-pg-"))
    user = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(place, "postgres", "postgres")
        user = {"user": "postgres"}
    options = f"-k {place} -c listen_addresses= -c fsync=off"
    control = [programs[-1] / "pg_ctl", "-D", place / "data", "-w", "-l", place / "log"]
    initialise = [programs[-1] / "initdb", "-D", place / "data", "-A", "trust", "-U", "vse", "-E", "UTF8"]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/", **user}
    subprocess.run([*initialise, "--locale=C.UTF-8"], **quiet)
    subprocess.run([*control, "-o", options, "start"], **quiet)
    yield f"postgresql+psycopg://vse@/postgres?host={place}"
    subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(place)


@pytest.fixture
def postgresql(postgresql_server: str) -> Iterator[Database]:
    name = f"t{uuid.uuid4().hex}"
    server = sa.create_engine(postgresql_server, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    database = Database.open(postgresql_server.replace("/postgres?", f"/{name}?"))
    yield database
    database.close()
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()
