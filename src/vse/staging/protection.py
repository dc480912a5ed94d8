"""What must stay at a storage element, and why: asked just before a file goes, and once more when it is
marked.

A copy stays while it is pinned, wanted by a request, written, read or open, young, or the last one that
anybody can read. What cannot be found out counts as a reason to stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa

from vse.catalogue.port import Catalogue
from vse.db import Database
from vse.db.tables import request_items, requests, transfers
from vse.db.tables_pool import holdings, reservations
from vse.errors import NoPlan, NoSuchElement, NoSuchEntry, NoSuchFile, Unsupported, VseError
from vse.model import BulkResult, Clock, Lfn, Located, Replica, ReplicaState
from vse.staging.open_files import is_open
from vse.staging.pins import LET_GO, pinned, pinning
from vse.staging.readers import reading_now
from vse.staging.values import OPEN_REQUEST
from vse.storage.element import Elements, StorageElement
from vse.transfer.lifecycle import ENDED, State

_REQUESTS = 500
_CLOCK_S = 60.0
"""How far the clocks of two machines may be apart: what ended later than that says nothing."""


class Stored(NamedTuple):
    """A copy that may go: its replica in the catalogue, what its storage calls it, where another copy is."""

    replica: Replica
    lfn: Lfn
    guid: bytes | None
    other: str


class Judgement(NamedTuple):
    """Which files stay, and why; the copies of all others."""

    kept: dict[Lfn, str]
    free: dict[Lfn, Stored]


class Protection:
    """Judges files of a storage element. Safe to share between threads."""

    def __init__(self, database: Database, catalogue: Catalogue, elements: Elements, clock: Clock) -> None:
        self._database = database
        self._catalogue = catalogue
        self._elements = elements
        self._clock = clock

    def judge(
        self, element: StorageElement, lfns: Sequence[Lfn], young_s: float, *, marked: bool = False
    ) -> Judgement:
        """Say of each file whether it stays. ``marked``: those that are about to go, and marked so."""
        with self._database.read() as connection:
            kept = self.rows(connection, element, lfns, young_s)
        rest = [lfn for lfn in lfns if lfn not in kept]
        located = self._catalogue.resolve(rest)
        free: dict[Lfn, Stored] = {}
        wanted = ReplicaState.DELETING if marked else ReplicaState.AVAILABLE
        for lfn in rest:
            found = self._own(element, lfn, located, wanted)
            if isinstance(found, str):
                kept[lfn] = found
            else:
                free[lfn] = found
        elsewhere = self._elsewhere(element, [located.ok[lfn] for lfn in free])
        for lfn in list(free):
            copy = elsewhere[lfn]
            if copy.seen_at:
                free[lfn] = free[lfn]._replace(other=copy.seen_at)
            else:
                kept[lfn] = copy.why
                del free[lfn]
        return Judgement(kept, free)

    # -- what rows say -------------------------------------------------------------------------------

    def rows(
        self, connection: sa.Connection, element: StorageElement, lfns: Sequence[Lfn], young_s: float
    ) -> dict[Lfn, str]:
        """Return the files that stay by what the database knows, inside its transaction."""
        now_s = self._clock()
        names = names_of(self._elements, element.name)
        kept: dict[Lfn, str] = {}
        for lfn, when_s in _young(connection, element.name, lfns, now_s - young_s):
            kept[lfn] = f"it came or was read {_age(now_s - when_s)} ago"
        for lfn in reading_now(connection, element.name, lfns, now_s):
            kept[lfn] = "it is being read: a program has said so"
        for lfn in _reserved(connection, element.name, lfns):
            kept[lfn] = "it is being written: space is kept for it"
        for lfn, state in _moving(connection, names, lfns):
            kept[lfn] = f"a transfer of it is {state}"
        for lfn, owner, number in _requested(connection, names, lfns, now_s, young_s):
            kept[lfn] = f"{owner} wants it (request {number})"
        for lfn, (owner, until_s) in pinned(connection, element.name, lfns, now_s).items():
            kept[lfn] = f"{owner} pinned it {_until(until_s)}"
        return kept

    # -- what the catalogue and the storages say -----------------------------------------------------

    def _own(
        self, element: StorageElement, lfn: Lfn, located: BulkResult[Located], wanted: ReplicaState
    ) -> Stored | str:
        """Return the copy that may go, or why it stays."""
        if lfn in located.failed:
            unknown = isinstance(located.failed[lfn], NoSuchEntry)
            return "the catalogue does not know its name" if unknown else str(located.failed[lfn])
        file = located.ok[lfn]
        own = [one for one in file.replicas if self._elements.name_of(one.se) == element.name]
        if len(own) != 1:
            return f"the catalogue knows {len(own)} copies of it here"
        if own[0].state is not wanted:
            return f"the catalogue says that this copy is {own[0].state}"
        try:
            name, guid = stored_as(element, own[0], file.entry.guid)
        except VseError as error:
            return str(error)
        path = element.local_path(name, guid)
        if path is not None and is_open(path):
            return "somebody on this machine has it open"
        return Stored(own[0], name, guid, "")

    def _elsewhere(self, element: StorageElement, files: Iterable[Located]) -> dict[Lfn, _Other]:
        """Return where another copy of each file can be read, or why none is good enough."""
        found: dict[Lfn, _Other] = {}
        left: dict[Lfn, tuple[Located, list[Replica]]] = {}
        for file in files:
            others = [
                one
                for one in file.replicas
                if one.state is ReplicaState.AVAILABLE and self._elements.name_of(one.se) != element.name
            ]
            found[file.entry.lfn] = _Other("", "it is the last copy that can be read")
            left[file.entry.lfn] = (file, others)
        while left := {lfn: (file, others) for lfn, (file, others) in left.items() if others}:
            by_element: dict[str, list[tuple[Located, Replica]]] = {}
            for file, others in left.values():
                replica = others.pop(0)
                by_element.setdefault(self._elements.name_of(replica.se), []).append((file, replica))
            for name, some in by_element.items():
                for lfn, why in self._look(name, some).items():
                    found[lfn] = _Other("" if why else name, why)
                    if not why:
                        left.pop(lfn, None)
        return found

    def _look(self, name: str, copies: Sequence[tuple[Located, Replica]]) -> dict[Lfn, str]:
        """Return for each file why its copy at ``name`` does not count; empty where it is there."""
        answers: dict[Lfn, str] = {}
        asked: dict[Lfn, tuple[Lfn, int | None]] = {}
        guids: dict[str, bytes | None] = {}
        for file, replica in copies:
            lfn = file.entry.lfn
            try:
                self._elements.plan_read([replica], file.entry.guid)
                stored, guids[stored] = stored_as(self._elements.get(name), replica, file.entry.guid)
                asked[stored] = (lfn, file.entry.size_bytes)
            except (NoPlan, NoSuchElement) as error:
                answers[lfn] = f"the other copy, at {name}, cannot be read from here: {error.found}"
            except VseError as error:
                answers[lfn] = str(error)
        try:
            looked = self._elements.get(name).stat(list(asked), guids) if asked else BulkResult()
        except (Unsupported, NoPlan):
            return answers | {
                lfn: "" for lfn, _ in asked.values()
            }  # it cannot tell: the catalogue is believed
        except VseError as error:
            return answers | {
                lfn: f"{name} could not be asked for the other copy: {error}" for lfn, _ in asked.values()
            }
        for stored, (lfn, size_bytes) in asked.items():
            if stored in looked.ok:
                there = looked.ok[stored].size_bytes
                differs = there is not None and size_bytes is not None and there != size_bytes
                answers[lfn] = (
                    f"the other copy, at {name}, has {there} bytes instead of {size_bytes}" if differs else ""
                )
            elif isinstance(looked.failed[stored], NoSuchFile):
                answers[lfn] = f"it is the last copy: the one at {name} is not there"
            elif isinstance(looked.failed[stored], Unsupported):
                answers[lfn] = ""
            else:
                answers[lfn] = f"{name} could not be asked for the other copy: {looked.failed[stored]}"
        return answers


class _Other(NamedTuple):
    seen_at: str
    why: str


def names_of(elements: Elements, name: str) -> list[str]:
    """Return the names under which the catalogue and requests may know an element: its own, and aliases."""
    return [name, *(other for other, leads_to in elements.aliases.items() if leads_to == name)]


def stored_as(element: StorageElement, replica: Replica, guid: bytes | None) -> tuple[Lfn, bytes | None]:
    """Return the LFN and the GUID that a copy has in its storage, which its own URL may say.

    ``guid`` is that of the file in the catalogue. Raises `BadRequest` for a URL of another place.
    """
    if replica.url is None:
        return replica.lfn, guid
    place = element.place_at(replica.url)
    return place.lfn or replica.lfn, place.guid or guid


def _young(
    connection: sa.Connection, element: str, lfns: Sequence[Lfn], after_s: float
) -> list[tuple[Lfn, float]]:
    query = sa.select(holdings.c.lfn, holdings.c.accessed_s).where(
        holdings.c.element == element, holdings.c.lfn.in_(lfns), holdings.c.accessed_s > after_s
    )
    return [(Lfn(lfn), when_s) for lfn, when_s in connection.execute(query)]


def _reserved(connection: sa.Connection, element: str, lfns: Sequence[Lfn]) -> list[Lfn]:
    query = sa.select(reservations.c.lfn).where(
        reservations.c.element == element, reservations.c.lfn.in_(lfns)
    )
    return [Lfn(lfn) for (lfn,) in connection.execute(query)]


def _moving(connection: sa.Connection, names: Sequence[str], lfns: Sequence[Lfn]) -> list[tuple[Lfn, str]]:
    """Return files on their way here, and those that a running transfer reads here."""
    comes = sa.and_(transfers.c.destination.in_(names), transfers.c.state.not_in(ENDED))
    goes = sa.and_(transfers.c.source_se.in_(names), transfers.c.state == State.RUNNING)
    query = sa.select(transfers.c.lfn, transfers.c.state, transfers.c.destination).where(
        transfers.c.lfn.in_(lfns), sa.or_(comes, goes)
    )
    return [(Lfn(lfn), f"{state} (to {where})") for lfn, state, where in connection.execute(query)]


def _requested(
    connection: sa.Connection, names: Sequence[str], lfns: Sequence[Lfn], now_s: float, young_s: float
) -> list[tuple[Lfn, str, int]]:
    """Return files of requests that are open, pin them, or ended just now; with owner and request."""
    lately = sa.and_(
        requests.c.finished_s.between(now_s - young_s, now_s + _CLOCK_S), requests.c.state.not_in(LET_GO)
    )
    opened = requests.c.state.in_(OPEN_REQUEST)
    query = sa.select(requests.c.id, requests.c.owner).where(
        requests.c.destination.in_(names), sa.or_(opened, lately, pinning(now_s))
    )
    owners = {row.id: row.owner for row in connection.execute(query)}
    ids = sorted(owners)
    found: list[tuple[Lfn, str, int]] = []
    for start in range(0, len(ids), _REQUESTS):
        items = sa.select(request_items.c.lfn, request_items.c.request_id).where(
            request_items.c.request_id.in_(ids[start : start + _REQUESTS]), request_items.c.lfn.in_(lfns)
        )
        found += [(Lfn(lfn), owners[key], key) for lfn, key in connection.execute(items)]
    return found


def _age(seconds: float) -> str:
    seconds = max(0.0, seconds)
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _until(until_s: float | None) -> str:
    if until_s is None:
        return "until they let it go"
    return f"until {datetime.fromtimestamp(until_s, UTC).strftime('%Y-%m-%d %H:%M UTC')}"
