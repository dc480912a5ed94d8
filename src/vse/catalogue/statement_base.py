"""What the statements of the SQL catalogue are made with, for one dialect."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from vse.db.prepared import Given, Prepared, bound_values, inserting
from vse.db.tables import directories


class StatementBase:
    """Prepares statements; each is built when it is first used."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        self.upserting = inserting(dialect)

    def prepared(self, statement: sa.ClauseElement, *arguments: str) -> Prepared:
        return Prepared(self._dialect, statement, *arguments)

    def given(self, argument: str, width: int = 1) -> Given:
        return Given(self._dialect, argument, width)

    def adding(self, table: sa.Table) -> Prepared:
        """A whole row of ``table``."""
        statement = sa.insert(table).values(bound_values(table))
        return self.prepared(statement, *(column.name for column in table.columns))

    def subtree(self) -> sa.ColumnElement[bool]:
        """Directories ``source`` and those from ``start`` (``source/``) to ``end`` (``source0``)."""
        path = directories.c.path
        below = sa.and_(path > bindparam("start"), path < bindparam("end"))
        return sa.or_(path == bindparam("source"), below)

    def octets(self, text: Any) -> Any:
        return sa.func.length(sa.cast(text, sa.LargeBinary)) if self.sqlite else sa.func.octet_length(text)

    @property
    def sqlite(self) -> bool:
        return self._dialect.name == "sqlite"
