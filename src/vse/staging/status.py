"""How far requests are, and when they will be through."""

from __future__ import annotations

import time
from collections.abc import Sequence

import sqlalchemy as sa

from vse.db import Database
from vse.db.tables import request_items, transfers
from vse.errors import GivenUp
from vse.model import Clock, Lfn
from vse.staging.eta import Estimate, Rate, Sample, estimate, measure
from vse.staging.values import Broken, ItemState, Request, RequestStatus
from vse.transfer.lifecycle import State
from vse.transfer.rows import error_of

_RECENT = 500
_BROKEN_SHOWN = 20


class Progress:
    """Looks at requests and the queue; writes nothing."""

    def __init__(self, database: Database, clock: Clock = time.time) -> None:
        self._database = database
        self._clock = clock

    def status(self, requests: Sequence[Request]) -> list[RequestStatus]:
        """Return how far each request is."""
        with self._database.read() as connection:
            return [self._one(connection, request) for request in requests]

    def rate(self, destination: str) -> Rate | None:
        """Return what the transfers to a storage element carry, or carried when they last ran."""
        with self._database.read() as connection:
            return self._rate(connection, destination)

    def arrival(self, destination: str, place: int, not_before_s: float) -> Estimate | None:
        """Return when a transfer that is queued at ``place`` will be here."""
        with self._database.read() as connection:
            rate = self._rate(connection, destination)
            return self._arrival(connection, destination, rate, place, not_before_s)

    def _one(self, connection: sa.Connection, request: Request) -> RequestStatus:
        files, sizes = _by_state(connection, request.id)
        running, running_bytes = _running(connection, request.id)
        rate = self._rate(connection, request.destination)
        eta = None
        if files[ItemState.WAITING]:
            last = (
                sa.select(sa.func.max(transfers.c.place), sa.func.max(transfers.c.not_before_s))
                .join(request_items, request_items.c.transfer_id == transfers.c.id)
                .where(request_items.c.request_id == request.id, request_items.c.state == ItemState.WAITING)
            )
            place, not_before_s = connection.execute(last).one()
            eta = self._arrival(connection, request.destination, rate, place or 0, not_before_s or 0.0)
        return RequestStatus(
            request,
            files,
            sum(sizes.values()),
            sizes[ItemState.HERE] + sizes[ItemState.DONE] + running_bytes,
            running,
            rate.bytes_per_s if rate else None,
            eta,
            _broken(connection, request.id),
        )

    def _rate(self, connection: sa.Connection, destination: str) -> Rate | None:
        now_s = self._clock()
        times = (transfers.c.started_s, transfers.c.finished_s, transfers.c.size_bytes)
        done = (
            sa.select(*times)
            .where(
                transfers.c.destination == destination,
                transfers.c.state == State.DONE,
                transfers.c.finished_s.is_not(None),
            )
            .order_by(transfers.c.finished_s.desc())
            .limit(_RECENT)
        )
        moving = sa.select(transfers.c.started_s, transfers.c.bytes_done).where(
            transfers.c.destination == destination,
            transfers.c.state == State.RUNNING,
            transfers.c.bytes_done > 0,
        )
        samples = [Sample(*row) for row in connection.execute(done) if row[0] is not None]
        samples += [Sample(start_s, now_s, size) for start_s, size in connection.execute(moving)]
        return measure(samples)

    def _arrival(
        self,
        connection: sa.Connection,
        destination: str,
        rate: Rate | None,
        place: int,
        not_before_s: float,
    ) -> Estimate | None:
        count, size, moved = connection.execute(
            sa.select(
                sa.func.count(),
                sa.func.coalesce(sa.func.sum(transfers.c.size_bytes), 0),
                sa.func.coalesce(sa.func.sum(transfers.c.bytes_done), 0),
            ).where(
                transfers.c.destination == destination,
                transfers.c.state.in_((State.QUEUED, State.WAITING, State.RUNNING)),
                transfers.c.place <= place,
            )
        ).one()
        wait_s = max(0.0, not_before_s - self._clock())
        return estimate(rate, max(0, int(size) - int(moved)), int(count), wait_s)


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


def _running(connection: sa.Connection, request_id: int) -> tuple[int, int]:
    """Return how many transfers of a request run, and what they have written so far."""
    query = (
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(transfers.c.bytes_done), 0))
        .join(request_items, request_items.c.transfer_id == transfers.c.id)
        .where(transfers.c.state == State.RUNNING, request_items.c.request_id == request_id)
    )
    count, size = connection.execute(query).one()
    return int(count), int(size)


def _broken(connection: sa.Connection, request_id: int) -> tuple[Broken, ...]:
    query = (
        sa.select(request_items.c.lfn, request_items.c.error)
        .where(request_items.c.request_id == request_id, request_items.c.state == ItemState.FAILED)
        .limit(_BROKEN_SHOWN)
    )
    return tuple(
        Broken(Lfn(lfn), error_of(text) or GivenUp(f"stage {lfn}", "no reason was kept"))
        for lfn, text in connection.execute(query)
    )
