"""The books of the queue: small tables that are kept in the transaction of every change.

How many files, and bytes, are in each state; of those that are queued, in each stretch of `WIDTH` places:
what is ahead of a file is a sum over stretches and a look into one. Which lanes hold files, how far each
is, and the last place of each owner.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property, lru_cache

import sqlalchemy as sa

from vse.db.prepared import Prepared, bound_values, driver_of, inserting
from vse.db.tables import transfer_counts, transfer_lanes, transfer_shares
from vse.transfer.lifecycle import State, Transfer
from vse.transfer.shares import Lane, next_place

WIDTH = 256
"""Places in a bucket. Narrow: many rows to sum up; wide: many files to look at in the last one."""

_Count = tuple[str, str, int, int]
_COUNT = ("destination", "state", "priority", "bucket")


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
        place = self._last[key] = next_place(self._virtual(lane), self._last_of(key))
        self._given.add(key)
        return place

    def give_back(self, transfer: Transfer) -> None:
        """A queued file of an owner is theirs no more: what they queue next has not to wait for its turn."""
        key = (transfer.priority, transfer.share)
        self._last[key] = max(0, self._last_of(key) - 1)
        self._given.add(key)

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

    def _last_of(self, key: tuple[int, str]) -> int:
        if key not in self._last:
            rows = self._sql.last.rows(self._driver, *key)
            self._last[key] = rows[0][0] if rows else 0
        return self._last[key]

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


class _Statements:
    """Built when first used, once for each dialect."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect

    @cached_property
    def lanes(self) -> Prepared:
        """The lanes of a priority: ``(destination, source_se, files, place)``."""
        lane = transfer_lanes.c
        query = sa.select(lane.destination, lane.source_se, lane.files, lane.place)
        return Prepared(self._dialect, query.where(lane.priority == sa.bindparam("priority")), "priority")

    @cached_property
    def last(self) -> Prepared:
        """The last place of an owner, with a priority."""
        share = transfer_shares.c
        own = (share.priority == sa.bindparam("priority"), share.share == sa.bindparam("share"))
        return Prepared(self._dialect, sa.select(share.place).where(*own), "priority", "share")

    @cached_property
    def counted(self) -> Prepared:
        """Add files and bytes to a count."""
        return self._put(transfer_counts, _COUNT, adds=("files", "size_bytes"))

    @cached_property
    def forget(self) -> Prepared:
        """Remove a count that has come to nothing."""
        count = transfer_counts.c
        which = (count[name] == sa.bindparam(name) for name in _COUNT)
        return Prepared(self._dialect, sa.delete(transfer_counts).where(*which, count.files == 0), *_COUNT)

    @cached_property
    def lane(self) -> Prepared:
        """Add files to a lane, and say how far it is."""
        return self._put(transfer_lanes, Lane._fields, adds=("files",), sets=("place",))

    @cached_property
    def share(self) -> Prepared:
        """Say what the last place of an owner is, with a priority."""
        return self._put(transfer_shares, ("priority", "share"), sets=("place",))

    def _put(
        self, table: sa.Table, key: Sequence[str], *, adds: Sequence[str] = (), sets: Sequence[str] = ()
    ) -> Prepared:
        """Return what writes rows of key, ``adds``, ``sets``, and adds to what is there, or sets it."""
        insert = inserting(self._dialect)(table).values(bound_values(table))
        old, new = table.c, insert.excluded
        changed = {name: old[name] + new[name] for name in adds} | {name: new[name] for name in sets}
        put = insert.on_conflict_do_update(index_elements=key, set_=changed)
        return Prepared(self._dialect, put, *key, *adds, *sets)


_statements = lru_cache(maxsize=8)(_Statements)
