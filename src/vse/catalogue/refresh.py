"""Answers that were served beyond their time, asked for anew behind the caller.

What is to be asked is a row: a process that ends before it was leaves it to the next one. One that
nobody ever asks costs nothing: beyond ``stale_s`` the question is asked in front of its answer anyway.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable

import sqlalchemy as sa
import structlog

from vse.db import Database
from vse.db.prepared import chunks, inserting
from vse.db.tables_upstreams import refreshes
from vse.errors import VseError
from vse.model import Clock

log = structlog.get_logger("vse.catalogue.refresh")

Asked = tuple[str, str]
"""A kind of question and the question, as in the table of answers."""

AT_ONCE = 1000
_LEASE_S = 600.0
_AGAIN_S = 5.0
_END_WAIT_S = 2.0
_ROWS_AT_ONCE = 200


class Refresher:
    """The queue and the thread that works on it while there is something in it.

    ``ask`` is called with what was claimed, in the thread; it asks the upstreams and stores what they
    tell. A question that was queued a moment ago is not queued again, even if asking it failed.
    """

    def __init__(self, database: Database, clock: Clock, ask: Callable[[Collection[Asked]], None]) -> None:
        self._database = database
        self._clock = clock
        self._ask = ask
        self._queued: dict[Asked, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._more = False
        self._thread: threading.Thread | None = None

    def queue(self, questions: Iterable[Asked]) -> None:
        """Have ``questions`` asked soon, by this process or another."""
        now_s = self._clock()
        new = [asked for asked in questions if self._queued.get(asked, 0.0) <= now_s]
        if not new:
            return
        with self._database.write() as connection:
            for some in chunks(new, _ROWS_AT_ONCE):
                rows = [
                    {"kind": kind, "question": question, "queued_s": now_s, "claimed_until_s": 0.0}
                    for kind, question in some
                ]
                statement = inserting(connection.dialect)(refreshes).values(rows)
                connection.execute(statement.on_conflict_do_nothing())
        if len(self._queued) > 100 * AT_ONCE:
            self._queued.clear()
        self._queued.update(dict.fromkeys(new, now_s + _AGAIN_S))
        self.wake()

    def wake(self) -> None:
        """Start the thread, unless it runs; it ends by itself when nothing is queued."""
        with self._lock:
            self._more = True
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="vse-refresh", daemon=True)
                self._thread.start()

    def resume(self) -> None:
        """Go on with what other processes left."""
        with self._database.read() as connection:
            left = connection.execute(sa.select(sa.literal(1)).select_from(refreshes).limit(1)).first()
        if left:
            self.wake()

    def run_once(self) -> int:
        """Claim some questions, ask them, and forget them; return how many there were."""
        claimed = self._claim(self._clock())
        if claimed:
            try:
                self._ask(claimed)
            finally:
                self._forget(claimed)
        return len(claimed)

    def _claim(self, now_s: float) -> list[Asked]:
        key = sa.tuple_(refreshes.c.kind, refreshes.c.question)
        due = sa.select(refreshes.c.kind, refreshes.c.question).where(refreshes.c.claimed_until_s <= now_s)
        due = due.order_by(refreshes.c.queued_s).limit(AT_ONCE).with_for_update(skip_locked=True)
        with self._database.write() as connection:
            claimed: list[Asked] = [(row[0], row[1]) for row in connection.execute(due)]
            for some in chunks(claimed, _ROWS_AT_ONCE):
                statement = sa.update(refreshes).where(key.in_(some))
                connection.execute(statement.values(claimed_until_s=now_s + _LEASE_S))
        return claimed

    def _forget(self, claimed: Collection[Asked]) -> None:
        key = sa.tuple_(refreshes.c.kind, refreshes.c.question)
        with self._database.write() as connection:
            for some in chunks(claimed, _ROWS_AT_ONCE):
                connection.execute(sa.delete(refreshes).where(key.in_(some)))

    def _run(self) -> None:
        while True:
            with self._lock:
                self._more = False
            try:
                while not self._stop.is_set() and self.run_once():
                    pass
            except VseError as error:
                log.warning("refreshing failed", error=str(error))
            with self._lock:
                if self._stop.is_set() or not self._more:
                    self._thread = None
                    return

    def close(self) -> None:
        """Stop; what is being asked now gets a moment to end, and is otherwise left to the next process."""
        with self._lock:
            self._stop.set()
            thread = self._thread
        if thread is not None:
            thread.join(_END_WAIT_S)
