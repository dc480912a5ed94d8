"""The database: one engine a process, short transactions, no 'database is locked' for a user."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import event

from vse.db import schema
from vse.db.locks import Lock
from vse.db.prepared import driver_of
from vse.db.sqlite_file import SqliteFile
from vse.errors import BadSettings, DatabaseBusy, Denied, StorageFault, StorageFull, VseError
from vse.model.identity import user_name

_BUSY_TIMEOUT_S = 60
_NO_FILE = (None, "", ":memory:")

# Who asked a server that went away is told; that giving the dead connection back fails as well is no news.
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


class Database:
    """A connection pool over SQLite or PostgreSQL.

    Safe to share between threads, not between processes (open one after a fork). `read` sees one
    snapshot; `write` is one transaction that either commits whole or leaves nothing, and waits for
    its turn behind other writers instead of failing.
    """

    def __init__(self, engine: sa.Engine, file: SqliteFile | None = None) -> None:
        self.engine = engine
        self.dialect = engine.dialect.name
        # Each statement would else have a snapshot of its own. SQLite knows no other way.
        sqlite = self.dialect == "sqlite"
        self._snapshots = engine if sqlite else engine.execution_options(isolation_level="REPEATABLE READ")
        self._file = file
        self._still = file if file is not None and file.still is not None else None
        self._threads = threading.local()
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database at a SQLAlchemy ``url`` and bring its schema up to date.

        ``sqlite:///path`` makes the file and its directory where they are missing. Whoever may not write
        that file reads it as it is (see `read_only`). Raises `StorageFault` where it cannot be opened,
        `DatabaseBusy` where it stays locked, `Denied` where its schema is old and it cannot be written,
        and `BadSettings` for a database in memory, which threads could not share.
        """
        wanted, parsed = _parsed(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        if sqlite and parsed.database in _NO_FILE:
            raise BadSettings(wanted, "it has no file", "write it as 'sqlite:///path/of/vse.db'")
        file: SqliteFile | None = None
        try:
            if sqlite:
                path = Path(str(parsed.database))
                path.parent.mkdir(parents=True, exist_ok=True)
                file = SqliteFile.at(path)
            engine = sa.create_engine(parsed, **(file.arguments() if file else {}))
        except (OSError, ImportError, sa.exc.ArgumentError) as error:
            raise StorageFault(wanted, getattr(error, "strerror", None) or str(error)) from error
        if sqlite:
            _prepare_sqlite(engine, read_only=file is not None and file.read_only)
        else:
            _pass_over_dead_connections(engine)
        database = cls(engine, file)
        try:
            with database.mapped(wanted):
                if database.read_only:
                    _ensure_readable_schema(engine, wanted)
                else:
                    schema.ensure_current(engine)
        except VseError:
            engine.dispose()
            raise
        return database

    @property
    def read_only(self) -> bool:
        """Whether this process may only read it: `write` raises `Denied` then."""
        return self._file is not None and self._file.read_only

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection that sees one snapshot of the database."""
        with self.mapped("read the database"), self._snapshots.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction: committed at the end of the block, rolled back if it raises."""
        if self._file is not None:
            self._file.ensure_writable("write to the database")
        with self.mapped("write to the database"), self.engine.connect() as plain:
            connection = plain.execution_options(vse_write=True)
            with connection.begin():
                yield connection

    @contextmanager
    def write_names(self) -> Iterator[Any]:
        """As `write`, for the catalogue: one writer at a time; yields the driver's own connection.

        That no name is both a file and a directory is a rule over two tables, which no constraint
        can hold; writers that take turns can. On SQLite every transaction does anyway.
        """
        with self.write() as connection:
            if self.dialect == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(Lock.WRITE_NAMES)))
            yield driver_of(connection)

    def reader(self) -> Any:
        """Return this thread's own connection (a cursor of it); each statement on it sees the last commit.

        For `vse.db.prepared` statements that only read, and are read to their end at once: nothing
        is held between calls. Run them inside `mapped`. One whose server has gone away is replaced.
        """
        try:
            if not self._threads.reader.is_gone():
                return self._threads.reader.driver
        except AttributeError:
            pass  # this thread's first
        reader = self._threads.reader = _Reader(self.engine)
        self._readers.add(reader)
        return reader.driver

    @contextmanager
    def mapped(self, wanted: str) -> Iterator[None]:
        """Turn the driver's exceptions into errors of the tree."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            self._ensure_unchanged(wanted)
            raise _translated(wanted, error.orig or error) from error
        except self.engine.dialect.loaded_dbapi.Error as error:
            self._ensure_unchanged(wanted)
            raise _translated(wanted, error) from error
        except sa.exc.TimeoutError as error:
            found = "all connections of this process are in use, and stayed so"
            raise DatabaseBusy(wanted, found, "try again; if it stays so, use fewer slots") from error
        self._ensure_unchanged(wanted)

    def _ensure_unchanged(self, wanted: str) -> None:
        if self._still is not None:
            self._still.ensure_unchanged(wanted)

    def close(self) -> None:
        """Close every connection. The database may be used again; it then connects anew."""
        for reader in list(self._readers):
            reader.close()
        self._threads = threading.local()
        self.engine.dispose()


class _Reader:
    """One thread's connection outside the pool; closed with the thread."""

    def __init__(self, engine: sa.Engine) -> None:
        fairy = engine.raw_connection()
        driver: Any = fairy.driver_connection
        fairy.detach()
        self._fairy = fairy
        self._line: _Line | None = None
        if engine.dialect.name == "postgresql":
            driver.autocommit = True
            # A cursor for each statement, and numbers as text, cost a third of a look-up's time.
            self._line = _Line(driver)
            driver = driver.cursor(binary=True)
        self.driver = driver

    def is_gone(self) -> bool:
        """Whether the server has hung up."""
        return self._line is not None and self._line.is_dead()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._fairy.close()

    def __del__(self) -> None:
        self.close()


