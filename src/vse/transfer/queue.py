"""The transfer queue: rows of the database, worked on by any number of stagers at a time.

Every call is one short transaction. A claim is a lease: who holds it renews it while it works; where
its process is gone, the next claim takes the file over (at once on the same host, elsewhere when the
lease has run out). What a stager reports under a lease that it does not hold any more is dropped.

Who is next is settled when a file is queued (`vse.transfer.shares`), so that a claim reads the first rows
of an index for each lane with free slots, however many are queued behind them or in other lanes.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import merge
from itertools import groupby
from typing import NamedTuple

import sqlalchemy as sa

from vse.db import Database
from vse.db.locks import Lock
from vse.db.prepared import Row, as_json, driver_of
from vse.db.tables import attempts, transfer_counts, transfer_ends, transfers
from vse.model import Clock, Lfn
from vse.transfer import instance
from vse.transfer.buckets import WIDTH, Books, bucket_of, lane_of
from vse.transfer.caps import Moving
from vse.transfer.lifecycle import (
    ENDED,
    Attempt,
    Cancelled,
    Claimed,
    Due,
    Event,
    Found,
    GoLast,
    Policy,
    Progressed,
    State,
    Transfer,
    Wanted,
    handle,
)
from vse.transfer.queue_statements import LOOK_AHEAD, QueueStatements, in_lane, is_in, new_row, wanted_first
from vse.transfer.rows import attempt_of, chunks, insert_ignoring, keep, lost_together, save, transfer_of
from vse.transfer.shares import Lane, Slots, Usage

_LONGEST_WAIT_S = 900.0
"""Nothing waits for longer than this, or twice the longest back-off, before it is looked at again: what
does was put off before the clock was set back."""
_PROMOTED = 1000
"""How many files whose back-off is over are put back into the queue in one transaction."""


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
        self._sql = QueueStatements(database.engine.dialect)

    # -- filling ---------------------------------------------------------------------------------

    def enqueue(
        self, destination: str, wanted: Mapping[Lfn, Wanted], connection: sa.Connection | None = None
    ) -> dict[Lfn, int]:
        """Queue each file that is not queued or running already; return every transfer's id.

        Idempotent: the same file wanted twice is one transfer, with the better of the priorities; one that
        had ended begins anew, with no failures, behind all that its owner has queued. Quickest where the
        names are sorted. Within ``connection``'s transaction where one is given.
        """
        if connection is None:
            with self._database.write() as own:
                return self.enqueue(destination, wanted, own)
        turn(connection)
        ids: dict[Lfn, int] = {}
        books = Books(connection)
        for names in chunks(list(wanted)):
            known: dict[str, int] = dict(
                self._sql.known.rows(driver_of(connection), as_json(names), destination)
            )
            new = [name for name in names if name not in known]
            added = self._add(connection, destination, new, wanted, books)
            if known:
                found = _found(connection, transfers.c.id.in_(list(known.values())))
                self._apply(connection, [(one, wanted[one.lfn]) for one in found], books)
            for name in names:
                ids[name] = known[name] if name in known else added[name]
        books.close()
        return ids

    def _add(
        self,
        connection: sa.Connection,
        destination: str,
        names: Sequence[Lfn],
        wanted: Mapping[Lfn, Wanted],
        books: Books,
    ) -> dict[Lfn, int]:
        """Add transfers that there are none of yet; return their ids."""
        driver, now_s = driver_of(connection), self._clock()
        ids = dict(zip(names, self._sql.new_ids(driver, len(names)) if names else (), strict=True))
        rows = []
        for name, key in ids.items():
            one = wanted[name]
            if one.held:
                place, state = 0, State.HELD.value
                books.hold(destination, one.size_bytes)
            else:
                lane = Lane(destination, one.source_se or "", one.priority)
                place, state = books.place(lane, one.share), State.QUEUED.value
                books.queue(lane, place, one.size_bytes)
            rows.append(new_row(key, name, destination, one, state, place, now_s))
        if rows:
            self._sql.add.many(driver, rows)
        return ids

    def found(self, destination: str, lfns: Sequence[Lfn], connection: sa.Connection) -> list[int]:
        """End the transfers of files that turned out to be at their destination; return their ids."""
        turn(connection)
        ended: list[int] = []
        for names in chunks(lfns):
            known = self._sql.known.rows(driver_of(connection), as_json(names), destination)
            rows = _found(
                connection,
                transfers.c.id.in_([key for _, key in known]),
                transfers.c.state.not_in(ENDED),
            )
            ended += [one.id for one in self._apply(connection, [(row, Found()) for row in rows])]
        return ended

    def cancel(self, ids: Sequence[int], connection: sa.Connection | None = None) -> list[Transfer]:
        """Take transfers out of the queue; a running one is stopped by its stager's next heartbeat."""
        return self.send(dict.fromkeys(ids, Cancelled()), connection)

    def send(self, events: Mapping[int, Event], connection: sa.Connection | None = None) -> list[Transfer]:
        """Send transfers events by their ids; return them as they are then."""
        if connection is None:
            with self._database.write() as own:
                return self.send(events, own)
        turn(connection)
        after: list[Transfer] = []
        for some in chunks(list(events)):
            rows = _found(connection, transfers.c.id.in_(some))
            after += self._apply(connection, [(row, events[row.id]) for row in rows])
        return after

    # -- working ---------------------------------------------------------------------------------

    def claim(
        self,
        owner: str,
        count: int,
        slots: Slots,
        requests: Sequence[int] | None = None,
        moves: Collection[int] = (),
    ) -> list[Transfer]:
        """Take up to ``count`` due transfers, first in queue first, as far as there are free slots.

        ``slots`` count over all stagers of this database. Transfers of stagers that are gone are put back
        into the queue before. ``requests``: only what one of these waits for, where given. ``moves``: what
        ``owner`` moves already; that it asks shows that it lives, whatever was done to the clock.
        """
        with self._database.write() as connection:
            turn(connection)
            books = Books(connection)
            self._promote(connection, books)
            self._take_over(connection, books, owner, moves)
            books.close()
            usage = Usage(slots, _running(connection))
            ids = self._first(connection, count, usage, requests)
            rows = _found(connection, transfers.c.id.in_(ids)) if ids else []
            return self._apply(connection, [(row, Claimed(owner)) for row in rows])

    def _first(
        self, connection: sa.Connection, count: int, usage: Usage, requests: Sequence[int] | None
    ) -> list[int]:
        """Return the ids of the first files that find free slots, and take these."""
        taken: list[int] = []
        lanes = self._sql.lanes.rows(driver_of(connection))
        for _, same in groupby(lanes, key=lambda row: row[2]):
            first = []
            for destination, source_se, priority, files in same:
                number = min(count - len(taken), usage.free(destination, source_se))
                if number > 0:
                    lane = Lane(destination, source_se, priority)
                    rows = self._first_of(connection, lane, number, files, requests)
                    first.append([(place, key, lane) for place, key in rows])
            for _, key, lane in merge(*first):
                if len(taken) < count and usage.take(lane.destination, lane.source_se):
                    taken.append(key)
            if len(taken) == count:
                break
        return taken

    def _first_of(
        self, connection: sa.Connection, lane: Lane, number: int, files: int, requests: Sequence[int] | None
    ) -> Sequence[Row]:
        """Return places and ids of the first files of a lane, in order."""
        if requests is None:
            return self._sql.first(lane.source_se).rows(driver_of(connection), *in_lane(*lane), number)
        ways = (True, False) if files > LOOK_AHEAD else (True,)
        for near in ways:
            query = wanted_first(*lane, list(requests), number, near=near)
            found = [(row.place, row.id) for row in connection.execute(query)]
            if found:
                return found
        return ()

    def try_source(self, owner: str, claim: Transfer, se: str, slots: Slots) -> bool:
        """Move a running transfer to another source element, if that has a free slot."""
        with self._database.write() as connection:
            turn(connection)
            taken = sa.select(sa.func.count()).where(
                transfers.c.state == State.RUNNING,
                transfers.c.source_se == se,
                transfers.c.id != claim.id,
            )
            if connection.execute(taken).scalar_one() >= slots.from_source(se):
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
            turn(connection)
            rows = _found(connection, transfers.c.id.in_(list(by_id)), transfers.c.lease_owner == owner)
            ours = [(row, by_id[row.id].event) for row in rows if row.attempts == by_id[row.id].number]
            return self._apply(connection, ours)

    def heartbeat(self, owner: str, progress: Mapping[int, tuple[int, Progressed]]) -> set[int]:
        """Renew the leases of ``{id: (attempt, progress)}``; return the ids that are not ours any more."""
        reports = [Report(key, number, event) for key, (number, event) in progress.items()]
        return set(progress) - {one.id for one in self.report(owner, reports)}

    def next_due_s(self) -> float | None:
        """When the next back-off, or the next lease of a stager, is over; None for never."""
        with self._database.read() as connection:
            due = connection.execute(
                sa.select(sa.func.min(transfers.c.not_before_s)).where(is_in(State.WAITING))
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

    def in_vain(self, destination: str, since_s: float, until_s: float) -> list[Transfer]:
        """Return what was begun, and cancelled or given up in that time (Unix s; the end excluded)."""
        query = sa.select(transfers).where(
            transfers.c.destination == destination,
            transfers.c.state.in_(ENDED - {State.DONE}),
            transfers.c.finished_s >= since_s,
            transfers.c.finished_s < until_s,
            transfers.c.attempts > 0,
        )
        with self._database.read() as connection:
            return [transfer_of(row) for row in connection.execute(query)]

    def attempts_of(self, transfer_id: int) -> list[Attempt]:
        """Return every attempt that was kept, in order."""
        rows = sa.select(attempts).where(attempts.c.transfer_id == transfer_id).order_by(attempts.c.number)
        with self._database.read() as connection:
            return [attempt_of(row) for row in connection.execute(rows)]

    def tallies(self) -> dict[State, Tally]:
        """Return how many transfers are in each state."""
        counts = transfer_counts.c
        total = sa.select(counts.state, sa.func.sum(counts.files), sa.func.sum(counts.size_bytes)).group_by(
            counts.state
        )
        moved = sa.select(sa.func.coalesce(sa.func.sum(transfers.c.bytes_done), 0)).where(
            transfers.c.state == State.RUNNING
        )
        found = dict.fromkeys(State, Tally(0, 0, 0))
        with self._database.read() as connection:
            running_bytes = int(connection.execute(moved).scalar_one())
            for name, files, size in connection.execute(total):
                state = State(name)
                done = {State.DONE: int(size), State.RUNNING: running_bytes}.get(state, 0)
                found[state] = Tally(int(files), int(size), done)
        return found

    def running_by(self) -> dict[tuple[str, str], int]:
        """Return how many transfers run, by source ('' for one that is not known) and destination."""
        with self._database.read() as connection:
            found = _running(connection)
        return {(source_se, destination): number for (destination, source_se), number in found.items()}

    def moving(self) -> list[Moving]:
        """Return what each stager moves now, and from where to where."""
        columns = (transfers.c.lease_owner, transfers.c.source_se, transfers.c.destination)
        query = sa.select(*columns, sa.func.count()).where(transfers.c.state == State.RUNNING)
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(*columns)).all()
        return [Moving(owner or "", source_se or "", to, number) for owner, source_se, to, number in rows]

    def ahead(self, transfer: Transfer, destination: str | None = None) -> Tally:
        """Return what is queued before ``transfer`` or running: its position is ``files + 1``.

        ``destination``: only what goes to that element, where given.
        """
        total = [0, 0, 0]
        bucket = bucket_of(transfer.place)
        with self._database.read() as connection:
            driver = driver_of(connection)
            lanes = [
                Lane(*row[:3])
                for row in self._sql.lanes.rows(driver)
                if destination is None or row[0] == destination
            ]
            for one in {lane.destination for lane in lanes}:
                _add_to(total, self._sql.before.rows(driver, one, transfer.priority, bucket)[0])
            for lane in lanes:
                if lane.priority == transfer.priority:
                    within = self._sql.within[bool(lane.source_se)]
                    last = (bucket * WIDTH, transfer.place, transfer.id)
                    _add_to(total, within.rows(driver, *in_lane(*lane), *last)[0])
            _add_to(total, _moving(connection, transfer, destination))
        return Tally(*total)

    # -- inside ----------------------------------------------------------------------------------

    def _promote(self, connection: sa.Connection, books: Books) -> None:
        """Put back into the queue what is due, or waits longer than anything: the clock was set back."""
        now_s, time_s = self._clock(), transfers.c.not_before_s
        never_s = now_s + max(_LONGEST_WAIT_S, 2 * self.policy.backoff_max_s)
        over = sa.or_(time_s <= now_s, time_s > never_s)
        due = sa.select(transfers).where(is_in(State.WAITING), over)
        rows = connection.execute(due.order_by(transfers.c.not_before_s).limit(_PROMOTED))
        self._apply(connection, [(transfer_of(row), Due()) for row in rows], books)

    def _take_over(self, connection: sa.Connection, books: Books, asks: str, moves: Collection[int]) -> None:
        """Put the work of stagers that are gone back into the queue; who ``asks`` is not."""
        running, until_s = transfers.c.state == State.RUNNING, transfers.c.lease_until_s
        found = connection.execute(sa.select(transfers.c.lease_owner).where(running).distinct())
        owners = [owner for (owner,) in found if owner]
        gone, known = instance.dead(owners), instance.judged(owners)
        now_s = self._clock()
        # No lease is so long: the clock of a stager that cannot be seen from here was set back.
        never_s = now_s + max(_LONGEST_WAIT_S, 2 * self.policy.lease_s)
        unseen = sa.and_(until_s > never_s, transfers.c.lease_owner.not_in(known))
        over = sa.or_(until_s < now_s, unseen, transfers.c.lease_owner.in_(gone))
        rows = _found(connection, running, over)
        rows = [row for row in rows if row.lease_owner != asks or row.id not in moves]
        lost = lost_together(connection, rows)
        self._apply(connection, zip(rows, lost, strict=True), books)

    def _apply(
        self,
        connection: sa.Connection,
        events: Iterable[tuple[Transfer, Event]],
        books: Books | None = None,
    ) -> list[Transfer]:
        """Send each transfer its event and write what comes of it; return all of them afterwards.

        ``books`` are those of the transaction, for its end; where left out, they are written at once.
        """
        now_s = self._clock()
        own = Books(connection) if books is None else books
        after: list[Transfer] = []
        changed: list[Transfer] = []
        tried: list[Attempt] = []
        ended: list[int] = []
        for before, event in events:
            one, commands = handle(before, event, now_s, self.policy)
            for command in commands:
                if isinstance(command, GoLast):
                    one = replace(one, place=own.place(lane_of(one), one.share))
                else:
                    tried.append(command.attempt)
            after.append(one)
            if one == before:
                continue
            changed.append(one)
            own.change(before, one)
            if before.state is State.QUEUED and one.state is State.RUNNING:
                own.serve(before)
            elif before.state is State.QUEUED and _turn_of(before) != _turn_of(one):
                own.give_back(before)
            if one.state in ENDED:
                ended.append(one.id)
        save(connection, changed)
        keep(connection, tried)
        if ended:
            connection.execute(
                insert_ignoring(connection, transfer_ends), [{"transfer_id": key} for key in ended]
            )
        if books is None:
            own.close()
        return after


