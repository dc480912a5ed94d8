"""Files that failed verification, kept with the evidence: what came, from where, and what is wrong with it.

The bytes stay in the storage they were to come to, below its directory for unfinished files, which no door
and no listing shows. A row tells of each, also where the storage is remote and no bytes are kept. Limits of
size and age hold for each storage element; the oldest go first. Evidence never crowds out files: however much
is allowed, it takes a small part of the file system that it is on.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
import structlog

from vse.catalogue.port import Catalogue, NewReplica
from vse.config.filters import QuarantineSettings
from vse.db import Database
from vse.db.tables_pool import quarantine
from vse.errors import BadRequest, ChecksumMismatch, NoSuchFile, SizeMismatch, VseError, from_dict
from vse.model import Adler32, Checksum, Clock, Lfn, Located
from vse.staging.stager_parts import Room
from vse.storage.contract import CHUNK_BYTES
from vse.storage.element import Elements, StorageElement
from vse.transfer import instance
from vse.transfer.evidence import Evidence

DIRECTORY = "quarantine"
SHARE = 20
"""What is kept takes at most one part in so many of its file system."""
_MOST_ROWS = 1000
"""Rows without bytes are kept so long as they are among the newest of their element."""


class Kept(NamedTuple):
    """A file in quarantine. ``path`` is None, and so are size and sum, where its bytes are not kept."""

    id: int
    when_s: float
    lfn: Lfn
    element: str
    source: str | None
    path: Path | None
    size_bytes: int | None
    adler32: int | None
    attempt: int | None
    error: VseError

    @property
    def checksum(self) -> Checksum | None:
        return None if self.adler32 is None else Checksum.adler32(self.adler32)

    def to_dict(self) -> dict[str, Any]:
        told = {**self._asdict(), "error": self.error.to_dict(), "checksum": str(self.checksum or "") or None}
        told["adler32"] = None if self.adler32 is None else f"{self.adler32:08x}"
        return {**told, "path": str(self.path) if self.path else None}


class Quarantine:
    """Keeps, shows, releases and deletes. Safe to share between threads and processes."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        elements: Elements,
        settings: QuarantineSettings,
        clock: Clock = time.time,
        room: Callable[[], Room | None] = lambda: None,
    ) -> None:
        """``room``: where space is kept for what is released, if anywhere; asked for when needed."""
        self._database = database
        self._catalogue = catalogue
        self._elements = elements
        self._settings = settings
        self._clock = clock
        self._room = room

    # -- keeping -------------------------------------------------------------------------------------

    def keep(self, evidence: Evidence) -> None:
        """See `vse.transfer.evidence.Keep`: that it cannot be kept is logged, and harms nothing."""
        if not self._settings.keep:
            return
        try:
            self._keep(evidence)
            self.trim(evidence.transfer.destination)
        except (OSError, VseError, sa.exc.SQLAlchemyError) as error:
            structlog.get_logger().warning(
                "quarantine_failed", lfn=evidence.transfer.lfn, error=f"{type(error).__name__}: {error}"
            )

    def _keep(self, evidence: Evidence) -> None:
        """The row goes first: a kill in between leaves one without bytes, never bytes nobody knows."""
        transfer, path, total = evidence.transfer, None, Adler32()
        if evidence.path is not None:
            for piece in _pieces(evidence.path):
                total.update(piece)
            if total.size_bytes <= self._most_bytes(evidence.path.parent):
                path = evidence.path.parent / DIRECTORY / uuid.uuid4().hex
        row = {
            "when_s": self._clock(),
            "lfn": transfer.lfn,
            "element": transfer.destination,
            "source": evidence.source,
            "path": None if path is None else str(path),
            "size_bytes": None if evidence.path is None else total.size_bytes,
            "adler32": None if evidence.path is None else int(total.checksum.value, 16),
            "attempt": transfer.attempts,
            "error": json.dumps(evidence.error.to_dict()),
        }
        with self._database.write() as connection:
            key = connection.execute(
                sa.insert(quarantine).values(row).returning(quarantine.c.id)
            ).scalar_one()
        if evidence.path is None or path is None:
            return
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            os.link(evidence.path, path)  # the partial file is about to lose its own name
            if not self._rows(quarantine.c.id == key, 1):  # trimmed by somebody before it was there
                path.unlink(missing_ok=True)
        except OSError:
            with self._database.write() as connection:
                connection.execute(sa.update(quarantine).where(quarantine.c.id == key).values(path=None))
            raise

    def trim(self, element: str) -> list[Kept]:
        """Delete what is too old or too much in an element, the oldest first; return what went."""
        oldest_s, held_bytes = self._clock() - self._settings.max_age_s, 0
        rows = self._rows(quarantine.c.element == element, None)
        place = next((one.path.parent for one in rows if one.path is not None), None)
        most_bytes = self._settings.max_bytes if place is None else self._most_bytes(place)
        over: list[Kept] = []
        for number, one in enumerate(rows):
            held_bytes += one.size_bytes or 0 if one.path is not None else 0
            too_much = one.path is not None and held_bytes > most_bytes
            if too_much or one.when_s < oldest_s or number >= _MOST_ROWS:
                over.append(one)
        self._forget(over)
        return over

    def trim_all(self) -> None:
        """`trim` every element."""
        with self._database.read() as connection:
            elements = connection.execute(sa.select(quarantine.c.element).distinct()).scalars().all()
        for element in elements:
            self.trim(element)

    def _most_bytes(self, place: Path) -> int:
        """Return how much may be kept in the file system of ``place``."""
        try:
            return min(self._settings.max_bytes, shutil.disk_usage(place).total // SHARE)
        except OSError:  # the storage is not mounted: nothing there can be in the way
            return self._settings.max_bytes

    # -- looking -------------------------------------------------------------------------------------

    def newest(self, limit: int = 100) -> list[Kept]:
        """Return what is kept, the newest first."""
        return self._rows(sa.true(), limit)

    def of(self, lfn: Lfn) -> list[Kept]:
        """Return what came under one name, the newest first."""
        return self._rows(quarantine.c.lfn == lfn, None)

    def get(self, ids: Sequence[int]) -> list[Kept]:
        """Return what is kept in the order of ``ids``; `BadRequest` for one that there is not."""
        found = {one.id: one for one in self._rows(quarantine.c.id.in_(ids), None)}
        missing = next((key for key in ids if key not in found), None)
        if missing is not None:
            raise BadRequest(
                f"find number {missing} in quarantine", "there is none", "see them all: vse quarantine list"
            )
        return [found[key] for key in ids]

    # -- ending --------------------------------------------------------------------------------------

    def delete(self, ids: Sequence[int]) -> list[Kept]:
        """Delete files from quarantine, and what is known of them; return what went."""
        gone = self.get(ids)
        self._forget(gone)
        return gone

    def release(self, kept: Kept) -> Path | None:
        """Accept a file after all: it appears under its name, verified by size and checksum; return where.

        Its bytes must be those that the catalogue tells of now: `SizeMismatch` and `ChecksumMismatch`
        where they are not, `NoSuchEntry` where it has forgotten the name, `NoSuchFile` where no bytes are
        kept, `StorageFull` or `QuotaExceeded` where it has no room. The file stays in quarantine after any
        error. One that is there already with the same bytes is taken: a release before was killed.
        """
        wanted = f"release {kept.lfn}"
        if kept.path is None or not kept.path.is_file():
            raise NoSuchFile(wanted, "its bytes were not kept", "stage it again")
        located = self._catalogue.resolve([kept.lfn]).one(kept.lfn)
        _compare(wanted, kept, located)
        element = self._elements.get(kept.element)
        with self._keeping_space(element.name, kept, located.entry.owner):
            if not _is_there(element, kept, located.entry.guid):
                with element.put(kept.lfn, kept.size_bytes or 0, kept.checksum, located.entry.guid) as upload:
                    for piece in _pieces(kept.path):
                        upload.write(piece)
                    upload.commit()
            replica = NewReplica(kept.lfn, kept.element, source=kept.source)
            self._catalogue.add_replicas([replica]).one(kept.lfn)
        self._forget([kept])
        return element.local_path(kept.lfn, located.entry.guid)

    @contextmanager
    def _keeping_space(self, element: str, kept: Kept, owner: str) -> Iterator[None]:
        """Keep space for a file; after the block it is the file's, after an error it is free again."""
        room = self._room()
        if room is None:
            yield
            return
        holder = instance.new_owner()
        room.reserve(element, kept.lfn, kept.size_bytes or 0, owner, holder=holder)
        try:
            yield
        except BaseException:
            room.release(element, [kept.lfn], holder)
            raise
        room.turn_into_holdings(element, [kept.lfn], self._clock())

    # -- inside --------------------------------------------------------------------------------------

    def _forget(self, some: Iterable[Kept]) -> None:
        """Bytes go first: a kill in between leaves a row whose bytes are gone, never bytes nobody knows."""
        for one in some:
            if one.path is not None:
                one.path.unlink(missing_ok=True)
            with self._database.write() as connection:
                connection.execute(sa.delete(quarantine).where(quarantine.c.id == one.id))
            if one.path is not None:  # its keeper may have come to that only now
                one.path.unlink(missing_ok=True)

    def _rows(self, where: sa.ColumnElement[bool], limit: int | None) -> list[Kept]:
        query = sa.select(quarantine).where(where).order_by(quarantine.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [_kept(row) for row in connection.execute(query)]


def _kept(row: sa.Row[Any]) -> Kept:
    fields = dict(row._mapping)
    path = fields["path"]
    return Kept(
        **{
            **fields,
            "lfn": Lfn(fields["lfn"]),
            "path": None if path is None else Path(path),
            "error": from_dict(json.loads(fields["error"])),
        }
    )


def _compare(wanted: str, kept: Kept, located: Located) -> None:
    entry = located.entry
    todo = "another file has the name: correct the catalogue first, or delete this one"
    if entry.size_bytes != kept.size_bytes:
        found = f"it has {kept.size_bytes} bytes; the catalogue says {entry.size_bytes}"
        raise SizeMismatch(wanted, found, todo)
    if entry.checksum is not None and entry.checksum != kept.checksum:
        raise ChecksumMismatch(wanted, f"it has {kept.checksum}; the catalogue says {entry.checksum}", todo)


def _is_there(element: StorageElement, kept: Kept, guid: bytes | None) -> bool:
    """Whether the element has the very bytes already under the file's name."""
    total = Adler32()
    try:
        with element.open(kept.lfn, guid) as reader:
            if reader.size_bytes != kept.size_bytes:
                return False
            for piece in reader.stream():
                total.update(piece)
    except NoSuchFile:
        return False
    return total.checksum == kept.checksum


def _pieces(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece
