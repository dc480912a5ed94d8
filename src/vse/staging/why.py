"""Why a file is (not) here: everything that is known of it, in one value (`vse why LFN`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from vse.catalogue.port import Names
from vse.db import Database
from vse.db.tables import directories, files, request_items, requests
from vse.errors import BadRequest, BadSettings, NoPlan, NoSuchElement, NoSuchEntry, VseError
from vse.model import Entry, Lfn, Replica
from vse.staging.eta import Estimate
from vse.staging.pins import LET_GO
from vse.staging.status import NOT_MEASURED, Progress
from vse.staging.values import OPEN_REQUEST, RequestState
from vse.storage.element import Elements, ReadSource
from vse.storage.negotiation import Rejected
from vse.transfer.lifecycle import Attempt, State, Transfer
from vse.transfer.queue import Queue
from vse.transfer.shares import Slots, Usage

_NOT_YET = "it is not in the catalogue: it gets there with its first copy"
_UNREADABLE = (NoPlan, BadRequest, BadSettings)
"""Why a copy cannot be read as things are: the settings, its place, or a driver that is not installed."""


@dataclass(frozen=True, slots=True)
class CopyOf:
    """One replica: where it is, and whether it can be read from here, or why not."""

    se: str
    url: str | None
    state: str
    origin: str
    accessed_s: float | None
    usable: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Wanting:
    """An open request that wants the file."""

    request_id: int
    owner: str
    query: str
    created_s: float


@dataclass(frozen=True, slots=True)
class Queued:
    """A transfer of the file: where it stands, every attempt, and when it should be through.

    ``position`` is 1 for the next in the queue, 0 where it runs, None where it has ended. ``reason`` says
    why it is where it is.
    """

    transfer: Transfer
    position: int | None
    ahead_bytes: int
    attempts: tuple[Attempt, ...]
    wanted_by: tuple[Wanting, ...]
    arrival: Estimate | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """All that is known of a file. Times are Unix seconds.

    ``reads``: the copies as they would be read, the best first; ``no_plan`` says why there are none.
    ``fresh_until_s``: until when an upstream's answer is believed, None for a name of our own.
    """

    entry: Entry
    copies: tuple[CopyOf, ...]
    reads: tuple[ReadSource, ...]
    no_plan: str
    transfers: tuple[Queued, ...]
    fresh_until_s: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: times in Unix seconds, checksums as 8 hex digits, errors as their own
        dictionaries."""
        plain: dict[str, Any] = _plain(self)
        return plain


