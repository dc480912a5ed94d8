"""Moves one file: read from the first sources that give a good copy, verify, publish in one step.

Nothing appears under the final name before its size, its checksum and its contents are right. A name
that is taken already (the process before was killed between publishing and recording) is compared, and
adopted where it is the same file. Where the storages at both ends can make the copy, they do; where they
will not, its bytes go through here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from vse.errors import (
    AlreadyExists,
    BadRequest,
    ChecksumMismatch,
    Denied,
    FilterFailed,
    IntegrityError,
    NoPlan,
    NoSuchFile,
    SizeMismatch,
    StorageError,
    StorageFull,
    Unreadable,
    Unsupported,
    VseError,
)
from vse.model import Adler32, Checksum, Contents
from vse.storage.contract import Upload
from vse.transfer.caps import Pace, at_once
from vse.transfer.evidence import Evidence, Keep, keep_nothing
from vse.transfer.lifecycle import Transfer
from vse.transfer.making import Made, Making
from vse.transfer.mover_file import ComingFile, Destination, KeptName
from vse.transfer.mover_live import Limits, Live, Unlucky
from vse.transfer.sources import Plan, Source
from vse.transfer.verification import Verifier

__all__ = [
    "Destination",
    "Job",
    "KeptName",
    "Limits",
    "Live",
    "MayRead",
    "Moved",
    "Mover",
    "Source",
    "Unlucky",
]

STREAMED = "streamed through this machine"
FOUND = "found at the destination"


class Job(NamedTuple):
    """A claimed transfer with its sources in order of preference; ``no_source`` says why there are none.

    ``making``: the sources hold another file, which this one is made of. ``given``: a file of this machine
    that is the source, and is looked into before it goes.
    """

    transfer: Transfer
    sources: Sequence[Source]
    destination: Destination
    no_source: VseError | None = None
    making: Making | None = None
    given: Path | None = None


class Moved(NamedTuple):
    """A file that is at its destination now. ``source`` is None where it was found there (adopted).

    ``path`` is where it is on this machine; ``url`` what the catalogue is to know it by, if not
    by its name.

    ``way`` says who moved its bytes, and why not in a better way; ``moved_bytes`` are those of
    this attempt, where not all.
    """

    source: str | None
    size_bytes: int
    contents: Contents | None
    path: Path | None
    url: str | None = None
    made: Made | None = None
    way: str = STREAMED
    moved_bytes: int | None = None


MayRead = Callable[[Source], bool]
"""Whether a source has a free slot (which is then taken)."""

_NO_DIRECT_WAY = (StorageError, IntegrityError, Unsupported, Denied, NoPlan, BadRequest)
"""What storages say that will not, or cannot, make a copy themselves."""


class Mover:
    """Runs jobs; one object serves any number of threads."""

    def __init__(self, verifier: Verifier, keep: Keep = keep_nothing, pace: Pace = at_once) -> None:
        self._verifier = verifier
        self._keep = keep
        self._pace = pace

    def move(self, job: Job, live: Live, may_read: MayRead) -> Moved | None:
        """Bring a file to its destination; raises what stood in the way, of all sources together.

        None where no source had a free slot: nothing was tried then, and nothing has failed. After an error
        nothing of the file can be seen at the destination, and a copy that was there before is untouched.
        """
        if not job.sources and job.making is None:
            with contextlib.suppress(NoSuchFile):
                return self._adopt(job, live)
        tried: list[Unlucky] = []
        try:
            moved = (
                self._made(job, live, may_read, tried)
                if job.making
                else self._came(job, live, may_read, tried)
            )
        except AlreadyExists:
            if job.making is not None:
                raise
            return self._adopt(job, live)
        if moved is None and (tried or not job.sources):
            raise _in_vain(job, tried)
        return moved

    # -- from copies of the file -----------------------------------------------------------------

    def _came(self, job: Job, live: Live, may_read: MayRead, tried: list[Unlucky]) -> Moved | None:
        transfer = job.transfer
        plan = Plan(job.sources, checked=transfer.checksum is not None)
        remarks: list[str] = []
        with ComingFile(transfer, job.destination, live, self._pace) as file:
            while (source := plan.next()) is not None:
                if not may_read(source):
                    continue
                before_bytes = file.moved_bytes
                try:
                    way = self._directly(job, source, live, remarks) if not file.moved_bytes else None
                    if way is not None:
                        return Moved(source.url, transfer.size_bytes, None, None, way=way)
                    contents = self._through_here(job, source, live, file, plan)
                except (AlreadyExists, StorageFull, FilterFailed):
                    raise  # no source mends that
                except VseError as error:
                    live.whole.check()
                    reason = live.reading.reason or error
                    tried.append(Unlucky(source, reason))
                    remarks.append(_left(source, file, file.moved_bytes - before_bytes, reason))
                    continue
                live.whole.check()
                file.commit()
                way = "; ".join([STREAMED, *remarks])
                return Moved(
                    source.url,
                    transfer.size_bytes,
                    contents,
                    job.destination.local_path(),
                    way=way,
                    moved_bytes=file.moved_bytes,
                )
            if tried:
                raise _in_vain(job, tried)
        return None

    def _directly(self, job: Job, source: Source, live: Live, remarks: list[str]) -> str | None:
        """Have the storages make the copy; return how they did, None where they did not."""
        if source.copy is None:
            return None
        live.begin(source)
        try:
            source.copy(job.transfer.size_bytes, job.transfer.checksum, live.note)
        except _NO_DIRECT_WAY as error:
            live.check()
            remarks.append(f"the {source.way} from {source.se} failed: {error.found or error}")
            return None
        live.read_through()
        return source.way

    def _through_here(
        self, job: Job, source: Source, live: Live, file: ComingFile, plan: Plan
    ) -> Contents | None:
        """Add what is missing of the file out of ``source``, and see that it is right."""
        live.begin(source, file.seen.size_bytes)
        if file.begin():
            plan.kept()
        plan.reads(source)
        try:
            file.pour(source)
        except VseError:
            if not plan.broke_off():
                file.drop()
            raise
        try:
            file.compare(source)
            return self._contents(job, file.partial_path(), live)
        except IntegrityError as error:
            if isinstance(error, Unreadable) and job.transfer.checksum is not None:
                plan.end()  # every good copy holds these same bytes
            if plan.were_wrong():
                self._keep(Evidence(job.transfer, source.url, file.partial_path(), error))
            file.drop()
            raise

    def _contents(self, job: Job, path: Path | None, live: Live) -> Contents | None:
        """Look into a file; one on a remote storage is verified by size and checksum only."""
        where = path or job.given
        if where is None:
            return None
        return self._verifier.check(job.transfer.lfn, where, job.transfer.tree, live.whole)

    # -- out of another file ---------------------------------------------------------------------

    def _made(self, job: Job, live: Live, may_read: MayRead, tried: list[Unlucky]) -> Moved | None:
        making = job.making
        assert making is not None  # noqa: S101  # the only caller has looked
        for source in job.sources:
            if not may_read(source):
                continue
            live.begin(source)
            try:
                return self._make(job, making, source, live)
            except (AlreadyExists, StorageFull, FilterFailed):
                raise
            except VseError as error:
                live.whole.check()
                tried.append(Unlucky(source, live.reading.reason or error))
        return None

    def _make(self, job: Job, making: Making, source: Source, live: Live) -> Moved:
        """Make a file out of the one at ``source``; adopt one that is there already and holds the same."""
        path = job.destination.local_path()

        def fetch(upload: Upload) -> None:
            file = ComingFile(job.transfer, _Into(upload), live, self._pace)
            file.begin()
            file.pour(source)
            file.compare(source)

        with making.made(fetch, source.url, live.whole) as made:
            try:
                with job.destination.put(made.size_bytes, made.checksum) as upload:
                    for piece in made.pieces():
                        upload.write(piece)
                        live.check()
                    upload.commit()
            except AlreadyExists:
                there = None if path is None else making.same(made, path, live.whole)
                if there is None:
                    raise
                return Moved(None, there.size_bytes, there.contents, path, made=there, way=FOUND)
            return Moved(
                source.url, made.size_bytes, made.contents, path, made=made, moved_bytes=made.size_bytes
            )

    # -- what is there already -------------------------------------------------------------------

    def _adopt(self, job: Job, live: Live) -> Moved:
        """Take what is at the destination for the file, if it is; leave it alone in any case."""
        transfer = job.transfer
        total = Adler32()
        live.begin(None)
        with job.destination.open() as reader, live.reading.calls(reader.close):
            if reader.size_bytes == transfer.size_bytes and transfer.checksum is not None:
                for piece in reader.stream():
                    total.update(piece)
                    live.note(total.size_bytes)
            size_bytes = reader.size_bytes
        live.read_through()
        wanted = f"stage {transfer.lfn} to {transfer.destination}"
        todo = "another file has its name there: look at it, remove it, and stage again"
        if size_bytes != transfer.size_bytes:
            found = f"a file of {size_bytes} bytes is there; the catalogue says {transfer.size_bytes}"
            raise SizeMismatch(wanted, found, todo)
        if transfer.checksum is not None and total.checksum != transfer.checksum:
            found = f"a file with {total.checksum} is there; the catalogue says {transfer.checksum}"
            raise ChecksumMismatch(wanted, found, todo)
        path = job.destination.local_path()
        return Moved(None, size_bytes, self._contents(job, path, live), path, way=FOUND)


class _Into(NamedTuple):
    """`Destination` of bytes that go into an upload that somebody else has begun."""

    upload: Upload

    def put(self, size_bytes: int, checksum: Checksum | None) -> Upload:
        return self.upload

    def resume(self, size_bytes: int, checksum: Checksum | None, name: str) -> None:
        return None


def _left(source: Source, file: ComingFile, gave_bytes: int, reason: VseError) -> str:
    """Return which bytes a source gave that failed then, and why it did."""
    gave, end = "no byte", file.seen.size_bytes
    if gave_bytes:
        gave = f"bytes {end - gave_bytes} to {end}" if end else f"{gave_bytes} bytes, none of them used"
    return f"{source.url} gave {gave}, then failed: {reason.found or reason}"


def _in_vain(job: Job, tried: Sequence[Unlucky]) -> VseError:
    """Return one error for all that was tried: the only one as it is, several put together."""
    name = job.transfer.lfn
    if not job.sources:
        return job.no_source or NoPlan(f"stage {name}", "no copy of it is known")
    if len(tried) == 1:
        return tried[0].error
    kind = type(next((one.error for one in tried if one.error.retryable), tried[-1].error))
    found = "; ".join(f"{one.source.url}: {one.error.found or one.error}" for one in tried)
    return kind(f"read {name} from any of its {len(tried)} copies", found, tried[-1].error.todo)
