"""The rows that few names have beside their own: checksums, origins of copies, access lists, tags.

An object is a kind ('f' file, 'd' directory, 's' special name) with an id, as in `vse.db.tables_names`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from vse.catalogue.sql_rows import Rows
from vse.catalogue.statement_base import StatementBase
from vse.db.prepared import Prepared, Row, as_json, bound_values
from vse.db.tables_names import access_entries, checksums, replica_sources, tags
from vse.model import AccessEntry, Checksum, Origin

Object = tuple[str, int]
FILE, DIRECTORY, SPECIAL = "f", "d", "s"


class Beside:
    """Works inside the caller's transaction or on a reader; principals and elements must be interned."""

    def __init__(self, statements: StatementBase, rows: Rows) -> None:
        self._statements = statements
        self._rows = rows

    # -- removing ---------------------------------------------------------------------------------

    def remove(self, driver: Any, objects: Sequence[Object]) -> None:
        """Remove what no foreign key takes away with the objects."""
        self._remove_access.many(driver, objects)
        self._remove_tags.many(driver, objects)

    def clear_new(self, driver: Any, kind: str, next_id: int) -> None:
        """Before ids from ``next_id`` on are given out: nothing may be left of objects that had them."""
        self._clear_access.run(driver, kind, next_id)
        self._clear_tags.run(driver, kind, next_id)

    # -- access lists -----------------------------------------------------------------------------

    def access(
        self, driver: Any, objects: Iterable[Object]
    ) -> dict[Object, tuple[tuple[AccessEntry, ...], tuple[AccessEntry, ...]]]:
        """Return the access list and the default list of those ``objects`` that have one."""
        lists: dict[Object, tuple[list[AccessEntry], list[AccessEntry]]] = {}
        for kind, which, inherited, whom, principal, permissions in self._access.rows(
            driver, as_json(objects)
        ):
            name = self._rows.principals.name(principal) if principal else ""
            both = lists.setdefault((kind, which), ([], []))
            both[bool(inherited)].append(AccessEntry(_WHOM[whom], name, permissions))
        return {key: (_ordered(own), _ordered(defaults)) for key, (own, defaults) in lists.items()}

    def put_access(
        self, driver: Any, which: Object, entries: Iterable[AccessEntry], *, inherited: bool
    ) -> None:
        """Replace one list of an object."""
        self._drop_access.run(driver, *which, inherited)
        ids = self._rows.principals.ids(())
        rows = [
            (*which, inherited, one.whom[0], ids[one.name] if one.name else 0, one.permissions)
            for one in entries
        ]
        self._add_access.many(driver, rows)

    def inherited(self, driver: Any, directories: Iterable[int]) -> dict[int, list[Row]]:
        """Return the default entries of those directories that have any: (whom, principal, permissions)."""
        found: dict[int, list[Row]] = {}
        for which, *entry in self._defaults.rows(driver, as_json(directories)):
            found.setdefault(which, []).append(tuple(entry))
        return found

    def inherit(self, driver: Any, made: Iterable[tuple[str, int, Sequence[Row]]]) -> None:
        """Give new objects the default entries of their directory; directories hand them on."""
        rows = [
            (kind, which, inherited, *entry)
            for kind, which, entries in made
            for inherited in ((False, True) if kind == DIRECTORY else (False,))
            for entry in entries
        ]
        self._add_access.many(driver, rows)

    # -- checksums and origins --------------------------------------------------------------------

    def checksums(self, driver: Any, files: Iterable[int]) -> dict[int, dict[str, str]]:
        """Return the values by algorithm of those files that have any beside adler32."""
        found: dict[int, dict[str, str]] = {}
        for which, algorithm, value in self._checksums.rows(driver, as_json(files)):
            found.setdefault(which, {})[algorithm] = value
        return found

    def add_checksums(self, driver: Any, rows: Sequence[Row]) -> None:
        """Write (file, algorithm, value) where it is not known."""
        self._add_checksum.many(driver, rows)

    def origins(self, driver: Any, files: Iterable[int]) -> dict[int, list[Origin]]:
        """Return where copies of files came from, ordered by element, for those that tell."""
        found: dict[int, list[Origin]] = {}
        for which, element, master, source, made_s in self._origins.rows(driver, as_json(files)):
            origin = Origin(self._rows.elements.name(element), bool(master), source, made_s)
            found.setdefault(which, []).append(origin)
        return {which: sorted(origins) for which, origins in found.items()}

    def put_origins(self, driver: Any, rows: Sequence[Row]) -> None:
        """Write (file, element, master, source, made_s); a master ends any other master of its file."""
        self._no_master.many(driver, [(row[0],) for row in rows if row[2]])
        self._put_origin.many(driver, rows)

    def set_master(self, driver: Any, rows: Sequence[tuple[int, int]]) -> None:
        """Make (file, element) the master of its file."""
        self._no_master.many(driver, [(which,) for which, _ in rows])
        self._put_master.many(driver, [(*row, True, None, None) for row in rows])

    def forget_origins(self, driver: Any, rows: Sequence[tuple[int, int]]) -> None:
        """Forget (file, element), whose copy is gone."""
        self._forget_origin.many(driver, rows)

    # -- statements -------------------------------------------------------------------------------

    def _deleting(self, table: sa.Table, *columns: str) -> Prepared:
        where = [table.c[name] == bindparam(name, type_=table.c[name].type) for name in columns]
        return self._statements.prepared(sa.delete(table).where(*where), *columns)

    def _clearing(self, table: sa.Table) -> Prepared:
        statement = sa.delete(table).where(
            table.c.kind == bindparam("kind"), table.c.object_id >= bindparam("next")
        )
        return self._statements.prepared(statement, "kind", "next")

    @cached_property
    def _remove_access(self) -> Prepared:
        return self._deleting(access_entries, "kind", "object_id")

    @cached_property
    def _remove_tags(self) -> Prepared:
        return self._deleting(tags, "kind", "object_id")

    @cached_property
    def _drop_access(self) -> Prepared:
        return self._deleting(access_entries, "kind", "object_id", "inherited")

    @cached_property
    def _clear_access(self) -> Prepared:
        return self._clearing(access_entries)

    @cached_property
    def _clear_tags(self) -> Prepared:
        return self._clearing(tags)

    @cached_property
    def _access(self) -> Prepared:
        pairs = self._statements.given("objects", 2)
        which = pairs.number(1)
        joined = pairs.table.join(
            access_entries,
            sa.and_(access_entries.c.kind == pairs.text(0), access_entries.c.object_id == which),
        )
        return self._statements.prepared(sa.select(*access_entries.columns).select_from(joined), "objects")

    @cached_property
    def _defaults(self) -> Prepared:
        ids = self._statements.given("ids")
        table = access_entries.c
        joined = ids.table.join(
            access_entries,
            sa.and_(table.kind == DIRECTORY, table.object_id == ids.number(), table.inherited == sa.true()),
        )
        columns = (table.object_id, table.whom, table.principal_id, table.permissions)
        return self._statements.prepared(sa.select(*columns).select_from(joined), "ids")

    @cached_property
    def _add_access(self) -> Prepared:
        return self._statements.adding(access_entries)

    @cached_property
    def _checksums(self) -> Prepared:
        ids = self._statements.given("ids")
        joined = ids.table.join(checksums, checksums.c.file_id == ids.number())
        return self._statements.prepared(sa.select(*checksums.columns).select_from(joined), "ids")

    @cached_property
    def _add_checksum(self) -> Prepared:
        statement = self._statements.upserting(checksums).values(bound_values(checksums))
        return self._statements.prepared(
            statement.on_conflict_do_nothing(), *(column.name for column in checksums.columns)
        )

    @cached_property
    def _origins(self) -> Prepared:
        ids = self._statements.given("ids")
        joined = ids.table.join(replica_sources, replica_sources.c.file_id == ids.number())
        return self._statements.prepared(sa.select(*replica_sources.columns).select_from(joined), "ids")

    def _putting(self, *kept: str) -> Prepared:
        statement = self._statements.upserting(replica_sources).values(bound_values(replica_sources))
        told: Mapping[str, Any] = {name: statement.excluded[name] for name in kept}
        statement = statement.on_conflict_do_update(index_elements=["file_id", "element_id"], set_=told)
        return self._statements.prepared(statement, *(column.name for column in replica_sources.columns))

    @cached_property
    def _put_origin(self) -> Prepared:
        return self._putting("master", "source", "made_s")

    @cached_property
    def _put_master(self) -> Prepared:
        return self._putting("master")

    @cached_property
    def _no_master(self) -> Prepared:
        statement = (
            sa.update(replica_sources)
            .where(replica_sources.c.file_id == bindparam("file"), replica_sources.c.master == sa.true())
            .values(master=sa.false())
        )
        return self._statements.prepared(statement, "file")

    @cached_property
    def _forget_origin(self) -> Prepared:
        return self._deleting(replica_sources, "file_id", "element_id")


_WHOM: dict[str, Any] = {"u": "user", "g": "group", "m": "mask"}


def _ordered(entries: Sequence[AccessEntry]) -> tuple[AccessEntry, ...]:
    return tuple(sorted(entries, key=lambda one: ("ugm".index(one.whom[0]), one.name)))


def difference(known: Mapping[str, str], told: Iterable[Checksum]) -> str:
    """Say how a checksum of ``told`` disagrees with those that are known; empty where none does."""
    for one in told:
        if known.get(one.algorithm, one.value) != one.value:
            return f"it is there with {Checksum(one.algorithm, known[one.algorithm])}, not {one}"
    return ""
