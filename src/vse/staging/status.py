"""How far requests are, and when they will be through."""

from __future__ import annotations

import time
from collections.abc import Sequence

import sqlalchemy as sa

from vse.config.settings import StagerSettings
from vse.db import Database
from vse.db.tables import request_items, transfers
from vse.errors import GivenUp, QuotaExceeded, StorageFull
from vse.model import Clock, Lfn
from vse.staging.eta import Estimate, Rate, measure
from vse.staging.eta_rows import Destination, Forecasts, read_destination, read_recent, running_of
from vse.staging.values import Broken, ItemState, Request, RequestState, RequestStatus
from vse.transfer.lifecycle import Policy, State, Transfer
from vse.transfer.queue import Queue
from vse.transfer.rows import error_of
from vse.transfer.shares import Slots

_BROKEN_SHOWN = 20
_LOOKED_AT = 100
NOT_MEASURED = "nothing was measured yet"
NOTHING_MOVES = "nothing moves now; is a stager running, and are its settings right? See: vse stager list"


class Progress:
    """Looks at requests and the queue; writes nothing. ``settings``: by which the stagers work."""

    def __init__(
        self, database: Database, clock: Clock = time.time, settings: StagerSettings | None = None
    ) -> None:
        settings = settings or StagerSettings()
        policy = Policy.of(settings)
        self.slots = Slots.of(settings)
        self._database = database
        self._clock = clock
        self._forecasts = Forecasts(Queue(database, policy, clock), self.slots, policy)

    def status(self, requests: Sequence[Request]) -> list[RequestStatus]:
        """Return how far each request is."""
        with self._database.read() as connection:
            known: dict[str, Destination] = {}
            return [self._one(connection, request, known) for request in requests]

    def rate(self, destination: str) -> Rate | None:
        """Return what the transfers to a storage element carry, or carried when they last ran."""
        with self._database.read() as connection:
            return measure(read_recent(connection, destination, self._clock()))

    def arrival(self, transfer: Transfer) -> Estimate | None:
        """Return when a transfer that has not ended will be here."""
        with self._database.read() as connection:
            at = read_destination(connection, transfer.destination, self._clock())
            return self._forecasts.of_transfer(connection, at, transfer)

    def _one(
        self, connection: sa.Connection, request: Request, known: dict[str, Destination]
    ) -> RequestStatus:
        files, sizes = _by_state(connection, request.id)
        if request.destination not in known:
            known[request.destination] = read_destination(connection, request.destination, self._clock())
        at = known[request.destination]
        running, running_bytes, eta, note = 0, 0, None, ""
        if request.state is RequestState.HELD:
            note = "it waits for approval; see: vse request approve --help"
        elif files[ItemState.WAITING]:
            moving = running_of(connection, at, request.id)
            running, running_bytes = len(moving), sum(one.bytes_done for one in moving)
            eta = self._forecasts.of_request(connection, at, request.id, files[ItemState.WAITING])
            note = NOT_MEASURED if eta is None else ""
            note = note if at.running else NOTHING_MOVES
            no_room = _no_room(connection, request.id)
            eta, note = (None, no_room) if no_room else (eta, note)
        return RequestStatus(
            request,
            files,
            sum(sizes.values()),
            sizes[ItemState.HERE] + sizes[ItemState.DONE] + running_bytes,
            running,
            at.history.rate.bytes_per_s if at.history and at.history.rate else None,
            eta,
            _broken(connection, request.id) if files[ItemState.FAILED] else (),
            note,
        )


def _no_room(connection: sa.Connection, request_id: int) -> str:
    """Return what keeps the files of a request from having room; empty where some of them may have it.

    Nobody can tell when there will be. Some of the files are looked at, not all.
    """
    item = request_items.c
    query = (
        sa.select(transfers.c.state, transfers.c.error)
        .join(request_items, item.transfer_id == transfers.c.id)
        .where(item.request_id == request_id, item.state == ItemState.WAITING)
        .limit(_LOOKED_AT)
    )
    rows = [one for one in connection.execute(query) if one.state != State.RUNNING]
    errors = [error_of(one.error) if one.state == State.WAITING else None for one in rows]
    found = [one.found for one in errors if isinstance(one, QuotaExceeded | StorageFull)]
    return f"it waits for room: {found[0]}" if found and len(found) == len(rows) else ""


def _by_state(
    connection: sa.Connection, request_id: int
) -> tuple[dict[ItemState, int], dict[ItemState, int]]:
    files = dict.fromkeys(ItemState, 0)
    sizes = dict.fromkeys(ItemState, 0)
    query = (
        sa.select(request_items.c.state, sa.func.count(), sa.func.sum(request_items.c.size_bytes))
        .where(request_items.c.request_id == request_id)
        .group_by(request_items.c.state)
    )
    for state, count, size in connection.execute(query):
        files[ItemState(state)] = int(count)
        sizes[ItemState(state)] = int(size)
    return files, sizes


def _broken(connection: sa.Connection, request_id: int) -> tuple[Broken, ...]:
    query = (
        sa.select(request_items.c.lfn, request_items.c.error)
        .where(request_items.c.request_id == request_id, request_items.c.state == ItemState.FAILED)
        .order_by(request_items.c.transfer_id, request_items.c.lfn)
        .limit(_BROKEN_SHOWN)
    )
    return tuple(
        Broken(Lfn(lfn), error_of(text) or GivenUp(f"stage {lfn}", "no reason was kept"))
        for lfn, text in connection.execute(query)
    )
