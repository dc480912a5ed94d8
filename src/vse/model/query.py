"""Dataset queries (seed 002 §4.3.6.1): a dataset's name is a question to the catalogue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from vse.errors import BadLfn, BadQuery
from vse.model.lfn import Lfn

_GLOB = re.compile(r"[*?\[]")
_EXAMPLE = "write it as 'Find;BasePath=/lhc/data;FileName=*.root'"
_KEYS = {"basepath": "BasePath", "filename": "FileName", "tree": "Tree"}


@dataclass(frozen=True, slots=True)
class DatasetQuery:
    """``Find;BasePath=<BASEPATH>;FileName=<FILENAME>[;Tree=<TREE>]``.

    ``base``: the directory under which to look, at any depth. ``pattern``: a shell glob on the last
    part of the name (``*``, ``?``, ``[...]``). ``tree``: the ROOT tree to read; empty for a file's
    default tree.
    """

    base: Lfn
    pattern: str
    tree: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a query, or a plain name (``/lhc/data``, ``/lhc/data/*.root``) as short for one.

        Raises `BadQuery` that points at the column of the first thing that is wrong.
        """
        stripped = text.strip()
        if stripped.startswith("/"):
            return cls._from_path(stripped)
        head, separator, rest = stripped.partition(";")
        if head.strip().lower() != "find":
            raise _bad(text, 0, f"a query starts with 'Find', not {head.strip()!r}")
        options = _options(text, rest, text.index(head) + len(head) + len(separator))
        if "BasePath" not in options:
            raise _bad(text, len(stripped), "BasePath is missing")
        value, column = options["BasePath"]
        try:
            base = Lfn.parse(value)
        except BadLfn as error:
            raise _bad(text, column, f"BasePath: {error.found}") from error
        pattern, column = options.get("FileName", ("*", 0))
        if "/" in pattern:
            raise _bad(text, column, "FileName matches the last part of a name; it cannot hold '/'")
        return cls(base, pattern, options.get("Tree", ("", 0))[0])

    @classmethod
    def _from_path(cls, path: str) -> Self:
        head, _, last = path.rpartition("/")
        if _GLOB.search(head):
            raise _bad(path, 0, "a glob is possible in the last part of a name only")
        try:
            if _GLOB.search(last):
                return cls(Lfn.parse(head or "/"), last)
            return cls(Lfn.parse(path), "*")
        except BadLfn as error:
            raise _bad(path, 0, error.found) from error

    def __str__(self) -> str:
        tree = f";Tree={self.tree}" if self.tree else ""
        return f"Find;BasePath={self.base};FileName={self.pattern}{tree}"


def _options(text: str, rest: str, column: int) -> dict[str, tuple[str, int]]:
    """Return ``{key: (value, column of the value)}`` of the part of a query behind its kind."""
    found: dict[str, tuple[str, int]] = {}
    for piece in rest.split(";"):
        if piece.strip():
            raw_key, equals, raw_value = piece.partition("=")
            key = _KEYS.get(raw_key.strip().lower())
            if not equals:
                raise _bad(text, column, f"{piece.strip()!r} has no '='")
            if key is None:
                known = ", ".join(_KEYS.values())
                raise _bad(text, column, f"unknown key {raw_key.strip()!r} (known: {known})")
            value_column = column + len(raw_key) + 1
            if key in found:
                raise _bad(text, column, f"{key} is given twice")
            if not raw_value.strip():
                raise _bad(text, value_column, f"{key} is empty")
            found[key] = (raw_value.strip(), value_column)
        column += len(piece) + 1
    return found


def _bad(text: str, column: int, found: str) -> BadQuery:
    return BadQuery(f"understand the query {text!r}", f"column {column + 1}: {found}", _EXAMPLE)
