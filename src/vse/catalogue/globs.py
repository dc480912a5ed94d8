"""Globs on names: what `fnmatch.fnmatchcase` says, asked of the database where it says the same."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass

from vse.catalogue.sql_statements import Matching

_MOST_STARS = 4  # databases match by trying, which takes exponential time in the number of stars


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that says whether a name matches ``pattern``, compiled once."""
    match = re.compile(fnmatch.translate(pattern)).match
    return lambda name: match(name) is not None


@dataclass(frozen=True, slots=True)
class Glob:
    """How to find the names that match a pattern.

    ``matching`` and ``argument`` for the database; ``accepts`` for what it returns, None where the
    database has decided alone.
    """

    matching: str
    argument: str
    accepts: Callable[[str], bool] | None

    @classmethod
    def of(cls, pattern: str, dialect: str) -> Glob:
        """Plan ``pattern`` for a dialect (``sqlite`` or ``postgresql``).

        The database is asked about ``*`` and ``?`` only: sets are written ``[!a]`` in one and ``[^a]``
        in another, and an open ``[`` is a plain letter to `fnmatch` alone.
        """
        if set(pattern) == {"*"}:
            return cls(Matching.ALL, "", None)
        if "[" in pattern or pattern.count("*") > _MOST_STARS:
            return cls(Matching.ALL, "", matcher(pattern))
        if not set("*?") & set(pattern):
            return cls(Matching.EXACT, pattern, None)
        if dialect == "sqlite":
            return cls(Matching.GLOB, pattern, None)
        literal = re.sub(r"([\\%_])", r"\\\1", pattern)
        return cls(Matching.GLOB, literal.replace("*", "%").replace("?", "_"), None)
