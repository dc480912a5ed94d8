"""Conditions on files, such as ``run >= 195682 and pass = "muon"``: their values, and what they mean.

`vse.model.expression_grammar.parse` makes an `Expression` of a text, `vse.model.expression_types.check`
holds it against the types of fields and tags, `evaluate` decides it. ``str(expression)`` is a text that
is parsed to the same expression.

Logic has three values, as in SQL: a comparison with a value that is not there is neither true nor false
but unknown (None), so is its ``not``, and only what is true is found.
"""

from __future__ import annotations

import fnmatch
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

Value = bool | int | float | str | datetime
"""Of a literal. Checked ones have no datetime: a time is a float (Unix seconds, UTC)."""

Known = bool | int | float | str | frozenset[str] | None
"""Of a field of a file: None is 'not there'; a set is of places."""

Values = Callable[[str], Known]
"""Gives the value of a field or tag by its name."""


@dataclass(frozen=True, slots=True)
class Name:
    """A field or tag; ``at`` is where it stands in the text (characters from 0)."""

    text: str
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Literal:
    """A value as it was written."""

    value: Value
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        value = self.value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            # Not the short escapes \b and \f of JSON: the grammar has those that people know.
            return json.dumps(value, ensure_ascii=False).replace("\\b", "\\u0008").replace("\\f", "\\u000c")
        return value.isoformat() if isinstance(value, datetime) else repr(value)


@dataclass(frozen=True, slots=True)
class Compare:
    """``name operator literal``; the operator is one of ``= != < <= > >=``."""

    name: Name
    operator: str
    literal: Literal

    def __str__(self) -> str:
        return f"{self.name} {self.operator} {self.literal}"


@dataclass(frozen=True, slots=True)
class In:
    """``name in (literal, ...)``."""

    name: Name
    literals: tuple[Literal, ...]

    def __str__(self) -> str:
        return f"{self.name} in ({', '.join(map(str, self.literals))})"


@dataclass(frozen=True, slots=True)
class Match:
    """``name like "LHC13%"`` (``%`` and ``_``; a backslash takes their meaning) or ``name glob "*.root"``."""

    name: Name
    kind: str
    literal: Literal

    def __str__(self) -> str:
        return f"{self.name} {self.kind} {self.literal}"


@dataclass(frozen=True, slots=True)
class Missing:
    """``name is null``."""

    name: Name

    def __str__(self) -> str:
        return f"{self.name} is null"


@dataclass(frozen=True, slots=True)
class Truth:
    """A boolean tag by itself."""

    name: Name

    def __str__(self) -> str:
        return str(self.name)


@dataclass(frozen=True, slots=True)
class Not:
    part: Expression

    def __str__(self) -> str:
        return f"not {_in_parentheses(self.part)}"


@dataclass(frozen=True, slots=True)
class And:
    """Two or more parts, none of which is an `And`."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " and ".join(map(_in_parentheses, self.parts))


@dataclass(frozen=True, slots=True)
class Or:
    """Two or more parts, none of which is an `Or`."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " or ".join(map(_in_parentheses, self.parts))


@dataclass(frozen=True, slots=True)
class Decided:
    """What a part comes to where all its names are known; made by `bind`, never by the parser."""

    value: bool | None


Predicate = Compare | In | Match | Missing | Truth
Expression = Predicate | Not | And | Or | Decided


def _in_parentheses(part: Expression) -> str:
    return f"({part})" if isinstance(part, (And, Or)) else str(part)


