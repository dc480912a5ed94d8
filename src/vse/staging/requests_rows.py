"""Requests and their files as rows of the database, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from vse.db.prepared import inserting
from vse.db.tables import request_items, requests, transfer_ends, transfers
from vse.errors import BadRequest, VseError
from vse.model import Lfn
from vse.staging.values import OPEN_REQUEST, Approval, Item, ItemState, Request, RequestState
from vse.transfer.lifecycle import ENDED, Cancelled, Event, Ranked, State, Withheld
from vse.transfer.rows import chunks, error_of, error_text

_ITEM_STATE = {
    State.DONE: ItemState.DONE,
    State.FAILED: ItemState.FAILED,
    State.CANCELLED: ItemState.CANCELLED,
}
_ENDS = 1000
"""How many ends are settled in one transaction."""


def read_requests(
    connection: sa.Connection, where: sa.ColumnElement[bool], limit: int | None = None
) -> list[Request]:
    """Return requests, the newest first."""
    query = sa.select(requests).where(where).order_by(requests.c.id.desc()).limit(limit)
    return [_request_of(row) for row in connection.execute(query)]


def one_request(connection: sa.Connection, request_id: int) -> Request:
    """Return a request; `BadRequest` where there is none of that number."""
    found = read_requests(connection, requests.c.id == request_id)
    if not found:
        raise unknown(request_id)
    return found[0]


def update_request(connection: sa.Connection, request_id: int, **values: Any) -> None:
    connection.execute(sa.update(requests).where(requests.c.id == request_id).values(**values))


def unknown(request_id: int) -> BadRequest:
    return BadRequest(
        f"find request {request_id}", "there is no such request", "see them all with 'vse request list --all'"
    )


def _request_of(row: sa.Row[Any]) -> Request:
    fields = dict(row._mapping)
    fields["state"] = RequestState(fields["state"])
    fields["approval"] = Approval(fields["approval"])
    fields["error"] = error_of(fields["error"])
    return Request(**fields)


# -- files of a request --------------------------------------------------------------------------


def put_items(connection: sa.Connection, request_id: int, items: Sequence[Item]) -> None:
    """Add files to a request, or bring them up to date.

    What came by this very request stays 'done', although it is found here now.
    """
    query = inserting(connection.dialect)(request_items)
    keep_done = sa.and_(request_items.c.state == ItemState.DONE, query.excluded.state == ItemState.HERE)
    fresh = {
        "size_bytes": query.excluded.size_bytes,
        "transfer_id": sa.func.coalesce(query.excluded.transfer_id, request_items.c.transfer_id),
        "state": sa.case((keep_done, ItemState.DONE), else_=query.excluded.state),
        "error": query.excluded.error,
    }
    values = [
        {
            "request_id": request_id,
            "lfn": one.lfn,
            "size_bytes": one.size_bytes,
            "transfer_id": one.transfer_id,
            "state": one.state,
            "error": error_text(one.error),
        }
        for one in items
    ]
    if values:
        connection.execute(
            query.on_conflict_do_update(index_elements=["request_id", "lfn"], set_=fresh), values
        )


def read_items(
    connection: sa.Connection, request_id: int, states: Sequence[ItemState], after: str, limit: int
) -> list[Item]:
    """Return up to ``limit`` files of a request in these states, in order, from behind ``after`` on."""
    columns = (
        request_items.c.lfn,
        request_items.c.size_bytes,
        request_items.c.state,
        request_items.c.transfer_id,
        request_items.c.error,
        transfers.c.state.label("transfer_state"),
    )
    query = (
        sa.select(*columns)
        .outerjoin(transfers, transfers.c.id == request_items.c.transfer_id)
        .where(request_items.c.request_id == request_id, request_items.c.lfn > after)
        .order_by(request_items.c.lfn)
        .limit(limit)
    )
    if states:
        query = query.where(request_items.c.state.in_(states))
    return [
        Item(
            Lfn(row.lfn),
            row.size_bytes,
            ItemState(row.state),
            row.transfer_id,
            error_of(row.error),
            State(row.transfer_state) if row.transfer_state else None,
        )
        for row in connection.execute(query)
    ]


def waiting_transfers(connection: sa.Connection, request_id: int) -> list[int]:
    """Return the ids of the transfers that a request waits for."""
    query = sa.select(request_items.c.transfer_id).where(
        request_items.c.request_id == request_id, request_items.c.state == ItemState.WAITING
    )
    return [key for (key,) in connection.execute(query) if key is not None]


def waiting_bytes(connection: sa.Connection, request_id: int) -> int:
    """Return how many bytes a request waits for."""
    query = sa.select(sa.func.coalesce(sa.func.sum(request_items.c.size_bytes), 0)).where(
        request_items.c.request_id == request_id, request_items.c.state == ItemState.WAITING
    )
    return int(connection.execute(query).scalar_one())


def end_waiting(connection: sa.Connection, request_id: int, state: ItemState, error: VseError | None) -> None:
    """Let all files end that a request still waits for."""
    waiting = sa.and_(request_items.c.request_id == request_id, request_items.c.state == ItemState.WAITING)
    connection.execute(sa.update(request_items).where(waiting).values(state=state, error=error_text(error)))


def wishes(connection: sa.Connection, transfer_ids: Sequence[int]) -> Iterator[dict[int, Event]]:
    """Yield, in parts, what transfers are to be told after those who want them have changed.

    The best priority of those who may have it counts, and of these who asked first; one that only
    requests without approval want is withheld, one that nobody wants is cancelled.
    """
    item, asked = request_items.c, requests.c
    for some in chunks(transfer_ids):
        query = (
            sa.select(item.transfer_id, asked.approval, asked.priority, asked.owner)
            .join(requests, asked.id == item.request_id)
            .where(item.transfer_id.in_(some), item.state == ItemState.WAITING, asked.state.in_(OPEN_REQUEST))
            .order_by(asked.priority, asked.id)
        )
        events: dict[int, Event] = dict.fromkeys(some, Cancelled())
        for key, approval, priority, owner in connection.execute(query):
            if isinstance(events[key], Ranked):
                continue
            events[key] = Withheld() if approval == Approval.WANTED else Ranked(priority, owner)
        yield events


# -- ends ----------------------------------------------------------------------------------------


def some_ends(connection: sa.Connection) -> list[int]:
    """Return transfers that have ended and whose requests do not know it yet."""
    return [key for (key,) in connection.execute(sa.select(transfer_ends.c.transfer_id).limit(_ENDS))]


def forget_ends(connection: sa.Connection, transfer_ids: Sequence[int]) -> None:
    for some in chunks(transfer_ids):
        connection.execute(sa.delete(transfer_ends).where(transfer_ends.c.transfer_id.in_(some)))


def end_items(connection: sa.Connection, transfer_ids: Sequence[int]) -> set[int]:
    """Let waiting files end with these transfers; return the requests that were touched."""
    query = (
        sa.select(request_items.c.request_id, request_items.c.lfn, transfers.c.state, transfers.c.error)
        .join(transfers, transfers.c.id == request_items.c.transfer_id)
        .where(
            request_items.c.transfer_id.in_(transfer_ids),
            request_items.c.state == ItemState.WAITING,
            transfers.c.state.in_(ENDED),
        )
    )
    values = [
        {"key": key, "name": lfn, "new_state": _ITEM_STATE[State(state)], "new_error": error}
        for key, lfn, state, error in connection.execute(query)
    ]
    if values:
        end = (
            sa.update(request_items)
            .where(
                request_items.c.request_id == sa.bindparam("key"),
                request_items.c.lfn == sa.bindparam("name"),
            )
            .values(state=sa.bindparam("new_state"), error=sa.bindparam("new_error"))
        )
        connection.execute(end, values)
    return {int(value["key"]) for value in values}


def end_requests(connection: sa.Connection, ids: Sequence[int], now_s: float) -> list[Request]:
    """End those of these active requests that wait for nothing any more; return them."""
    ended: list[Request] = []
    for some in chunks(ids):
        over = sa.and_(
            requests.c.id.in_(some),
            requests.c.state == RequestState.ACTIVE,
            ~_has_item(ItemState.WAITING),
        )
        keys = [key for (key,) in connection.execute(sa.select(requests.c.id).where(over))]
        if not keys:
            continue
        state = sa.case(
            (_has_item(ItemState.FAILED), RequestState.FAILED),
            (_has_item(ItemState.CANCELLED), RequestState.CANCELLED),
            else_=RequestState.DONE,
        )
        end = sa.update(requests).where(requests.c.id.in_(keys))
        connection.execute(end.values(state=state, finished_s=now_s))
        ended += read_requests(connection, requests.c.id.in_(keys))
    return ended


def _has_item(state: ItemState) -> sa.Exists:
    # Of columns of ix_request_items_state only: SQLite would else look through all files of the request.
    return sa.exists(sa.literal_column("1")).where(
        request_items.c.request_id == requests.c.id, request_items.c.state == state
    )
