"""Space that is kept for a file before its first byte moves, so that no limit is ever passed.

A reservation is a row, counted in the accounts in the same transaction that looks at the limits. Whatever
dies, its rows are found and freed: those of a process that is gone at once, those of other machines (and of
this one before it was started anew) when the transfer of the file has ended for a while, or when their time
is over and no transfer of the file runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from vse.db import Database
from vse.db.prepared import chunks
from vse.db.tables import request_items, requests, transfers
from vse.db.tables_pool import evictions, holdings, quotas, reservations
from vse.errors import BadRequest, QuotaExceeded, StorageFull, VseError
from vse.model import Clock, DatasetQuery, Lfn
from vse.model.identity import primary_group
from vse.model.query import NamedQuery
from vse.model.sizes import show_bytes
from vse.staging import accounts
from vse.staging.accounts import ITSELF, Account, Change, Used
from vse.staging.capacity import Bound, Capacity
from vse.staging.quotas import ANY, limit_of, limits_at
from vse.staging.values import OPEN_REQUEST
from vse.transfer import instance
from vse.transfer.lifecycle import ENDED, State

_HELD_S = 86400.0
"""How long a process on another machine is believed to be at it, where no running transfer says so."""
_NOTICED_S = 900.0
"""After so long whoever moved a file has noticed that its transfer was cancelled or given up."""


class Shortage(NamedTuple):
    """What stands in the way of a reservation: one account lacks ``short_bytes`` (0: something else does)."""

    element: str
    account: Account
    need_bytes: int
    short_bytes: int
    error: VseError


class _Wanted(NamedTuple):
    element: str
    lfn: Lfn
    size_bytes: int
    owner: str
    group: str
    dataset: str
    holder: str


class _Refused(Exception):
    def __init__(self, shortage: Shortage) -> None:
        super().__init__(shortage)
        self.shortage = shortage


class Reservations:
    """Safe to share between threads and processes.

    ``make_room`` is told of a shortage and returns whether it is worth trying again. Elements that are no
    pools and have no quotas keep no accounts: there all calls do nothing.
    """

    def __init__(
        self,
        database: Database,
        capacity: Capacity,
        clock: Clock = time.time,
        make_room: Callable[[Shortage], bool] = lambda _: False,
        group_of: Callable[[str], str] = primary_group,
    ) -> None:
        self._database = database
        self._capacity = capacity
        self._clock = clock
        self._make_room = make_room
        self._group_of = group_of

    def reserve(
        self,
        element: str,
        lfn: Lfn,
        size_bytes: int,
        owner: str,
        group: str = "",
        dataset: str = "",
        holder: str = "",
    ) -> None:
        """Keep space for a file that is about to be written. Idempotent; ``holder`` is a name of
        `vse.transfer.instance`, of whoever writes it. Where left out, ``group`` is the owner's primary one,
        and ``dataset`` the one that the oldest open request for the file names.

        Raises `QuotaExceeded` or `StorageFull` (both retryable), with nothing kept, where the file would not
        fit even when all had gone that may go; `BadRequest` where it is larger than the whole element.
        """
        if not self._kept(element):
            return
        group = group or self._group_of(owner)
        dataset = dataset or self._dataset_of(element, lfn)
        wanted = _Wanted(element, lfn, size_bytes, owner, group, dataset, holder)
        shortage = self._try(wanted)
        if shortage is not None and self.free_dead(element):
            shortage = self._try(wanted)
        if shortage is not None and self._make_room(shortage):
            shortage = self._try(wanted, anew=True)
        if shortage is not None:
            raise shortage.error

    def release(self, element: str, lfns: Sequence[Lfn], holder: str | None = None) -> None:
        """Give space back that was kept for files that did not come; nothing where none was.

        ``holder``: only what it keeps, where given; another one may be bringing the file by now.
        """
        for some in chunks(lfns, 500):
            which = [reservations.c.element == element, reservations.c.lfn.in_(some)]
            if holder is not None:
                which.append(reservations.c.holder == holder)
            self._free(element, sa.and_(*which))

    def turn_into_holding(self, element: str, lfn: Lfn, now_s: float) -> bool:
        """Say that a file came; see `turn_into_holdings`. False where no space was kept for it."""
        return bool(self.turn_into_holdings(element, [lfn], now_s))

    def turn_into_holdings(self, element: str, lfns: Sequence[Lfn], now_s: float) -> list[Lfn]:
        """Say that files came for which space was kept, in one transaction; return those.

        They count for the same accounts from then on. Idempotent. The others are found when the accounts
        are compared with the catalogue.
        """
        turned: list[Lfn] = []
        if not self._kept(element):
            return turned
        with self._database.write() as connection:
            accounts.lock(connection, element)
            for some in chunks(lfns, 500):
                rows = _take(connection, element, some)
                names = [Lfn(row.lfn) for row in rows]
                changes = [_minus(row) for row in rows] + forget_holdings(connection, element, names)
                for row in rows:
                    changes.append(Change(row.owner, row.owner_group, row.dataset, 1, row.size_bytes))
                if rows:
                    connection.execute(sa.insert(holdings), [_holding(row, now_s) for row in rows])
                    accounts.change(connection, element, changes)
                turned += names
        return turned

    def free_dead(self, element: str) -> int:
        """Free what processes left that are gone; return how many reservations that were."""
        of_element = reservations.c.element == element
        with self._database.read() as connection:
            query = sa.select(reservations.c.holder).where(of_element).distinct()
            holders = [holder for (holder,) in connection.execute(query)]
        gone, known = instance.dead(holders), instance.judged(holders)
        now_s, until_s = self._clock(), reservations.c.until_s
        moves = sa.and_(
            transfers.c.lfn == reservations.c.lfn, transfers.c.destination == reservations.c.element
        )
        runs = sa.exists().where(moves, transfers.c.state == State.RUNNING)
        over = sa.exists().where(
            moves, transfers.c.state.in_(ENDED), transfers.c.finished_s < now_s - _NOTICED_S
        )
        late = sa.and_(until_s < now_s, ~runs)
        settled = sa.and_(until_s < now_s + _HELD_S - _NOTICED_S, over)
        unseen = sa.and_(reservations.c.holder.not_in(known), sa.or_(late, settled))
        dead = sa.or_(reservations.c.holder.in_(gone), unseen)
        return self._free(element, sa.and_(of_element, dead))

    # -- inside --------------------------------------------------------------------------------------

    def _free(self, element: str, which: sa.ColumnElement[bool]) -> int:
        """Remove reservations of an element; return how many."""
        with self._database.write() as connection:
            if not connection.execute(sa.select(sa.exists().where(which))).scalar():
                return 0
            accounts.lock(connection, element)
            rows = connection.execute(sa.delete(reservations).where(which).returning(*reservations.c)).all()
            accounts.change(connection, element, map(_minus, rows))
        return len(rows)

    def _kept(self, element: str) -> bool:
        """Whether an element's accounts are kept."""
        if self._capacity.is_pool(element):
            return True
        with self._database.read() as connection:
            found = sa.select(sa.exists().where(quotas.c.element.in_([ANY, element])))
            return bool(connection.execute(found).scalar())

    def _dataset_of(self, element: str, lfn: Lfn) -> str:
        """Return the name of the dataset that a file is brought for; empty where it is for none."""
        query = (
            sa.select(requests.c.query)
            .join(request_items, request_items.c.request_id == requests.c.id)
            .join(transfers, transfers.c.id == request_items.c.transfer_id)
            .where(
                transfers.c.lfn == lfn,
                transfers.c.destination == element,
                requests.c.state.in_(OPEN_REQUEST),
            )
            .order_by(requests.c.id)
        )
        with self._database.read() as connection:
            asked = [DatasetQuery.parse(text) for (text,) in connection.execute(query)]
        return next((one.name for one in asked if isinstance(one, NamedQuery)), "")

    def _try(self, wanted: _Wanted, *, anew: bool = False) -> Shortage | None:
        """Reserve, or return what stands in the way."""
        bounds = self._capacity.bounds(wanted.element, anew=anew)
        try:
            with self._database.write() as connection:
                self._reserve(connection, wanted, bounds)
        except _Refused as refused:
            return refused.shortage
        return None

    def _reserve(self, connection: sa.Connection, wanted: _Wanted, bounds: Sequence[Bound]) -> None:
        element, lfn = wanted.element, wanted.lfn
        accounts.lock(connection, element)
        _refuse_while_it_goes(connection, wanted)
        held = sa.select(holdings.c.size_bytes).where(holdings.c.element == element, holdings.c.lfn == lfn)
        if connection.execute(held).scalar() == wanted.size_bytes:
            return
        changes = forget_holdings(connection, element, [lfn])
        changes += [_minus(row) for row in _take(connection, element, [lfn])]
        added = Change(wanted.owner, wanted.group, wanted.dataset, reserved_bytes=wanted.size_bytes)
        after = accounts.change(connection, element, [*changes, added])
        shortage = _shortage(wanted, after, bounds, limits_at(connection, element))
        if shortage is not None:
            raise _Refused(shortage)
        row = {
            "element": element,
            "lfn": lfn,
            "size_bytes": wanted.size_bytes,
            "owner": wanted.owner,
            "owner_group": wanted.group,
            "dataset": wanted.dataset,
            "holder": wanted.holder,
            "until_s": self._clock() + _HELD_S,
        }
        connection.execute(sa.insert(reservations), row)


