"""The files of a request: listed, found here or queued, a thousand at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from vse.catalogue.port import Catalogue
from vse.db import Database
from vse.errors import NoPlan, NoSuchFile, VseError
from vse.model import Clock, DatasetQuery, FindQuery, Lfn, Located, ReplicaState
from vse.staging.filters import Filters, Origin
from vse.staging.jobs import plan_sources
from vse.staging.requests_rows import (
    end_items,
    end_requests,
    one_request,
    put_items,
    update_request,
)
from vse.staging.values import Approval, Item, ItemState, Request
from vse.storage.element import Elements, StorageElement
from vse.transfer.lifecycle import Wanted
from vse.transfer.queue import Queue, turn
from vse.transfer.rows import chunks

CHUNK_FILES = 1000
GATHER_LEASE_S = 300.0
"""When another process may take over the listing of one that has not got on for so long."""

Find = Callable[[DatasetQuery], Iterator[Located]]


class Gatherer:
    """Turns located files into files of a request, and transfers. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        elements: Elements,
        queue: Queue,
        clock: Clock,
        filters: Filters | None = None,
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._elements = elements
        self._queue = queue
        self._clock = clock
        self._filters = filters

    def gather(self, request: Request, tree: str, files: Iterable[Located]) -> int:
        """Add files to a request, each thousand in a transaction of its own; return how many there were.

        What is at the destination counts at once. Killed in between, it is begun again from the start, and
        what was added before stays as it is. Stops, without an error, where the request ends meanwhile.
        """
        element = self._elements.get(request.destination)
        sources = _FirstSources(self._elements, request.destination)
        answer, found, looked_s = iter(files), 0, self._clock()
        while True:
            # What comes now may have been read from the catalogue when the thousand before was asked for.
            seen_s, looked_s = looked_s, self._clock()
            some = list(islice(answer, CHUNK_FILES))
            if not some:
                break
            found += len(some)
            here = self._already_at(element, request.destination, some)
            missing = [file for file in some if file.entry.lfn not in here]
            made_of = self._filters.origins(missing) if self._filters else {}
            wanted = {
                file.entry.lfn: _wanted(file, made_of.get(file.entry.lfn), tree, sources, seen_s)
                for file in missing
            }
            if not self._add(request.id, some, wanted):
                break
        return found

    def _already_at(self, element: StorageElement, destination: str, files: Sequence[Located]) -> set[Lfn]:
        """Return the files that the catalogue and the storage both have at the destination.

        A copy that the catalogue knows and the storage has lost is forgotten: it can be staged again.
        """
        known = {
            file.entry.lfn: file.entry.size_bytes
            for file in files
            for replica in file.replicas
            if self._elements.name_of(replica.se) == element.name and replica.state is ReplicaState.AVAILABLE
        }
        if not known:
            return set()
        guids: dict[str, bytes | None] = {file.entry.lfn: file.entry.guid for file in files}
        looked = element.stat(list(known), guids)
        vanished = [lfn for lfn in known if isinstance(looked.failed.get(lfn), NoSuchFile)]
        if vanished:
            self._catalogue.remove_replicas(vanished, destination)
        return {lfn for lfn, size in known.items() if lfn in looked.ok and looked.ok[lfn].size_bytes == size}

    def _add(self, request_id: int, files: Sequence[Located], wanted: dict[Lfn, Wanted]) -> bool:
        """Add files and their transfers in one transaction; False where the request has ended."""
        now_s = self._clock()
        with self._database.write() as connection:
            turn(connection)
            request = one_request(connection, request_id)  # as it is now: its priority may have changed
            if request.is_over:
                return False
            held = request.approval is Approval.WANTED
            ids = self._queue.enqueue(
                request.destination,
                {
                    lfn: replace(one, priority=request.priority, share=request.owner, held=held)
                    for lfn, one in wanted.items()
                },
                connection,
            )
            here = [file.entry.lfn for file in files if file.entry.lfn not in wanted]
            came = self._queue.found(request.destination, here, connection)
            put_items(connection, request.id, [_item(file, ids) for file in files])
            for some in chunks(came):  # others may wait for them as well
                end_requests(connection, sorted(end_items(connection, some)), now_s)
            update_request(connection, request.id, gather_until_s=now_s + GATHER_LEASE_S)
        return True

    def refuse(self, request_id: int, errors: dict[Lfn, VseError], sizes: dict[Lfn, int]) -> None:
        """Let files fail that are not in the catalogue any more, each with its reason."""
        items = [Item(lfn, sizes.get(lfn, 0), ItemState.FAILED, None, error) for lfn, error in errors.items()]
        with self._database.write() as connection:
            turn(connection)
            put_items(connection, request_id, items)


def aim(query: DatasetQuery) -> str:
    """Return what verification looks for in the files of a query: TREE, or MEMBER#TREE of zip archives."""
    anchor = query.anchor if isinstance(query, FindQuery) else ""
    return f"{anchor}#{query.tree}" if anchor else query.tree


class _FirstSources:
    """Says which element a file will be read from first, as far as can be told now."""

    def __init__(self, elements: Elements, destination: str) -> None:
        self._elements = elements
        self._destination = destination
        self._there = elements.name_of(destination)
        self._known: dict[tuple[str, ...], str | None] = {}

    def of(self, file: Located) -> str | None:
        others = tuple(one for one in file.replicas if self._elements.name_of(one.se) != self._there)
        key = tuple(f"{replica.se} {replica.state} {replica.url is None}" for replica in others)
        if key not in self._known:
            try:
                planned = plan_sources(self._elements, others, self._destination, file.entry.guid)
                self._known[key] = planned.sources[0].se
            except NoPlan:
                self._known[key] = None
        return self._known[key]


def _wanted(file: Located, origin: Origin | None, tree: str, sources: _FirstSources, seen_s: float) -> Wanted:
    """Return how a file is wanted: what is read is told of, also where a filter makes another of it."""
    entry = origin.source.entry if origin else file.entry
    first = sources.of(origin.source if origin else file)
    by = origin.filter if origin else None
    given = next((one.url for one in file.replicas if not one.se), None)
    return Wanted(entry.size_bytes or 0, entry.adler32, tree, first, seen_s, filter=by, given_source=given)


def _item(file: Located, ids: dict[Lfn, int]) -> Item:
    lfn = file.entry.lfn
    state = ItemState.WAITING if lfn in ids else ItemState.HERE
    return Item(lfn, file.entry.size_bytes or 0, state, ids.get(lfn))
