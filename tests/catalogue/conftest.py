"""A catalogue in a fresh database, and a clock that is held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
