"""The log of evictions: what goes is written down before anything is touched, with its reason.

A row is ``planned`` until the copy is gone (``done``), was kept after all (``kept``), or would not go
(``failed``). Planned rows whose process is gone are carried out by the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from vse.db.tables_pool import evictions
from vse.model import Lfn
from vse.staging.pool_plan import Eviction
from vse.transfer import instance

PLANNED, DONE, KEPT, FAILED = "planned", "done", "kept", "failed"
_CARRIED_OUT_S = 3600.0
"""Within this what was planned has ended one way or the other, where its process cannot be seen."""


class Evicted(NamedTuple):
    """One row of the log. ``reason``: why it went, or why it did not."""

    id: int
    when_s: float
    element: str
    lfn: Lfn
    size_bytes: int
    state: str
    reason: str


_COLUMNS = (
    evictions.c.id,
    evictions.c.when_s,
    evictions.c.element,
    evictions.c.lfn,
    evictions.c.size_bytes,
    evictions.c.state,
    evictions.c.reason,
)


def plan(
    connection: sa.Connection, element: str, chosen: Sequence[Eviction], now_s: float, holder: str
) -> dict[Lfn, Evicted]:
    """Write down what is to go, besides what somebody else has written down already."""
    known = sa.select(evictions.c.lfn).where(
        evictions.c.element == element,
        evictions.c.state == PLANNED,
        evictions.c.lfn.in_([one.file.lfn for one in chosen]),
    )
    others = {lfn for (lfn,) in connection.execute(known)}
    written: dict[Lfn, Evicted] = {}
    for one in chosen:
        if one.file.lfn in others:
            continue
        size_bytes = one.file.size_bytes
        row = Evicted(0, now_s, element, one.file.lfn, size_bytes, PLANNED, one.reason)
        values = {name: value for name, value in row._asdict().items() if name != "id"}
        add = sa.insert(evictions).values(**values, holder=holder).returning(evictions.c.id)
        written[one.file.lfn] = row._replace(id=connection.execute(add).scalar_one())
    return written


def end(connection: sa.Connection, ends: Mapping[int, tuple[str, str]]) -> None:
    """Write down how evictions ended: by id, state and reason (empty: as it was)."""
    for key, (state, reason) in ends.items():
        values = {"state": state, "reason": reason} if reason else {"state": state}
        connection.execute(sa.update(evictions).where(evictions.c.id == key).values(**values))


def unfinished(connection: sa.Connection, element: str, own: str, now_s: float) -> dict[Lfn, Evicted]:
    """Return what nobody carries out any more: planned by ``own``, or by processes that are gone.

    Whether one lives that began on another machine, or before this one was started anew, cannot be seen:
    what it planned long ago is taken for broken off.
    """
    query = sa.select(*_COLUMNS, evictions.c.holder).where(
        evictions.c.state == PLANNED, evictions.c.element == element
    )
    rows = connection.execute(query.order_by(evictions.c.id)).all()
    holders = {row.holder for row in rows}
    gone, known = {own, *instance.dead(holders)}, set(instance.judged(holders))
    return {
        Lfn(row.lfn): _evicted(row[:-1])
        for row in rows
        if row.holder in gone or (row.holder not in known and abs(now_s - row.when_s) > _CARRIED_OUT_S)
    }


def planned_bytes(connection: sa.Connection, element: str) -> int:
    """Return how much is written down to go, by anybody."""
    total = sa.select(sa.func.coalesce(sa.func.sum(evictions.c.size_bytes), 0)).where(
        evictions.c.state == PLANNED, evictions.c.element == element
    )
    return int(connection.execute(total).scalar_one())


def adopt(connection: sa.Connection, ids: Sequence[int], holder: str) -> None:
    """Take over evictions from processes that are gone."""
    connection.execute(sa.update(evictions).where(evictions.c.id.in_(ids)).values(holder=holder))


def read(connection: sa.Connection, *, element: str = "", lfn: str = "", limit: int = 100) -> list[Evicted]:
    """Return the newest rows, newest first."""
    query = sa.select(*_COLUMNS).order_by(evictions.c.id.desc()).limit(limit)
    if element:
        query = query.where(evictions.c.element == element)
    if lfn:
        query = query.where(evictions.c.lfn == lfn)
    return [_evicted(row) for row in connection.execute(query)]


def _evicted(row: Sequence[object]) -> Evicted:
    one = Evicted(*row)  # type: ignore[arg-type]
    return one._replace(lfn=Lfn(one.lfn))
