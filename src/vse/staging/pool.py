"""The pool: storage elements that make room by themselves (seed 001), and say why.

A file goes in steps that can be stopped at any of them: it is written down, marked in the catalogue as
``deleting``, looked at once more, removed from the storage, forgotten by the catalogue, and struck from the
accounts. The next process goes on with what one that died has written down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from vse.catalogue.port import Catalogue
from vse.config.pools import PoolSettings
from vse.db import Database
from vse.db.tables_pool import holdings
from vse.errors import BadRequest, BadSettings, NoSuchEntry, NoSuchFile, NoSuchReplica, VseError
from vse.model import Clock, Lfn, Replica, ReplicaState
from vse.staging import accounts, eviction_log
from vse.staging.accounts import ITSELF, Account, Used
from vse.staging.capacity import Capacity
from vse.staging.eviction_log import DONE, FAILED, KEPT, Evicted
from vse.staging.open_files import is_open
from vse.staging.orphans import REASON, find_orphans
from vse.staging.pool_plan import (
    Candidate,
    Eviction,
    Fill,
    Watermarks,
    bytes_to_free,
    plan_eviction,
    why_full,
)
from vse.staging.protection import Protection, names_of, stored_as
from vse.staging.quotas import limit_of, limits_at
from vse.staging.reservations import Reservations, Shortage, forget_holdings
from vse.storage.element import Elements, StorageElement
from vse.transfer import instance

_BATCH = 200
_PAUSE_S = 10.0
"""After a round that freed nothing, a reservation does not start another one for so long."""
_KEPT_SHOWN = 1000
_COLUMN = {
    accounts.USER: holdings.c.owner,
    accounts.GROUP: holdings.c.owner_group,
    accounts.DATASET: holdings.c.dataset,
}


class PoolState(NamedTuple):
    """How a pool is. ``fill`` None: neither its settings nor its storage tell its size."""

    element: str
    fill: Fill | None
    marks: Watermarks
    used: Used
    oldest_s: float | None


@dataclass(frozen=True, slots=True)
class Round:
    """What came of making room: what went (or would go), and what was passed over, both with reasons.

    ``short_bytes`` was not found. Of what was passed over the first thousand are told.
    """

    element: str
    goal_bytes: int
    evicted: tuple[Evicted, ...]
    kept: tuple[Eviction, ...]
    short_bytes: int

    @property
    def freed_bytes(self) -> int:
        return sum(one.size_bytes for one in self.evicted if one.state != FAILED)


class _Goal(NamedTuple):
    size_bytes: int
    because: str


class Pool:
    """The pools of a site. Safe to share between threads; any number of processes may make room at once.

    ``forgotten`` is told of every file whose copy has gone, before that is written down as done.
    """

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        elements: Elements,
        pools: Mapping[str, PoolSettings],
        capacity: Capacity,
        clock: Clock = time.time,
        forgotten: Callable[[Lfn], None] = lambda _: None,
    ) -> None:
        self.holder = instance.new_owner()
        self._database = database
        self._catalogue = catalogue
        self._elements = elements
        self._pools = pools
        self._capacity = capacity
        self._clock = clock
        self._forgotten = forgotten
        self._protection = Protection(database, catalogue, elements, clock)
        self._turn = threading.Lock()
        self._fruitless: dict[tuple[str, Account], float] = {}
        self.reservations = Reservations(database, capacity, clock, self._make_room)

    def close(self) -> None:
        """Leave what was broken off (as the database went away) to the pools that are opened next."""
        instance.ended(self.holder)

    @property
    def names(self) -> list[str]:
        """The storage elements that are pools, in the order of the settings; `NoSuchElement`."""
        return [self._elements.get(name).name for name in self._pools]

    def settings(self, element: str) -> PoolSettings:
        """Return the settings of a pool; `BadSettings` for an element that is none."""
        if element not in self._pools:
            raise BadSettings(
                f"use {element} as a pool",
                f"the settings have these: {', '.join(self._pools) or 'none'}",
                f"add [pools.{element}] to vse.toml, with high and low",
            )
        return self._pools[element]

    # -- looking -------------------------------------------------------------------------------------

    def state(self, element: str) -> PoolState:
        """Return how a pool is, with its storage asked anew."""
        marks = Watermarks.of(self.settings(element))
        bounds = self._capacity.bounds(element, anew=True)
        oldest = sa.select(sa.func.min(holdings.c.accessed_s)).where(holdings.c.element == element)
        with self._database.read() as connection:
            used = accounts.used_by(connection, element)
            oldest_s = connection.execute(oldest).scalar()
        return PoolState(element, bounds[0].fill(used) if bounds else None, marks, used, oldest_s)

    def log(self, *, element: str = "", lfn: str = "", limit: int = 100) -> list[Evicted]:
        """Return the newest evictions, newest first."""
        with self._database.read() as connection:
            return eviction_log.read(connection, element=element, lfn=lfn, limit=limit)

    def explain(self, lfn: Lfn) -> dict[str, str]:
        """Return for every pool that holds a file why it stays there, or that it may go."""
        query = sa.select(holdings.c.element).where(
            holdings.c.lfn == lfn, holdings.c.element.in_(list(self._pools))
        )
        with self._database.read() as connection:
            held = [name for (name,) in connection.execute(query.order_by(holdings.c.element))]
        answers: dict[str, str] = {}
        for name in held:
            judged = self._protection.judge(self._elements.get(name), [lfn], self._pools[name].young_s)
            other = judged.free[lfn].other if lfn in judged.free else ""
            answers[name] = (
                f"stays: {judged.kept[lfn]}"
                if lfn in judged.kept
                else f"may be thrown away when room is needed; another copy is at {other}"
            )
        return answers

    # -- making room ---------------------------------------------------------------------------------

    def evict(self, element: str, need_bytes: int = 0, *, dry_run: bool = False) -> Round:
        """Make room in a pool that is above its high watermark, or would be with ``need_bytes`` more.

        The oldest go first, until it is at the low watermark. Raises `NoPlan` or `Unsupported` where
        nothing may be removed there, `BadSettings` where its size is not known.
        """
        if self.state(element).fill is None:
            raise BadSettings(
                f"make room at {element}",
                "its storage does not tell how large it is",
                f'say so in the settings: [pools.{element}] size = "10TB"',
            )
        return self._round(element, ITSELF, lambda: self._goal(element, need_bytes), dry_run=dry_run)

    def evict_orphans(self, name: str, lfns: Sequence[Lfn]) -> dict[Lfn, bool]:
        """Throw away what was brought here and is under no name any more; see `vse.staging.orphans`.

        Returns whether each file of these has gone: what is pinned, wanted or open stays for the time being,
        and counts as before. Files that are not in the answer are none of ours.
        """
        element = self._elements.get(name)
        if name not in self._pools or element.by_guid or not element.can("remove"):
            return {}
        with self._turn:
            names = names_of(self._elements, name)
            found = find_orphans(self._database, self._catalogue, element, names, lfns)
            chosen = [Eviction(one, REASON) for one in found.ours if not _is_open(element, one.lfn)]
            planned = self._plan(element, chosen)
            again = {Lfn(lfn) for lfn in self._catalogue.resolve([*planned]).ok}
            going = {lfn: lfn for lfn in planned if lfn not in again}
            ends = dict.fromkeys(going, (DONE, ""))
            ends |= dict.fromkeys(again, (KEPT, "it stayed: the catalogue knows its name again"))
            ends |= {lfn: (FAILED, str(why)) for lfn, why in self._remove(element, going, {}).items()}
            gone = [lfn for lfn, (state, _) in ends.items() if state == DONE]
            for lfn in gone:
                self._forgotten(lfn)
            self._strike(name, planned, gone, ends)
        stay = dict.fromkeys([*(one.lfn for one in found.ours), *found.unsure], False)
        return stay | dict.fromkeys(gone, True)

    def resume(self, element: str) -> int:
        """Carry out what a process wrote down that is gone; return how many files."""
        with self._turn:
            return self._resume(self._elements.get(element))

    def _make_room(self, shortage: Shortage) -> bool:
        """Make room for a reservation; whether it is worth trying again."""
        if shortage.element not in self._pools or not self._elements.get(shortage.element).can("remove"):
            return False
        if not shortage.short_bytes:
            return bool(self.resume(shortage.element))
        tried = (shortage.element, shortage.account)
        if time.monotonic() - self._fruitless.get(tried, -_PAUSE_S) < _PAUSE_S:
            return False
        done = self._round(shortage.element, shortage.account, lambda: self._goal_of(shortage))
        if done.short_bytes and done.freed_bytes < shortage.short_bytes:
            self._fruitless[tried] = time.monotonic()
        return not done.goal_bytes or done.freed_bytes > 0

    def _goal(self, element: str, need_bytes: int) -> _Goal:
        """Return what is to go now: others may have made room since somebody asked for it."""
        state = self.state(element)
        if state.fill is None:
            return _Goal(0, "")
        size_bytes = bytes_to_free(state.fill, state.marks, need_bytes)
        return _Goal(size_bytes, why_full(element, state.fill, state.marks, need_bytes))

    def _goal_of(self, shortage: Shortage) -> _Goal:
        """Likewise for a reservation; beyond the watermarks, each limit that it would pass counts."""
        with self._database.read() as connection:
            used = accounts.used_by(connection, shortage.element, shortage.account)
            limits = limits_at(connection, shortage.element)
        if shortage.account != ITSELF:
            over_bytes = used.all_bytes + shortage.need_bytes - (limit_of(limits, shortage.account) or 0)
            whose = f"the {shortage.account.kind} {shortage.account.name}"
            return _Goal(max(0, over_bytes), f"{whose} had reached its quota at {shortage.element}")
        goal = self._goal(shortage.element, shortage.need_bytes)
        fills = [bound.fill(used) for bound in self._capacity.bounds(shortage.element)]
        over = [fill.used_bytes + shortage.need_bytes - fill.total_bytes for fill in fills]
        return goal._replace(size_bytes=max(0, goal.size_bytes, *over))

    def _round(self, name: str, of: Account, ask: Callable[[], _Goal], *, dry_run: bool = False) -> Round:
        element = self._elements.get(name)
        element.plan("remove")
        evicted: list[Evicted] = []
        kept: list[Eviction] = []
        with self._turn:
            if not dry_run:
                self._resume(element)
                self._mend_clock(name)
            goal = ask()
            left = goal.size_bytes - self._going(name)
            for some in self._candidates(name, of) if left > 0 else ():
                judged = self._protection.judge(element, [one.lfn for one in some], self._pools[name].young_s)
                plan = plan_eviction(left, some, judged.kept, self._clock(), goal.because)
                kept += plan.kept[: _KEPT_SHOWN - len(kept)]
                if dry_run:
                    gone = [_as_if(name, one, self._clock()) for one in plan.evictions]
                else:
                    gone = self._carry_out(element, plan.evictions)
                evicted += [one for one in gone if one.state != KEPT]
                kept += [Eviction(_candidate(one), one.reason) for one in gone if one.state == KEPT]
                left -= sum(one.size_bytes for one in gone if one.state == DONE)
                if left <= 0:
                    break
        return Round(name, goal.size_bytes, tuple(evicted), tuple(kept), max(0, left))

    def _candidates(self, element: str, of: Account) -> Iterator[list[Candidate]]:
        """Yield what a pool holds, some at a time, the oldest access first."""
        where = [holdings.c.element == element]
        if of != ITSELF:
            where.append(_COLUMN[of.kind] == of.name)
        columns = ("lfn", "size_bytes", "accessed_s", "owner", "owner_group", "dataset", "reads")
        order = sa.tuple_(holdings.c.accessed_s, holdings.c.lfn)
        query = sa.select(*(holdings.c[name] for name in columns)).order_by(
            holdings.c.accessed_s, holdings.c.lfn
        )
        last: tuple[float, str] = (-1.0, "")
        while True:
            beyond = order > sa.tuple_(sa.literal(last[0]), sa.literal(last[1]))
            with self._database.read() as connection:
                rows = connection.execute(query.where(*where, beyond).limit(_BATCH)).all()
            if not rows:
                return
            yield [Candidate(Lfn(row.lfn), *row[1:]) for row in rows]
            last = (rows[-1].accessed_s, rows[-1].lfn)

    def _going(self, element: str) -> int:
        """Return how much others are about to throw away."""
        with self._database.read() as connection:
            return eviction_log.planned_bytes(connection, element)

    def _mend_clock(self, element: str) -> None:
        """Let no access lie in the future: after a clock was set back such a file would never be old."""
        now_s = self._clock()
        future = sa.and_(holdings.c.element == element, holdings.c.accessed_s > now_s + 60)
        with self._database.write() as connection:
            connection.execute(sa.update(holdings).where(future).values(accessed_s=now_s))

    # -- carrying out --------------------------------------------------------------------------------

    def _carry_out(self, element: StorageElement, chosen: Sequence[Eviction]) -> list[Evicted]:
        """Let files go; return what became of each."""
        if not chosen:
            return []
        return self._finish(element, self._plan(element, chosen))

    def _plan(self, element: StorageElement, chosen: Sequence[Eviction]) -> dict[Lfn, Evicted]:
        """Write down what is to go; from then on nobody brings it here until that has ended."""
        if not chosen:
            return {}
        with self._database.write() as connection:
            accounts.lock(connection, element.name)
            young_s = self._pools[element.name].young_s
            names = [one.file.lfn for one in chosen]
            kept = self._protection.rows(connection, element, names, young_s)
            free = [one for one in chosen if one.file.lfn not in kept]
            return eviction_log.plan(connection, element.name, free, self._clock(), self.holder)

    def _resume(self, element: StorageElement) -> int:
        with self._database.write() as connection:
            left = eviction_log.unfinished(connection, element.name, self.holder, self._clock())
            if not left:
                return 0
            eviction_log.adopt(connection, [one.id for one in left.values()], self.holder)
        self._finish(element, left)
        return len(left)

    def _finish(self, element: StorageElement, planned: Mapping[Lfn, Evicted]) -> list[Evicted]:
        """Do what is written down, from the mark in the catalogue on; each step may have been done before."""
        self._mark(planned, element, ReplicaState.DELETING)
        young_s = self._pools[element.name].young_s
        judged = self._protection.judge(element, list(planned), young_s, marked=True)
        names = {lfn: one.lfn for lfn, one in judged.free.items()}
        guids: dict[str, bytes | None] = {one.lfn: one.guid for one in judged.free.values()}
        failed = self._remove(element, names, guids)
        ends = {lfn: (KEPT, f"it stayed: {reason}") for lfn, reason in judged.kept.items()}
        ends |= {lfn: (FAILED, str(error)) for lfn, error in failed.items()}
        gone = [lfn for lfn in planned if lfn not in ends]
        # Of those that stay by now, one whose eviction was broken off may be gone from its storage already.
        vanished = self._vanished(element, list(ends))
        self._mark([lfn for lfn in ends if lfn not in vanished], element, ReplicaState.AVAILABLE)
        gone += vanished
        for lfn in gone:
            ends[lfn] = (DONE, "")
            for name in names_of(self._elements, element.name):
                with suppress(NoSuchReplica, NoSuchEntry):
                    self._catalogue.remove_replicas([lfn], name).one(lfn)
            self._forgotten(lfn)
        self._strike(element.name, planned, gone, ends)
        return [
            one._replace(state=ends[lfn][0], reason=ends[lfn][1] or one.reason)
            for lfn, one in planned.items()
        ]

    def _vanished(self, element: StorageElement, lfns: Sequence[Lfn]) -> list[Lfn]:
        """Return those of the files that the storage does not have; where it cannot be asked, none."""
        located = self._catalogue.resolve(lfns)
        asked: dict[Lfn, Lfn] = {}
        guids: dict[str, bytes | None] = {}
        for lfn, file in located.ok.items():
            own = [one for one in file.replicas if self._elements.name_of(one.se) == element.name]
            with suppress(BadRequest):
                replica = (
                    own[0] if own else Replica(Lfn(lfn), element.name, None, ReplicaState.LOST, None, "")
                )
                stored, guid = stored_as(element, replica, file.entry.guid)
                asked[stored], guids[stored] = Lfn(lfn), guid
        try:
            failed = element.stat(list(asked), guids).failed if asked else {}
        except VseError:
            return []
        return [lfn for stored, lfn in asked.items() if isinstance(failed.get(stored), NoSuchFile)]

    def _mark(
        self, lfns: Sequence[Lfn] | Mapping[Lfn, object], element: StorageElement, state: ReplicaState
    ) -> None:
        """Change the state of copies here, unless it says that something else is wrong with them."""
        ours = {ReplicaState.AVAILABLE, ReplicaState.DELETING}
        by_name: dict[str, list[Lfn]] = {}
        for lfn, file in self._catalogue.resolve(list(lfns)).ok.items():
            for replica in file.replicas:
                if self._elements.name_of(replica.se) == element.name and replica.state in ours - {state}:
                    by_name.setdefault(replica.se, []).append(Lfn(lfn))
        for name, some in by_name.items():
            self._catalogue.mark_replicas(some, name, state)

    def _remove(
        self, element: StorageElement, names: Mapping[Lfn, Lfn], guids: dict[str, bytes | None]
    ) -> dict[Lfn, VseError]:
        """Remove copies by their names in the storage; return the errors of those that are still there."""
        if not names:
            return {}
        try:
            failed = element.remove(list(names.values()), guids).failed
        except VseError as error:
            return dict.fromkeys(names, error)
        return {
            lfn: failed[name]
            for lfn, name in names.items()
            if name in failed and not isinstance(failed[name], NoSuchFile)
        }

    def _strike(
        self,
        element: str,
        planned: Mapping[Lfn, Evicted],
        gone: Sequence[Lfn],
        ends: Mapping[Lfn, tuple[str, str]],
    ) -> None:
        with self._database.write() as connection:
            accounts.lock(connection, element)
            changes = forget_holdings(connection, element, gone)
            if changes:
                accounts.change(connection, element, changes)
            eviction_log.end(connection, {planned[lfn].id: how for lfn, how in ends.items()})


def _is_open(element: StorageElement, lfn: Lfn) -> bool:
    path = element.local_path(lfn)
    return path is not None and bool(is_open(path))


def _as_if(element: str, one: Eviction, now_s: float) -> Evicted:
    return Evicted(0, now_s, element, one.file.lfn, one.file.size_bytes, DONE, one.reason)


def _candidate(one: Evicted) -> Candidate:
    return Candidate(one.lfn, one.size_bytes, one.when_s)
