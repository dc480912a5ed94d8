"""Copies made here, told to the upstreams that want to know (the third replica of seed 000).

What is to be told is a row: written before the transfer that made the copy is reported as done, so that a
process that is killed in between makes it again; told in bulk; tried again with growing pauses while the
upstream is away; kept with its error where the upstream refuses. Telling twice does no harm.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
import structlog

from vse.catalogue.belief import Pauses, pause_s
from vse.catalogue.port import CopyMade
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.db.prepared import chunks, inserting
from vse.db.tables import upstreams
from vse.db.tables_datasets import registrations
from vse.errors import UpstreamUnavailable, VseError, from_dict
from vse.model import BulkResult, Clock, Lfn, Replica, ReplicaState

log = structlog.get_logger("vse.catalogue.registrations")

LEASE_S = 600.0
"""How long a claimed copy is left to the process that claimed it."""
_LOOK_S = 2.0
_END_WAIT_S = 10.0
_ROWS_AT_ONCE = 100
_PAGE_ROWS = 1000
_ADD = "add"


class RegistrationState(StrEnum):
    """Where a registration is. Stored by value."""

    QUEUED = "queued"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Registration:
    """A copy that an upstream is to be told of. Times are Unix seconds."""

    id: int
    upstream: str
    lfn: Lfn
    se: str
    state: RegistrationState
    failures: int
    not_before_s: float
    created_s: float
    finished_s: float | None
    error: VseError | None


class Outcome(NamedTuple):
    """What becomes of a registration that was tried."""

    state: RegistrationState
    failures: int
    not_before_s: float
    finished_s: float | None


def outcome(failures: int, error: VseError | None, pauses: Pauses, now_s: float) -> Outcome:
    """Decide after a try that ended in ``error``, or well; ``failures`` is how many there were before."""
    if error is None:
        return Outcome(RegistrationState.DONE, failures, now_s, now_s)
    if not error.retryable:
        return Outcome(RegistrationState.FAILED, failures + 1, now_s, now_s)
    wished_s = error.retry_after_s if isinstance(error, UpstreamUnavailable) else None
    wait_s = max(pause_s(failures + 1, pauses), wished_s or 0.0)
    return Outcome(RegistrationState.QUEUED, failures + 1, now_s + wait_s, None)


class Registrations:
    """The queue: rows of the database. Safe to share between threads; each call is one transaction."""

    def __init__(self, database: Database, ids: Callable[[Iterable[str]], Mapping[str, int]]) -> None:
        self._database = database
        self._ids = ids

    def enqueue(self, upstream: str, copies: Iterable[tuple[Lfn, str]], now_s: float) -> None:
        """Queue copies (LFN, storage element); one that was told before is told again."""
        which = self._ids([upstream])[upstream]
        insert = inserting(self._database.engine.dialect)
        fresh = {"state": RegistrationState.QUEUED, "failures": 0, "not_before_s": now_s}
        ended = {"finished_s": None, "error": None, "url": None}
        row = {"upstream_id": which, "action": _ADD, "created_s": now_s, **fresh, **ended}
        with self._database.write() as connection:
            for some in chunks(copies, _ROWS_AT_ONCE):
                statement = insert(registrations).values([{**row, "lfn": lfn, "se": se} for lfn, se in some])
                again = {"index_elements": ("upstream_id", "lfn", "se"), "set_": {**fresh, **ended}}
                connection.execute(statement.on_conflict_do_update(**again))

    def claim(self, upstream: str, limit: int, now_s: float) -> list[Registration]:
        """Take copies that are due, oldest first; for `LEASE_S` nobody else gets them."""
        due = (
            _selected()
            .where(upstreams.c.name == upstream, registrations.c.state == RegistrationState.QUEUED)
            .where(registrations.c.not_before_s <= now_s)
            .order_by(registrations.c.not_before_s, registrations.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:  # mostly there is nothing, and no need to be the writer
            if connection.execute(due.limit(1)).first() is None:
                return []
        locking = due.with_for_update(skip_locked=True, of=registrations)
        with self._database.write() as connection:
            claimed = [_registration(row) for row in connection.execute(locking)]
            for some in chunks([one.id for one in claimed], _ROWS_AT_ONCE):
                update = sa.update(registrations).where(registrations.c.id.in_(some))
                connection.execute(update.values(not_before_s=now_s + LEASE_S))
        return claimed

    def report(self, tried: Iterable[tuple[Registration, Outcome, VseError | None]]) -> None:
        """Write down what became of claimed copies."""
        rows = [
            {
                "which": one.id,
                **after._asdict(),
                "error": None if error is None else json.dumps(error.to_dict(), ensure_ascii=False),
            }
            for one, after, error in tried
        ]
        if rows:
            update = sa.update(registrations).where(registrations.c.id == sa.bindparam("which"))
            with self._database.write() as connection:
                names = ("state", "failures", "not_before_s", "finished_s", "error")
                connection.execute(update.values({name: sa.bindparam(name) for name in names}), rows)

    def forget(self, gone: Iterable[Registration]) -> None:
        """Remove copies that are not here any more, and so need not be told of."""
        with self._database.write() as connection:
            for some in chunks([one.id for one in gone], _ROWS_AT_ONCE):
                connection.execute(sa.delete(registrations).where(registrations.c.id.in_(some)))

    def retry(self, upstream: str | None, now_s: float) -> int:
        """Queue what failed, and what waits out a pause, for at once; return how many."""
        waiting = registrations.c.state.in_((RegistrationState.FAILED, RegistrationState.QUEUED))
        update = sa.update(registrations).where(waiting)
        if upstream is not None:
            update = update.where(registrations.c.upstream_id == self._ids([upstream])[upstream])
        fresh = {"state": RegistrationState.QUEUED, "failures": 0, "not_before_s": now_s, "finished_s": None}
        with self._database.write() as connection:
            return connection.execute(update.values(fresh)).rowcount

    def list(
        self, upstream: str | None = None, states: Sequence[RegistrationState] = tuple(RegistrationState)
    ) -> Iterator[Registration]:
        """Yield registrations in the order they were made; memory does not grow with their number."""
        query = _selected().where(registrations.c.state.in_(states)).order_by(registrations.c.id)
        if upstream is not None:
            query = query.where(upstreams.c.name == upstream)
        last = 0
        while True:
            with self._database.read() as connection:
                page = connection.execute(query.where(registrations.c.id > last).limit(_PAGE_ROWS)).all()
            yield from map(_registration, page)
            if len(page) < _PAGE_ROWS:
                return
            last = page[-1].id

    def counts(self) -> dict[str, dict[RegistrationState, int]]:
        """Return how many there are, by upstream and state."""
        query = sa.select(upstreams.c.name, registrations.c.state, sa.func.count())
        query = query.join(upstreams, registrations.c.upstream_id == upstreams.c.id)
        counts: dict[str, dict[RegistrationState, int]] = {}
        with self._database.read() as connection:
            for name, state, count in connection.execute(
                query.group_by(upstreams.c.name, registrations.c.state)
            ):
                counts.setdefault(name, {})[RegistrationState(state)] = count
        return counts


class Told(Protocol):
    """An upstream that is told: `vse.catalogue.upstream.Mapped`."""

    def covers(self, lfn: Lfn) -> bool: ...

    def register_replicas(self, copies: Sequence[CopyMade]) -> BulkResult[None]: ...


@dataclass(frozen=True, slots=True)
class Recipient:
    """An upstream that wants to be told, and how."""

    upstream: Told
    pauses: Pauses
    batch: int


class Registrar:
    """Queues copies for the upstreams that want to be told, and tells them.

    ``url_of`` gives the URL under which others can read a copy here, None where it has none.
    """

    def __init__(
        self,
        queue: Registrations,
        recipients: Mapping[str, Recipient],
        catalogue: SqlCatalogue,
        url_of: Callable[[Replica, bytes | None], str | None],
        clock: Clock,
    ) -> None:
        self.queue = queue
        self._recipients = dict(recipients)
        self._catalogue = catalogue
        self._url_of = url_of
        self._clock = clock
        self._more = threading.Event()

    def enqueue(self, copies: Sequence[tuple[Lfn, str]]) -> None:
        """Queue copies for each upstream whose names they have."""
        for name, recipient in self._recipients.items():
            its_own = [copy for copy in copies if recipient.upstream.covers(copy[0])]
            if its_own:
                self.queue.enqueue(name, its_own, self._clock())
                self._more.set()

    def run(self, over: threading.Event) -> None:
        """Tell what is queued until ``over`` is set, and then once more what is due."""
        if not self._recipients:
            return
        while True:
            last = over.is_set()
            self._more.clear()
            try:
                self.drain()
            except VseError as error:  # the database: the rows are still there
                log.warning("registering copies upstream failed", error=str(error))
            if last:
                return
            if not self._more.is_set():
                over.wait(_LOOK_S)

    def drain(self) -> int:
        """Tell every upstream what is due now; return of how many copies it was told."""
        return sum(self._drain(name, recipient) for name, recipient in self._recipients.items())

    def _drain(self, name: str, recipient: Recipient) -> int:
        told = 0
        while claimed := self.queue.claim(name, recipient.batch, self._clock()):
            copies = self._copies(claimed)
            self.queue.forget([one for one in claimed if one.id not in copies])
            answered: list[tuple[Registration, VseError | None]] = []
            for some in _by_element(claimed):
                known = [one for one in some if one.id in copies]
                answer = self._tell(recipient, [copies[one.id] for one in known])
                answered += [(one, answer.failed.get(one.lfn)) for one in known]
            now_s = self._clock()
            self.queue.report(
                (one, outcome(one.failures, error, recipient.pauses, now_s), error) for one, error in answered
            )
            told += sum(error is None for _, error in answered)
            if any(error is not None and error.retryable for _, error in answered):
                break
        return told

    def _tell(self, recipient: Recipient, copies: Sequence[CopyMade]) -> BulkResult[None]:
        try:
            return recipient.upstream.register_replicas(copies)
        except VseError as error:
            return BulkResult(failed=dict.fromkeys((copy.lfn for copy in copies), error))

    def _copies(self, claimed: Sequence[Registration]) -> dict[int, CopyMade]:
        """Return what to tell, by registration; those that are not here (any more) are left out."""
        located = self._catalogue.resolve(list(dict.fromkeys(one.lfn for one in claimed))).ok
        copies: dict[int, CopyMade] = {}
        for one in claimed:
            file = located.get(one.lfn)
            for replica in file.replicas if file else ():
                if replica.se == one.se and replica.state is ReplicaState.AVAILABLE and file:
                    url = self._url_of(replica, file.entry.guid)
                    copies[one.id] = CopyMade(
                        one.lfn, one.se, url, file.entry.size_bytes or 0, file.entry.adler32
                    )
        return copies


def _by_element(claimed: Iterable[Registration]) -> list[list[Registration]]:
    """Return them in groups, none of which has a file twice."""
    groups: dict[str, list[Registration]] = {}
    for one in claimed:
        groups.setdefault(one.se, []).append(one)
    return list(groups.values())


def _selected() -> sa.Select[Any]:
    return sa.select(registrations, upstreams.c.name.label("upstream")).join(
        upstreams, registrations.c.upstream_id == upstreams.c.id
    )


def _registration(row: sa.Row[Any]) -> Registration:
    return Registration(
        id=row.id,
        upstream=row.upstream,
        lfn=Lfn(row.lfn),
        se=row.se,
        state=RegistrationState(row.state),
        failures=row.failures,
        not_before_s=row.not_before_s,
        created_s=row.created_s,
        finished_s=row.finished_s,
        error=None if row.error is None else from_dict(json.loads(row.error)),
    )