def all_of(parts: list[Expression]) -> Expression:
    """Return the `And` of ``parts`` (at least one), those that are one taken apart."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, And) else (part,))]
    return And(tuple(flat)) if len(flat) > 1 else flat[0]


def any_of(parts: list[Expression]) -> Expression:
    """Return the `Or` of ``parts`` (at least one), those that are one taken apart."""
    flat = [one for part in parts for one in (part.parts if isinstance(part, Or) else (part,))]
    return Or(tuple(flat)) if len(flat) > 1 else flat[0]


def predicates(expression: Expression) -> Iterator[Predicate]:
    """Yield the parts that speak of a name, in the order of the text."""
    if isinstance(expression, (And, Or)):
        for part in expression.parts:
            yield from predicates(part)
    elif isinstance(expression, Not):
        yield from predicates(expression.part)
    elif not isinstance(expression, Decided):
        yield expression


def names(expression: Expression) -> set[str]:
    """Return the fields and tags that ``expression`` speaks of."""
    return {predicate.name.text for predicate in predicates(expression)}


# -- what it comes to ------------------------------------------------------------------------------------

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def evaluate(expression: Expression, values: Values) -> bool | None:
    """Decide a checked expression for one file; None is unknown."""
    if isinstance(expression, And):
        return _evaluate_parts(expression.parts, values, False)
    if isinstance(expression, Or):
        return _evaluate_parts(expression.parts, values, True)
    if isinstance(expression, Not):
        value = evaluate(expression.part, values)
        return None if value is None else not value
    if isinstance(expression, Decided):
        return expression.value
    return _decide(expression, values(expression.name.text))


def _evaluate_parts(parts: tuple[Expression, ...], values: Values, deciding: bool) -> bool | None:
    """Kleene's 'and' (one false part decides) and 'or' (one true part does)."""
    answer: bool | None = not deciding
    for part in parts:
        value = evaluate(part, values)
        if value is deciding:
            return deciding
        if value is None:
            answer = None
    return answer


def _decide(predicate: Predicate, known: Known) -> bool | None:
    if isinstance(known, frozenset):
        return _decide_places(predicate, known)
    if isinstance(predicate, Missing):
        return known is None
    if known is None:
        return None
    if isinstance(predicate, Compare):
        return _COMPARE[predicate.operator](known, predicate.literal.value)
    if isinstance(predicate, In):
        return any(known == literal.value for literal in predicate.literals)
    if isinstance(predicate, Match):
        return matcher(predicate.kind, str(predicate.literal.value))(str(known))
    return bool(known)


def _decide_places(predicate: Predicate, places: frozenset[str]) -> bool:
    """A condition on places is one that any of them meets; ``!=`` says that none equals."""
    if isinstance(predicate, Missing):
        return not places
    if isinstance(predicate, Compare):
        return (predicate.literal.value in places) == (predicate.operator == "=")
    return any(_decide(predicate, place) for place in places)


@lru_cache(maxsize=256)
def matcher(kind: str, pattern: str) -> Callable[[str], bool]:
    """Return what says whether a whole text matches a ``like`` or ``glob`` pattern (case counts)."""
    match = re.compile(fnmatch.translate(pattern) if kind == "glob" else _like(pattern)).match
    return lambda text: match(text) is not None


def _like(pattern: str) -> str:
    """Return the regular expression of a ``like`` pattern, with stars that are never tried twice."""
    glob = ""
    pieces = re.findall(r"\\.|\\|%+|.", pattern, re.DOTALL)
    for piece in pieces:
        if piece == "_":
            glob += "?"
        elif piece[0] == "%":
            glob += "*"
        else:
            char = piece[-1]
            glob += f"[{char}]" if char in "*?[" else char
    return fnmatch.translate(glob)


def bind(expression: Expression, known: Mapping[str, Known]) -> Expression:
    """Return what is left of a checked expression where the values of some names are known.

    `Decided` where nothing is left to ask. The answer of the rest is that of the whole for every file.
    """
    if isinstance(expression, And):
        return _bind_parts(expression.parts, known, False)
    if isinstance(expression, Or):
        return _bind_parts(expression.parts, known, True)
    if isinstance(expression, Not):
        part = bind(expression.part, known)
        if isinstance(part, Decided):
            return Decided(None if part.value is None else not part.value)
        return Not(part)
    if isinstance(expression, Decided) or expression.name.text not in known:
        return expression
    return Decided(_decide(expression, known[expression.name.text]))


def _bind_parts(parts: tuple[Expression, ...], known: Mapping[str, Known], deciding: bool) -> Expression:
    left: list[Expression] = []
    unknown = False
    for part in parts:
        bound = bind(part, known)
        if not isinstance(bound, Decided):
            left.append(bound)
        elif bound.value is deciding:
            return bound
        elif bound.value is None:
            unknown = True
    if not left:
        return Decided(None if unknown else not deciding)
    if unknown:
        left.append(Decided(None))
    return any_of(left) if deciding else all_of(left)


def is_hopeless(expression: Expression) -> bool:
    """Whether no file can make ``expression`` true, as its parts that are decided already tell."""
    if isinstance(expression, Decided):
        return expression.value is not True
    if isinstance(expression, And):
        return any(map(is_hopeless, expression.parts))
    return isinstance(expression, Or) and all(map(is_hopeless, expression.parts))
