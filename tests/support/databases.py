"""Both databases, for what must hold on either: a plugin of every test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from vse.db import Database
from vse.testing.postgresql import fresh_database, running_postgresql, server_programs


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        Database.open(f"sqlite:///{place}/vse.db").close()
        return Path(place, "vse.db").read_bytes()


def ensure_sqlite(path: Path) -> str:
    """Return the URL of a SQLite database; one that is made here needs no migration any more.

    The migrations take thirty times as long as writing what came of them.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_migrated())
    return f"sqlite:///{path}"


def _server() -> Iterator[str]:
    pytest.importorskip("psycopg", reason="the extra 'postgresql' is not installed")
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed")
    with running_postgresql(programs) as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Start a server on a socket of its own; yield the URL of its first database."""
    yield from _server()


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[str]:
    """The URL of a database on a server of the module's own: its tests may stop that, and start it again."""
    yield from _server()


@pytest.fixture(scope="session")
def _migrated_postgresql(postgresql_server: str) -> Iterator[str]:
    with fresh_database(postgresql_server) as url:
        Database.open(url).close()
        yield url


@pytest.fixture
def postgresql_url(postgresql_server: str, _migrated_postgresql: str) -> Iterator[str]:
    """The URL of a fresh, migrated database on a server."""
    with fresh_database(postgresql_server, _migrated_postgresql) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database, once of each kind."""
    if request.param == "sqlite":
        return ensure_sqlite(tmp_path / "vse.db")
    return str(request.getfixturevalue("postgresql_url"))
