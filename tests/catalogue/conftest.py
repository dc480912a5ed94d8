"""A catalogue in a fresh database, and a clock that is held.

Where a PostgreSQL server (Debian's) and psycopg are installed, a test that asks for `postgresql` gets a
fresh database on a server of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.databases import ensure_sqlite
from vse.catalogue.port import Catalogue
from vse.catalogue.remote import RemoteCatalogue
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.doors.http.access import DoorAccess, ensure_token
from vse.doors.http.app import create_app
from vse.testing.door import running_door


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
    database = Database.open(ensure_sqlite(tmp_path / "vse.db"))
    yield database
    database.close()


@pytest.fixture
def catalogue(database: Database, clock: HeldClock) -> SqlCatalogue:
    return SqlCatalogue(database, clock)


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[Database]:
    database = Database.open(postgresql_url)
    yield database
    database.close()


class Front:
    """One running door that shows another application in each test."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def front() -> Iterator[tuple[Front, str]]:
    made = Front()
    with running_door(made) as url:
        yield made, url


@pytest.fixture
def remote_of(front: tuple[Front, str], tmp_path: Path) -> Iterator[Callable[[Catalogue], RemoteCatalogue]]:
    """Serve a catalogue through the door, and give a client of it."""
    token_file = tmp_path / "door.token"
    access = DoorAccess("token", "token", ensure_token(token_file))
    with ExitStack() as running:

        def served(catalogue: Catalogue) -> RemoteCatalogue:
            front[0].app = create_app(access, whole=catalogue)
            return running.enter_context(RemoteCatalogue(front[1], token_file, 30.0))

        yield served
