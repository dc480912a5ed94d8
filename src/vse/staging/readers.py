"""Who reads what: what is being read now, and what was read how often.

Programs that read for long (an analysis) say so before; reads that are over are noted by those that served
them: the doors, the mount, the analysis. The times of the file system are never asked.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import sqlalchemy as sa

from vse.catalogue.port import Catalogue
from vse.db import Database
from vse.db.prepared import chunks, inserting
from vse.db.tables_pool import holdings, readers, reads
from vse.errors import VseError
from vse.model import Clock, Lfn
from vse.storage.element import Elements
from vse.transfer import instance

_DAY_S = 86400
_ROWS = 500
_READING_S = 86400.0
"""How long a reader on another machine is believed to read that does not say so again."""
_RENEW_S = 3600.0


class Accesses:
    """Records reads. Safe to share between threads and processes."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        elements: Elements,
        clock: Clock,
        renew_s: float = _RENEW_S,
    ) -> None:
        """``renew_s``: how often it is said again that files are still being read."""
        self._renew_s = renew_s
        self._database = database
        self._elements = elements
        self._catalogue = catalogue
        self._clock = clock

    def note(self, element: str, lfns: Sequence[Lfn]) -> None:
        """Record that copies at ``element`` were read, each as often as it is named.

        In the catalogue, in the pool, and in the day's count; times never go back. Unknown ones are
        passed over.
        """
        now_s = self._clock()
        numbers = Counter(lfns)
        self._catalogue.note_access(list(numbers), element, now_s)
        element = self._elements.name_of(element)
        sizes = {lfn: entry.size_bytes or 0 for lfn, entry in self._catalogue.stat(list(numbers)).ok.items()}
        for some in chunks(sorted(numbers), _ROWS):
            with self._database.write() as connection:
                values = [{"name": lfn, "number": numbers[lfn], "now": now_s} for lfn in some]
                connection.execute(_touch(element), values)
                insert = inserting(connection.dialect)(reads)
                added = {name: reads.c[name] + insert.excluded[name] for name in ("number", "size_bytes")}
                rows = [
                    {
                        "lfn": lfn,
                        "day": int(now_s // _DAY_S),
                        "number": numbers[lfn],
                        "size_bytes": numbers[lfn] * sizes[lfn],
                    }
                    for lfn in some
                    if lfn in sizes
                ]
                if rows:
                    upsert = insert.on_conflict_do_update(index_elements=["lfn", "day"], set_=added)
                    connection.execute(upsert, rows)

    def forget(self, before_s: float) -> int:
        """Remove the counts of days before; return how many rows."""
        with self._database.write() as connection:
            old = sa.delete(reads).where(reads.c.day < int(before_s // _DAY_S))
            return connection.execute(old).rowcount

    # -- what is being read --------------------------------------------------------------------------

    @contextmanager
    def reading(self, files: Mapping[str, Sequence[Lfn]]) -> Iterator[None]:
        """Keep copies, by element, from being thrown away until the end of the block, or of this process."""
        holder = instance.new_owner()
        until_s = self._clock() + _READING_S
        values = [
            {"element": self._elements.name_of(element), "lfn": lfn, "holder": holder, "until_s": until_s}
            for element, lfns in files.items()
            for lfn in dict.fromkeys(lfns)
        ]
        for some in chunks(values, _ROWS):
            with self._database.write() as connection:
                connection.execute(sa.insert(readers), some)
        over = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(holder, over), name="vse-reading", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            over.set()
            renewing.join()
            with self._database.write() as connection:
                connection.execute(sa.delete(readers).where(readers.c.holder == holder))

    def _renew(self, holder: str, over: threading.Event) -> None:
        """Say again and again that a reader lives, until it is over."""
        ours = sa.update(readers).where(readers.c.holder == holder)
        while not over.wait(self._renew_s):
            with suppress(VseError, sa.exc.SQLAlchemyError), self._database.write() as connection:
                connection.execute(ours.values(until_s=self._clock() + _READING_S))  # else the next time

    def forget_dead(self) -> None:
        """Remove what readers left that are gone."""
        with self._database.read() as connection:
            holders = [one for (one,) in connection.execute(sa.select(readers.c.holder).distinct())]
        if not holders:
            return
        late = sa.and_(readers.c.until_s < self._clock(), readers.c.holder.not_in(instance.judged(holders)))
        gone = sa.or_(readers.c.holder.in_(instance.dead(holders)), late)
        with self._database.write() as connection:
            connection.execute(sa.delete(readers).where(gone))


def _touch(element: str) -> sa.Update:
    accessed = holdings.c.accessed_s
    now = sa.bindparam("now", type_=sa.Float)
    return (
        sa.update(holdings)
        .where(holdings.c.element == element, holdings.c.lfn == sa.bindparam("name"))
        .values(
            accessed_s=sa.case((accessed < now, now), else_=accessed),
            reads=holdings.c.reads + sa.bindparam("number", type_=sa.BigInteger),
        )
    )


def reading_now(connection: sa.Connection, element: str, lfns: Sequence[Lfn], now_s: float) -> set[Lfn]:
    """Return those of the files that a living process has said it reads."""
    query = sa.select(readers.c.lfn, readers.c.holder, readers.c.until_s).where(
        readers.c.element == element, readers.c.lfn.in_(lfns)
    )
    rows = connection.execute(query).all()
    holders = {row.holder for row in rows}
    gone, seen = set(instance.dead(holders)), set(instance.judged(holders))
    late = {row.holder for row in rows if row.until_s < now_s} - seen
    return {Lfn(row.lfn) for row in rows if row.holder not in gone | late}


class Noted:
    """Collects reads in memory, for doors that serve thousands a second, and records them together.

    A file counts once between two flushes, in however many pieces it is read. What was not recorded when
    a process dies is lost: a file then looks a little older than it is.
    """

    def __init__(self, record: Callable[[str, Sequence[Lfn]], None]) -> None:
        self._record = record
        self._read: dict[str, set[Lfn]] = {}
        self._lock = threading.Lock()

    def note(self, element: str, lfn: Lfn) -> None:
        with self._lock:
            self._read.setdefault(element, set()).add(lfn)

    def flush(self) -> None:
        """Record what was noted since the last time."""
        with self._lock:
            read, self._read = self._read, {}
        for element, lfns in read.items():
            self._record(element, sorted(lfns))
