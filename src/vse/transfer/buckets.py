"""The books of the queue: small tables that are kept in the transaction of every change.

How many files, and bytes, are in each state; of those that are queued, in each stretch of `WIDTH` places:
what is ahead of a file is a sum over stretches and a look into one. Which lanes hold files, how far each
is, and the last place of each owner.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import NamedTuple

import sqlalchemy as sa

from vse.db.prepared import Prepared, bound_values, driver_of, inserting
from vse.db.tables import transfer_counts, transfer_lanes, transfer_shares
from vse.transfer.lifecycle import State, Transfer
from vse.transfer.shares import Lane, next_place

WIDTH = 256
"""Places in a bucket. Narrow: many rows to sum up; wide: many files to look at in the last one."""

_Count = tuple[str, str, int, int]


def bucket_of(place: int) -> int:
    return place // WIDTH


def lane_of(transfer: Transfer) -> Lane:
    return Lane(transfer.destination, transfer.source_se or "", transfer.priority)


class _Lane:
    """A lane's row, and what is to be added to it."""

    __slots__ = ("added", "changed", "files", "place")

    def __init__(self, files: int, place: int) -> None:
        self.files = files
        self.place = place
        self.added = 0
        self.changed = False


class Books:
    """What changes in one transaction; `close` writes it down. Nobody else may write them meanwhile."""

    def __init__(self, connection: sa.Connection) -> None:
        self._driver = driver_of(connection)
        self._sql = _statements(connection.dialect)
        self._counts: dict[_Count, list[int]] = defaultdict(lambda: [0, 0])
        self._lanes: dict[int, dict[Lane, _Lane]] = {}
        self._last: dict[tuple[int, str], int] = {}
        self._given: set[tuple[int, str]] = set()

    def change(self, before: Transfer, after: Transfer) -> None:
        """Count a transfer where it is now, and no more where it was."""
        if before != after:
            self._count(before, -1)
            self._count(after, 1)

    def queue(self, lane: Lane, place: int, size_bytes: int) -> None:
        """Count a new file that is queued."""
        self._add((lane.destination, State.QUEUED.value, lane.priority, bucket_of(place)), 1, size_bytes)
        self._lane(lane).added += 1

    def hold(self, destination: str, size_bytes: int) -> None:
        """Count a new file that is held."""
        self._add((destination, State.HELD.value, 0, 0), 1, size_bytes)

    def place(self, lane: Lane, share: str) -> int:
        """Return a new place in a lane, behind all that ``share`` has queued with its priority."""
        key = (lane.priority, share)
        if key not in self._last:
            rows = self._sql.last.rows(self._driver, *key)
            self._last[key] = rows[0][0] if rows else 0
        place = self._last[key] = next_place(self._virtual(lane), self._last[key])
        self._given.add(key)
        return place

    def serve(self, transfer: Transfer) -> None:
        """Move the virtual time of a lane on: this one was claimed from it."""
        lane = self._lane(lane_of(transfer))
        if transfer.place > lane.place:
            lane.place, lane.changed = transfer.place, True

    def close(self) -> None:
        """Write all of it."""
        counts = [(*key, *added) for key, added in sorted(self._counts.items()) if any(added)]
        if counts:
            self._sql.counted.many(self._driver, counts)
            if any(added[0] < 0 for added in self._counts.values()):
                empty = [key for key, added in self._counts.items() if added[0] < 0 and key[3]]
                self._sql.forget.many(self._driver, sorted(empty))
        lanes = [
            (*key, lane.added, lane.place)
            for some in self._lanes.values()
            for key, lane in some.items()
            if lane.added or lane.changed
        ]
        if lanes:
            self._sql.lane.many(self._driver, sorted(lanes))
        if self._given:
            self._sql.share.many(self._driver, [(*key, self._last[key]) for key in sorted(self._given)])
        self._counts.clear()
        self._lanes.clear()
        self._last.clear()
        self._given.clear()

    # -- inside ----------------------------------------------------------------------------------

    def _count(self, transfer: Transfer, number: int) -> None:
        size = number * transfer.size_bytes
        if transfer.state is not State.QUEUED:
            self._add((transfer.destination, transfer.state.value, 0, 0), number, size)
            return
        lane = lane_of(transfer)
        key = (lane.destination, State.QUEUED.value, lane.priority, bucket_of(transfer.place))
        self._add(key, number, size)
        self._lane(lane).added += number

    def _add(self, key: _Count, files: int, size_bytes: int) -> None:
        added = self._counts[key]
        added[0] += files
        added[1] += size_bytes

    def _virtual(self, lane: Lane) -> int:
        """Return how far a lane is; one that was empty goes on where the others of its priority are."""
        mine = self._lane(lane)
        if mine.files + mine.added <= 0:
            furthest = max(one.place for one in self._lanes[lane.priority].values())
            if furthest > mine.place:
                mine.place, mine.changed = furthest, True
        return mine.place

    def _lane(self, lane: Lane) -> _Lane:
        known = self._lanes.get(lane.priority)
        if known is None:
            rows = self._sql.lanes.rows(self._driver, lane.priority)
            known = {Lane(row[0], row[1], lane.priority): _Lane(row[2], row[3]) for row in rows}
            self._lanes[lane.priority] = known
        found = known.get(lane)
        if found is None:
            found = known[lane] = _Lane(0, 0)
        return found


class _Statements(NamedTuple):
    lanes: Prepared
    last: Prepared
    counted: Prepared
    forget: Prepared
    lane: Prepared
    share: Prepared


@lru_cache(maxsize=8)
def _statements(dialect: sa.Dialect) -> _Statements:
    insert = inserting(dialect)
    counts, lanes, shares = transfer_counts.c, transfer_lanes.c, transfer_shares.c
    count = insert(transfer_counts).values(bound_values(transfer_counts))
    lane = insert(transfer_lanes).values(bound_values(transfer_lanes))
    share = insert(transfer_shares).values(bound_values(transfer_shares))
    new_count, new_lane = count.excluded, lane.excluded
    counted = ("destination", "state", "priority", "bucket")
    in_lane = ("destination", "source_se", "priority")
    return _Statements(
        Prepared(
            dialect,
            sa.select(lanes.destination, lanes.source_se, lanes.files, lanes.place).where(
                lanes.priority == sa.bindparam("priority")
            ),
            "priority",
        ),
        Prepared(
            dialect,
            sa.select(shares.place).where(
                shares.priority == sa.bindparam("priority"), shares.share == sa.bindparam("share")
            ),
            "priority",
            "share",
        ),
        Prepared(
            dialect,
            count.on_conflict_do_update(
                index_elements=counted,
                set_={
                    "files": counts.files + new_count.files,
                    "size_bytes": counts.size_bytes + new_count.size_bytes,
                },
            ),
            *counted,
            "files",
            "size_bytes",
        ),
        Prepared(
            dialect,
            sa.delete(transfer_counts).where(
                *(counts[name] == sa.bindparam(name) for name in counted), counts.files == 0
            ),
            *counted,
        ),
        Prepared(
            dialect,
            lane.on_conflict_do_update(
                index_elements=in_lane,
                set_={"files": lanes.files + new_lane.files, "place": new_lane.place},
            ),
            *in_lane,
            "files",
            "place",
        ),
        Prepared(
            dialect,
            share.on_conflict_do_update(
                index_elements=["priority", "share"], set_={"place": share.excluded.place}
            ),
            "priority",
            "share",
            "place",
        ),
    )
