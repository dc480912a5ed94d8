"""How much a pool can hold: by its settings, and by what its storage says of itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import sqlalchemy as sa

from vse.config.pools import PoolSettings
from vse.db import Database
from vse.db.tables import transfers
from vse.db.tables_pool import reservations
from vse.model import Clock, Space
from vse.staging import accounts
from vse.staging.accounts import Used
from vse.staging.pool_plan import Fill
from vse.transfer.lifecycle import State

_FRESH_S = 10.0
"""How long a measurement is believed. In between, the accounts say what came and went."""


class Bound(NamedTuple):
    """The accounts and ``other_bytes`` together can be ``total_bytes`` at most."""

    total_bytes: int
    other_bytes: int

    def fill(self, used: Used) -> Fill:
        return Fill(self.total_bytes, max(0, self.other_bytes + used.all_bytes))


class Capacity:
    """Measures pools, and remembers it for a moment. Safe to share between threads.

    ``ask`` returns the space of a storage element, with None for what it cannot tell; it does not raise.
    """

    def __init__(
        self,
        database: Database,
        pools: Mapping[str, PoolSettings],
        ask: Callable[[str], Space],
        clock: Clock = time.monotonic,
    ) -> None:
        self._database = database
        self._pools = pools
        self._ask = ask
        self._clock = clock
        self._known: dict[str, tuple[float, tuple[Bound, ...]]] = {}
        self._lock = threading.Lock()

    def is_pool(self, element: str) -> bool:
        return element in self._pools

    def bounds(self, element: str, *, anew: bool = False) -> tuple[Bound, ...]:
        """Return what bounds a pool: its settings' size where given, then its storage where it tells.

        None for an element that is no pool. The first one is what the watermarks are fractions of.
        """
        if element not in self._pools:
            return ()
        with self._lock:
            measured_s, bounds = self._known.get(element, (0.0, ()))
            if anew or not bounds or self._clock() - measured_s > _FRESH_S:
                bounds = self._measure(element)
                self._known[element] = (self._clock(), bounds)
        return bounds

    def _measure(self, element: str) -> tuple[Bound, ...]:
        size_bytes = self._pools[element].size
        given = (Bound(size_bytes, 0),) if size_bytes else ()
        with self._database.read() as connection:  # before the storage: what comes meanwhile counts twice
            held_bytes = accounts.used_by(connection, element).size_bytes
            held_bytes += _begun_bytes(connection, element)
        space = self._ask(element)
        if space.total_bytes is None or space.free_bytes is None:
            return self._known.get(element, (0.0, given))[1]
        taken_bytes = space.total_bytes - space.free_bytes
        return (*given, Bound(space.total_bytes, taken_bytes - held_bytes))


def _begun_bytes(connection: sa.Connection, element: str) -> int:
    """Return what is on the storage already of files for which space is kept (or less)."""
    ours = sa.and_(reservations.c.lfn == transfers.c.lfn, reservations.c.element == transfers.c.destination)
    query = (
        sa.select(transfers.c.bytes_done, reservations.c.size_bytes)
        .join(reservations, ours)
        .where(transfers.c.destination == element, transfers.c.state == State.RUNNING)
    )
    return sum(min(done, size) for done, size in connection.execute(query))
