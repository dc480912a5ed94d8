"""Rows of the SQL catalogue to values of the model, fast: ten million go through a listing."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

import sqlalchemy as sa

from vse.catalogue.sql_statements import Statements
from vse.db import Database
from vse.db.prepared import Row
from vse.db.tables import elements, principals, upstreams
from vse.model import Contents, Entry, Lfn, Located, Replica, ReplicaState

Pair = tuple[str, str]
"""A name as the tables hold it: its directory's path, and its last part."""

_STATES = {str(state): state for state in ReplicaState}
_file_id = itemgetter(0)


def split(lfn: str) -> Pair:
    """Return the `Pair` of ``lfn``; the root's last part is empty."""
    path, _, name = lfn.rpartition("/")
    return path or "/", name


def join(path: str, name: str) -> str:
    """Return the name that `split` took apart."""
    return f"{path}/{name}" if path != "/" else f"/{name}"


class Interned:
    """The ids of one table of names, kept in memory. Its rows are never removed or changed."""

    def __init__(self, database: Database, statements: Statements, table: sa.Table) -> None:
        self._database = database
        self._all = statements.names_of(table)
        self._add = statements.add_name(table)
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._lock = threading.Lock()

    def ids(self, names: Iterable[str]) -> dict[str, int]:
        """Return the ids of ``names`` (perhaps of more), adding those not there.

        Called outside of any transaction: a name remembered here is always committed.
        """
        missing = [name for name in dict.fromkeys(names) if name not in self._ids]
        if missing:
            self._load()
            missing = [name for name in missing if name not in self._ids]
        if missing:
            with self._database.write_names() as driver:
                self._add.many(driver, [(name,) for name in missing])
            self._load()
        return self._ids

    def known(self, name: str) -> int | None:
        """Return the id of ``name``, or None where there is none; adds nothing."""
        if name not in self._ids:
            self._load()
        return self._ids.get(name)

    def name(self, which: int) -> str:
        """Return the name with id ``which``, as it stands in another table."""
        try:
            return self._names[which]
        except KeyError:
            self._load()
            return self._names[which]

    def _load(self) -> None:
        with self._database.mapped("read the catalogue"):
            rows = self._all.rows(self._database.reader())
        with self._lock:
            self._ids.update((name, which) for which, name in rows)
            self._names.update(rows)


class Rows:
    """Makes values of rows; see `vse.catalogue.sql_statements` for their columns."""

    def __init__(self, database: Database, statements: Statements) -> None:
        self.principals = Interned(database, statements, principals)
        self.elements = Interned(database, statements, elements)
        self.upstreams = Interned(database, statements, upstreams)

    def file(self, row: Row) -> Entry:
        lfn = Lfn(join(row[1], row[2]))
        owner, group = self.principals.name(row[6]), self.principals.name(row[7])
        return Entry._make((lfn, "file", row[3], row[4], row[5], owner, group, row[8], row[9], row[10]))

    def directory(self, row: Row) -> Entry:
        _, path, owner_id, group_id, mode, created_s, modified_s = row
        owner, group = self.principals.name(owner_id), self.principals.name(group_id)
        return Entry(Lfn(path), "directory", None, None, None, owner, group, mode, created_s, modified_s)

    def located(self, rows: Iterable[Row]) -> Iterator[tuple[Located, float | None]]:
        """Yield each file of located rows with the time until which it is fresh (None: our own)."""
        for _, group in groupby(rows, _file_id):
            row = next(group)
            entry = self.file(row)
            if row[12] is None:
                copies: tuple[Replica, ...] = ()
            else:
                copies = (self._replica(entry.lfn, row),)
                for other in group:
                    copies = (*copies, self._replica(entry.lfn, other))
                if len(copies) > 1:
                    copies = tuple(sorted(copies, key=itemgetter(1)))
            inside = None if row[17] is None else Contents(row[17], row[18])
            yield Located._make((entry, copies, inside)), row[11]

    def _replica(self, lfn: Lfn, row: Row) -> Replica:
        _, se, url, state, accessed_s, upstream = row[11:17]
        origin = "" if upstream is None else self.upstreams.name(upstream)
        return Replica._make((lfn, self.elements.name(se), url, _STATES[state], accessed_s, origin))
