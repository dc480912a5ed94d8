"""From a claimed transfer to a job for the mover: which copies to read, in which order, and where to."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from vse.config.settings import ProtocolSettings
from vse.errors import BadRequest, BadSettings, NoPlan, VseError
from vse.model import BulkResult, Checksum, Lfn, Located, Replica
from vse.staging.filters import Filters
from vse.storage.contract import Note, Reader, Resumable, Upload
from vse.storage.element import Copying, Elements, ReadSource, ReadSources, StorageElement
from vse.storage.pairs import Way
from vse.transfer.lifecycle import Transfer
from vse.transfer.mover import Job, Source
from vse.transfer.sources import in_order

_NAMES = uuid.UUID("6b0c4a0e-6a0f-5c2d-9a37-5a8a4f0d7c11")


class PlaceAt(NamedTuple):
    """`vse.transfer.mover.Destination`: one file of one storage element.

    ``guid`` is that of the catalogue, for an element that stores by it.
    """

    element: StorageElement
    lfn: Lfn
    guid: bytes | None = None

    def put(self, size_bytes: int, checksum: Checksum | None) -> Upload:
        return self.element.put(self.lfn, size_bytes, checksum, self.guid)

    def resume(self, size_bytes: int, checksum: Checksum | None, name: str) -> Resumable | None:
        return self.element.resume(self.lfn, size_bytes, checksum, name, self.guid)

    def open(self) -> Reader:
        return self.element.open(self.lfn, self.guid)

    def local_path(self) -> Path | None:
        return self.element.local_path(self.lfn, self.guid)

    def remove(self) -> None:
        self.element.remove([self.lfn], {self.lfn: self.guid}).one(self.lfn)


def plan_sources(
    elements: Elements, replicas: Iterable[Replica], destination: str, guid: bytes | None = None
) -> ReadSources:
    """Return how a file can be read for a copy at ``destination``; `NoPlan` with every reason.

    A copy at the destination is none of them, also under another name of the element.
    """
    there = elements.get(destination).name
    others = [one for one in replicas if elements.name_of(one.se) != there]
    if not others:
        raise NoPlan(
            f"stage a file to {destination}",
            "no other copy of it is known",
            "register a copy, or ask whoever made the file",
        )
    return elements.plan_read(others, guid)


def plan_direct(
    elements: Elements, source: ReadSource, destination: str, guid: bytes | None = None
) -> Copying | None:
    """Return how the storages would make a copy themselves; None where its bytes go through this machine.

    That is so where either end is on this machine, or negotiation finds no such way.
    """
    if elements.get(source.se).local_path(source.lfn, guid) or elements.get(destination).local_path(
        source.lfn, guid
    ):
        return None
    try:
        found = elements.plan_copy(source.se, destination, source.lfn, guid=guid)
    except (NoPlan, BadRequest, BadSettings):
        return None
    return None if found.way is Way.STREAMED else found


def guid_of_new(lfn: Lfn, size_bytes: int, adler32: int | None) -> bytes:
    """Return the GUID of a new file: the same in every attempt."""
    return uuid.uuid5(_NAMES, f"{lfn} {size_bytes} {adler32}").bytes


class Planner:
    """Plans jobs. What is the same for all files of a pair of elements is found out once."""

    def __init__(self, elements: Elements, filters: Filters | None = None) -> None:
        self._elements = elements
        self._filters = filters
        self._tape: dict[str, bool] = {}
        self._streamed: set[tuple[str, str]] = set()

    def plan(self, transfer: Transfer, located: BulkResult[Located]) -> Job:
        """Return the job of a transfer; where it cannot be planned, one without sources that says why.

        The element that the queue counts the transfer for (``source_se``) comes first, so that a file that
        failed at one source begins with the next one. Of one that a filter makes, ``located`` has the file
        it is made of (see `Filters.resolve`); that may be read at the destination as well. Raises
        `NoSuchElement` where the settings have its destination no more.
        """
        element = self._elements.get(transfer.destination)
        if transfer.given_source is not None:
            return self._given(transfer, transfer.given_source, element, located)
        try:
            file = located.one(transfer.lfn)
        except VseError as error:
            return Job(transfer, (), PlaceAt(element, transfer.lfn), error)
        guid = file.entry.guid
        making = self._filters.making(transfer, file) if self._filters is not None else None
        place = PlaceAt(element, transfer.lfn, None if making else guid)
        try:
            if making is not None:
                planned = self._elements.plan_read(file.replicas, guid).sources
            else:
                planned = plan_sources(self._elements, file.replicas, transfer.destination, guid).sources
        except VseError as error:
            return Job(transfer, (), place, error, making)
        direct = making is None
        sources = [self._source(one, transfer, guid, direct=direct) for one in planned]
        return Job(transfer, in_order(sources, transfer.source_se), place, making=making)

    def _source(self, planned: ReadSource, transfer: Transfer, guid: bytes | None, *, direct: bool) -> Source:
        opened = partial(self._elements.open, planned)
        tape = planned.lfn if self._is_tape(planned.se) else None
        copying = self._copying(planned, transfer, guid) if direct else None
        if copying is None:
            return Source(planned.se, planned.url, opened, tape=tape)

        def copy(size_bytes: int, checksum: Checksum | None, note: Note) -> None:
            self._elements.copy_directly(copying, size_bytes, checksum, note)

        return Source(planned.se, planned.url, opened, copy, f"{copying.way} by {copying.protocol}", tape)

    def _copying(self, planned: ReadSource, transfer: Transfer, guid: bytes | None) -> Copying | None:
        pair = (planned.se, transfer.destination)
        if pair in self._streamed:
            return None
        copying = plan_direct(self._elements, planned, transfer.destination, guid)
        if copying is None:
            self._streamed.add(pair)
        return copying

    def _is_tape(self, se: str) -> bool:
        if se not in self._tape:
            element = self._elements.get(se)
            self._tape[se] = element.settings.is_tape and not element.by_guid and element.can("stage")
        return self._tape[se]

    def _given(
        self, transfer: Transfer, url: str, element: StorageElement, located: BulkResult[Located]
    ) -> Job:
        """Return the job of a file that is read from a URL, whatever copies the catalogue has."""
        known = located.ok.get(transfer.lfn)
        guid = known.entry.guid if known else None
        if guid is None and element.by_guid:
            guid = guid_of_new(transfer.lfn, transfer.size_bytes, transfer.adler32)
        place = PlaceAt(element, transfer.lfn, guid)
        if url.startswith("file:"):
            path = Path(unquote(urlsplit(url).path))
            return Job(transfer, [Source("", url, partial(open_local, path))], place, given=path)
        se = next((one.name for one in self._elements if _holds(one, url)), "")
        try:
            driver, path_there = self._elements.driver_for(url)
        except VseError as error:
            return Job(transfer, (), place, error)
        return Job(transfer, [Source(se, url, partial(driver.open, path_there))], place)


def open_local(path: Path) -> Reader:
    """Open a file of this machine that is in no storage element."""
    from vse.storage.drivers.file import FileDriver

    root = ProtocolSettings.model_validate({"Section": "File", "Protocol": "file", "Path": "/"})
    return FileDriver(root).open(str(path))


def _holds(element: StorageElement, url: str) -> bool:
    with suppress(VseError):
        element.place_at(url)
        return True
    return False
