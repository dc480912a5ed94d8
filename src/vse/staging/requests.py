"""Requests for datasets (seed 002 §4.3.5.1): rows that turn into transfers, and end with them.

Whatever changes a request changes what its transfers are to be in the same transaction. A transfer that
ends leaves a note (`transfer_ends`) in its own; `Staging.settle` takes these up, so that no file costs
more because there are many other requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import sqlalchemy as sa

from vse.catalogue.port import Catalogue, Names
from vse.db import Database
from vse.db.tables import request_items, requests, transfer_ends
from vse.errors import BadRequest, Denied, NoSuchEntry, NotFound, VseError
from vse.model import Clock, DatasetQuery, FindQuery, Lfn, Located
from vse.staging.approval import ApprovalRule
from vse.staging.filters import Filters
from vse.staging.requests_gathering import GATHER_LEASE_S, Find, Gatherer, aim
from vse.staging.requests_rows import (
    end_items,
    end_requests,
    end_waiting,
    forget_ends,
    one_request,
    read_items,
    read_requests,
    some_ends,
    unknown,
    update_request,
    waiting_bytes,
    waiting_transfers,
    wishes,
)
from vse.staging.values import OPEN_REQUEST, Approval, Conditions, Item, ItemState, Request, RequestState
from vse.storage.element import Elements
from vse.transfer.instance import dead, new_owner
from vse.transfer.lifecycle import FIRST_PRIORITY, LAST_PRIORITY, Due
from vse.transfer.queue import Queue, turn
from vse.transfer.rows import chunks, error_text

_RETRIED = 1000
_PLAIN = Conditions()
Allowed = Callable[[str, DatasetQuery, Iterator[Located]], Iterator[Located]]


class Staging:
    """Makes requests and settles them. Safe to share between threads and processes.

    ``names`` answers queries (our catalogue with the upstreams behind it), ``catalogue`` is our own.
    ``find`` answers those of every kind (`vse.catalogue.selection`); where left out, only `FindQuery`.
    ``allowed`` lets pass what the owner of a request may read, where it is listed for somebody who is gone.
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
        find: Find | None = None,
        approval: ApprovalRule | None = None,
        filters: Filters | None = None,
        allowed: Allowed = lambda _owner, _query, files: files,
    ) -> None:
        self.tell_ended: Callable[[Request], object] = lambda _: None
        self._me = new_owner()
        self._database = database
        self._names = names
        self._find = find or self._find_by_name
        self._allowed = allowed
        self._elements = elements
        self._queue = queue
        self._clock = clock
        self._rule = approval or ApprovalRule()
        self._gatherer = Gatherer(database, catalogue, elements, queue, clock, filters)

    # -- asking ----------------------------------------------------------------------------------

    def request(
        self,
        query: DatasetQuery,
        owner: str,
        destination: str,
        conditions: Conditions = _PLAIN,
        files: Iterable[Located] | None = None,
    ) -> Request:
        """Ask for every file of ``query`` at ``destination``; what is there already counts at once.

        ``files`` are those of the query, where the catalogue does not have them (yet); one with a replica
        of no storage element is read from that replica's URL.

        Idempotent: while a request of the same owner for the same is open it is the one returned, under
        the new conditions, with files added that match by now, and those that failed tried again. Killed
        in the middle, the next call or `resume` goes on. Raises `NoSuchEntry` where nothing matches,
        `BadRequest` for conditions that cannot be, and the errors of ``names`` and of an unknown
        ``destination``.
        """
        _check(conditions)
        destination = self._elements.get(destination).name
        request = self._open(query, owner, destination, conditions)
        try:
            found = self._gatherer.gather(request, aim(query), self._find(query) if files is None else files)
        except VseError as error:
            if not error.retryable:
                self._drop_empty(request)
            raise
        finally:
            self._let_go(request)
        if not found:
            self._drop_empty(request)
            raise NoSuchEntry(
                f"stage {query}", "no file matches it", "see what is there: vse ls, vse dataset list"
            )
        return self._gathered(request)

    def resume(self) -> list[Request]:
        """Go on with requests whose files were being listed by a process that is gone; return these.

        One whose query cannot be answered any more ends, with that reason; one whose upstream does not
        answer now is left for the next time.
        """
        now_s = self._clock()
        with self._database.read() as connection:
            left = read_requests(connection, requests.c.state == RequestState.GATHERING)
        gone = dead(one.gathered_by for one in left if one.gathered_by)
        over = [
            one
            for one in left
            if one.gathered_by is None or one.gathered_by in gone or (one.gather_until_s or 0.0) < now_s
        ]
        return [resumed for one in over if (resumed := self._resume(one)) is not None]

    def _resume(self, request: Request) -> Request | None:
        with self._database.write() as connection:
            turn(connection)
            now = one_request(connection, request.id)
            if (now.state, now.gathered_by) != (request.state, request.gathered_by):
                return None  # somebody else was first
            self._hold_listing(connection, request.id)
        try:
            query = DatasetQuery.parse(request.query)
            files = self._allowed(request.owner, query, self._find(query))
            found = self._gatherer.gather(request, aim(query), files)
            if not found:
                raise NoSuchEntry(f"stage {query}", "no file matches it any more")
        except VseError as error:
            if error.retryable:
                return None
            return self._unlisted(request, error)
        finally:
            self._let_go(request)
        return self._gathered(request)

    def cancel(self, request_id: int) -> Request:
        """End a request; transfers that no other request waits for are taken out of the queue."""
        return self._end_early(request_id, RequestState.CANCELLED, ItemState.CANCELLED, None)

    def retry(self, request_id: int) -> Request:
        """Try those files of a request again that failed or were cancelled, and end every back-off.

        A file that the catalogue has lost fails again with that reason. Raises `BadRequest` for a request
        that was refused.
        """
        (request,) = self.get([request_id])
        if request.state is RequestState.REFUSED:
            raise BadRequest(f"try request {request_id} again", "it was refused", "ask again: vse stage")
        again = (ItemState.FAILED, ItemState.CANCELLED)
        with self._database.write() as connection:
            turn(connection)
            if request.is_over:
                update_request(
                    connection, request_id, state=RequestState.GATHERING, finished_s=None, error=None
                )
            self._hold_listing(connection, request_id)
            waiting = waiting_transfers(connection, request_id)
            self._queue.send(dict.fromkeys(waiting, Due()), connection)
        try:
            self._list_again(request, again)
        finally:
            self._let_go(request)
        return self._gathered(request)

    def _list_again(self, request: Request, states: Sequence[ItemState]) -> None:
        tree, after = DatasetQuery.parse(request.query).tree, ""
        while some := self.items(request.id, states, after=after, limit=_RETRIED):
            after = some[-1].lfn
            answer = self._names.resolve([one.lfn for one in some])
            lost = {Lfn(name): why for name, why in answer.failed.items()}
            self._gatherer.refuse(request.id, lost, {one.lfn: one.size_bytes for one in some})
            self._gatherer.gather(request, tree, answer.ok.values())

    def change_priority(self, request_id: int, priority: int) -> Request:
        """Move what a request waits for behind its owner's other files of that priority."""
        _check(Conditions(priority))
        with self._database.write() as connection:
            turn(connection)
            if one_request(connection, request_id).is_over:
                raise BadRequest(f"change the priority of request {request_id}", "it has ended")
            update_request(connection, request_id, priority=priority)
            self._rank(connection, waiting_transfers(connection, request_id))
            return one_request(connection, request_id)

    # -- approval --------------------------------------------------------------------------------

    def approve(self, request_id: int, by: str, note: str = "") -> Request:
        """Let a request go on that waits for approval; `BadRequest` for one that does not."""
        with self._database.write() as connection:
            turn(connection)
            request = _wanting(connection, request_id, "approve")
            update_request(
                connection, request_id, approval=Approval.GIVEN, approved_by=by, approval_note=note
            )
            if request.state is RequestState.HELD:
                update_request(connection, request_id, state=RequestState.ACTIVE)
            self._rank(connection, waiting_transfers(connection, request_id))
            end_requests(connection, [request_id], self._clock())
            return one_request(connection, request_id)

    def refuse(self, request_id: int, by: str, note: str) -> Request:
        """End a request that waits for approval; its files fail with who refused it and why."""
        with self._database.read() as connection:
            request = _wanting(connection, request_id, "refuse")
        why = Denied(f"stage {request.query}", f"{by} refused it" + (f": {note}" if note else ""))
        return self._end_early(
            request_id,
            RequestState.REFUSED,
            ItemState.FAILED,
            why,
            approval=Approval.REFUSED,
            approved_by=by,
            approval_note=note,
        )

    # -- settling --------------------------------------------------------------------------------

    def settle(self) -> list[Request]:
        """Let files end with their transfers, and requests with their files; return those that ended.

        Costs as much as has ended since, whoever moved it, however many requests there are. Idempotent.
        """
        ended: list[Request] = []
        while self._something_ended():
            with self._database.write() as connection:
                turn(connection)
                ended += self._settle(connection)
        for one in ended:
            self.tell_ended(one)
        return ended

    def _something_ended(self) -> bool:
        with self._database.read() as connection:
            return connection.execute(sa.select(transfer_ends.c.transfer_id).limit(1)).first() is not None

    def _settle(self, connection: sa.Connection) -> list[Request]:
        now_s = self._clock()
        some = some_ends(connection)
        touched = end_items(connection, some)
        forget_ends(connection, some)
        return end_requests(connection, sorted(touched), now_s)

    # -- looking ---------------------------------------------------------------------------------

    def get(self, ids: Sequence[int]) -> list[Request]:
        """Return requests in the order of ``ids``; `BadRequest` for one that there is not."""
        with self._database.read() as connection:
            found = {one.id: one for one in read_requests(connection, requests.c.id.in_(ids))}
        missing = next((key for key in ids if key not in found), None)
        if missing is not None:
            raise unknown(missing)
        return [found[key] for key in ids]

    def list(
        self,
        *,
        open_only: bool = False,
        states: Sequence[RequestState] = (),
        owner: str = "",
        limit: int = 100,
    ) -> list[Request]:
        """Return the newest requests, newest first."""
        where: sa.ColumnElement[bool] = sa.true()
        if open_only:
            where = where & requests.c.state.in_(OPEN_REQUEST)
        if states:
            where = where & requests.c.state.in_(states)
        if owner:
            where = where & (requests.c.owner == owner)
        with self._database.read() as connection:
            return read_requests(connection, where, limit)

    def items(
        self, request_id: int, states: Sequence[ItemState] = (), *, after: str = "", limit: int = 1000
    ) -> Sequence[Item]:
        """Return files of a request in these states (all, where none is given), in order of their names.

        For the next ones give the last name as ``after``.
        """
        with self._database.read() as connection:
            return read_items(connection, request_id, states, after, limit)

    def all_over(self, ids: Sequence[int]) -> bool:
        """Whether every one of these requests has ended."""
        query = sa.select(requests.c.id).where(requests.c.id.in_(ids), requests.c.state.in_(OPEN_REQUEST))
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is None

    # -- inside ----------------------------------------------------------------------------------

    def _open(self, query: DatasetQuery, owner: str, destination: str, conditions: Conditions) -> Request:
        """Return the open request for the same, or a new one, as one whose files are listed by us."""
        with self._database.write() as connection:
            turn(connection)
            same = sa.and_(
                requests.c.owner == owner,
                requests.c.destination == destination,
                requests.c.state.in_(OPEN_REQUEST),
                requests.c.query == str(query),
            )
            found = read_requests(connection, same)
            key = found[0].id if found else self._insert(connection, query, owner, destination, conditions)
            if found:
                self._adopt(connection, found[0], conditions)
            self._hold_listing(connection, key)
            return one_request(connection, key)

    def _insert(
        self,
        connection: sa.Connection,
        query: DatasetQuery,
        owner: str,
        destination: str,
        conditions: Conditions,
    ) -> int:
        free = conditions.trusted or self._rule.above_bytes is None
        new = sa.insert(requests).values(
            query=str(query),
            owner=owner,
            destination=destination,
            priority=conditions.priority,
            pin_s=conditions.pin_s,
            note=conditions.note,
            state=RequestState.GATHERING,
            approval=Approval.NONE if free else Approval.WANTED,
            approval_note="",
            created_s=self._clock(),
        )
        return int(connection.execute(new.returning(requests.c.id)).scalar_one())

    def _adopt(self, connection: sa.Connection, request: Request, conditions: Conditions) -> None:
        """Put a request that is asked for again under the new conditions; what is not said stays."""
        pin_s = request.pin_s if conditions.pin_s is None else conditions.pin_s
        note = conditions.note or request.note
        priority = request.priority if conditions.priority == _PLAIN.priority else conditions.priority
        update_request(connection, request.id, pin_s=pin_s, note=note, priority=priority)
        if priority != request.priority:
            self._rank(connection, waiting_transfers(connection, request.id))

    def _gathered(self, request: Request) -> Request:
        """All files of a request are listed: let it wait for approval, go on, or end."""
        with self._database.write() as connection:
            turn(connection)
            now = one_request(connection, request.id)
            if now.is_over:
                return now
            wanted = now.approval is Approval.WANTED
            coming_bytes = waiting_bytes(connection, now.id) if wanted else 0
            if wanted and self._rule.holds(coming_bytes) and waiting_transfers(connection, now.id):
                update_request(connection, now.id, state=RequestState.HELD)
                return one_request(connection, now.id)
            update_request(connection, now.id, state=RequestState.ACTIVE)
            if wanted:
                update_request(connection, now.id, approval=Approval.NONE)
                self._rank(connection, waiting_transfers(connection, now.id))
            for some in chunks(waiting_transfers(connection, now.id)):  # ended since they were listed
                end_items(connection, some)
            end_requests(connection, [now.id], self._clock())
            return one_request(connection, now.id)

    def _end_early(
        self,
        request_id: int,
        state: RequestState,
        item_state: ItemState,
        why: VseError | None,
        **values: object,
    ) -> Request:
        with self._database.write() as connection:
            turn(connection)
            request = one_request(connection, request_id)
            if request.is_over:
                return request
            waiting = waiting_transfers(connection, request_id)
            end_waiting(connection, request_id, item_state, why)
            update_request(connection, request_id, state=state, finished_s=self._clock(), **values)
            self._rank(connection, waiting)
            return one_request(connection, request_id)

    def _rank(self, connection: sa.Connection, transfer_ids: Sequence[int]) -> None:
        """Tell transfers who wants them now."""
        for events in wishes(connection, transfer_ids):
            self._queue.send(events, connection)

    def _hold_listing(self, connection: sa.Connection, request_id: int) -> None:
        until_s = self._clock() + GATHER_LEASE_S
        update_request(connection, request_id, gathered_by=self._me, gather_until_s=until_s)

    def _let_go(self, request: Request) -> None:
        with self._database.write() as connection:
            ours = sa.and_(requests.c.id == request.id, requests.c.gathered_by == self._me)
            connection.execute(sa.update(requests).where(ours).values(gathered_by=None))

    def _unlisted(self, request: Request, error: VseError) -> Request:
        """The files of a request cannot be listed any more: go on with those that were, or end it."""
        if isinstance(error, NotFound) and self.items(request.id, limit=1):
            return self._gathered(request)
        text = error_text(error)
        return self._end_early(request.id, RequestState.FAILED, ItemState.FAILED, error, error=text)

    def _drop_empty(self, request: Request) -> None:
        with self._database.write() as connection:
            connection.execute(
                sa.delete(requests).where(
                    requests.c.id == request.id,
                    ~sa.exists().where(request_items.c.request_id == request.id),
                )
            )

    def _find_by_name(self, query: DatasetQuery) -> Iterator[Located]:
        if not isinstance(query, FindQuery):
            raise BadRequest(f"stage {query}", "only a Find is understood here")
        return self._names.find(query.base, query.pattern)


def _wanting(connection: sa.Connection, request_id: int, verb: str) -> Request:
    request = one_request(connection, request_id)
    if request.approval is not Approval.WANTED or request.is_over:
        found = f"it waits for nobody's approval (it is {request.state}, approval {request.approval})"
        raise BadRequest(f"{verb} request {request_id}", found, "see: vse request list --held")
    return request


def _check(conditions: Conditions) -> None:
    if not FIRST_PRIORITY <= conditions.priority <= LAST_PRIORITY:
        raise BadRequest(
            f"stage with priority {conditions.priority}",
            f"priorities are {FIRST_PRIORITY} (first) to {LAST_PRIORITY} (last)",
        )
    if conditions.pin_s is not None and not conditions.pin_s > 0:
        raise BadRequest(f"pin files for {conditions.pin_s:g} s", "that is no time to come")
