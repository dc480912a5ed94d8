"""Rows of the SQL catalogue to values of the model, fast: ten million go through a listing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
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
_se = itemgetter(1)
by_name = itemgetter(1, 2)
"""The key by which rows of files stand in the order of their names."""


def split(lfn: str) -> Pair:
    """Return the `Pair` of ``lfn``; the root's last part is empty."""
    path, _, name = lfn.rpartition("/")
    return path or "/", name


def join(path: str, name: str) -> str:
    """Return the name that `split` took apart."""
    return f"{path}/{name}" if path != "/" else f"/{name}"


class _Names(dict[int, str]):
    """Names by id; one not known yet is loaded when it is asked for."""

    def __init__(self, load: Callable[[], None]) -> None:
        super().__init__()
        self._load = load

    def __missing__(self, which: int) -> str:
        self._load()
        if which not in self:
            raise KeyError(which)
        return self[which]


class Interned:
    """The ids of one table of names, kept in memory. Its rows are never removed or changed."""

    def __init__(self, database: Database, statements: Statements, table: sa.Table) -> None:
        self._database = database
        self._all = statements.names_of(table)
        self._add = statements.add_name(table)
        self._ids: dict[str, int] = {}
        self.names = _Names(self._load)
        """The names by their ids, as they stand in other tables."""
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
        return self.names[which]

    def _load(self) -> None:
        with self._database.mapped("read the catalogue"):
            rows = self._all.rows(self._database.reader())
        with self._lock:
            self._ids.update((name, which) for which, name in rows)
            self.names.update(rows)


class Rows:
    """Makes values of rows; see `vse.catalogue.sql_statements` for their columns."""

    def __init__(self, database: Database, statements: Statements) -> None:
        self.principals = Interned(database, statements, principals)
        self.elements = Interned(database, statements, elements)
        self.upstreams = Interned(database, statements, upstreams)

    def file(self, row: Row) -> Entry:
        lfn = Lfn(join(row[1], row[2]))
        people = self.principals.names
        owner, group = people[row[6]], people[row[7]]
        return Entry._make((lfn, "file", row[3], row[4], row[5], owner, group, row[8], row[9], row[10], None))

    def directory(self, row: Row) -> Entry:
        _, path, owner_id, group_id, mode, created_s, modified_s = row
        owner, group = self.principals.name(owner_id), self.principals.name(group_id)
        return Entry(Lfn(path), "directory", None, None, None, owner, group, mode, created_s, modified_s)

    def special(self, row: Row) -> Entry:
        _, path, name, kind, target, owner_id, group_id, mode, created_s, modified_s = row
        owner, group = self.principals.name(owner_id), self.principals.name(group_id)
        lfn = Lfn(join(path, name))
        return Entry(lfn, kind, None, None, None, owner, group, mode, created_s, modified_s, target)

    def located(self, rows: Iterable[Row]) -> Iterator[tuple[Located, float | None]]:
        """Yield each file of located rows with the time until which it is fresh (None: our own).

        One flat loop that makes its tuples directly: it decides how fast finding and resolving are.
        """
        people, places, upstreams = self.principals.names, self.elements.names, self.upstreams.names
        make, states, none = tuple.__new__, _STATES, ()
        last = 0
        entry: Entry | None = None
        copies: tuple[Replica, ...] = none
        inside: Contents | None = None
        until: float | None = None
        for row in rows:
            which, path, name, size, adler32, guid, owner, group, mode, made, changed, fresh = row[:12]
            element, url, state, read, upstream, tree, entries = row[12:]
            if which != last:
                if last:
                    yield make(Located, (entry, copies, inside)), until
                last, until = which, fresh
                lfn = Lfn(f"{path}/{name}" if path != "/" else f"/{name}")
                known = (people[owner], people[group], mode, made, changed, None)
                entry = make(Entry, (lfn, "file", size, adler32, guid, *known))
                copies = none
                inside = None if tree is None else Contents(tree, entries)
            if element is not None:
                origin = "" if upstream is None else upstreams[upstream]
                copy = make(Replica, (lfn, places[element], url, states[state], read, origin))
                copies = tuple(sorted((*copies, copy), key=_se)) if copies else (copy,)
        if last:
            yield make(Located, (entry, copies, inside)), until
