"""A site's own list of files (CSV, Parquet or SQLite), read as a catalogue.

``url`` is the path of the file; its ending says what it is: ``.csv`` (also ``.tsv``, ``.txt``, and each
with ``.gz``), ``.parquet``, ``.db`` or ``.sqlite``. Columns are found by their names (settings
``columns``): ``lfn`` and ``size`` must be there; ``adler32`` (8 hex digits), ``guid``, ``se``, ``url``,
``owner``, ``group`` and ``modified`` (Unix seconds) may be. A row is one copy: a file with two has two rows.

The list is read once, row by row, into an index that has no name and goes with the process, and again
when the file has changed; answers of before it then expire. Rows that are equal are one; rows that
contradict each other make the whole list unusable, and are named.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from vse.catalogue.globs import matcher
from vse.catalogue.upstream.dump_rows import Copy, Unreadable, copies
from vse.config.upstreams import UpstreamSettings
from vse.errors import NoSuchEntry, UpstreamGarbage, UpstreamUnavailable
from vse.model import BulkResult, Entry, Lfn, Located, Replica, ReplicaState

_NAMED = 5
_AT_ONCE = 10_000
_FILE_MODE = 0o644
_COLUMNS = "name, se, size, adler32, guid, url, owner, grp, modified, line"
_ORDER = "ORDER BY directory, name, se"
# The same copy twice differs in more than its line; copies of one file differ in what the file is.
_CONTRADICTING = (
    "SELECT name, group_concat(line, ', ') FROM (SELECT name, se, min(line) AS line FROM read"
    " GROUP BY name, se, url, size, adler32, guid, owner, grp, modified)"
    " GROUP BY name, se HAVING count(*) > 1 LIMIT ?",
    "SELECT name, group_concat(line, ', ') FROM (SELECT name, min(line) AS line FROM read"
    " GROUP BY name, size, adler32, guid, owner, grp, modified)"
    " GROUP BY name HAVING count(*) > 1 LIMIT ?",
)


class DumpUpstream:
    """`vse.catalogue.port.Upstream` over one file. Safe to share between threads."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.name = settings.name
        self._settings = settings
        self._path = Path(settings.url.removeprefix("file://"))
        self._lock = threading.Lock()
        self._index: sqlite3.Connection | None = None
        self._indexed = ""

    def version(self) -> str:
        """Return what changes with the file; empty where it is not there."""
        try:
            status = self._path.stat()
        except OSError:
            return ""
        return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """As `Upstream.find`; memory does not grow with the answer."""
        matches = matcher(pattern)
        index = self._ready(f"find {pattern!r} under {base or '/'} in the dump {self.name!r}")
        for located in self._files(index, *_below(base)):
            if matches(located.entry.lfn.name):
                yield located

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """As `Upstream.resolve`."""
        result: BulkResult[Located] = BulkResult()
        names = iter(dict.fromkeys(lfns))
        index = self._ready(f"look up {len(lfns)} names in the dump {self.name!r}")
        while some := list(islice(names, 500)):
            where = f"name IN ({','.join('?' * len(some))})"
            result.ok.update((found.entry.lfn, found) for found in self._files(index, where, some))
            for lfn in some:
                if lfn not in result.ok:
                    error = NoSuchEntry(f"find {lfn} in the dump {self.name!r}", "there is no such file")
                    result.failed[lfn] = error
        return result

    def close(self) -> None:
        """Forget the index."""
        with self._lock:
            self._index, self._indexed = None, ""

    def _files(self, index: sqlite3.Connection, where: str, arguments: Sequence[str]) -> Iterator[Located]:
        rows = index.execute(f"SELECT {_COLUMNS} FROM copies WHERE {where} {_ORDER}", arguments)  # noqa: S608
        for name, of_file in groupby(rows, itemgetter(0)):
            yield self._located(Lfn(name), list(of_file))

    def _located(self, lfn: Lfn, rows: list[Any]) -> Located:
        _, _, size, adler32, guid, _, owner, group, modified, _ = rows[0]
        owner, group = owner or "root", group or "root"
        entry = Entry(lfn, "file", size, adler32, guid, owner, group, _FILE_MODE, modified, modified)
        replicas = (
            Replica(lfn, row[1], row[5], ReplicaState.AVAILABLE, None, self.name) for row in rows if row[1]
        )
        return Located(entry, tuple(replicas))

    def _ready(self, wanted: str) -> sqlite3.Connection:
        """Return the index of the file as it is now."""
        version = self.version()
        if not version:
            todo = f"check upstreams.{self.name}.url"
            raise UpstreamUnavailable(wanted, f"{self._path} is not there, or cannot be read", todo)
        with self._lock:
            if self._index is None or version != self._indexed:
                index = self._read(wanted)
                if self.version() != version:
                    index.close()
                    found = f"{self._path} changed while it was read"
                    raise UpstreamUnavailable(wanted, found, "replace the file by a rename, not in place")
                # An index that an answer is still read from lives until that has ended.
                self._index, self._indexed = index, version
            return self._index

    def _read(self, wanted: str) -> sqlite3.Connection:
        # Without a name it is a file that SQLite removes itself.
        index = sqlite3.connect("", check_same_thread=False)
        try:
            index.execute("PRAGMA journal_mode=OFF").close()
            index.execute("PRAGMA synchronous=OFF").close()
            index.execute(f"CREATE TABLE read (directory, {_COLUMNS})").close()
            with closing(copies(self._path, self._settings)) as told:
                while some := list(islice(told, _AT_ONCE)):
                    index.executemany(f"INSERT INTO read VALUES ({','.join('?' * 11)})", map(_row, some))  # noqa: S608
            self._check(index, wanted)
            index.execute(f"CREATE TABLE copies AS SELECT * FROM read GROUP BY name, se {_ORDER}").close()  # noqa: S608
            index.execute("DROP TABLE read").close()
            index.execute("CREATE INDEX by_directory ON copies (directory, name, se)").close()
            index.execute("CREATE INDEX by_name ON copies (name, se)").close()
            index.commit()
        except Unreadable as error:
            index.close()
            todo = "mend the list; what it told before is kept"
            raise UpstreamGarbage(wanted, f"{self._path}: {error}", todo) from error
        except (OSError, sqlite3.Error) as error:
            index.close()
            raise UpstreamUnavailable(wanted, f"{self._path} cannot be read ({error})") from error
        except BaseException:
            index.close()
            raise
        return index

    def _check(self, index: sqlite3.Connection, wanted: str) -> None:
        for query in _CONTRADICTING:
            rows = index.execute(query, (_NAMED,)).fetchall()
            if rows:
                names = "; ".join(f"{name} (rows {lines})" for name, lines in rows)
                more = ", and perhaps more" if len(rows) == _NAMED else ""
                index_found = f"{self._path}: rows contradict each other: {names}{more}"
                raise UpstreamGarbage(wanted, index_found, "keep one row of each copy")


def _row(copy: Copy) -> tuple[Any, ...]:
    # As the catalogue sorts: '/' ends the name of a directory there, and nothing does here.
    return (copy.name.rpartition("/")[0] or "/", *copy)


def _below(base: str) -> tuple[str, list[str]]:
    """Return the condition for names that are ``base`` or below it (see `mapping.Area`)."""
    if base in ("", "/"):
        return "1", []
    if base.endswith(":"):
        return "name >= ? AND name < ?", [base, base[:-1] + ";"]
    return "(name = ? OR (name >= ? AND name < ?))", [base, base + "/", base + "0"]
