"""Both databases, for what must hold on either: fixtures to be imported by a conftest.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vse.testing.postgresql import fresh_database, running_postgresql, server_programs


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Start a server on a socket of its own; yield the URL of its first database."""
    pytest.importorskip("psycopg", reason="the extra 'postgresql' is not installed")
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed")
    with running_postgresql(programs) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh database, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/vse.db"
        return
    with fresh_database(request.getfixturevalue("postgresql_server")) as url:
        yield url
