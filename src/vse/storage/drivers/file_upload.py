"""Writing a file to a mounted storage: under a hidden name first, then published in one step.

A partial file is kept in `PARTIAL_DIRECTORY` at the top of the element, so that the rename stays in
one file system. Its writer holds a lock on it for as long as it lives, however it ends: what is not
locked belongs to nobody, on this or any other machine that shares the storage.
"""

from __future__ import annotations

import fcntl
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vse.errors import BadRequest, StorageFull
from vse.model import Checksum
from vse.storage.contract import StoredFile
from vse.storage.drivers import linux
from vse.storage.drivers.aborting import Aborting
from vse.storage.drivers.os_errors import mapped
from vse.storage.drivers.sums import Declared

PARTIAL_DIRECTORY = ".vse-partial"
_SUFFIX = ".part"
_FILE_MODE = 0o644
_JUST_MADE_S = 1.0


class FileUpload(Aborting):
    """`vse.storage.contract.Upload` to ``target``, a resolved path below ``base``."""

    def __init__(
        self, base: Path, path: str, target: Path, size_bytes: int, checksum: Checksum | None
    ) -> None:
        self._wanted = f"write {path}"
        self._path = path
        self._base = base
        self._target = target
        self._declared = Declared(self._wanted, size_bytes, checksum)
        self._lock = threading.RLock()
        self._descriptor = -1
        self._partial: Path | None = None
        with self._guarded():
            self._descriptor, self._partial = self._begin()
            if not linux.reserve(self._descriptor, size_bytes):
                self._check_room(size_bytes)

    def _begin(self) -> tuple[int, Path]:
        return _open_partial(self._base / PARTIAL_DIRECTORY)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with self._guarded():
            descriptor, _ = self._open()
            view = memoryview(data).cast("B")
            self._declared.update(view)
            while view:
                view = view[os.write(descriptor, view) :]

    def partial_path(self) -> Path | None:
        return self._partial

    def prepare(self) -> None:
        """Check and make durable what was written, so that `commit` has nothing left but to publish it."""
        with self._guarded():
            descriptor, _ = self._open()
            self._declared.check()
            os.fchmod(descriptor, _FILE_MODE)
            os.fsync(descriptor)

    def commit(self) -> StoredFile:
        with self._guarded():
            self.prepare()
            descriptor, partial = self._open()
            make_parents(self._base, self._target)
            linux.rename_new(partial, self._target)
            self._partial = None
            linux.sync_directory(self._target.parent)
            modified_s = os.fstat(descriptor).st_mtime
        self.abort()
        return StoredFile(self._path, self._declared.size_bytes, modified_s)

    def abort(self) -> None:
        with self._lock:
            partial, self._partial = self._partial, None
            if partial is not None:
                with suppress(OSError):  # a sweep clears it later
                    partial.unlink(missing_ok=True)
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    def _open(self) -> tuple[int, Path]:
        if self._partial is None:
            raise BadRequest(self._wanted, "the upload has ended already")
        return self._descriptor, self._partial

    def _check_room(self, size_bytes: int) -> None:
        status = os.fstatvfs(self._descriptor)
        free_bytes = status.f_bavail * status.f_frsize
        if free_bytes < size_bytes:
            raise StorageFull(
                self._wanted,
                f"it has {size_bytes} bytes and {free_bytes} are free",
                "make room there, or send files to another storage element",
            )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """After any error nothing remains, and it is one of the tree.

        One call at a time: an `abort` by another thread must not close a number that is being written
        to, which could be another file's a moment later.
        """
        try:
            with super()._guarded():
                yield
        except OSError as error:
            raise mapped(self._wanted, error) from error


def _open_partial(directory: Path) -> tuple[int, Path]:
    """Return the locked descriptor and the path of a new, empty partial file."""
    directory.mkdir(exist_ok=True)
    while True:
        path = directory / f"{os.getpid()}-{uuid.uuid4().hex}{_SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        _lock(descriptor)
        if os.fstat(descriptor).st_nlink:
            return descriptor, path
        os.close(descriptor)  # a sweep came between the two calls


def _lock(descriptor: int) -> bool | None:
    """Whether the partial file is ours now; None where the file system knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_alive(partial: Path) -> bool:
    """Whether a partial file is there and its writer lives; taken to live where locks cannot tell."""
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def make_parents(base: Path, target: Path) -> None:
    """Make the missing directories between ``base`` (which must exist) and ``target``, durably."""
    missing: list[Path] = []
    parent = target.parent
    while parent not in (base, parent.parent) and not parent.is_dir():
        missing.append(parent)
        parent = parent.parent
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        linux.sync_directory(directory.parent)


def sweep(base: Path, older_than_s: float, now_s: float) -> int:
    """Remove the partial files whose writers are gone; return how many.

    A dead writer is known by its lock. On a file system that knows no locks, it is one that has not
    written for ``older_than_s``.
    """
    removed = 0
    for path in (base / PARTIAL_DIRECTORY).glob(f"*{_SUFFIX}"):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            idle_s = now_s - os.fstat(descriptor).st_mtime
            if idle_s < _JUST_MADE_S:  # its writer may not have come to lock it yet
                continue
            free = _lock(descriptor)
            if free or (free is None and idle_s >= older_than_s):
                path.unlink(missing_ok=True)
                removed += 1
        finally:
            os.close(descriptor)
    return removed
