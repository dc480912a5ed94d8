"""Tags: typed values that people give to files and directories.

As AliEn's tag tables: what tags there are is said by a schema per directory, for all below it, and the
value of a directory is the value of what is below it, until something nearer has its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from vse.errors import BadRequest
from vse.model.lfn import Lfn

TagValue = bool | int | float | str
"""A value as it is stored and compared. A time is a float: Unix seconds (UTC)."""

MAX_TEXT_BYTES = 1024
MAX_NAME_CHARS = 64
INTEGERS = range(-(2**63), 2**63)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

KEYWORDS = frozenset(
    [
        "and",
        "or",
        "not",
        "in",
        "like",
        "glob",
        "between",
        "is",
        "null",
        "exists",
        "true",
        "false",
    ]  # the words of an expression
)


class TagType(StrEnum):
    """What values a tag has. Stored by value."""

    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    TIME = "time"
    BOOLEAN = "boolean"


FIELDS: Mapping[str, str] = {
    "size": "integer",
    "name": "text",
    "path": "text",
    "owner": "text",
    "group": "text",
    "created": "time",
    "modified": "time",
    "entries": "integer",
    "tree": "text",
    "guid": "guid",
    "se": "places",
}
"""What every file has by itself, and its type: that of a tag, ``guid``, or ``places`` (of its copies)."""


class TagDefinition(NamedTuple):
    """A tag of the schema of ``directory``."""

    name: str
    type: TagType
    directory: Lfn
    note: str = ""


class Tag(NamedTuple):
    """The value of a tag; ``origin`` is the file or directory that has it."""

    name: str
    type: TagType
    value: TagValue
    origin: Lfn

    @property
    def shown(self) -> str:
        """The value for people, and as `read_value` takes it."""
        return show_value(self.type, self.value)


def check_name(name: str) -> None:
    """Raise `BadRequest` where no tag can be called ``name``."""
    wanted = f"define the tag {name!r}"
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_CHARS:
        rule = f"at most {MAX_NAME_CHARS} of the characters A-Z a-z 0-9 _ ., not starting with a digit"
        raise BadRequest(wanted, "it is no name of a tag", f"use {rule}")
    if name.lower() in KEYWORDS:
        raise BadRequest(wanted, "it is a word of the language of conditions", "choose another name")
    if name in FIELDS:
        raise BadRequest(wanted, "every file has a field of this name", "choose another name")


def read_time(text: str) -> float:
    """Return the Unix seconds of an ISO 8601 date or time, UTC unless it says otherwise; or `ValueError`."""
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    try:
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    except OverflowError as error:
        raise ValueError(str(error)) from error


def show_time(seconds: float) -> str:
    """Return Unix seconds as ISO 8601 in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"


def show_value(kind: str, value: TagValue) -> str:
    """Return ``value`` of a type for people."""
    if kind == TagType.TIME and isinstance(value, float):
        return show_time(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def read_value(name: str, kind: TagType, given: TagValue | datetime) -> TagValue:
    """Return the value of the tag ``name`` as it is stored, from a text of the command line or a value.

    Raises `BadRequest` for a value of another type.
    """
    try:
        value = _from_text(kind, given.strip()) if isinstance(given, str) else _from_value(kind, given)
        if isinstance(value, str) and isinstance(given, str):
            value = _checked_text(given)
    except (ValueError, OverflowError):
        found = f"{given!r} is not {_A[kind]}"
        raise BadRequest(f"set the tag {name}", found, f"give {_EXAMPLE[kind]}") from None
    return value


_A = {
    TagType.INTEGER: "a 64-bit integer",
    TagType.NUMBER: "a number",
    TagType.TEXT: "a text",
    TagType.TIME: "a time",
    TagType.BOOLEAN: "a boolean",
}
_EXAMPLE = {
    TagType.INTEGER: "a whole number, such as 195682",
    TagType.NUMBER: "a finite number, such as 0.25 or 1e-3",
    TagType.TEXT: f"at most {MAX_TEXT_BYTES} bytes without control characters",
    TagType.TIME: "an ISO time, such as 2026-01-31 or 2026-01-31T12:00:00Z",
    TagType.BOOLEAN: "true or false",
}


def _from_text(kind: TagType, text: str) -> TagValue:
    if kind is TagType.TEXT:
        return text
    if kind is TagType.BOOLEAN:
        if text.lower() not in _WORDS:
            raise ValueError(text)
        return _WORDS[text.lower()]
    if kind is TagType.TIME:
        return read_time(text)
    return _from_value(kind, int(text) if kind is TagType.INTEGER else float(text))


def _from_value(kind: TagType, value: bool | float | str | datetime) -> TagValue:
    boolean = isinstance(value, bool)
    if kind is TagType.BOOLEAN and boolean:
        return bool(value)
    if kind is TagType.TIME and isinstance(value, datetime):
        return read_time(value.isoformat())
    if boolean or isinstance(value, (str, datetime)):
        raise ValueError(value)
    if kind is TagType.INTEGER and isinstance(value, int) and value in INTEGERS:
        return value
    if kind in (TagType.NUMBER, TagType.TIME) and math.isfinite(value):
        return float(value)
    raise ValueError(value)


def _checked_text(text: str) -> str:
    if len(text.encode("utf-8")) > MAX_TEXT_BYTES or any(ord(char) < 32 for char in text):
        raise ValueError(text)
    return text
