"""The grammar of conditions, and messages that point at the character that is wrong."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from vse.errors import BadQuery
from vse.model.expression import (
    Compare,
    Expression,
    In,
    Literal,
    Match,
    Missing,
    Name,
    Not,
    Truth,
    all_of,
    any_of,
)
from vse.model.tags import INTEGERS

if TYPE_CHECKING:
    from lark import Lark, Token

MAX_CHARS = 100_000
MAX_DEPTH = 100

GRAMMAR = r"""
start: any
any: all (_OR all)*
all: one (_AND one)*
?one: _NOT one                                   -> negation
    | "(" any ")"                                -> inside
    | NAME                                       -> truth
    | NAME OPERATOR literal                      -> compare
    | NAME _IN literals                          -> isin
    | NAME _NOT _IN literals                     -> notin
    | NAME MATCH STRING                          -> match
    | NAME _NOT MATCH STRING                     -> nomatch
    | NAME _BETWEEN literal _AND literal         -> between
    | NAME _NOT _BETWEEN literal _AND literal    -> notbetween
    | NAME _IS _NULL                             -> missing
    | NAME _IS _NOT _NULL                        -> exists
    | NAME _EXISTS                               -> exists
    | NAME _NOT _EXISTS                          -> missing
literals: "(" literal ("," literal)* ")"
literal: STRING | TIME | SIZE | NUMBER | BOOLEAN

_OR.9: /or(?![a-z0-9_.])/i
_AND.9: /and(?![a-z0-9_.])/i
_NOT.9: /not(?![a-z0-9_.])/i
_IN.9: /in(?![a-z0-9_.])/i
_IS.9: /is(?![a-z0-9_.])/i
_NULL.9: /null(?![a-z0-9_.])/i
_EXISTS.9: /exists(?![a-z0-9_.])/i
_BETWEEN.9: /between(?![a-z0-9_.])/i
MATCH.9: /(like|glob)(?![a-z0-9_.])/i
BOOLEAN.9: /(true|false)(?![a-z0-9_.])/i
OPERATOR.5: /<=|>=|<>|!=|==|=|<|>/
TIME.8: /[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9:]{5})?)?/
SIZE.7: /[0-9]+(\.[0-9]+)?[ \t]*([kKMGTPE]i?B|B)(?![A-Za-z0-9_.])/
NUMBER.6: /[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?/
STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
NAME.1: /[A-Za-z_][A-Za-z0-9_.]*/
%import common.WS
%ignore WS
"""

_WORDS = (
    ({"NAME"}, "a field or tag"),
    ({"STRING", "NUMBER"}, "a value (a number, size, time, true, false or a quoted text)"),
    ({"STRING"}, "a quoted text"),
    ({"OPERATOR"}, "a comparison (= != < <= > >=, in, like, glob, between, is null, exists)"),
    ({"_NULL"}, "'null'"),
    ({"_IN"}, "in, like, glob, between, exists"),
    ({"LPAR"}, "'('"),
    ({"COMMA"}, "','"),
    ({"_AND"}, "'and'"),
    ({"_OR"}, "'or'"),
    ({"RPAR"}, "')'"),
    ({"$END"}, "the end"),
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\", "/": "/"}
_PREFIXES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}


class _Wrong(Exception):
    """What is wrong, and where; becomes a `BadQuery` that shows the text."""

    def __init__(self, at: int, found: str) -> None:
        super().__init__(at, found)
        self.at = at
        self.found = found


class _Part(NamedTuple):
    node: Expression
    depth: int


def parse(text: str) -> Expression:
    """Parse a condition. Raises `BadQuery` that points at the column of what is wrong, and nothing else."""
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken, VisitError

    if len(text) > MAX_CHARS:
        raise bad(text, MAX_CHARS, f"it has {len(text)} characters; at most {MAX_CHARS} are possible")
    strange = re.search(r"[\x00\ud800-\udfff]", text)
    if strange:
        raise bad(text, strange.start(), "this character is in no name and no value")
    try:
        part: Any = _parser().parse(text)
    except VisitError as error:
        if isinstance(error.orig_exc, _Wrong):
            raise bad(text, error.orig_exc.at, error.orig_exc.found) from None
        raise
    except _Wrong as error:
        raise bad(text, error.at, error.found) from None
    except UnexpectedToken as error:
        raise _unexpected(text, error.token, error.accepts or error.expected) from None
    except UnexpectedCharacters as error:
        raise _no_token(text, error.pos_in_stream or 0, error.allowed or set()) from None
    node: Expression = part.node
    return node


def bad(text: str, at: int, found: str, todo: str = "") -> BadQuery:
    """Return the error for character ``at`` of ``text``: what is wrong, and the text with a caret below."""
    start = max(0, at - 60)
    shown = "".join(char if char.isprintable() else " " for char in text[start : at + 40])
    before = shown[: at - start]
    head, tail = "..." if start else "", "..." if at + 40 < len(text) else ""
    blanks = " " * (len(head) + sum(map(_cells, before)))
    found = f"column {at + 1}: {found}{'; ' + todo if todo else ''}"
    return BadQuery("understand the condition", f"{found}\n  {head}{shown}{tail}\n  {blanks}^")


def _cells(char: str) -> int:
    """How wide a terminal draws a character."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _unexpected(text: str, token: Token, accepted: set[str]) -> BadQuery:
    at = len(text.rstrip()) if token.type == "$END" else token.start_pos or 0
    found = "this is the end" if token.type == "$END" else f"this is {_short(str(token))}"
    todo = ""
    if token.type == "NAME" and "STRING" in accepted:
        todo = f'write a text in quotes: "{token}"'
    elif token.type == "NAME" and re.search(r"[0-9]\s*$", text[:at]):
        todo = "units of size are B, kB, MB, GB, TB, PB, KiB, MiB, GiB, TiB, PiB"
    return bad(text, at, f"{_expected(accepted)} was expected; {found}", todo)


def _no_token(text: str, at: int, allowed: set[str]) -> BadQuery:
    if text[at] in "\"'":
        return bad(text, at, "the quote is not closed", "a quote inside is written with a backslash")
    if text[at] in "&|":
        return bad(text, at, "this is no operator", "write 'and', 'or'")
    return bad(text, at, f"{_expected(allowed)} was expected; this is {_short(text[at])}")


def _expected(terminals: set[str]) -> str:
    left, words = set(terminals), []
    for members, word in _WORDS:
        if members <= left:
            words.append(word)
            left -= members | (
                {"MATCH", "_BETWEEN", "_IS", "_EXISTS", "_IN"} if "OPERATOR" in members else set()
            )
    if not words:
        return "something else"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 30 else f"{text[:27]}...")


