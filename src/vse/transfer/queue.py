"""The transfer queue: rows of the database, worked on by any number of stagers at a time.

Every call is one short transaction. A claim is a lease: who holds it renews it while it works; where
its process is gone, the next claim takes the file over (at once on the same host, elsewhere when the
lease has run out). What a stager reports under a lease that it does not hold any more is dropped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from vse.db import Database
from vse.db.locks import Lock
from vse.db.tables import attempts, transfers
from vse.model import Clock, Lfn
from vse.transfer import instance
from vse.transfer.lifecycle import (
    Attempt,
    Cancelled,
    Claimed,
    Event,
    Found,
    GoLast,
    LeaseLost,
    Policy,
    Progressed,
    State,
    Transfer,
    Wanted,
    handle,
)
from vse.transfer.rows import attempt_of, chunks, insert_ignoring, keep, save, transfer_of


class Report(NamedTuple):
    """What a stager says of a transfer; ``number`` is the attempt, as claimed."""

    transfer_id: int
    number: int
    event: Event


class Tally(NamedTuple):
    """How many transfers are in a state, and their bytes."""

    files: int
    size_bytes: int
    bytes_done: int


class Queue:
    """The transfers of a database. Safe to share between threads."""

    def __init__(self, database: Database, policy: Policy, clock: Clock = time.time) -> None:
        self.policy = policy
        self._database = database
        self._clock = clock

    # -- filling ---------------------------------------------------------------------------------

    def enqueue(
        self, destination: str, wanted: Mapping[Lfn, Wanted], connection: sa.Connection | None = None
    ) -> dict[Lfn, int]:
        """Queue each file that is not queued or running already; return every transfer's id.

        Idempotent: the same file wanted twice is one transfer; one that had ended begins anew, with
        no failures, at the end of the queue. Within ``connection``'s transaction where one is given.
        """
        if connection is None:
            with self._database.write() as own:
                return self.enqueue(destination, wanted, own)
        ids: dict[Lfn, int] = {}
        for names in chunks(list(wanted)):
            _insert_new(connection, destination, {name: wanted[name] for name in names}, self._clock())
            rows = self._locked(
                connection, transfers.c.destination == destination, transfers.c.lfn.in_(names)
            )
            self._apply(connection, [(row, wanted[row.lfn]) for row in rows])
            ids.update((row.lfn, row.id) for row in rows)
        return ids

    def found(self, destination: str, lfns: Sequence[Lfn], connection: sa.Connection) -> list[int]:
        """End the transfers of files that turned out to be at their destination; return their ids."""
        ended: list[int] = []
        for names in chunks(lfns):
            rows = self._locked(
                connection,
                transfers.c.destination == destination,
                transfers.c.lfn.in_(names),
                transfers.c.state.in_((State.QUEUED, State.RUNNING)),
            )
            ended += [one.id for one in self._apply(connection, [(row, Found()) for row in rows])]
        return ended

    def cancel(self, ids: Sequence[int], connection: sa.Connection | None = None) -> list[Transfer]:
        """Take transfers out of the queue; a running one is stopped by its stager's next heartbeat."""
        if connection is None:
            with self._database.write() as own:
                return self.cancel(ids, own)
        ended: list[Transfer] = []
        for some in chunks(ids):
            rows = self._locked(connection, transfers.c.id.in_(some))
            ended += self._apply(connection, [(row, Cancelled()) for row in rows])
        return ended

    # -- working ---------------------------------------------------------------------------------

    def claim(
        self,
        owner: str,
        count: int,
        slots: int,
        slots_per_source: int,
        among: sa.ColumnElement[bool] | None = None,
    ) -> list[Transfer]:
        """Take up to ``count`` due transfers, first in queue first, as far as there are free slots.

        ``slots`` and ``slots_per_source`` count over all stagers of this database. Transfers of
        stagers that are gone are put back into the queue before. ``among``: only these, where given.
        """
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({Lock.CLAIM})")
            self._take_over(connection)
            busy = _running_by_source(connection)
            room = min(count, slots - sum(busy.values()))
            claimed: list[Transfer] = []
            while len(claimed) < room:
                full = [se for se, number in busy.items() if se and number >= slots_per_source]
                query = due_query(self._clock(), room - len(claimed), full, among)
                due = [transfer_of(row) for row in connection.execute(query)]
                if not due:
                    break
                fitting = []
                for row in due:
                    if not row.source_se or busy[row.source_se] < slots_per_source:
                        busy[row.source_se] += 1
                        fitting.append(row)
                claimed += self._apply(connection, [(row, Claimed(owner)) for row in fitting])
            return claimed

    def try_source(self, owner: str, claim: Transfer, se: str, limit: int) -> bool:
        """Move a running transfer to another source element, if that has a free slot."""
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({Lock.CLAIM})")
            taken = sa.select(sa.func.count()).where(
                transfers.c.state == State.RUNNING,
                transfers.c.source_se == se,
                transfers.c.id != claim.id,
            )
            if connection.execute(taken).scalar_one() >= limit:
                return False
            move = sa.update(transfers).where(
                transfers.c.id == claim.id,
                transfers.c.lease_owner == owner,
                transfers.c.attempts == claim.attempts,
            )
            connection.execute(move.values(source_se=se))
            return True

    def report(self, owner: str, reports: Sequence[Report]) -> list[Transfer]:
        """Record what became of claimed transfers, in one transaction; return them as they are now.

        Left out are those whose lease ``owner`` does not hold any more (cancelled, or taken over).
        """
        if not reports:
            return []
        by_id = {one.transfer_id: one for one in reports}
        with self._database.write() as connection:
            rows = self._locked(connection, transfers.c.id.in_(list(by_id)), transfers.c.lease_owner == owner)
            ours = [(row, by_id[row.id].event) for row in rows if row.attempts == by_id[row.id].number]
            return self._apply(connection, ours)

    def heartbeat(self, owner: str, progress: Mapping[int, tuple[int, Progressed]]) -> set[int]:
        """Renew the leases of ``{id: (attempt, progress)}``; return the ids that are not ours any more."""
        reports = [Report(key, number, event) for key, (number, event) in progress.items()]
        return set(progress) - {one.id for one in self.report(owner, reports)}

    def next_due_s(self) -> float | None:
        """When the next transfer is due, or the next lease of another stager ends; None for never."""
        with self._database.read() as connection:
            due = connection.execute(
                sa.select(sa.func.min(transfers.c.not_before_s)).where(transfers.c.state == State.QUEUED)
            ).scalar()
            lease = connection.execute(
                sa.select(sa.func.min(transfers.c.lease_until_s)).where(transfers.c.state == State.RUNNING)
            ).scalar()
        return min((when for when in (due, lease) if when is not None), default=None)

    # -- looking ---------------------------------------------------------------------------------

    def get(self, ids: Sequence[int]) -> dict[int, Transfer]:
        found: dict[int, Transfer] = {}
        with self._database.read() as connection:
            for some in chunks(ids):
                rows = connection.execute(sa.select(transfers).where(transfers.c.id.in_(some)))
                found.update((row.id, transfer_of(row)) for row in rows)
        return found

    def of_lfn(self, lfn: Lfn) -> list[Transfer]:
        """Return the transfers of a file, to any destination."""
        with self._database.read() as connection:
            return [
                transfer_of(row)
                for row in connection.execute(sa.select(transfers).where(transfers.c.lfn == lfn))
            ]

    def attempts_of(self, transfer_id: int) -> list[Attempt]:
        """Return every attempt that was kept, in order."""
        rows = sa.select(attempts).where(attempts.c.transfer_id == transfer_id).order_by(attempts.c.number)
        with self._database.read() as connection:
            return [attempt_of(row) for row in connection.execute(rows)]

    def tallies(self) -> dict[State, Tally]:
        """Return how many transfers are in each state."""
        columns = (
            transfers.c.state,
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(transfers.c.size_bytes), 0),
            sa.func.coalesce(sa.func.sum(transfers.c.bytes_done), 0),
        )
        found = dict.fromkeys(State, Tally(0, 0, 0))
        with self._database.read() as connection:
            for state, *numbers in connection.execute(sa.select(*columns).group_by(transfers.c.state)):
                found[State(state)] = Tally(*(int(number) for number in numbers))
        return found

    def ahead(self, transfer: Transfer) -> Tally:
        """Return what is queued before ``transfer`` or running: its position is ``files + 1``."""
        before = sa.or_(
            transfers.c.place < transfer.place,
            sa.and_(transfers.c.place == transfer.place, transfers.c.id < transfer.id),
        )
        columns = (
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(transfers.c.size_bytes), 0),
            sa.func.coalesce(sa.func.sum(transfers.c.bytes_done), 0),
        )
        total = [0, 0, 0]
        with self._database.read() as connection:
            for where in (
                sa.and_(transfers.c.state == State.QUEUED, before),
                sa.and_(transfers.c.state == State.RUNNING, transfers.c.id != transfer.id),
            ):
                row = connection.execute(sa.select(*columns).where(where)).one()
                total = [int(one) + int(two) for one, two in zip(total, row, strict=True)]
        return Tally(*total)

    # -- inside ----------------------------------------------------------------------------------

    def _locked(self, connection: sa.Connection, *where: sa.ColumnElement[bool]) -> list[Transfer]:
        query = sa.select(transfers).where(*where).order_by(transfers.c.place, transfers.c.id)
        return [transfer_of(row) for row in connection.execute(query.with_for_update())]

    def _take_over(self, connection: sa.Connection) -> None:
        running = transfers.c.state == State.RUNNING
        owners = connection.execute(sa.select(transfers.c.lease_owner).where(running).distinct())
        gone = instance.dead(owner for (owner,) in owners if owner)
        lost = sa.or_(transfers.c.lease_until_s < self._clock(), transfers.c.lease_owner.in_(gone))
        self._apply(connection, [(row, LeaseLost()) for row in self._locked(connection, running, lost)])

    def _apply(self, connection: sa.Connection, events: Iterable[tuple[Transfer, Event]]) -> list[Transfer]:
        """Send each transfer its event and write what comes of it; return all of them afterwards."""
        now_s = self._clock()
        after: list[Transfer] = []
        changed: list[Transfer] = []
        tried: list[Attempt] = []
        place: int | None = None
        for before, event in events:
            one, commands = handle(before, event, now_s, self.policy)
            for command in commands:
                if isinstance(command, GoLast):
                    place = (_last_place(connection) if place is None else place) + 1
                    one = replace(one, place=place)
                else:
                    tried.append(command.attempt)
            after.append(one)
            if one != before:
                changed.append(one)
        save(connection, changed)
        keep(connection, tried)
        return after