class Explainer:
    """Answers `explain`; reads only, and asks ``names`` for the file as anybody would."""

    def __init__(
        self,
        *,
        database: Database,
        names: Names,
        elements: Elements,
        queue: Queue,
        progress: Progress,
    ) -> None:
        self._database = database
        self._names = names
        self._elements = elements
        self._queue = queue
        self._progress = progress

    def explain(self, lfn: Lfn) -> Why:
        """Return what is known of a file; raises `NoSuchEntry` where its name is not known.

        One that has been queued is known: what is written back, or is in a list of afdsmgrd, gets into the
        catalogue only when it is there.
        """
        transfers = tuple(self._queued(transfer) for transfer in self._queue.of_lfn(lfn))
        try:
            located = self._names.resolve([lfn]).one(lfn)
        except NoSuchEntry:
            if all(one.transfer.state is State.DONE for one in transfers):  # it was there, and was removed
                raise
            return Why(_coming(lfn, transfers), (), (), _NOT_YET, transfers, None)
        reads, no_plan = self._reads(located.replicas, located.entry.guid)
        return Why(
            located.entry,
            tuple(self._copy(replica, located.entry.guid) for replica in located.replicas),
            reads,
            no_plan,
            transfers,
            self._fresh_until_s(lfn),
        )

    def _reads(self, replicas: Sequence[Replica], guid: bytes | None) -> tuple[tuple[ReadSource, ...], str]:
        try:
            return self._elements.plan_read(replicas, guid).sources, ""
        except _UNREADABLE as error:
            return (), error.found

    def _copy(self, replica: Replica, guid: bytes | None) -> CopyOf:
        usable, reason, url = False, "", replica.url
        try:
            planned = self._elements.plan_read([replica], guid)
            usable, url = True, planned.sources[0].url
            reason = _reasons(planned.rejected)
        except _UNREADABLE as error:
            reason = error.found
            url = url or self._url(replica, guid)
        return CopyOf(
            replica.se, url, replica.state.value, replica.origin, replica.accessed_s, usable, reason
        )

    def _url(self, replica: Replica, guid: bytes | None) -> str | None:
        try:
            return self._elements.get(replica.se).url(replica.lfn, guid=guid)
        except (*_UNREADABLE, NoSuchElement):
            return None

    def _queued(self, transfer: Transfer) -> Queued:
        position, ahead_bytes, arrival = None, 0, None
        if transfer.state in (State.QUEUED, State.WAITING):
            ahead = self._queue.ahead(transfer)
            position, ahead_bytes = ahead.files + 1, ahead.size_bytes - ahead.bytes_done
        elif transfer.state is State.RUNNING:
            position = 0
        if position is not None:
            arrival = self._progress.arrival(transfer)
        tried = tuple(self._queue.attempts_of(transfer.id))
        reason = waits_for(transfer, self._queue.running_by(), self._progress.slots)
        if position is not None and arrival is None:
            reason = f"{reason}; {NOT_MEASURED}"
        if transfer.state is State.CANCELLED:
            reason = reason or self._let_go_by(transfer)
        return Queued(transfer, position, ahead_bytes, tried, self._wanted_by(transfer), arrival, reason)

    def _wanted_by(self, transfer: Transfer) -> tuple[Wanting, ...]:
        query = (
            sa.select(requests.c.id, requests.c.owner, requests.c.query, requests.c.created_s)
            .join(request_items, request_items.c.request_id == requests.c.id)
            .where(request_items.c.transfer_id == transfer.id, requests.c.state.in_(OPEN_REQUEST))
            .order_by(requests.c.id)
        )
        with self._database.read() as connection:
            return tuple(Wanting(*row) for row in connection.execute(query))

    def _let_go_by(self, transfer: Transfer) -> str:
        """Return which request let a transfer go last, and who refused it; empty where none is known."""
        query = (
            sa.select(requests)
            .join(request_items, request_items.c.request_id == requests.c.id)
            .where(request_items.c.transfer_id == transfer.id, requests.c.state.in_(LET_GO))
            .order_by(requests.c.finished_s.desc(), requests.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return ""
        if row.state != RequestState.REFUSED:
            return f"request {row.id} of {row.owner} for it was cancelled"
        note = f": {row.approval_note}" if row.approval_note else ""
        return f"{row.approved_by} refused request {row.id} of {row.owner} for it{note}"

    def _fresh_until_s(self, lfn: Lfn) -> float | None:
        query = (
            sa.select(files.c.fresh_until_s)
            .join(directories, directories.c.id == files.c.directory_id)
            .where(directories.c.path == lfn.parent, files.c.name == lfn.name)
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar()


def _coming(lfn: Lfn, queued: Sequence[Queued]) -> Entry:
    """Return what will be a name of the catalogue, as far as its latest transfer tells."""
    latest = max((one.transfer for one in queued), key=lambda one: one.created_s)
    asked_s, size_bytes = latest.created_s, latest.size_bytes or None
    return Entry(lfn, "file", size_bytes, latest.adler32, None, latest.share, "", 0, asked_s, asked_s)


def waits_for(transfer: Transfer, running: Mapping[tuple[str, str], int], slots: Slots) -> str:
    """Return why a transfer is where it is, for people; ``running`` as `Queue.running_by` returns it."""
    source, destination = transfer.source_se or "", transfer.destination
    match transfer.state:
        case State.HELD:
            return "a request that wants it waits for approval"
        case State.WAITING:
            cause = f": {transfer.error}" if transfer.error else ""
            until = datetime.fromtimestamp(transfer.not_before_s, UTC).isoformat(timespec="seconds")
            return f"it is tried again at {until}{cause}"
        case State.RUNNING:
            return f"it is being read from {transfer.source or source or 'its source'}"
        case State.QUEUED:
            return _no_slot(source, destination, running, slots)
        case _:
            return str(transfer.error or "")


def _no_slot(source: str, destination: str, running: Mapping[tuple[str, str], int], slots: Slots) -> str:
    turned = {(to, come_from): number for (come_from, to), number in running.items()}
    if Usage(slots, turned).free(destination, source):
        return "slots are free: it is its turn when those before it have been taken"
    if sum(running.values()) >= slots.overall:
        return f"all {slots.overall} slots are taken"
    if sum(number for (_, to), number in running.items() if to == destination) >= slots.to_destination(
        destination
    ):
        return f"all {slots.to_destination(destination)} slots to {destination} are taken"
    return f"all {slots.from_source(source)} slots from {source} are taken"


def _reasons(rejected: Sequence[Rejected]) -> str:
    return "; ".join(map(str, rejected))


def _plain(value: Any, key: str = "") -> Any:
    """Return ``value`` in terms of JSON."""
    if isinstance(value, VseError):
        return {**value.to_dict(), "text": str(value)}
    if isinstance(value, bytes):
        return value.hex()
    if key == "adler32" and value is not None:
        return f"{value:08x}"
    if dataclasses.is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name), one.name) for one in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {name: _plain(item, name) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value
