"""The catalogue against a storage, in three looks: the catalogue, the storage's listing, the catalogue again.

A listing takes hours, and files come and go meanwhile. DIRAC's truth table tells the difference (a digit
each for the catalogue before, the catalogue after, and the storage)::

    001 dark      011, 010 very new      101 recently deleted
    110 lost      100 deleted            111 there; its size may differ

`judge` is that table and pure; `Comparison` brings the three looks together by path.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from vse.errors import StorageFull, VseError
from vse.model import Closing

_BATCH = 20_000
_KNOWN = (
    "CREATE TABLE {table} (path TEXT PRIMARY KEY, lfn TEXT, size INTEGER, since REAL, lost INTEGER) "
    "WITHOUT ROWID"
)


class Verdict(StrEnum):
    """What is wrong with a path. Stored by value."""

    DARK = "dark"
    """The storage holds it, the catalogue does not know it."""
    LOST = "lost"
    """The catalogue knows it, the storage does not hold it."""
    DIFFERING = "differing"
    """Both know it, with different sizes."""
    FOUND = "found"
    """It was marked as lost, and is there after all."""


class Known(NamedTuple):
    """A copy as the catalogue has it. ``since_s``: not older than this (Unix s); None for long ago."""

    path: str
    lfn: str
    size_bytes: int
    since_s: float | None = None
    lost: bool = False


class Held(NamedTuple):
    """A file as the storage lists it. None: the listing does not say."""

    path: str
    size_bytes: int | None
    modified_s: float | None


class Seen(NamedTuple):
    """What the three looks saw of one path; a size is None where it was not seen or not told.

    ``lost``: the catalogue has it marked as lost already. Flags are 0 or 1, as the database has them.
    """

    path: str
    lfn: str | None
    before: bool
    held: bool
    after: bool
    known_bytes: int | None
    held_bytes: int | None
    newest_s: float | None
    lost: bool


class Finding(NamedTuple):
    """One path that is not as it should be.

    ``lfn``: its name in the catalogue, ``known_bytes`` its size there; None where it has none.
    """

    path: str
    lfn: str | None
    verdict: Verdict
    held_bytes: int | None
    known_bytes: int | None


def judge(seen: Seen, settled_before_s: float) -> Finding | None:
    """Return what is wrong with a path; None for nothing, or for what may only be on its way.

    What either side says is younger than ``settled_before_s`` (Unix s) is never lost nor dark: it is
    being written, or being registered.
    """
    if seen.newest_s is not None and seen.newest_s >= settled_before_s:
        return None
    verdict: Verdict | None = None
    if seen.before and seen.after:
        if not seen.held:
            verdict = None if seen.lost else Verdict.LOST
        elif seen.lost:
            verdict = Verdict.FOUND if seen.held_bytes in (None, seen.known_bytes) else None
        elif seen.held_bytes not in (None, seen.known_bytes):
            verdict = Verdict.DIFFERING
    elif seen.held and not seen.before and not seen.after:
        verdict = Verdict.DARK
    return (
        None if verdict is None else Finding(seen.path, seen.lfn, verdict, seen.held_bytes, seen.known_bytes)
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be wrong before nothing is done about it: fractions, 0.05 for five in a hundred.

    ``dark``: of the files that the storage holds; ``lost``: of the copies that the catalogue knows.
    """

    dark: float = 0.05
    lost: float = 0.05

    def refusals(self, tally: Tally) -> dict[Verdict, str]:
        """Return the verdicts about which nothing may be done, each with the reason."""
        found: dict[Verdict, str] = {}
        wrong = tally.lost + tally.differing
        for verdict, what, number, whole, limit, setting in (
            (Verdict.DARK, "files are dark", tally.dark, tally.held, self.dark, "most_dark_fraction"),
            (Verdict.LOST, "copies are lost or differ", wrong, tally.known, self.lost, "most_lost_fraction"),
        ):
            if number > limit * whole:
                found[verdict] = (
                    f"{number:,} of {whole:,} {what}: a fraction of {number / max(whole, 1):.3f}, "
                    f"more than consistency.{setting} ({limit:g})"
                )
        if Verdict.LOST in found:
            found[Verdict.DIFFERING] = found[Verdict.LOST]
        return found


@dataclass(slots=True)
class Tally:
    """How many files there were of each kind."""

    known: int = 0
    held: int = 0
    dark: int = 0
    lost: int = 0
    differing: int = 0
    found: int = 0

    def count(self, finding: Finding) -> None:
        name = str(finding.verdict)
        setattr(self, name, getattr(self, name) + 1)


class Comparison(Closing):
    """The three looks, joined by path in a temporary database next to ``directory``; memory is constant.

    Each look is given once. Raises `StorageFull` where the temporary database does not fit.
    """

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="consistency-", suffix=".db", dir=directory)  # noqa: SIM115
        self._database = sqlite3.connect(self._file.name, isolation_level=None)
        for line in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "PRAGMA cache_size = -65536",
            _KNOWN.format(table="before"),
            "CREATE TABLE held (path TEXT PRIMARY KEY, size INTEGER, modified REAL) WITHOUT ROWID",
            _KNOWN.format(table="after"),
            "CREATE TABLE unlisted (path TEXT PRIMARY KEY) WITHOUT ROWID",
        ):
            self._database.execute(line)

    def look_before(self, known: Iterable[Known]) -> int:
        """Take the first look at the catalogue; return how many copies it has."""
        return self._fill("before", 5, known)

    def look_at_storage(self, held: Iterable[Held]) -> int:
        """Take the storage's listing; return how many files it has."""
        return self._fill("held", 3, held)

    def look_after(self, known: Iterable[Known]) -> int:
        """Take the second look at the catalogue."""
        return self._fill("after", 5, known)

    def leave_out(self, directory: str) -> None:
        """Judge nothing below a directory that could not be listed."""
        self._database.execute("INSERT OR IGNORE INTO unlisted VALUES (?)", (directory.rstrip("/"),))

    def findings(self, settled_before_s: float) -> Iterator[Finding]:
        """Yield what is wrong, in byte order of the paths."""
        rows = self._database.execute(
            """
            SELECT path, max(lfn), max(b), max(h), max(a), max(known), max(size), max(newest), max(lost)
            FROM (
              SELECT path, lfn, 1 b, 0 h, 0 a, size known, NULL size, since newest, lost FROM before
              UNION ALL SELECT path, NULL, 0, 1, 0, NULL, size, modified, 0 FROM held
              UNION ALL SELECT path, lfn, 0, 0, 1, size, NULL, since, lost FROM after
            ) AS looks
            WHERE NOT EXISTS (SELECT 1 FROM unlisted AS left_out
              WHERE looks.path > left_out.path || '/' AND looks.path < left_out.path || '0')
            GROUP BY path
            """
        )
        for row in rows:
            finding = judge(Seen._make(row), settled_before_s)
            if finding is not None:
                yield finding

    def _fill(self, table: str, width: int, rows: Iterable[tuple[object, ...]]) -> int:
        statement = f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * width)})"  # noqa: S608
        before = self._database.total_changes
        source = iter(rows)
        try:
            while batch := list(islice(source, _BATCH)):
                self._database.execute("BEGIN")
                self._database.executemany(statement, batch)
                self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise _full(error) from error
        return self._database.total_changes - before

    def close(self) -> None:
        self._database.close()
        self._file.close()


def _full(error: sqlite3.OperationalError) -> VseError:
    return StorageFull("compare the catalogue with the storage", str(error), "make room for a temporary file")
