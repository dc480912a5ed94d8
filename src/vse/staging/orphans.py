"""Files of a pool whose names were removed from the catalogue for good, while they came or after that.

Whoever removes a name removes the copies that it has at that moment; one that comes a moment later, or
through a catalogue that does not reach the storages, stays behind. What nobody knows cannot be had back, so
only what is proved goes: the site itself brought the file there from elsewhere, its size is that of then,
the catalogue's history says that the name was removed for good (not renamed, not put into the trash), and no
other name has its copy at that place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from vse.catalogue.port import Catalogue
from vse.db import Database
from vse.db.tables import attempts, elements, replicas, transfers
from vse.errors import BadRequest, NoSuchEntry, NoSuchFile, VseError
from vse.model import BulkResult, Lfn
from vse.staging.pool_plan import Candidate
from vse.storage.contract import StoredFile
from vse.storage.element import StorageElement
from vse.transfer.lifecycle import State

REASON = "its name was removed from the catalogue for good"
_PAGE = 5_000


class Orphans(NamedTuple):
    """``ours`` may go; of ``unsure`` the storage did not tell whether they are there."""

    ours: list[Candidate]
    unsure: list[Lfn]


def removed_for_good(catalogue: Catalogue, lfns: Sequence[Lfn]) -> list[Lfn]:
    """Return those of ``lfns`` that the catalogue does not know, since somebody removed them for good."""
    failed = catalogue.resolve(lfns).failed
    unknown = [lfn for lfn in lfns if isinstance(failed.get(lfn), NoSuchEntry)]
    return [lfn for lfn in unknown if _was_removed(catalogue, lfn)]


def _was_removed(catalogue: Catalogue, lfn: Lfn) -> bool:
    acts = [(one.action, one.lfn == lfn) for one in catalogue.history(lfn)]
    own = [action for action, itself in acts if itself]
    if own and own[-1] == "remove":
        return True
    # One call with many names has one row, at a directory above: it may have had this one.
    return bool(acts) and acts[-1][0] == "remove" and not {"rename", "trash"} & set(own)


def find_orphans(
    database: Database,
    catalogue: Catalogue,
    element: StorageElement,
    names: Collection[str],
    lfns: Sequence[Lfn],
) -> Orphans:
    """Judge files that a pool holds; ``names`` are those of its element in the catalogue and the queue."""
    removed = removed_for_good(catalogue, lfns)
    with database.read() as connection:
        brought = _brought(connection, names, removed) if removed else {}
        for lfn in _places_of_others(connection, element, names) if brought else ():
            brought.pop(lfn, None)
    if not brought:
        return Orphans([], [])
    try:
        return _still_there(element.stat([*brought]), brought)
    except VseError:  # nobody can ask it now
        return Orphans([], [*brought])


def _still_there(looked: BulkResult[StoredFile], brought: Mapping[Lfn, int]) -> Orphans:
    found = Orphans([], [])
    for lfn, size_bytes in brought.items():
        if lfn in looked.ok:
            if looked.ok[lfn].size_bytes == size_bytes:
                found.ours.append(Candidate(lfn, size_bytes, 0.0))
        elif not isinstance(looked.failed[lfn], NoSuchFile):
            found.unsure.append(lfn)
    return found


def _brought(connection: sa.Connection, names: Collection[str], lfns: Sequence[Lfn]) -> dict[Lfn, int]:
    """Return the sizes of those of ``lfns`` that a transfer has brought here out of another place."""
    came = sa.exists().where(
        attempts.c.transfer_id == transfers.c.id, attempts.c.error.is_(None), attempts.c.source.is_not(None)
    )
    query = sa.select(transfers.c.lfn, transfers.c.size_bytes).where(
        transfers.c.lfn.in_(lfns),
        transfers.c.destination.in_(names),
        transfers.c.given_source.is_(None),
        sa.or_(came, sa.and_(transfers.c.state == State.DONE, transfers.c.source.is_not(None))),
    )
    return {Lfn(row.lfn): row.size_bytes for row in connection.execute(query)}


def _places_of_others(connection: sa.Connection, element: StorageElement, names: Collection[str]) -> set[Lfn]:
    """Return the places here that copies have by a URL of their own (names that were changed have that)."""
    query = (
        sa.select(replicas.c.url)
        .join(elements, elements.c.id == replicas.c.element_id)
        .where(elements.c.name.in_(names), replicas.c.url.is_not(None))
        .execution_options(yield_per=_PAGE)
    )
    places = set()
    for (url,) in connection.execute(query):
        try:
            place = element.place_at(url).lfn
        except BadRequest:
            continue  # of another place
        if place is not None:
            places.add(place)
    return places
