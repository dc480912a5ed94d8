"""What a forecast is made of, read from the rows of the queue: a few thousand of them at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import sqlalchemy as sa

from vse.db.prepared import Prepared, driver_of
from vse.db.tables import request_items, transfer_lanes, transfers
from vse.staging.eta import (
    ANCHORED,
    ANCHORS_S,
    Ahead,
    Awaited,
    Estimate,
    History,
    forecast,
    latest_of,
    remaining,
)
from vse.staging.eta_cost import Sample
from vse.staging.values import ItemState
from vse.transfer.lifecycle import Policy, State, Transfer
from vse.transfer.queue import Queue
from vse.transfer.queue_statements import is_in
from vse.transfer.rows import transfer_of
from vse.transfer.shares import Slots

_RECENT = 300
_COUNTED = 10_000
"""How many files ahead are counted in a file's own lane, rather than estimated from the lanes' lengths."""
_LANES = 6
_LAST = 256
_STRETCHES, _OF_STRETCH = 16, 16
_SAMPLE = (
    transfers.c.started_s,
    transfers.c.finished_s,
    transfers.c.size_bytes,
    transfers.c.source_se,
    transfers.c.created_s,
    transfers.c.share,
    transfers.c.priority,
    transfers.c.failures,
)


@dataclass(frozen=True, slots=True)
class Destination:
    """How transfers to one storage element fare at a time."""

    name: str
    now_s: float
    history: History | None
    running: tuple[Transfer, ...]
    lanes: tuple[tuple[str, int, int], ...]
    """Source, priority, files queued: those that hold any."""


def read_destination(connection: sa.Connection, name: str, now_s: float) -> Destination:
    running = _running(connection, name)
    lane = transfer_lanes.c
    lanes = connection.execute(
        sa.select(lane.source_se, lane.priority, lane.files).where(lane.destination == name, lane.files > 0)
    )
    recent = _done(connection, name, None, _RECENT)
    long_ago: list[Sample] = []
    if recent:
        oldest_s = min(one.ended_s for one in recent)
        for ago_s in ANCHORS_S:
            if now_s - ago_s < oldest_s:
                some = _done(connection, name, now_s - ago_s, ANCHORED)
                long_ago += some
                if not some:
                    break
    history = History.of(recent, [sample_of(one, now_s) for one in running], long_ago)
    return Destination(name, now_s, history, running, tuple((row[0], row[1], row[2]) for row in lanes))


def read_recent(connection: sa.Connection, name: str, now_s: float) -> list[Sample]:
    """Return the latest transfers to an element that are through, and those that run."""
    running = [sample_of(one, now_s) for one in _running(connection, name)]
    return _done(connection, name, None, _RECENT) + running


def _running(connection: sa.Connection, destination: str) -> tuple[Transfer, ...]:
    query = sa.select(transfers).where(
        transfers.c.state == State.RUNNING, transfers.c.destination == destination
    )
    return tuple(map(transfer_of, connection.execute(query)))


def _done(connection: sa.Connection, destination: str, before_s: float | None, number: int) -> list[Sample]:
    """Return the last transfers that were through (before a time)."""
    column = transfers.c.finished_s
    query = sa.select(*_SAMPLE).where(
        transfers.c.destination == destination,
        column.is_not(None) if before_s is None else column < before_s,
        transfers.c.state == State.DONE,
        transfers.c.started_s.is_not(None),
    )
    rows = connection.execute(query.order_by(column.desc()).limit(number))
    return [Sample(row[0], row[1], row[2], row[3] or "", *row[4:]) for row in rows]


def sample_of(one: Transfer, now_s: float) -> Sample:
    """Return a running transfer as it is so far."""
    return Sample(
        one.started_s or now_s,
        now_s,
        one.bytes_done,
        one.source_se or "",
        one.created_s,
        one.share,
        one.priority,
        one.failures,
    )


def running_of(connection: sa.Connection, at: Destination, request_id: int) -> list[Transfer]:
    """Return the running transfers that a request waits for."""
    item = request_items.c
    query = sa.select(item.transfer_id).where(
        item.request_id == request_id,
        item.state == ItemState.WAITING,
        item.transfer_id.in_([one.id for one in at.running]),
    )
    ours = set(connection.execute(query).scalars()) if at.running else set()
    return [one for one in at.running if one.id in ours]


def _some_of(connection: sa.Connection, request_id: int) -> list[int]:
    """Return the transfers of a request that were queued last, and some of all others.

    The last to be queued are as a rule the last in their lanes; those from all over the request show lanes
    that the last ones are not in.
    """
    driver, known = driver_of(connection), _items(connection.dialect)
    last = [key for (key,) in known.last.rows(driver, request_id, _LAST)]
    first = known.onwards.rows(driver, request_id, 0, 1)
    if not last or not first:
        return []
    found, step = set(last), (last[0] - first[0][0]) // _STRETCHES
    for number in range(_STRETCHES):
        start = first[0][0] + number * step
        found.update(key for (key,) in known.onwards.rows(driver, request_id, start, _OF_STRETCH))
    return sorted(found)


class _Items(NamedTuple):
    """Transfers that a request waits for: the last ones, and those from one on."""

    last: Prepared
    onwards: Prepared


@lru_cache(maxsize=8)
def _items(dialect: sa.Dialect) -> _Items:
    item = request_items.c
    number: sa.BindParameter[int] = sa.bindparam("number")
    ours = sa.select(item.transfer_id).where(
        item.request_id == sa.bindparam("request"),
        item.state == sa.literal_column(f"'{ItemState.WAITING}'"),
        item.transfer_id >= sa.bindparam("start"),
    )
    return _Items(
        Prepared(
            dialect, ours.params(start=0).order_by(item.transfer_id.desc()).limit(number), "request", "number"
        ),
        Prepared(dialect, ours.order_by(item.transfer_id).limit(number), "request", "start", "number"),
    )


class _InLane(NamedTuple):
    """Files of a request in one lane: how many, the last of their places, and the end of all back-offs."""

    source_se: str | None
    priority: int
    files: int
    place: int
    not_before_s: float


class Forecasts:
    """Asks the rows and forecasts. Safe to share between threads."""

    def __init__(self, queue: Queue, slots: Slots, policy: Policy) -> None:
        self._queue = queue
        self._slots = slots
        self._policy = policy

    def of_transfer(self, connection: sa.Connection, at: Destination, one: Transfer) -> Estimate | None:
        """Return when a transfer that is queued, waiting or running will be there."""
        if one.state is State.RUNNING:
            return remaining(at.history, sample_of(one, at.now_s), one.size_bytes)
        if at.history is None or one.state not in (State.QUEUED, State.WAITING):
            return None
        return self._last_of(connection, at, one, 1)

    def of_request(
        self, connection: sa.Connection, at: Destination, request_id: int, files: int
    ) -> Estimate | None:
        """Return when the last of the ``files`` that a request waits for will be there.

        None where nothing of it is coming. Of very many files only some are looked at (`_some_of`).
        """
        if at.history is None:
            return None
        ends: list[Estimate | None] = []
        lanes = self._lanes_of(connection, request_id, files)
        files = sum(lane.files for lane in lanes) if files <= _COUNTED else files
        for source_se, priority, _, place, not_before_s in sorted(lanes, key=lambda one: -one.files)[:_LANES]:
            last = connection.execute(
                sa.select(transfers).where(
                    transfers.c.state.in_((State.QUEUED, State.WAITING)),
                    transfers.c.destination == at.name,
                    transfers.c.source_se == source_se if source_se else transfers.c.source_se.is_(None),
                    transfers.c.priority == priority,
                    transfers.c.place == place,
                )
            ).first()
            if last is not None:
                wait_s = max(0.0, not_before_s - at.now_s)
                ends.append(self._last_of(connection, at, transfer_of(last), files, wait_s))
        moving = running_of(connection, at, request_id)
        ends += [self.of_transfer(connection, at, one) for one in moving]
        return latest_of([one for one in ends if one is not None])

    def _lanes_of(self, connection: sa.Connection, request_id: int, files: int) -> list[_InLane]:
        item = request_items.c
        query = (
            sa.select(
                transfers.c.source_se,
                transfers.c.priority,
                sa.func.count(),
                sa.func.max(transfers.c.place),
                sa.func.max(transfers.c.not_before_s),
            )
            .join(request_items, item.transfer_id == transfers.c.id)
            .where(
                item.request_id == request_id,
                item.state == ItemState.WAITING,
                transfers.c.state.in_((State.QUEUED, State.WAITING)),
            )
            .group_by(transfers.c.source_se, transfers.c.priority)
        )
        if files > _COUNTED:
            query = query.where(item.transfer_id.in_(_some_of(connection, request_id)))
        return [_InLane(*row) for row in connection.execute(query)]

    def _last_of(
        self,
        connection: sa.Connection,
        at: Destination,
        one: Transfer,
        files: int,
        wait_s: float | None = None,
    ) -> Estimate | None:
        if wait_s is None:
            wait_s = max(0.0, one.not_before_s - at.now_s) if one.state is State.WAITING else 0.0
        awaited = Awaited(
            one.source_se or "",
            one.size_bytes,
            self._ahead(connection, at, one),
            one.share,
            one.priority,
            files,
            wait_s,
        )
        return forecast(at.history, awaited, self._slots.to(at.name), self._policy)

    def _ahead(self, connection: sa.Connection, at: Destination, one: Transfer) -> list[Ahead]:
        """Return what comes before a file, by source and priority: what runs, then the lanes.

        How much it is in all is counted (`Queue.ahead`); of its own lane up to `_COUNTED` files are, too. The
        other lanes of its priority share what is left as their lengths are.
        """
        tally = self._queue.ahead(one, at.name)
        running = [each for each in at.running if each.id != one.id]
        queued = max(0, tally.files - len(running))
        queued_bytes = max(0, tally.size_bytes - sum(each.size_bytes for each in running))
        better = [lane for lane in at.lanes if lane[1] < one.priority]
        same = [lane for lane in at.lanes if lane[1] == one.priority]
        left = max(0, queued - sum(files for _, _, files in better))
        mine = min(left, self._in_lane(connection, one, left, same))
        others = [lane for lane in same if lane[0] != (one.source_se or "")]
        length = sum(files for _, _, files in others)
        spread = min(left - mine, length)
        mine = max(mine, left - spread) if length == 0 else mine
        counted = [(source, priority, float(files)) for source, priority, files in better]
        counted += [
            (source, priority, spread * files / length) for source, priority, files in others if length
        ]
        counted.append((one.source_se or "", one.priority, float(mine)))
        mean_bytes = queued_bytes / queued if queued else 0.0
        found = [Ahead(*lane, lane[2] * mean_bytes) for lane in counted]
        for each in running:
            left_bytes = max(0, each.size_bytes - each.bytes_done)
            found.append(Ahead(each.source_se or "", 0, 1.0, left_bytes))
        return found

    def _in_lane(
        self, connection: sa.Connection, one: Transfer, left: int, same: Sequence[tuple[str, int, int]]
    ) -> int:
        if len(same) <= 1:
            return left
        source = transfers.c.source_se
        first = (
            sa.select(sa.literal(1))
            .where(
                is_in(State.QUEUED),
                transfers.c.destination == one.destination,
                source == one.source_se if one.source_se else source.is_(None),
                transfers.c.priority == one.priority,
                transfers.c.place < one.place,
            )
            .limit(_COUNTED)
            .subquery()
        )
        number = int(connection.execute(sa.select(sa.func.count()).select_from(first)).scalar_one())
        if number < _COUNTED:
            return number
        length = sum(files for _, _, files in same)
        own = sum(files for name, _, files in same if name == (one.source_se or ""))
        return max(number, round(left * own / length))
