"""Statements of SQLAlchemy Core for the paths where a microsecond counts.

A `Prepared` statement is compiled once to SQL text with positional parameters and then run on the
driver's own connection, which costs a tenth of a run through SQLAlchemy. It returns plain tuples: no
conversion of types happens, so it is for integers, floats, text and bytes only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

Row = tuple[Any, ...]
T = TypeVar("T")


def driver_of(connection: sa.Connection) -> Any:
    """Return the driver's own connection below ``connection``, inside the same transaction."""
    return connection.connection.driver_connection


class Prepared:
    """One statement. ``arguments`` names its bound parameters in the order callers give their values."""

    def __init__(self, dialect: sa.Dialect, statement: sa.ClauseElement, *arguments: str) -> None:
        self._dialect = dialect
        self._statement = statement
        self._arguments = arguments
        self._sql = ""
        self._order: tuple[int, ...] = ()
        self._constants: Row = ()
        self._as_given = False

    def rows(self, driver: Any, *values: Any) -> list[Row]:
        """Run a query; return all its rows."""
        rows: list[Row] = driver.execute(self._sql or self._compile(), self._place(values)).fetchall()
        return rows

    def run(self, driver: Any, *values: Any) -> int:
        """Run a statement; return how many rows it changed."""
        count: int = driver.execute(self._sql or self._compile(), self._place(values)).rowcount
        return count

    def many(self, driver: Any, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each row of values."""
        sql = self._sql or self._compile()
        driver.cursor().executemany(sql, rows if self._as_given else map(self._place, rows))

    @property
    def sql(self) -> str:
        """The text as the driver gets it."""
        return self._sql or self._compile()

    def _place(self, values: Sequence[Any]) -> Sequence[Any]:
        if self._as_given:
            return values
        known = (*values, *self._constants)
        return [known[place] for place in self._order]

    def _compile(self) -> str:
        style: Any = "qmark" if self._dialect.name == "sqlite" else "format"
        # The dialect of a live engine has its own style of parameters: compile with a fresh one.
        dialect: Any = type(self._dialect)
        compiled: Any = self._statement.compile(dialect=dialect(paramstyle=style))
        names = list(self._arguments)
        constants = [name for name in compiled.params if name not in self._arguments]
        self._constants = tuple(compiled.params[name] for name in constants)
        places = {name: place for place, name in enumerate([*names, *constants])}
        self._order = tuple(places[name] for name in compiled.positiontup or ())
        self._as_given = self._order == tuple(range(len(names)))
        self._sql = str(compiled)
        return self._sql


class Given:
    """A list of values handed to a statement as one JSON argument, and joined like a table.

    ``Given(dialect, "names", width=1)`` takes ``as_json([value, ...])``; with a greater width it takes
    a list of lists. `text` and `number` are the columns.
    """

    def __init__(self, dialect: sa.Dialect, argument: str, width: int = 1) -> None:
        self._sqlite = dialect.name == "sqlite"
        self._width = width
        value: Any = sa.bindparam(argument, type_=sa.Text)
        if self._sqlite:
            self.table: Any = sa.func.json_each(value).table_valued("value", name=argument)
        else:
            unfold = sa.func.json_array_elements_text if width == 1 else sa.func.json_array_elements
            elements = unfold(sa.cast(value, postgresql.JSON))
            self.table = elements.table_valued("value", name=argument).render_derived()

    def text(self, place: int = 0) -> sa.ColumnElement[str]:
        column: sa.ColumnElement[str] = self._column(place, sa.Text())
        return column

    def number(self, place: int = 0) -> sa.ColumnElement[int]:
        column: sa.ColumnElement[int] = self._column(place, sa.BigInteger())
        return column if self._sqlite else sa.cast(column, sa.BigInteger)

    def _column(self, place: int, kind: Any) -> Any:
        value = self.table.c.value
        if self._width == 1:
            return sa.type_coerce(value, kind)
        if self._sqlite:
            return sa.func.json_extract(value, sa.literal_column(f"'$[{place}]'"), type_=kind)
        return value.op("->>", return_type=kind)(sa.literal_column(str(place)))


def as_json(values: Iterable[Any]) -> str:
    """Return the argument for a `Given`."""
    return json.dumps(list(values), ensure_ascii=False, separators=(",", ":"))


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield ``items`` in lists of ``size``; the last may be shorter."""
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def inserting(dialect: sa.Dialect) -> Callable[[sa.Table], Any]:
    """Return the ``insert`` of this database that knows ON CONFLICT."""
    return sqlite.insert if dialect.name == "sqlite" else postgresql.insert


def bound_values(table: sa.Table) -> dict[str, Any]:
    """Return a bound parameter named after each column, for the values of an insert of whole rows."""
    return {column.name: sa.bindparam(column.name, type_=column.type) for column in table.columns}
