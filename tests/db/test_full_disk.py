"""A disk that is full in the middle of a migration: said so, the old state whole, and on it goes later."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from vse.db import Database, schema
from vse.errors import StorageFull

SIZE_BYTES = 4 * 1024 * 1024
PAGE_BYTES = 4096


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of `SIZE_BYTES` of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "small"
    place.mkdir()
    options = f"size={SIZE_BYTES}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "vse-test", place], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)  # a test that failed may hold a file open


def make_old(path: Path) -> None:
    """A database of the first schema, with a row in it, in the mode that ours are."""
    engine = sa.create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO principals (id, name) VALUES (7, 'alice')")
    engine.dispose()


def fill_up(place: Path, left_bytes: int) -> Path:
    """Leave ``left_bytes`` free; return the file that takes the rest."""
    filler = place / "filler"
    free = os.statvfs(place)
    with filler.open("wb") as file:
        file.write(b"x" * (free.f_bavail * free.f_frsize - left_bytes))
    return filler


def state(path: Path) -> tuple[str, list[tuple[object, ...]], set[str]]:
    """Revision, rows, and tables, as SQLite itself has them."""
    import sqlite3

    with closing(sqlite3.connect(path)) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = {row[0] for row in plain.execute("SELECT name FROM sqlite_master")}
        revision = plain.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        return revision, plain.execute("SELECT id, name FROM principals").fetchall(), tables


@pytest.mark.parametrize("left_bytes", [0, 12 * PAGE_BYTES, 40 * PAGE_BYTES])
def test_a_migration_that_does_not_fit_changes_nothing(small: Path, left_bytes: int) -> None:
    path = small / "vse.db"
    make_old(path)
    before = state(path)
    assert before[0] == "0001"
    filler = fill_up(small, left_bytes)
    with pytest.raises(StorageFull, match="the disk is full") as raised:
        Database.open(f"sqlite:///{path}")
    assert raised.value.retryable
    assert "open the database" in str(raised.value)
    filler.unlink()
    assert state(path) == before
    database = Database.open(f"sqlite:///{path}")
    assert schema.current_revision(database.engine) == schema.HEAD
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT name FROM principals").scalar() == "alice"
    database.close()
