"""Holding a condition against the types of fields and tags."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from vse.model.expression import (
    And,
    Compare,
    Decided,
    Expression,
    In,
    Literal,
    Match,
    Missing,
    Name,
    Not,
    Or,
    Predicate,
    Truth,
    Value,
)
from vse.model.expression_grammar import bad
from vse.model.tags import FIELDS, read_time

_ORDERED = ("integer", "number", "text", "time")
_ARTICLES = {
    "integer": "an integer",
    "number": "a number",
    "text": "a text",
    "time": "a time",
    "boolean": "true or false",
    "guid": "a GUID",
    "places": "a set of places",
}


def check(expression: Expression, tags: Mapping[str, str], text: str = "") -> Expression:
    """Return ``expression`` with its literals as values of the types of their names.

    ``tags``: the type of each tag. ``text``: what the expression was parsed from, for messages. Raises
    `BadQuery` that points at an unknown name (and suggests the nearest), or a value of another type.
    """
    return _Check({**tags, **FIELDS}, text or str(expression)).whole(expression)


class _Check:
    def __init__(self, types: Mapping[str, str], text: str) -> None:
        self._types = types
        self._text = text

    def whole(self, expression: Expression) -> Expression:
        if isinstance(expression, And):
            return And(tuple(map(self.whole, expression.parts)))
        if isinstance(expression, Or):
            return Or(tuple(map(self.whole, expression.parts)))
        if isinstance(expression, Not):
            return Not(self.whole(expression.part))
        return expression if isinstance(expression, Decided) else self._predicate(expression)

    def _predicate(self, predicate: Predicate) -> Predicate:
        name = predicate.name
        kind = self._type(name)
        if isinstance(predicate, Missing):
            return predicate
        if isinstance(predicate, Truth):
            if kind != "boolean":
                raise self._bad(name, f"{name} is {_ARTICLES[kind]}", "compare it with a value")
            return predicate
        if isinstance(predicate, In):
            return replace(
                predicate, literals=tuple(self._literal(kind, one, name) for one in predicate.literals)
            )
        if isinstance(predicate, Match):
            if kind not in ("text", "places"):
                raise self._bad(name, f"{name} is {_ARTICLES[kind]}; {predicate.kind} is for texts")
            return predicate
        return self._compare(kind, predicate)

    def _compare(self, kind: str, predicate: Compare) -> Compare:
        if predicate.operator not in ("=", "!=") and kind not in _ORDERED:
            found = f"{predicate.name} is {_ARTICLES[kind]}, which {predicate.operator} cannot compare"
            raise self._bad(predicate.name, found, "use = or !=")
        return replace(predicate, literal=self._literal(kind, predicate.literal, predicate.name))

    def _literal(self, kind: str, literal: Literal, name: Name) -> Literal:
        try:
            return replace(literal, value=_as_type(kind, literal.value))
        except (ValueError, OverflowError):
            found = f"{name} is {_ARTICLES[kind]}, and {literal} is none"
            if kind == "boolean":
                found = f"{name} is true or false, not {literal}"
            raise bad(self._text, literal.at, found) from None

    def _type(self, name: Name) -> str:
        if name.text in self._types:
            return self._types[name.text]
        near = difflib.get_close_matches(name.text, self._types, 1, 0.6)
        lower = {known.lower(): known for known in self._types}
        near = [lower[name.text.lower()]] if name.text.lower() in lower else near
        todo = f"did you mean {near[0]!r}?" if near else f"known here: {self._known()}"
        raise self._bad(name, f"no field or tag is called {name.text!r}", todo)

    def _known(self) -> str:
        tags = sorted(set(self._types) - set(FIELDS))
        shown = ", ".join(tags[:20]) + (", ..." if len(tags) > 20 else "")
        return f"{', '.join(FIELDS)}; tags: {shown or 'none'}"

    def _bad(self, name: Name, found: str, todo: str = "") -> Exception:
        return bad(self._text, name.at, found, todo)


def _as_type(kind: str, value: Value) -> Value:
    """Return a literal's value as one of type ``kind``, or raise ValueError."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind in ("integer", "number") and number:
        return value
    if kind in ("text", "places") and isinstance(value, str):
        return value
    if kind == "boolean" and isinstance(value, bool):
        return value
    if kind == "guid" and isinstance(value, str):
        return str(uuid.UUID(value))
    if kind == "time" and isinstance(value, str):
        return read_time(value)
    if kind == "time" and isinstance(value, datetime):
        return read_time(value.isoformat())
    raise ValueError(value)
