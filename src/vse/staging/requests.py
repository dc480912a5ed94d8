"""Requests for datasets (seed 002 §4.3.5.1): rows that turn into transfers, and end with them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import islice

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from vse.catalogue.port import Catalogue, Names
from vse.db import Database
from vse.db.locks import Lock
from vse.db.tables import request_items, requests, transfers
from vse.errors import BadRequest, NoPlan, NoSuchEntry, NoSuchFile
from vse.model import Clock, DatasetQuery, Lfn, Located, ReplicaState
from vse.staging.jobs import plan_sources
from vse.staging.values import OPEN_REQUEST, ItemState, Request, RequestState
from vse.storage.element import Elements, StorageElement
from vse.transfer.lifecycle import ENDED, State, Wanted
from vse.transfer.queue import Queue
from vse.transfer.rows import chunks

_ITEM_STATE = {
    State.DONE: ItemState.DONE,
    State.FAILED: ItemState.FAILED,
    State.CANCELLED: ItemState.CANCELLED,
}


class Staging:
    """Makes requests and settles them. Safe to share between threads and processes.

    ``names`` answers queries (our catalogue with the upstreams behind it), ``catalogue`` is our own.
    """

    def __init__(
        self,
        *,
        database: Database,
        names: Names,
        catalogue: Catalogue,
        elements: Elements,
        queue: Queue,
        clock: Clock = time.time,
    ) -> None:
        self._database = database
        self._names = names
        self._catalogue = catalogue
        self._elements = elements
        self._queue = queue
        self._clock = clock

    # -- asking ----------------------------------------------------------------------------------

    def request(self, query: DatasetQuery, owner: str, destination: str) -> Request:
        """Ask for every file of ``query`` at ``destination``; what is there already counts at once.

        Idempotent: while a request of the same owner for the same is open it is the one returned, with
        files added that match by now, and those that failed tried again. Killed in the middle, the next
        call goes on. Raises `NoSuchEntry` where nothing matches, and the errors of ``names`` and of an
        unknown ``destination``.
        """
        element = self._elements.get(destination)
        request = self._open(query, owner, destination)
        seen_s = self._clock()
        answer = self._names.find(query.base, query.pattern)
        first_source: dict[tuple[str, ...], str | None] = {}
        found = 0
        while files := list(islice(answer, 1000)):
            found += len(files)
            here = self._already_at(element, destination, files)
            wanted = {
                file.entry.lfn: Wanted(
                    file.entry.size_bytes or 0,
                    file.entry.adler32,
                    query.tree,
                    self._first_source(file, destination, first_source),
                    seen_s,
                )
                for file in files
                if file.entry.lfn not in here
            }
            self._add(request, files, wanted)
        if not found:
            self._drop_empty(request)
            raise NoSuchEntry(
                f"stage {query}", "no file matches it", f"see what is there with 'vse ls {query.base}'"
            )
        with self._database.write() as connection:
            connection.execute(
                sa.update(requests)
                .where(requests.c.id == request.id, requests.c.state == RequestState.GATHERING)
                .values(state=RequestState.ACTIVE)
            )
            _end_items(connection, request_items.c.request_id == request.id)
            self._end(connection, [request.id])
        return self.get([request.id])[0]

    def cancel(self, request_id: int) -> Request:
        """End a request; transfers that no other request waits for are taken out of the queue."""
        with self._database.write() as connection:
            request = _requests(connection, requests.c.id == request_id)
            if not request:
                raise _unknown(request_id)
            if request[0].is_over:
                return request[0]
            waiting = sa.and_(
                request_items.c.request_id == request_id, request_items.c.state == ItemState.WAITING
            )
            others = request_items.alias()
            wanted_elsewhere = sa.exists().where(
                others.c.transfer_id == request_items.c.transfer_id,
                others.c.request_id != request_id,
                others.c.state == ItemState.WAITING,
            )
            unwanted = sa.select(request_items.c.transfer_id).where(waiting, ~wanted_elsewhere)
            ids = [key for (key,) in connection.execute(unwanted) if key is not None]
            connection.execute(sa.update(request_items).where(waiting).values(state=ItemState.CANCELLED))
            self._queue.cancel(ids, connection)
            connection.execute(
                sa.update(requests)
                .where(requests.c.id == request_id)
                .values(state=RequestState.CANCELLED, finished_s=self._clock())
            )
            return _requests(connection, requests.c.id == request_id)[0]

    # -- settling --------------------------------------------------------------------------------

    def settle(self, transfer_ids: Sequence[int] | None = None) -> list[Request]:
        """Let items end with their transfers, and requests with their items; return those that ended.

        ``transfer_ids``: only these have changed; None looks at all (after a kill). Idempotent.
        """
        if transfer_ids is not None and not transfer_ids:
            return []
        with self._database.write() as connection:
            touched: set[int] = set()
            for some in chunks(transfer_ids or ()):
                touched |= _end_items(connection, transfers.c.id.in_(some))
            if transfer_ids is None:
                opened = sa.select(requests.c.id).where(requests.c.state.in_(OPEN_REQUEST))
                touched = {key for (key,) in connection.execute(opened)}
                _end_items(connection, request_items.c.request_id.in_(opened))
            return self._end(connection, sorted(touched))

    def _end(self, connection: sa.Connection, ids: Sequence[int]) -> list[Request]:
        """End those active requests that wait for nothing any more."""
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
            connection.execute(end.values(state=state, finished_s=self._clock()))
            ended += _requests(connection, requests.c.id.in_(keys))
        return ended

    # -- looking ---------------------------------------------------------------------------------

    def get(self, ids: Sequence[int]) -> list[Request]:
        """Return requests in the order of ``ids``; `BadRequest` for one that there is not."""
        with self._database.read() as connection:
            found = {one.id: one for one in _requests(connection, requests.c.id.in_(ids))}
        missing = next((key for key in ids if key not in found), None)
        if missing is not None:
            raise _unknown(missing)
        return [found[key] for key in ids]

    def list(self, *, open_only: bool = False, limit: int = 100) -> list[Request]:
        """Return the newest requests, newest first."""
        where = requests.c.state.in_(OPEN_REQUEST) if open_only else sa.true()
        with self._database.read() as connection:
            return _requests(connection, where, limit)

    def all_over(self, ids: Sequence[int]) -> bool:
        """Whether every one of these requests has ended."""
        query = sa.select(requests.c.id).where(requests.c.id.in_(ids), requests.c.state.in_(OPEN_REQUEST))
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is None

    # -- inside ----------------------------------------------------------------------------------

    def _open(self, query: DatasetQuery, owner: str, destination: str) -> Request:
        """Return the open request for the same, or a new one, as one that gathers its files."""
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({Lock.REQUEST})")
            same = sa.and_(
                requests.c.query == str(query),
                requests.c.owner == owner,
                requests.c.destination == destination,
                requests.c.state.in_(OPEN_REQUEST),
            )
            found = _requests(connection, same)
            if found:
                return found[0]
            new = sa.insert(requests).values(
                query=str(query),
                owner=owner,
                destination=destination,
                state=RequestState.GATHERING,
                created_s=self._clock(),
            )
            key = connection.execute(new.returning(requests.c.id)).scalar_one()
            return _requests(connection, requests.c.id == key)[0]

    def _already_at(self, element: StorageElement, destination: str, files: Sequence[Located]) -> set[Lfn]:
        """Return the files that the catalogue and the storage both have at the destination.

        A copy that the catalogue knows and the storage has lost is forgotten: it can be staged again.
        """
        known = {
            file.entry.lfn: file.entry.size_bytes
            for file in files
            for replica in file.replicas
            if replica.se == destination and replica.state is ReplicaState.AVAILABLE
        }
        if not known:
            return set()
        looked = element.stat(list(known))
        vanished = [lfn for lfn in known if isinstance(looked.failed.get(lfn), NoSuchFile)]
        if vanished:
            self._catalogue.remove_replicas(vanished, destination)
        return {lfn for lfn, size in known.items() if lfn in looked.ok and looked.ok[lfn].size_bytes == size}

    def _first_source(
        self, file: Located, destination: str, memory: dict[tuple[str, ...], str | None]
    ) -> str | None:
        """Return the element that the file will be read from first, as far as can be told now."""
        others = tuple(replica for replica in file.replicas if replica.se != destination)
        key = tuple(f"{replica.se} {replica.state} {replica.url is None}" for replica in others)
        if key not in memory:
            try:
                memory[key] = plan_sources(self._elements, others, destination).sources[0].se
            except NoPlan:
                memory[key] = None
        return memory[key]

    def _add(self, request: Request, files: Sequence[Located], wanted: dict[Lfn, Wanted]) -> None:
        """Add items and their transfers, in one transaction."""
        with self._database.write() as connection:
            ids = self._queue.enqueue(request.destination, wanted, connection)
            here = [file.entry.lfn for file in files if file.entry.lfn not in wanted]
            came = self._queue.found(request.destination, here, connection)
            values = [
                {
                    "request_id": request.id,
                    "lfn": file.entry.lfn,
                    "size_bytes": file.entry.size_bytes or 0,
                    "transfer_id": ids.get(file.entry.lfn),
                    "state": ItemState.WAITING if file.entry.lfn in ids else ItemState.HERE,
                    "error": None,
                }
                for file in files
            ]
            insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            query = insert(request_items)
            # What came by this very request stays 'done', although it is found here now.
            keep_done = sa.and_(
                request_items.c.state == ItemState.DONE, query.excluded.state == ItemState.HERE
            )
            fresh = {
                "size_bytes": query.excluded.size_bytes,
                "transfer_id": sa.func.coalesce(query.excluded.transfer_id, request_items.c.transfer_id),
                "state": sa.case((keep_done, ItemState.DONE), else_=query.excluded.state),
                "error": query.excluded.error,
            }
            connection.execute(
                query.on_conflict_do_update(index_elements=["request_id", "lfn"], set_=fresh), values
            )
            for some in chunks(came):  # others may wait for them as well
                self._end(connection, sorted(_end_items(connection, transfers.c.id.in_(some))))

    def _drop_empty(self, request: Request) -> None:
        with self._database.write() as connection:
            connection.execute(
                sa.delete(requests).where(
                    requests.c.id == request.id,
                    ~sa.exists().where(request_items.c.request_id == request.id),
                )
            )


def _has_item(state: ItemState) -> sa.Exists:
    return sa.exists().where(request_items.c.request_id == requests.c.id, request_items.c.state == state)


def _end_items(connection: sa.Connection, among: sa.ColumnElement[bool]) -> set[int]:
    """Let waiting items end whose transfer has; return the requests that were touched."""
    query = (
        sa.select(request_items.c.request_id, request_items.c.lfn, transfers.c.state, transfers.c.error)
        .join(transfers, transfers.c.id == request_items.c.transfer_id)
        .where(among, request_items.c.state == ItemState.WAITING, transfers.c.state.in_(ENDED))
    )
    values = [
        {"key": key, "name": lfn, "new_state": _ITEM_STATE[State(state)], "new_error": error}
        for key, lfn, state, error in connection.execute(query)
    ]
    if values:
        connection.execute(
            sa.update(request_items)
            .where(
                request_items.c.request_id == sa.bindparam("key"),
                request_items.c.lfn == sa.bindparam("name"),
            )
            .values(state=sa.bindparam("new_state"), error=sa.bindparam("new_error")),
            values,
        )
    return {int(value["key"]) for value in values}


def _requests(
    connection: sa.Connection, where: sa.ColumnElement[bool], limit: int | None = None
) -> list[Request]:
    query = sa.select(requests).where(where).order_by(requests.c.id.desc()).limit(limit)
    found = []
    for row in connection.execute(query):
        fields = dict(row._mapping)
        found.append(Request(**{**fields, "state": RequestState(fields["state"])}))
    return found


def _unknown(request_id: int) -> BadRequest:
    return BadRequest(
        f"find request {request_id}", "there is no such request", "see them all with 'vse status'"
    )


def waiting_for(ids: Iterable[int]) -> sa.ColumnElement[bool]:
    """Return the condition on a transfer that one of these requests waits for it."""
    return sa.exists().where(
        request_items.c.transfer_id == transfers.c.id,
        request_items.c.request_id.in_(list(ids)),
        request_items.c.state == ItemState.WAITING,
    )
