"""What of a condition the database can decide by the rows of files, and values of files for the rest."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from vse.catalogue.sql_rows import Rows
from vse.db.tables import contents, files, replicas
from vse.model import Located, ReplicaState
from vse.model.expression import (
    And,
    Compare,
    Decided,
    Expression,
    In,
    Known,
    Literal,
    Missing,
    Not,
    Or,
    Predicate,
    Truth,
    all_of,
    evaluate,
)
from vse.model.tags import FIELDS

_COLUMNS: Mapping[str, Any] = {
    "size": files.c.size_bytes,
    "name": files.c.name,
    "created": files.c.created_s,
    "modified": files.c.modified_s,
    "guid": files.c.guid,
    "owner": files.c.owner_id,
    "group": files.c.group_id,
}
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}
_available = str(ReplicaState.AVAILABLE)
_MOST_VALUES = 100


def value_of(located: Located, name: str) -> Known:
    """Return a field of a file; None where it is not known."""
    return _FIELDS[name](located)


def holds(expression: Expression, located: Located, tags: Mapping[str, Known]) -> bool:
    """Whether a checked condition is true of a file that has ``tags``, its own and those it inherits."""

    def value(name: str) -> Known:
        return value_of(located, name) if name in FIELDS else tags.get(name)

    return evaluate(expression, value) is True


def _guid(located: Located) -> Known:
    return str(located.entry.uuid) if located.entry.guid is not None else None


_FIELDS: Mapping[str, Callable[[Located], Known]] = {
    "size": lambda located: located.entry.size_bytes,
    "name": lambda located: located.entry.lfn.name,
    "path": lambda located: located.entry.lfn,
    "owner": lambda located: located.entry.owner,
    "group": lambda located: located.entry.group,
    "created": lambda located: located.entry.created_s,
    "modified": lambda located: located.entry.modified_s,
    "entries": lambda located: located.contents.entries if located.contents else None,
    "tree": lambda located: (located.contents.tree or None) if located.contents else None,
    "guid": _guid,
    "se": lambda located: frozenset(copy.se for copy in located.replicas if copy.state == _available),
}


class Pushing:
    """Splits a checked condition into what the database decides, just as `evaluate` would, and the rest."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def split(self, expression: Expression) -> tuple[sa.ColumnElement[bool] | None, Expression]:
        """Return a condition on ``files`` (None where there is none), and what is left to evaluate."""
        parts = expression.parts if isinstance(expression, And) else (expression,)
        conditions, left = [], []
        for part in parts:
            condition = self._condition(part)
            if condition is None:
                left.append(part)
            else:
                conditions.append(condition)
        rest = all_of(left) if left else Decided(True)
        return (sa.and_(*conditions) if conditions else None), rest

    def _condition(self, part: Expression) -> Any:
        if isinstance(part, (And, Or)):
            inner = [self._condition(one) for one in part.parts]
            if any(one is None for one in inner):
                return None
            return sa.and_(*inner) if isinstance(part, And) else sa.or_(*inner)
        if isinstance(part, Not):
            below = self._condition(part.part)
            return None if below is None else sa.not_(below)
        return None if isinstance(part, Decided) else self._predicate(part)

    def _predicate(self, predicate: Predicate) -> Any:
        name = predicate.name.text
        if name == "se":
            return self._at(predicate)
        if name in ("entries", "tree"):
            return _inside(predicate, contents.c[name])
        column = _COLUMNS.get(name)
        if column is None or (name in ("owner", "group") and not _equality(predicate)):
            return None
        return _compared(predicate, column, lambda literal: self._stored(name, literal))

    def _stored(self, name: str, literal: Literal) -> Any:
        """A literal as the column has it; raises LookupError where it cannot be put exactly."""
        value = literal.value
        if name in ("owner", "group"):
            return self._rows.principals.known(str(value)) or -1
        if name == "guid":
            return uuid.UUID(str(value)).bytes
        if name == "size" and not isinstance(value, int):
            raise LookupError(value)
        return value

    def _at(self, predicate: Predicate) -> Any:
        if isinstance(predicate, Missing):
            return sa.not_(_copied())
        if isinstance(predicate, Compare) or (
            isinstance(predicate, In) and len(predicate.literals) <= _MOST_VALUES
        ):
            literals = (predicate.literal,) if isinstance(predicate, Compare) else predicate.literals
            ids = [self._rows.elements.known(str(literal.value)) or -1 for literal in literals]
            there = _copied(sa.or_(*(replicas.c.element_id == one for one in ids)))
            negated = isinstance(predicate, Compare) and predicate.operator == "!="
            return sa.not_(there) if negated else there
        return None


def by_index(predicate: Predicate) -> Callable[[Any], Any] | None:
    """Return a predicate on a tag as a condition on the column of values, where an index can answer it."""
    if isinstance(predicate, Compare) and predicate.operator != "!=":
        return lambda column: _COMPARE[predicate.operator](column, _plain(predicate.literal))
    if isinstance(predicate, In) and len(predicate.literals) <= _MOST_VALUES:
        return lambda column: sa.or_(*(column == _plain(literal) for literal in predicate.literals))
    if isinstance(predicate, Truth):
        return lambda column: column == 1
    return None


def _plain(literal: Literal) -> Any:
    return int(literal.value) if isinstance(literal.value, bool) else literal.value


def _equality(predicate: Predicate) -> bool:
    return isinstance(predicate, (In, Missing)) or (
        isinstance(predicate, Compare) and predicate.operator in ("=", "!=")
    )


def _compared(predicate: Predicate, column: Any, stored: Callable[[Literal], Any]) -> Any:
    try:
        if isinstance(predicate, Missing):
            return column.is_(None)
        if isinstance(predicate, Compare):
            return _COMPARE[predicate.operator](column, stored(predicate.literal))
        if isinstance(predicate, In) and len(predicate.literals) <= _MOST_VALUES:
            return sa.or_(*(column == stored(literal) for literal in predicate.literals))
    except LookupError:
        return None
    return None


def _inside(predicate: Predicate, column: Any) -> Any:
    """A condition on the contents of a file, unknown where they are: a scalar query, not EXISTS."""
    of_file = contents.c.file_id == files.c.id
    value = sa.select(sa.func.nullif(column, "") if column.name == "tree" else column)
    scalar = value.where(of_file).correlate(files).scalar_subquery()

    def exact(literal: Literal) -> Any:
        if column.name == "entries" and not isinstance(literal.value, int):
            raise LookupError(literal.value)
        return literal.value

    return _compared(predicate, scalar, exact)


def _copied(*conditions: Any) -> Any:
    here = (replicas.c.file_id == files.c.id, replicas.c.state == _available, *conditions)
    return sa.select(replicas.c.file_id).where(*here).correlate(files).exists()
