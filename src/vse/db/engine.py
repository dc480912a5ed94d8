"""The database: one engine a process, short transactions, no 'database is locked' for a user."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import event

from vse.db import schema
from vse.errors import DatabaseBusy, StorageFault, StorageFull, VseError

_BUSY_TIMEOUT_S = 60


class Database:
    """A connection pool over SQLite or PostgreSQL.

    Safe to share between threads, not between processes (open one after a fork). `read` sees one
    snapshot; `write` is one transaction that either commits whole or leaves nothing, and waits for
    its turn behind other writers instead of failing.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.dialect = engine.dialect.name

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database at a SQLAlchemy ``url`` and bring its schema up to date.

        ``sqlite:///path`` makes the file and its directory where they are missing. Raises
        `StorageFault` where it cannot be opened and `DatabaseBusy` where it stays locked.
        """
        parsed = sa.make_url(url)
        with _mapped(f"open the database {parsed.render_as_string(hide_password=True)}"):
            if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
                Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
            engine = sa.create_engine(parsed)
            if engine.dialect.name == "sqlite":
                _prepare_sqlite(engine)
            schema.ensure_current(engine)
        return cls(engine)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection that sees one snapshot of the database."""
        with _mapped("read the database"), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction: committed at the end of the block, rolled back if it raises."""
        with _mapped("write to the database"), self.engine.connect() as plain:
            connection = plain.execution_options(vse_write=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        self.engine.dispose()


def _prepare_sqlite(engine: sa.Engine) -> None:
    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where `_begin` says
        for pragma in (
            f"busy_timeout={_BUSY_TIMEOUT_S * 1000}",
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "cache_size=-65536",
            "mmap_size=1073741824",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A deferred transaction that turns to writing can fail at once; an immediate one waits.
        write = connection.get_execution_options().get("vse_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _mapped(wanted: str) -> Iterator[None]:
    """Turn the driver's exceptions into errors of the tree."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.DatabaseError) as error:
        raise _translated(wanted, error.orig or error) from error
    except sqlite3.OperationalError as error:
        raise _translated(wanted, error) from error
    except OSError as error:
        raise StorageFault(wanted, error.strerror or str(error)) from error


def _translated(wanted: str, error: BaseException) -> VseError:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "locked" in text or "busy" in text:
        return DatabaseBusy(wanted, f"it stayed locked for {_BUSY_TIMEOUT_S} s", "try again")
    if "disk is full" in text or "No space left" in text:
        return StorageFull(wanted, "the disk is full", "make room and try again")
    return StorageFault(wanted, text)
