"""The queue as a service uses it: what comes of transfers is told, and it can be closed for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence

from vse.db import Database
from vse.model import Clock
from vse.transfer.lifecycle import Policy, Progressed, Transfer
from vse.transfer.queue import Queue, Report
from vse.transfer.shares import Slots

Claimed = Callable[[Transfer], None]
Reported = Callable[[Report, Transfer], None]


class WatchedQueue(Queue):
    """Tells of each transfer after it was claimed, and after the end of its attempt was recorded."""

    def __init__(
        self, database: Database, policy: Policy, clock: Clock, claimed: Claimed, reported: Reported
    ) -> None:
        super().__init__(database, policy, clock)
        self._claimed = claimed
        self._reported = reported
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._closed = False

    @property
    def running(self) -> int:
        """How many transfers were claimed through this queue and are not over."""
        with self._lock:
            return len(self._running)

    def close(self) -> None:
        """Give out no more transfers from now on; those that run go on."""
        with self._lock:
            self._closed = True

    def open(self) -> None:
        with self._lock:
            self._closed = False

    def claim(
        self,
        owner: str,
        count: int,
        slots: Slots,
        requests: Sequence[int] | None = None,
        moves: Collection[int] = (),
    ) -> list[Transfer]:
        with self._lock:
            if self._closed:
                return []
            taken = super().claim(owner, count, slots, requests, moves)
            self._running.update(one.id for one in taken)
        for one in taken:
            self._claimed(one)
        return taken

    def report(self, owner: str, reports: Sequence[Report]) -> list[Transfer]:
        after = super().report(owner, reports)
        ends = {one.transfer_id: one for one in reports if not isinstance(one.event, Progressed)}
        if ends:
            with self._lock:
                self._running -= set(ends)
            for one in after:
                if one.id in ends:
                    self._reported(ends[one.id], one)
        return after