@cache
def _parser() -> Lark:
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr", transformer=_Build())


class _Build:
    """Makes values while the text is read; each method gets the parts of the rule of its name."""

    def start(self, parts: list[_Part]) -> _Part:
        return parts[0]

    def any(self, parts: list[_Part]) -> _Part:
        return _Part(any_of([part.node for part in parts]), max(part.depth for part in parts))

    def all(self, parts: list[_Part]) -> _Part:
        return _Part(all_of([part.node for part in parts]), max(part.depth for part in parts))

    def inside(self, parts: list[Any]) -> _Part:
        return _deeper(parts[0])

    def negation(self, parts: list[_Part]) -> _Part:
        return _deeper(_Part(Not(parts[0].node), parts[0].depth))

    def truth(self, parts: list[Token]) -> _Part:
        return _Part(Truth(_name(parts[0])), 1)

    def compare(self, parts: list[Any]) -> _Part:
        operator = {"==": "=", "<>": "!="}.get(str(parts[1]), str(parts[1]))
        return _Part(Compare(_name(parts[0]), operator, parts[2]), 1)

    def isin(self, parts: list[Any]) -> _Part:
        return _Part(In(_name(parts[0]), parts[1]), 1)

    def notin(self, parts: list[Any]) -> _Part:
        return _Part(Not(In(_name(parts[0]), parts[1])), 1)

    def match(self, parts: list[Any]) -> _Part:
        name, kind, pattern = parts
        return _Part(Match(_name(name), str(kind).lower(), _literal(pattern)), 1)

    def nomatch(self, parts: list[Any]) -> _Part:
        return _Part(Not(self.match(parts).node), 1)

    def between(self, parts: list[Any]) -> _Part:
        name = _name(parts[0])
        return _Part(all_of([Compare(name, ">=", parts[1]), Compare(name, "<=", parts[2])]), 1)

    def notbetween(self, parts: list[Any]) -> _Part:
        return _Part(Not(self.between(parts).node), 1)

    def missing(self, parts: list[Token]) -> _Part:
        return _Part(Missing(_name(parts[0])), 1)

    def exists(self, parts: list[Token]) -> _Part:
        return _Part(Not(Missing(_name(parts[0]))), 1)

    def literals(self, parts: list[Literal]) -> tuple[Literal, ...]:
        return tuple(parts)

    def literal(self, parts: list[Token]) -> Literal:
        return _literal(parts[0])


def _deeper(part: _Part) -> _Part:
    if part.depth >= MAX_DEPTH:
        raise _Wrong(0, f"it is nested more than {MAX_DEPTH} deep")
    return _Part(part.node, part.depth + 1)


def _name(token: Token) -> Name:
    return Name(str(token), token.start_pos or 0)


def _literal(token: Token) -> Literal:
    at, text = token.start_pos or 0, str(token)
    if token.type == "STRING":
        return Literal(_unquoted(text, at), at)
    if token.type == "BOOLEAN":
        return Literal(text.lower() == "true", at)
    if token.type == "TIME":
        return Literal(_time(text, at), at)
    return Literal(_size(text, at) if token.type == "SIZE" else _number(text, at), at)


def _unquoted(quoted: str, at: int) -> str:
    def char(found: re.Match[str]) -> str:
        digits, plain = found.group(1) or found.group(2), found.group(3)
        if digits:
            code = int(digits, 16)
            if code and code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF:
                return chr(code)
        elif plain in _ESCAPES:
            return _ESCAPES[plain]
        known = r"\\ \" \' \n \r \t \uXXXX \UXXXXXXXX"
        raise _Wrong(at + 1 + found.start(), f"this is no escape; there are {known}")

    escape = r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))"
    return re.sub(escape, char, quoted[1:-1], flags=re.DOTALL)


def _time(text: str, at: int) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _Wrong(at, f"{text!r} is no time: {error}") from None


def _number(text: str, at: int) -> int | float:
    if re.fullmatch(r"[+-]?[0-9]+", text):
        if len(text) > 25 or int(text) not in INTEGERS:
            raise _Wrong(at, "it does not fit into 64 bits")
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise _Wrong(at, "it is larger than a number can be")
    return value


def _size(text: str, at: int) -> int | float:
    found = re.fullmatch(r"([0-9.]+)\s*([kKMGTPE]?)(i?)B", text)
    assert found, "the token has this form"  # noqa: S101
    count, prefix, binary = found.groups()
    number = _number(count, at)
    value = number * (1024 if binary else 1000) ** _PREFIXES[prefix.lower()]
    if value > INTEGERS[-1]:
        raise _Wrong(at, "it does not fit into 64 bits")
    return int(value) if value == int(value) else value
