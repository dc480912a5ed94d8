"""Pins: files that stay at a storage element until somebody lets them go, or a time has come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from vse.db import Database
from vse.db.prepared import chunks, inserting
from vse.db.tables import requests
from vse.db.tables_pool import pins
from vse.errors import BadRequest, Denied
from vse.model import Clock, Lfn
from vse.staging.values import OPEN_REQUEST, RequestState

LET_GO = (RequestState.CANCELLED, RequestState.REFUSED)
"""Requests that have no say any more in what stays."""
_ROWS = 500
_REMEMBERED_S = 86400.0


class Pin(NamedTuple):
    """Somebody wants a file to stay. ``expires_s`` None: until they let it go."""

    element: str
    lfn: Lfn
    owner: str
    created_s: float
    expires_s: float | None
    note: str


class RequestPin(NamedTuple):
    """All files of a request stay. ``expires_s`` None: it counts from when the request ends."""

    request_id: int
    element: str
    owner: str
    query: str
    pin_s: float
    expires_s: float | None


class Pins:
    """The pins of a site. Safe to share between threads and processes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(self, element: str, lfns: Iterable[Lfn], owner: str, for_s: float | None, note: str = "") -> int:
        """Pin files for so long from now, None: until `remove`; return how many. One pin an owner and file:
        the new time takes the place of the old one."""
        if for_s is not None and for_s <= 0:
            raise BadRequest("pin files", f"{for_s} s is no time to come", "write it as --for 7d")
        now_s = self._clock()
        expires_s = None if for_s is None else now_s + for_s
        number = 0
        for some in chunks(lfns, _ROWS):
            values = [
                {
                    "element": element,
                    "lfn": lfn,
                    "owner": owner,
                    "created_s": now_s,
                    "expires_s": expires_s,
                    "note": note,
                }
                for lfn in some
            ]
            with self._database.write() as connection:
                insert = inserting(connection.dialect)(pins)
                upsert = insert.on_conflict_do_update(
                    index_elements=["element", "lfn", "owner"],
                    set_={"expires_s": insert.excluded.expires_s, "note": insert.excluded.note},
                )
                connection.execute(upsert, values)
            number += len(values)
        return number

    def remove(self, element: str, lfns: Iterable[Lfn], owner: str | None) -> int:
        """Let files go that ``owner`` (None: anybody) pinned; return how many pins there were."""
        number = 0
        for some in chunks(lfns, _ROWS):
            which = [pins.c.element == element, pins.c.lfn.in_(some)]
            if owner is not None:
                which.append(pins.c.owner == owner)
            with self._database.write() as connection:
                number += connection.execute(sa.delete(pins).where(*which)).rowcount
        return number

    def remove_request(self, request_id: int, owner: str | None) -> None:
        """Let the files of a request go; `Denied` where it is somebody else's (None: may be anybody's)."""
        with self._database.write() as connection:
            row = connection.execute(sa.select(requests).where(requests.c.id == request_id)).first()
            if row is None or row.pin_s is None:
                raise BadRequest(
                    f"unpin the files of request {request_id}",
                    "there is no such request, or it pins nothing",
                    "see what is pinned with 'vse pin list'",
                )
            if owner is not None and row.owner != owner:
                raise Denied(f"unpin the files of request {request_id}", f"it is one of {row.owner}")
            connection.execute(sa.update(requests).where(requests.c.id == request_id).values(pin_s=None))

    def all(self, owner: str | None = None, limit: int = 10_000) -> list[Pin]:
        """Return the pins that hold, by element and name."""
        query = (
            sa.select(
                pins.c.element, pins.c.lfn, pins.c.owner, pins.c.created_s, pins.c.expires_s, pins.c.note
            )
            .where(_holds(self._clock()))
            .order_by(pins.c.element, pins.c.lfn, pins.c.owner)
            .limit(limit)
        )
        if owner is not None:
            query = query.where(pins.c.owner == owner)
        with self._database.read() as connection:
            return [Pin(row[0], Lfn(row[1]), *row[2:5], row[5] or "") for row in connection.execute(query)]

    def of_requests(self) -> list[RequestPin]:
        """Return the requests whose files stay, the oldest first."""
        query = sa.select(requests).where(pinning(self._clock())).order_by(requests.c.id)
        with self._database.read() as connection:
            return [
                RequestPin(
                    row.id,
                    row.destination,
                    row.owner,
                    row.query,
                    row.pin_s,
                    None if row.finished_s is None else row.finished_s + row.pin_s,
                )
                for row in connection.execute(query)
            ]

    def forget_expired(self) -> int:
        """Remove the rows of pins that expired a day ago; return how many.

        Where the clock was set ahead for less than that, the pins hold again when it comes back.
        """
        long_ago_s = self._clock() - _REMEMBERED_S
        with self._database.write() as connection:
            return connection.execute(sa.delete(pins).where(pins.c.expires_s <= long_ago_s)).rowcount


def pinning(now_s: float) -> sa.ColumnElement[bool]:
    """Which requests pin their files: they ask for it, and are open or ended less than so long ago."""
    still = sa.or_(
        requests.c.state.in_(OPEN_REQUEST),
        sa.and_(requests.c.state.not_in(LET_GO), requests.c.finished_s + requests.c.pin_s > now_s),
    )
    return sa.and_(requests.c.pin_s.is_not(None), still)


def pinned(
    connection: sa.Connection, element: str, lfns: Sequence[Lfn], now_s: float
) -> dict[Lfn, tuple[str, float | None]]:
    """Return who pinned each of the files that are, and until when (the longest, None: for ever)."""
    query = sa.select(pins.c.lfn, pins.c.owner, pins.c.expires_s).where(
        pins.c.element == element, pins.c.lfn.in_(lfns), _holds(now_s)
    )
    rows = connection.execute(query.order_by(sa.nulls_last(pins.c.expires_s)))
    return {Lfn(lfn): (owner, expires_s) for lfn, owner, expires_s in rows}


def _holds(now_s: float) -> sa.ColumnElement[bool]:
    return sa.or_(pins.c.expires_s.is_(None), pins.c.expires_s > now_s)
