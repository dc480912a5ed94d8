"""Moves one file: read from the first source that gives a good copy, verify, publish in one step.

Nothing appears under the final name before its size, its checksum and its contents are right. A name
that is taken already (the process before was killed between publishing and recording) is compared, and
adopted where it is the same file.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from vse.errors import (
    AlreadyExists,
    ChecksumMismatch,
    NoPlan,
    NoSuchFile,
    SizeMismatch,
    Stalled,
    StorageFull,
    VseError,
)
from vse.model import Adler32, Checksum, Contents
from vse.storage.contract import Reader, Upload
from vse.transfer.abort import Abort
from vse.transfer.lifecycle import Transfer
from vse.transfer.verification import Verifier


class Source(NamedTuple):
    """A replica that can be read, with how."""

    se: str
    url: str
    open: Callable[[], Reader]


class Destination(Protocol):
    """The place of one file at the storage element it goes to."""

    def put(self, size_bytes: int, checksum: Checksum | None) -> Upload: ...

    def open(self) -> Reader:
        """Open what is there already; `NoSuchFile` where nothing is."""
        ...

    def local_path(self) -> Path | None: ...

    def remove(self) -> None: ...


class Job(NamedTuple):
    """A claimed transfer with its sources in order of preference; ``no_source`` says why there are none."""

    transfer: Transfer
    sources: Sequence[Source]
    destination: Destination
    no_source: VseError | None = None


class Moved(NamedTuple):
    """A file that is at its destination now. ``source`` is None where it was found there (adopted)."""

    source: str | None
    size_bytes: int
    contents: Contents | None
    path: Path | None


@dataclass(frozen=True, slots=True)
class Limits:
    """In seconds; ``total_s`` 0 is no limit."""

    no_progress_s: float = 60.0
    total_s: float = 0.0


class Unlucky(NamedTuple):
    """A source that was tried in vain."""

    source: Source
    error: VseError


@dataclass(slots=True)
class Live:
    """A move as others see it while it runs: how far it is, and the way to end it.

    Times are of the monotonic clock. ``touched_s`` is when the last bytes came, None while the move is
    not waiting for bytes. ``handed_out``: a slot has it, and
    will report; ``given_up``: its slot went to another thread, because it hangs.
    """

    transfer: Transfer
    started_s: float
    bytes_done: int = 0
    source: Source | None = None
    touched_s: float | None = None
    handed_out: bool = False
    given_up: bool = False
    whole: Abort = field(default_factory=Abort)
    reading: Abort = field(default_factory=Abort)

    def begin(self, source: Source | None) -> None:
        """Turn to another source; the time without progress starts anew."""
        self.reading = Abort()
        self.source = source
        self.bytes_done = 0
        self.touched_s = time.monotonic()
        self.whole.check()

    def note(self, bytes_done: int) -> None:
        self.bytes_done = bytes_done
        self.touched_s = time.monotonic()
        self.check()

    def read_through(self) -> None:
        """The bytes are here: what follows has time limits of its own."""
        self.touched_s = None
        self.check()

    def check(self) -> None:
        self.whole.check()
        self.reading.check()

    def end(self, reason: VseError) -> None:
        """End the whole move, from any thread."""
        self.whole.fire(reason)
        self.reading.fire(reason)

    def overdue(self, limits: Limits, now_s: float) -> None:
        """End what takes too long: the source being read, or the whole move."""
        touched_s, name = self.touched_s, self.transfer.lfn
        if touched_s is not None and now_s - touched_s > limits.no_progress_s:
            where = self.source.url if self.source else "its destination"
            self.reading.fire(
                Stalled(
                    f"read {name} from {where}",
                    f"no byte came for {limits.no_progress_s:g} s, after {self.bytes_done}"
                    f" of {self.transfer.size_bytes}",
                    "see whether the source answers others",
                )
            )
        if limits.total_s and now_s - self.started_s > limits.total_s:
            self.end(
                Stalled(
                    f"stage {name} in one go",
                    f"it took longer than the {limits.total_s:g} s that an attempt may take"
                    f" ({self.bytes_done} of {self.transfer.size_bytes} bytes were here)",
                    "raise stager.timeout_s, or see why the source is slow",
                )
            )


MayRead = Callable[[Source], bool]
"""Whether a source has a free slot (which is then taken)."""


class Mover:
    """Runs jobs; one object serves any number of threads."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def move(self, job: Job, live: Live, may_read: MayRead) -> Moved | None:
        """Bring a file to its destination; raises what stood in the way, of all sources together.

        None where no source had a free slot: nothing was tried then, and nothing has failed.
        After an error nothing of the file remains at the destination, and a copy that was there before
        is untouched.
        """
        tried: list[Unlucky] = []
        for source in job.sources:
            if not may_read(source):
                continue
            live.begin(source)
            try:
                return self._copy(job, source, live)
            except AlreadyExists:
                return self._adopt(job, live)
            except StorageFull:
                raise  # no source mends that
            except VseError as error:
                live.whole.check()
                tried.append(Unlucky(source, live.reading.reason or error))
        if not job.sources:
            with contextlib.suppress(NoSuchFile):
                return self._adopt(job, live)
        elif not tried:
            return None
        raise _in_vain(job, tried)

    def _copy(self, job: Job, source: Source, live: Live) -> Moved:
        transfer = job.transfer
        with job.destination.put(transfer.size_bytes, transfer.checksum) as upload:
            with source.open() as reader:
                _fill(upload, reader, transfer, source, live)
            live.read_through()
            contents = self._contents(transfer, upload.partial_path(), live)
            live.whole.check()
            upload.commit()
        return Moved(source.url, transfer.size_bytes, contents, job.destination.local_path())

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
        return Moved(None, size_bytes, self._contents(transfer, path, live), path)

    def _contents(self, transfer: Transfer, path: Path | None, live: Live) -> Contents | None:
        """Look into a file; one on a remote storage is verified by size and checksum only."""
        if path is None:
            return None
        return self._verifier.check(transfer.lfn, path, transfer.tree, live.whole)


def _fill(upload: Upload, reader: Reader, transfer: Transfer, source: Source, live: Live) -> None:
    wanted = f"read {transfer.lfn} from {source.url}"
    if reader.size_bytes != transfer.size_bytes:
        raise _wrong_size(wanted, reader.size_bytes, transfer)
    total = Adler32()
    with live.reading.calls(reader.close):
        for piece in reader.stream():
            total.update(piece)
            upload.write(piece)
            live.note(total.size_bytes)
    if total.size_bytes != transfer.size_bytes:
        raise _wrong_size(wanted, total.size_bytes, transfer)
    if transfer.checksum is not None and total.checksum != transfer.checksum:
        raise ChecksumMismatch(
            wanted,
            f"the bytes have {total.checksum}; the catalogue says {transfer.checksum}",
            "the copy at the source is damaged, or the catalogue is wrong: compare it with another copy",
        )


def _wrong_size(wanted: str, size_bytes: int, transfer: Transfer) -> SizeMismatch:
    found = f"it has {size_bytes} bytes; the catalogue says {transfer.size_bytes}"
    return SizeMismatch(wanted, found, "the copy at the source is not the file that was registered")


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
