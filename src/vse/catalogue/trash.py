"""The trash: removed names hang below directories whose paths are no LFNs, until they expire.

A *place* is such a directory, ``trash://ID``: it has no parent, and sorts behind every name, so that
no listing and no find meets it. What one call removes of one directory shares a place, in which names
are as unique as they were there. Moving a name there and back touches its own row only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from vse.catalogue.sql_rows import Rows, join, split
from vse.catalogue.sql_statements import Statements
from vse.db.prepared import Prepared, Row, as_json
from vse.db.tables_names import trash
from vse.model import Expired, Lfn, Trashed

PLACE = "trash://"
_COLUMNS = (
    trash.c.id,
    trash.c.lfn,
    trash.c.kind,
    trash.c.place,
    trash.c.removed_s,
    trash.c.removed_by_id,
    trash.c.expires_s,
)


class Trash:
    """The rows of the trash; a *trash row* is (id, lfn, kind, place, removed, removed by, expires)."""

    def __init__(self, statements: Statements, rows: Rows) -> None:
        self._run = statements
        self._rows = rows

    def value(self, row: Row) -> Trashed:
        """Return what a trash row means."""
        return Trashed(row[0], Lfn(row[1]), row[2], row[4], self._rows.principals.name(row[5]), row[6])

    def rows(self, driver: Any, ids: Sequence[int]) -> list[Row]:
        """Return the trash rows of those ``ids`` that there are."""
        return self._by_id.rows(driver, as_json(ids))

    def named(self, driver: Any, lfns: Iterable[str]) -> list[Row]:
        """Return the trash rows of what had these names."""
        return self._by_name.rows(driver, as_json(dict.fromkeys(lfns)))

    def page(self, driver: Any, behind: int, before_s: float, most: int) -> list[Row]:
        """Return at most ``most`` trash rows of ids behind ``behind`` that expire before ``before_s``."""
        return self._page.rows(driver, behind, before_s, most)

    def expired(self, driver: Any, rows: Sequence[Row]) -> Iterator[Expired]:
        """Yield what trash rows hold, with the copies of files."""
        pairs = [(row[3], split(row[1])[1]) for row in rows if row[2] == "file"]
        located = self._run.located_many.rows(driver, as_json(pairs))
        files = {one.entry.lfn: one for one, _ in self._rows.located(located)}
        for row in rows:
            trashed = self.value(row)
            file = files.get(Lfn(join(row[3], trashed.lfn.name)))
            if file is None:
                yield Expired(trashed, None, None, ())
            else:
                copies = tuple(copy._replace(lfn=trashed.lfn) for copy in file.replicas)
                yield Expired(trashed, file.entry.size_bytes, file.entry.guid, copies)

    def add(self, driver: Any, rows: Iterable[Row]) -> None:
        """Write (lfn, kind, place, removed_s, removed_by_id, expires_s)."""
        self._add.many(driver, rows)

    def forget(self, driver: Any, rows: Sequence[Row]) -> None:
        """Drop trash rows, and their places once those are empty. What they held was moved or removed."""
        self._remove.many(driver, [(row[0],) for row in rows])
        for place in {row[3] for row in rows}:
            for which, *_ in self._run.directory_rows.rows(driver, as_json([place])):
                ids = as_json([which])
                run = self._run
                holding = (run.with_files, run.with_subdirectories, run.with_specials)
                if not any(statement.rows(driver, ids) for statement in holding):
                    run.remove_directory.run(driver, which)

    @cached_property
    def _by_id(self) -> Prepared:
        ids = self._run.given("ids")
        joined = ids.table.join(trash, trash.c.id == ids.number())
        return self._run.prepared(sa.select(*_COLUMNS).select_from(joined).order_by(trash.c.id), "ids")

    @cached_property
    def _by_name(self) -> Prepared:
        names = self._run.given("names")
        joined = names.table.join(trash, trash.c.lfn == names.text())
        return self._run.prepared(sa.select(*_COLUMNS).select_from(joined).order_by(trash.c.id), "names")

    @cached_property
    def _page(self) -> Prepared:
        query = sa.select(*_COLUMNS).where(
            trash.c.id > bindparam("behind"), trash.c.expires_s <= bindparam("before", type_=sa.Float)
        )
        query = query.order_by(trash.c.id).limit(bindparam("most"))
        return self._run.prepared(query, "behind", "before", "most")

    @cached_property
    def _add(self) -> Prepared:
        columns = tuple(column.name for column in _COLUMNS[1:])
        values = {name: bindparam(name, type_=trash.c[name].type) for name in columns}
        return self._run.prepared(sa.insert(trash).values(values), *columns)

    @cached_property
    def _remove(self) -> Prepared:
        return self._run.prepared(sa.delete(trash).where(trash.c.id == bindparam("which")), "which")
