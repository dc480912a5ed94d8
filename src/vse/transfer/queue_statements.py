"""The statements of the queue where a microsecond counts, for one dialect."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from vse.db.prepared import Given, Prepared
from vse.db.tables import request_items, transfer_counts, transfer_lanes, transfers
from vse.model import Lfn
from vse.transfer.lifecycle import State, Wanted

LOOK_AHEAD = 1000
"""How far down a lane the files of certain requests are looked for, before those requests are asked."""

_NEW = (
    "id",
    "lfn",
    "destination",
    "priority",
    "share",
    "size_bytes",
    "adler32",
    "tree",
    "filter",
    "state",
    "place",
    "not_before_s",
    "source_se",
    "given_source",
    "created_s",
)
_NOTHING = {"failures": 0, "attempts": 0, "bytes_done": 0}
WAITING_ITEM = "waiting"


def is_in(state: State) -> sa.ColumnElement[bool]:
    """Return that a transfer is in ``state``, written so that an index of such rows only can be used."""
    return sa.literal_column("transfers.state") == sa.literal_column(f"'{state.value}'")


class QueueStatements:
    """Built when first used. "Driver" is the database driver's own connection."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect

    @cached_property
    def known(self) -> Prepared:
        """Ids of the transfers to a destination, of the names that there are any for."""
        given = Given(self._dialect, "names")
        query = (
            sa.select(transfers.c.lfn, transfers.c.id)
            .select_from(given.table)
            .join(transfers, transfers.c.lfn == given.text())
            .where(transfers.c.destination == bindparam("destination"))
        )
        return Prepared(self._dialect, query, "names", "destination")

    @cached_property
    def add(self) -> Prepared:
        """A new row; the values in the order of `_NEW`."""
        values: dict[str, Any] = {name: bindparam(name, type_=transfers.c[name].type) for name in _NEW}
        values |= {name: sa.literal_column(str(value)) for name, value in _NOTHING.items()}
        return Prepared(self._dialect, sa.insert(transfers).values(values), *_NEW)

    def new_ids(self, driver: Any, count: int) -> range | list[int]:
        """Return ``count`` ids that no transfer has; nobody else may add any until they are used."""
        if self._dialect.name == "sqlite":
            first = (driver.execute("SELECT max(id) FROM transfers").fetchone()[0] or 0) + 1
            return range(first, first + count)
        rows = driver.execute(
            "SELECT nextval(pg_get_serial_sequence('transfers', 'id')) FROM generate_series(1, %s)", (count,)
        )
        return [row[0] for row in rows]

    @cached_property
    def lanes(self) -> Prepared:
        """The lanes that hold queued files, the first priority first."""
        lane = transfer_lanes.c
        query = (
            sa.select(lane.destination, lane.source_se, lane.priority, lane.files)
            .where(lane.files > 0)
            .order_by(lane.priority)
        )
        return Prepared(self._dialect, query)

    def first(self, source_se: str) -> Prepared:
        """The first of a lane: ``(place, id)``; ask it with `in_lane` and how many."""
        return self._first_known if source_se else self._first_unknown

    @cached_property
    def _first_known(self) -> Prepared:
        return self._first(True)

    @cached_property
    def _first_unknown(self) -> Prepared:
        return self._first(False)

    def _first(self, known: bool) -> Prepared:
        query = _queued(known, transfers.c.place, transfers.c.id)
        ordered = query.order_by(transfers.c.place, transfers.c.id).limit(bindparam("number"))
        return Prepared(self._dialect, ordered, *_in_lane(known), "number")

    @cached_property
    def within(self) -> dict[bool, Prepared]:
        """Files and bytes of a lane from one place to before another; by whether its source is known."""
        return {known: self._within(known) for known in (True, False)}

    def _within(self, known: bool) -> Prepared:
        place, key = transfers.c.place, transfers.c.id
        before = sa.or_(
            place < bindparam("place"), sa.and_(place == bindparam("place"), key < bindparam("key"))
        )
        query = _queued(known, sa.func.count(), sa.func.coalesce(sa.func.sum(transfers.c.size_bytes), 0))
        query = query.where(place >= bindparam("start"), place <= bindparam("place"), before)
        return Prepared(self._dialect, query, *_in_lane(known), "start", "place", "key")

    @cached_property
    def before(self) -> Prepared:
        """Queued files and bytes in all buckets before one."""
        counts = transfer_counts.c
        same = counts.priority == bindparam("priority")
        sums = (sa.func.coalesce(sa.func.sum(one), 0) for one in (counts.files, counts.size_bytes))
        query = sa.select(*sums).where(
            counts.destination == bindparam("destination"),
            counts.state == sa.literal_column("'queued'"),
            sa.or_(
                counts.priority < bindparam("priority"), sa.and_(same, counts.bucket < bindparam("bucket"))
            ),
        )
        return Prepared(self._dialect, query, "destination", "priority", "bucket")


def in_lane(destination: str, source_se: str, priority: int) -> tuple[Any, ...]:
    """Return the values that choose a lane in the statements above."""
    return (destination, source_se, priority) if source_se else (destination, priority)


def _in_lane(known: bool) -> tuple[str, ...]:
    return ("destination", "source_se", "priority") if known else ("destination", "priority")


def _queued(known: bool, *columns: Any) -> sa.Select[Any]:
    """Return a query for ``columns`` of the queued files of a lane."""
    source = transfers.c.source_se
    return sa.select(*columns).where(
        is_in(State.QUEUED),
        transfers.c.destination == bindparam("destination"),
        source == bindparam("source_se") if known else source.is_(None),
        transfers.c.priority == bindparam("priority"),
    )


def new_row(
    key: int, lfn: Lfn, destination: str, one: Wanted, state: str, place: int, now_s: float
) -> tuple[object, ...]:
    """Return the values of a new transfer in the order of `QueueStatements.add`."""
    return (
        key,
        lfn,
        destination,
        one.priority,
        one.share,
        one.size_bytes,
        one.adler32,
        one.tree,
        one.filter,
        state,
        place,
        now_s,
        one.source_se,
        one.given_source,
        now_s,
    )


def wanted_first(
    destination: str, source_se: str, priority: int, requests: list[int], number: int, *, near: bool
) -> sa.Select[Any]:
    """Return the query for the first files of a lane that one of ``requests`` waits for: ``(place, id)``.

    ``near`` looks through the `LOOK_AHEAD` first of the lane; else the requests' own files are gone through.
    """
    place, key = transfers.c.place, transfers.c.id
    lane = _queued(bool(source_se), place, key)
    item = request_items.c
    waits = sa.and_(item.request_id.in_(requests), item.state == WAITING_ITEM)
    if near:
        first = lane.order_by(place, key).limit(LOOK_AHEAD).subquery()
        has_one = sa.exists(sa.literal_column("1")).where(item.transfer_id == first.c.id, waits)
        query = sa.select(first.c.place, first.c.id).where(has_one).order_by(first.c.place, first.c.id)
    else:
        query = lane.where(key.in_(sa.select(item.transfer_id).where(waits))).order_by(place, key)
    values = {"destination": destination, "priority": priority}
    if source_se:
        values["source_se"] = source_se
    return query.limit(number).params(values)
