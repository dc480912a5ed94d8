"""What few ask of names, and few names have: access lists, checksums, origins, members, history, trash."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from vse.catalogue.audit import Audit
from vse.catalogue.beside import FILE, Beside
from vse.catalogue.sql_reading import SqlNames
from vse.catalogue.sql_rows import join
from vse.catalogue.trash import PLACE, Trash
from vse.db import Database
from vse.db.prepared import Row
from vse.errors import BadRequest, NoSuchEntry
from vse.model import Access, Audited, BulkResult, Checksum, Clock, Details, Expired, Lfn, Trashed

_PAGE = 1000


class SqlDetails(SqlNames):
    """The reading calls of `vse.catalogue.port.Catalogue` over and above those of `Names`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        super().__init__(database, clock)
        self.beside = Beside(self.statements, self.rows)
        self.audit = Audit(self.statements, self.rows)
        self.bin = Trash(self.statements, self.rows)

    def access(self, lfns: Sequence[Lfn]) -> BulkResult[Access]:
        """Return who may do what; see `vse.catalogue.port.Catalogue.access`."""
        found = self.objects(lfns, follow_last=True)
        result: BulkResult[Access] = BulkResult(failed=found.failed)
        wanted = {(one.object, one.id) for one in found.ok.values()}
        with self.database.mapped("read the catalogue"):
            lists = self.beside.access(self.database.reader(), wanted)
        for lfn, (kind, which, entry) in found.ok.items():
            own, defaults = lists.get((kind, which), ((), ()))
            result.ok[lfn] = Access(
                entry.lfn, entry.kind, entry.owner, entry.group, entry.mode, own, defaults
            )
        return result

    def details(self, lfns: Sequence[Lfn]) -> BulkResult[Details]:
        """Return checksums and origins of files; see `vse.catalogue.port.Catalogue.details`."""
        found = self.objects(lfns, follow_last=True)
        result: BulkResult[Details] = BulkResult(failed=found.failed)
        files = {one.id for one in found.ok.values() if one.object == FILE}
        with self.database.mapped("read the catalogue"):
            reader = self.database.reader()
            sums, origins = self.beside.checksums(reader, files), self.beside.origins(reader, files)
        for lfn, (kind, which, entry) in found.ok.items():
            if kind != FILE:
                wanted = f"tell the checksums of {lfn}"
                result.failed[lfn] = NoSuchEntry(wanted, f"it is a {entry.kind}", "name a file")
                continue
            known = {Checksum(*one) for one in sums.get(which, {}).items()}
            known |= {entry.checksum} if entry.checksum else set()
            result.ok[lfn] = Details(entry.lfn, tuple(sorted(known)), tuple(origins.get(which, ())))
        return result

    def members(self, collection: Lfn) -> Iterator[Lfn]:
        """Yield the members of a collection; see `vse.catalogue.port.Catalogue.members`."""
        found = self.objects([collection], follow_last=True).one(collection)
        if found.entry.kind != "collection":
            raise BadRequest(f"list the members of {collection}", f"it is a {found.entry.kind}")
        return (lfn for page in self.member_pages(found.id) for lfn in page)

    def by_guid(self, guids: Sequence[bytes]) -> dict[bytes, tuple[Lfn, ...]]:
        """Return the names of contents; see `vse.catalogue.port.Catalogue.by_guid`."""
        run = self.statements.named_by_guid
        with self.database.mapped("read the catalogue"):
            reader = self.database.reader()
            rows = {guid: run.rows(reader, guid) for guid in dict.fromkeys(guids)}
        return {
            guid: tuple(Lfn(join(*pair)) for pair in named if not pair[0].startswith(PLACE))
            for guid, named in rows.items()
        }

    def history(self, lfn: Lfn) -> Iterator[Audited]:
        """Yield what was done to a name; see `vse.catalogue.port.Catalogue.history`."""
        with self.database.mapped("read the catalogue"):
            return iter([*self.audit.history(self.database.reader(), lfn)])

    def trash(self) -> Iterator[Trashed]:
        """Yield what is in the trash; see `vse.catalogue.port.Catalogue.trash`."""
        for rows in self._trash_pages(math.inf):
            yield from map(self.bin.value, rows)

    def expired(self, now_s: float, ids: Sequence[int] | None = None) -> Iterator[Expired]:
        """Yield what is to be deleted; see `vse.catalogue.port.Catalogue.expired`."""
        for rows in self._trash_pages(now_s) if ids is None else [self._trash_rows(ids)]:
            with self.database.mapped("read the catalogue"):
                found = [*self.bin.expired(self.database.reader(), rows)]
            yield from found

    def trashed(self, lfns: Sequence[Lfn]) -> list[Expired]:
        """Return what the trash has of these names, with its copies; the oldest first."""
        with self.database.mapped("read the catalogue"):
            reader = self.database.reader()
            return [*self.bin.expired(reader, self.bin.named(reader, lfns))]

    def _trash_rows(self, ids: Sequence[int]) -> list[Row]:
        with self.database.mapped("read the catalogue"):
            return self.bin.rows(self.database.reader(), ids)

    def _trash_pages(self, before_s: float) -> Iterator[Any]:
        last = 0
        while True:
            with self.database.mapped("read the catalogue"):
                rows = self.bin.page(self.database.reader(), last, before_s, _PAGE)
            if not rows:
                return
            last = rows[-1][0]
            yield rows