def forget_holdings(connection: sa.Connection, element: str, lfns: Sequence[Lfn]) -> list[Change]:
    """Remove holdings; return what that takes from the accounts (`accounts.change`)."""
    where = sa.and_(holdings.c.element == element, holdings.c.lfn.in_(lfns))
    gone = connection.execute(sa.delete(holdings).where(where).returning(*holdings.c)).all()
    return [Change(row.owner, row.owner_group, row.dataset, -1, -row.size_bytes) for row in gone]


def _take(
    connection: sa.Connection, element: str, lfns: Sequence[Lfn]
) -> Sequence[sa.Row[tuple[object, ...]]]:
    """Remove reservations; return their rows."""
    where = sa.and_(reservations.c.element == element, reservations.c.lfn.in_(lfns))
    return connection.execute(sa.delete(reservations).where(where).returning(*reservations.c)).all()


def _minus(row: sa.Row[tuple[object, ...]]) -> Change:
    return Change(row.owner, row.owner_group, row.dataset, reserved_bytes=-row.size_bytes)


def _holding(row: sa.Row[tuple[object, ...]], now_s: float) -> dict[str, object]:
    kept = ("element", "lfn", "size_bytes", "owner", "owner_group", "dataset")
    return {**{name: getattr(row, name) for name in kept}, "since_s": now_s, "accessed_s": now_s, "reads": 0}