def turn(connection: sa.Connection) -> None:
    """Wait for one's turn to change the queue, or requests; it lasts as long as the transaction."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({Lock.CLAIM})")


def _found(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> list[Transfer]:
    query = (
        sa.select(transfers).where(*where).order_by(transfers.c.priority, transfers.c.place, transfers.c.id)
    )
    return [transfer_of(row) for row in connection.execute(query)]


def _running(connection: sa.Connection) -> dict[tuple[str, str], int]:
    """Return how many transfers run, by destination and source."""
    columns = (transfers.c.destination, transfers.c.source_se)
    query = sa.select(*columns, sa.func.count()).where(transfers.c.state == State.RUNNING).group_by(*columns)
    return {
        (destination, source_se or ""): number for destination, source_se, number in connection.execute(query)
    }


def _moving(connection: sa.Connection, besides: Transfer, destination: str | None) -> Row:
    """Return files, bytes and bytes done of what runs, besides one."""
    query = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(transfers.c.size_bytes), 0),
        sa.func.coalesce(sa.func.sum(transfers.c.bytes_done), 0),
    ).where(transfers.c.state == State.RUNNING, transfers.c.id != besides.id)
    if destination is not None:
        query = query.where(transfers.c.destination == destination)
    return tuple(connection.execute(query).one())


def _add_to(total: list[int], row: Row) -> None:
    for place, number in enumerate(row):
        total[place] += int(number)


def _turn_of(transfer: Transfer) -> tuple[bool, int, str]:
    """Return whose turn a transfer waits for, if any."""
    return transfer.state is State.QUEUED, transfer.priority, transfer.share
