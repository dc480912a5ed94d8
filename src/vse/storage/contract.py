"""What a storage driver must do: the one small contract behind every protocol.

A driver is bound to one protocol section of one storage element (host, port, credentials) and speaks
of *paths*: absolute, unescaped, already checked by `vse.storage.element` to lie inside the element.
It is synchronous and safe to share between threads (decision 1). It raises errors of `vse.errors`
only, never retries by itself, and declares in `Capabilities` exactly what works: the conformance suite
(`vse.testing.drivers`) proves each declared capability against a real server, and that each one not
declared raises `Unsupported`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from vse.model import Adler32, BulkResult, Checksum, Space

Note = Callable[[int], None]
"""Is told how many bytes of a copy are done."""

CHUNK_BYTES = 1024 * 1024
"""How much a copy moves at a time."""


class StoredFile(NamedTuple):
    """What a storage says of a path. ``size_bytes`` is None for a directory."""

    path: str
    size_bytes: int | None
    modified_s: float | None

    @property
    def is_directory(self) -> bool:
        return self.size_bytes is None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do. Every driver can stat and open for ranged reads.

    ``checksums``: algorithms the server computes or keeps by itself. ``local_paths``: replicas can be
    opened by path on this machine (`Driver.local_path`). ``stage``: files may be on tape, and `stage`,
    `poll` and `release` work. ``pull`` and ``push``: protocols of the other side with which the storage
    itself can make a third-party copy (`Driver.pull`, `Driver.push`).
    """

    write: bool = False
    remove: bool = False
    list: bool = False
    rename: bool = False
    space: bool = False
    checksums: frozenset[str] = frozenset()
    local_paths: bool = False
    make_directory: bool = False
    link: bool = False
    stage: bool = False
    pull: frozenset[str] = frozenset()
    push: frozenset[str] = frozenset()


class Locality(StrEnum):
    """Where the bytes of a file are. The words of the WLCG tape REST API."""

    DISK = "DISK"
    TAPE = "TAPE"
    DISK_AND_TAPE = "DISK_AND_TAPE"
    LOST = "LOST"
    UNAVAILABLE = "UNAVAILABLE"


class Reader(Protocol):
    """An open file, safe to share between threads.

    Reads return exactly the bytes asked for, cut only by the end of the file; anything less raises
    `ShortRead`. A file that changes its size while open raises `SizeMismatch`.
    """

    size_bytes: int

    def pread(self, offset: int, size_bytes: int) -> bytes:
        """Return ``size_bytes`` bytes from ``offset``; fewer only where the file ends."""
        ...

    def pread_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each ``(offset, size_bytes)``, in one round trip where the protocol can."""
        ...

    def stream(self, offset: int = 0) -> Iterator[memoryview]:
        """Yield the rest of the file in order, in pieces of about `CHUNK_BYTES`.

        A piece is valid until the next one is asked for.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Upload(Protocol):
    """A file on its way in; nothing is visible under its final name before `commit` returns.

    Leaving the ``with`` block without `commit` aborts: nothing remains. `commit` is called at most
    once; it raises `SizeMismatch` or `ChecksumMismatch` where the bytes are not the declared ones, and
    `AlreadyExists` where the name was taken meanwhile. After any error nothing remains either.
    """

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``; raises `StorageFull` where there is no room."""
        ...

    def partial_path(self) -> Path | None:
        """Where the bytes so far can be read on this machine (flushed); None for remote storage."""
        ...

    def commit(self) -> StoredFile:
        """Publish the file under its final name, in one step, durably."""
        ...

    def abort(self) -> None:
        """Forget the upload; may be called at any time, any number of times."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Resumable(Upload, Protocol):
    """An upload that can be left half-done, and gone on with later by another process.

    ``kept_bytes``: what was there of it already; it counts once `recover` has read it. ``seen``: what has
    been written so far, kept bytes included.
    """

    kept_bytes: int

    @property
    def seen(self) -> Adler32: ...

    def recover(self, note: Note) -> None:
        """Read the kept bytes, before anything is written; ``note`` is told how many are read so far."""
        ...

    def keep(self) -> None:
        """End it without `commit`; what was written stays for whoever goes on with it."""
        ...


class Driver(Protocol):
    """One protocol to one storage. See the module's docstring for what every method guarantees."""

    protocol: str
    """The native protocol, as it stands before ``://`` in a URL: ``file``, ``http``, ..."""
    capabilities: Capabilities

    def url(self, path: str) -> str:
        """Return the URL (escaped as the protocol wants it) of ``path``."""
        ...

    def path_of(self, url: str) -> str:
        """Return the path in ``url``; the inverse of `url`. Raises `BadRequest` for another server's."""
        ...

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        """Describe each path; `NoSuchFile` under ``failed`` for each that is not there."""
        ...

    def open(self, path: str) -> Reader:
        """Open a file for reading. Raises `NoSuchFile`, or `BadRequest` for a directory."""
        ...

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> Upload:
        """Begin to write a new file of a declared size and, where known, checksum.

        Missing parent directories are made. Raises `AlreadyExists` (files are write-once) and
        `StorageFull` where it is known at once that the file will not fit.
        """
        ...

    def list(self, path: str) -> Iterator[StoredFile]:
        """Yield the direct children of a directory, in no order, none of VSE's partial files."""
        ...

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        """Remove files and empty directories; `NoSuchFile` or `NotEmpty` for each that cannot be."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Move within the storage, atomically, never over an existing ``target`` (`AlreadyExists`)."""
        ...

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        """Return what the server says the checksums are."""
        ...

    def space(self, path: str) -> Space:
        """Return the space of the storage that holds ``path``."""
        ...

    def local_path(self, path: str) -> Path:
        """Return where ``path`` can be opened on this machine."""
        ...

    def make_directory(self, path: str) -> None:
        """Make a directory and its missing parents; idempotent. `AlreadyExists` where a file is there."""
        ...

    def link(self, existing: str, path: str) -> None:
        """Give a file a second name, never over an existing one (`AlreadyExists`)."""
        ...

    def stage(self, paths: Sequence[str], lifetime_s: float) -> BulkResult[str]:
        """Ask for files to be brought from tape to disk and kept so long; returns the request of each."""
        ...

    def poll(self, paths: Sequence[str]) -> BulkResult[Locality]:
        """Return where the bytes of each file are now."""
        ...

    def release(self, paths: Sequence[str]) -> BulkResult[None]:
        """Tell that staged files are no longer needed on disk."""
        ...

    def pull(
        self, source_url: str, path: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        """Have this storage fetch ``source_url`` as the new file ``path``, without bytes through here.

        ``note`` is called with the bytes done so far, now and then; what it raises cancels the copy.
        Size and checksum are verified at the end; after any error nothing remains under ``path``.
        """
        ...

    def push(
        self, path: str, target_url: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        """Have this storage send ``path`` to the new file ``target_url``; see `pull`."""
        ...

    def close(self) -> None:
        """Drop connections. The driver may be used again; it then connects anew."""
        ...