def _refuse_while_it_goes(connection: sa.Connection, wanted: _Wanted) -> None:
    going = sa.exists().where(
        evictions.c.lfn == wanted.lfn, evictions.c.element == wanted.element, evictions.c.state == "planned"
    )
    if connection.execute(sa.select(going)).scalar():
        error = StorageFull(
            _keeping(wanted),
            "an older copy of it is being thrown away there at this moment",
            "it is tried again by itself",
        )
        raise _Refused(Shortage(wanted.element, ITSELF, wanted.size_bytes, 0, error))


def _shortage(
    wanted: _Wanted, after: dict[Account, Used], bounds: Sequence[Bound], limits: dict[Account, int]
) -> Shortage | None:
    """Return the first limit that would be passed: of the element, then of the quotas."""
    for bound in bounds:
        fill = bound.fill(after[ITSELF])
        short_bytes = fill.used_bytes - fill.total_bytes
        if wanted.size_bytes > bound.total_bytes:
            never = BadRequest(
                _keeping(wanted),
                f"all of it is {show_bytes(bound.total_bytes)}",
                "choose another storage element, or make this one greater",
            )
            return Shortage(wanted.element, ITSELF, wanted.size_bytes, 0, never)
        if short_bytes > 0:
            full = StorageFull(
                _keeping(wanted),
                f"{show_bytes(fill.used_bytes - wanted.size_bytes)} of {show_bytes(fill.total_bytes)} are "
                "taken or kept for others, and nothing more may be thrown away",
                f"see what holds it: vse pool show, vse pool evict {wanted.element} --dry-run",
            )
            return Shortage(wanted.element, ITSELF, wanted.size_bytes, short_bytes, full)
    for account in accounts.accounts_of(wanted.owner, wanted.group, wanted.dataset)[1:]:
        limit_bytes = limit_of(limits, account)
        used_bytes = after[account].all_bytes
        if limit_bytes is not None and used_bytes > limit_bytes:
            exceeded = QuotaExceeded(
                _keeping(wanted),
                f"the {account.kind} {account.name} has {show_bytes(used_bytes - wanted.size_bytes)} there "
                f"or on the way, and may have {show_bytes(limit_bytes)}",
                "wait until some of it has gone, let pins go (vse unpin), or ask for a greater quota",
            )
            short_bytes = used_bytes - limit_bytes
            return Shortage(wanted.element, account, wanted.size_bytes, short_bytes, exceeded)
    return None


def _keeping(wanted: _Wanted) -> str:
    return f"keep {show_bytes(wanted.size_bytes)} at {wanted.element} for {wanted.lfn}"