def due_query(
    now_s: float, count: int, full: Sequence[str], among: sa.ColumnElement[bool] | None = None
) -> sa.Select[Any]:
    """Return the query for the next ``count`` due transfers, without those of ``full`` sources.

    On PostgreSQL it passes over rows that another transaction is busy with.
    """
    open_source = sa.or_(transfers.c.source_se.is_(None), transfers.c.source_se.not_in(full))
    query = (
        sa.select(transfers)
        .where(transfers.c.state == State.QUEUED, transfers.c.not_before_s <= now_s, open_source)
        .order_by(transfers.c.place, transfers.c.id)
        .limit(count)
        .with_for_update(skip_locked=True)
    )
    return query if among is None else query.where(among)


def _running_by_source(connection: sa.Connection) -> Counter[str | None]:
    query = (
        sa.select(transfers.c.source_se, sa.func.count().label("running"))
        .where(transfers.c.state == State.RUNNING)
        .group_by(transfers.c.source_se)
    )
    return Counter({row.source_se: row.running for row in connection.execute(query)})


def _last_place(connection: sa.Connection) -> int:
    places = [
        connection.execute(sa.select(sa.func.max(transfers.c.place)).where(transfers.c.state == state))
        for state in (State.QUEUED, State.RUNNING)
    ]
    return max((place for result in places if (place := result.scalar()) is not None), default=0)


def _insert_new(
    connection: sa.Connection, destination: str, wanted: Mapping[Lfn, Wanted], now_s: float
) -> None:
    place = _last_place(connection)
    values = [
        {
            "lfn": lfn,
            "destination": destination,
            "size_bytes": one.size_bytes,
            "adler32": one.adler32,
            "tree": one.tree,
            "state": State.QUEUED,
            "place": place + number,
            "not_before_s": now_s,
            "failures": 0,
            "attempts": 0,
            "bytes_done": 0,
            "source_se": one.source_se,
            "created_s": now_s,
        }
        for number, (lfn, one) in enumerate(wanted.items(), start=1)
    ]
    if values:
        connection.execute(insert_ignoring(connection, transfers), values)