class _Line:
    """An idle connection to a server. One that was closed, or has something to say unasked, has ended."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._poll = select.poll()
        self._poll.register(driver.fileno(), select.POLLIN)

    def is_dead(self) -> bool:
        """Costs a microsecond: nothing is sent."""
        return bool(self._driver.closed or self._poll.poll(0))


def _pass_over_dead_connections(engine: sa.Engine) -> None:
    """Let nobody who was idle notice that the server was restarted meanwhile."""

    @event.listens_for(engine, "checkout")
    def _look(connection: Any, record: Any, _proxy: Any) -> None:
        line = record.info.get(_Line)
        if line is None:
            record.info[_Line] = _Line(connection)
        elif line.is_dead():
            raise sa.exc.DisconnectionError("the server has hung up")  # another one is opened


def _parsed(url: str) -> tuple[str, sa.URL]:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise BadSettings(
            f"open the database {url!r}",
            "it is not a database URL",
            "write it as 'sqlite:///path/of/vse.db' or 'postgresql+psycopg://user@host/name'",
        ) from error
    return f"open the database {parsed.render_as_string(hide_password=True)}", parsed


def _ensure_readable_schema(engine: sa.Engine, wanted: str) -> None:
    found = schema.current_revision(engine)
    if found != schema.HEAD:
        raise Denied(
            wanted,
            f"it is of version {found or 'none'}, this program wants {schema.HEAD}, and you may only read it",
            "let somebody who may write it run any command of vse, such as vse doctor",
        )


def _prepare_sqlite(engine: sa.Engine, *, read_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where `_begin` says
        connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_S * 1000}").close()
        # Only a change of mode needs the file for itself, and fails at once where it is in use.
        if not read_only and connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            connection.execute("PRAGMA journal_mode=WAL").close()
        for pragma in (
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


_SQLITE_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_SQLITE_UNSOUND = ("SQLITE_NOTADB", "SQLITE_CORRUPT")
_SQLITE_FULL = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")
_POSTGRESQL_BUSY = ("40001", "40P01", "55P03")
_POSTGRESQL_FULL = ("53100",)
_POSTGRESQL_AWAY = ("08", "57P")
"""How the codes of a connection that broke, and of a server that ends or starts, begin."""


def _translated(wanted: str, error: BaseException) -> VseError:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, sqlite3.Error):
        code = str(getattr(error, "sqlite_errorname", ""))
        busy, full = code.startswith(_SQLITE_BUSY), code.startswith(_SQLITE_FULL)
        if code.startswith("SQLITE_READONLY"):
            todo = "let its file and directory be writable for those who are to use it, also to read"
            return StorageFault(wanted, text, todo)
        if code.startswith(_SQLITE_UNSOUND):
            todo = "see that database.url names the right file; else put a backup of it in its place"
            return StorageFault(wanted, text, todo)
        if code.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM")):
            todo = f"let {user_name(os.geteuid())} read it and its directory, or choose another database.url"
            return StorageFault(wanted, text, todo)
    else:
        state = getattr(error, "sqlstate", None)
        busy, full = state in _POSTGRESQL_BUSY, state in _POSTGRESQL_FULL
        unanswered = state is None and type(error).__name__ == "OperationalError"  # none came from a server
        if unanswered or str(state).startswith(_POSTGRESQL_AWAY):
            return StorageFault(wanted, text, "see that its server runs, and that database.url leads to it")
    if busy:
        return DatabaseBusy(wanted, f"it stayed locked for {_BUSY_TIMEOUT_S} s", "try again")
    if full:
        return StorageFull(wanted, "the disk is full", "make room and try again")
    return StorageFault(wanted, text)
