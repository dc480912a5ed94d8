"""Uploads that outlive their writer: half a file is kept, and gone on with by whoever comes next.

The name of a partial file says which upload it is part of, its length how far that came: there is no other
record that could disagree with it. Bytes that were written are read again before more are added, so that
what a crash of the machine did to them is seen.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from vse.errors import BadRequest
from vse.model import Adler32, Checksum
from vse.storage.contract import CHUNK_BYTES, Note
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY, FileUpload
from vse.storage.drivers.os_errors import mapped

_SUFFIX = ".kept"


class KeptUpload(FileUpload):
    """`vse.storage.contract.Resumable` to ``target``; ``name`` tells it from all other uploads to ``base``.

    Raises `BlockingIOError` while somebody else writes to it.
    """

    def __init__(
        self, base: Path, path: str, target: Path, size_bytes: int, checksum: Checksum | None, name: str
    ) -> None:
        self._opened = _open_kept(_kept_path(base, name))
        self.kept_bytes = os.fstat(self._opened[0]).st_size
        if self.kept_bytes > size_bytes:
            os.ftruncate(self._opened[0], 0)  # before space is reserved, which it would give back
            self.kept_bytes = 0
        super().__init__(base, path, target, size_bytes, checksum)

    @property
    def seen(self) -> Adler32:
        return self._declared.seen

    def _begin(self) -> tuple[int, Path]:
        return self._opened

    def recover(self, note: Note) -> None:
        """See `vse.storage.contract.Resumable.recover`. After an error what was kept still is."""
        descriptor, _ = self._open()
        try:
            for piece in _pieces(descriptor, self.kept_bytes):
                self._declared.update(piece)
                note(self.seen.size_bytes)
            os.lseek(descriptor, self.seen.size_bytes, os.SEEK_SET)
        except OSError as error:
            raise mapped(self._wanted, error) from error

    def keep(self) -> None:
        """End the upload; what was written stays for the next one of this name."""
        with self._lock:
            self._partial = None
        self.abort()


def kept_names(base: Path) -> list[str]:
    """Return the names of all that is kept, also of what is being written now."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in (base / PARTIAL_DIRECTORY).glob(f"*{_SUFFIX}"))


def drop_kept(base: Path, name: str) -> bool:
    """Remove what is kept under a name; False where there is none, or somebody writes to it."""
    path = _kept_path(base, name)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _kept_path(base: Path, name: str) -> Path:
    if "/" in name or name.startswith("."):
        raise BadRequest(f"keep a partial file as {name!r}", "it is no plain name")
    return base / PARTIAL_DIRECTORY / f"{name}{_SUFFIX}"


def _open_kept(path: Path) -> tuple[int, Path]:
    """Return the locked descriptor and the path of a partial file, made where there is none.

    On a file system without locks nothing is kept: two writers could not be told apart.
    """
    path.parent.mkdir(exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise BlockingIOError(error.errno, error.strerror, str(path)) from error
        if os.fstat(descriptor).st_nlink:
            return descriptor, path
        os.close(descriptor)  # it was published or dropped between the two calls


def _pieces(descriptor: int, size_bytes: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(CHUNK_BYTES, max(1, size_bytes))))
    offset = 0
    while offset < size_bytes:
        count = os.preadv(descriptor, [buffer[: min(len(buffer), size_bytes - offset)]], offset)
        if not count:
            return
        yield buffer[:count]
        offset += count
