"""The files behind the door: which path an LFN has, and open descriptors that requests share."""

from __future__ import annotations

import asyncio
import os
import stat
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vse.doors.http.exchange import Refused
from vse.doors.http.ranges import Span, http_date
from vse.doors.http.threads import blocking
from vse.errors import (
    AlreadyExists,
    BadRequest,
    Denied,
    IntegrityError,
    NoSuchFile,
    NotEmpty,
    NotFound,
    StorageFault,
    StorageFull,
    Unsupported,
    UsageError,
    VseError,
)
from vse.model import Lfn
from vse.storage.contract import Driver
from vse.storage.drivers.os_errors import mapped

_AHEAD_BYTES = 4 * 1024 * 1024
_LOOK_S = 2.0

_TELLABLE = (UsageError, NotFound, AlreadyExists, NotEmpty, IntegrityError, StorageFull)


@dataclass(frozen=True, slots=True)
class DoorFiles:
    """A storage driver, and the directory in it that the root of all LFNs is.

    The driver must have ``local_paths``; raises `Unsupported` otherwise.
    """

    driver: Driver
    base: str = "/"

    def __post_init__(self) -> None:
        if not self.driver.capabilities.local_paths:
            found = f"the driver {self.driver.protocol!r} has no paths on this machine"
            raise Unsupported("serve files over HTTP", found, "give the door an element with a file section")

    def path(self, lfn: Lfn) -> str:
        """Return the path of ``lfn`` in the driver's terms."""
        return (self.base.rstrip("/") + lfn).rstrip("/") or "/"

    def local(self, lfn: Lfn) -> Path:
        """Return where ``lfn`` lies on this machine."""
        return self.driver.local_path(self.path(lfn))

    def root(self) -> str:
        """Return the real path that nothing served may lie outside of."""
        return os.path.realpath(self.local(Lfn("/")))

    def confirm_inside(self, lfn: Lfn) -> None:
        """Refuse with 403 where ``lfn``, or the nearest parent that exists, lies outside (a link)."""
        real = os.path.realpath(self.local(lfn))
        _confirm_below(real, self.root(), lfn)

    def in_lfn_terms(self, error: VseError, action: str, lfn: Lfn) -> VseError:
        """Return ``error`` as the client may see it: in LFNs, without paths of this machine.

        What the storage says of its own troubles is for the site's log only.
        """
        if not isinstance(error, _TELLABLE):
            return type(error)(f"{action} {lfn}", "the storage behind this door refused or failed")
        found = error.found
        for hidden in (str(self.local(Lfn("/"))), self.root(), self.path(Lfn("/"))):
            if hidden != "/":
                found = found.replace(hidden, "")
        return type(error)(f"{action} {lfn}", found, error.todo)


class OpenFile:
    """One open file as it was when it was opened; its descriptor is shared by requests.

    Closed when it was retired from the cache and the last request has released it.
    """

    __slots__ = ("_retired", "_users", "etag", "fd", "headers", "identity", "modified_s", "size_bytes")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd = fd
        self.size_bytes = status.st_size
        self.modified_s = int(status.st_mtime)
        self.identity = _identity(status)
        self.etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        self.headers = (
            (b"accept-ranges", b"bytes"),
            (b"etag", self.etag.encode()),
            (b"last-modified", http_date(status.st_mtime).encode()),
        )
        self._users = 0
        self._retired = False

    def cached(self, offset: int, size_bytes: int) -> bytes | bytearray | None:
        """Return bytes if they are in memory, else None; never waits for a disk.

        On file systems that cannot tell (tmpfs, some network ones) it reads at once.
        """
        buffer = bytearray(size_bytes)
        try:
            count = os.preadv(self.fd, [buffer], offset, os.RWF_NOWAIT) if size_bytes else 0
        except BlockingIOError:
            return None
        except OSError:
            return self.read(offset, size_bytes)
        return buffer if count == size_bytes else None

    def expect(self, spans: Iterable[Span]) -> None:
        """Let the kernel fetch what will be read soon, all at once."""
        for span in spans:
            os.posix_fadvise(self.fd, span.start, span.size_bytes, os.POSIX_FADV_WILLNEED)

    def read_ahead(self, offset: int, size_bytes: int) -> bytes:
        """As `read`, for one who reads on: what follows is fetched meanwhile."""
        self.expect([Span(offset, offset + size_bytes + _AHEAD_BYTES)])
        return self.read(offset, size_bytes)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return exactly ``size_bytes`` bytes; may wait for the disk.

        Raises `StorageFault` where the file has become shorter than it was when opened: the answer
        was promised, and must break off rather than be filled up.
        """
        try:
            data = os.pread(self.fd, size_bytes, offset)
            while len(data) < size_bytes:
                more = os.pread(self.fd, size_bytes - len(data), offset + len(data))
                if not more:
                    raise StorageFault("serve a file", "it became shorter while it was being served")
                data += more
        except OSError as error:
            raise mapped("serve a file", error) from error
        return data

    def acquire(self) -> OpenFile:
        self._users += 1
        return self

    def release(self) -> None:
        self._users -= 1
        self._close_if_done()

    def retire(self) -> None:
        self._retired = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._retired and not self._users and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class OpenFiles:
    """The files opened last. Used from the event loop only.

    A file that is removed or replaced is let go within `_LOOK_S`, so that its space becomes free.
    """

    def __init__(self, files: DoorFiles, keep: int = 256) -> None:
        self._files = files
        self._keep = keep
        self._open: OrderedDict[Lfn, tuple[OpenFile, str]] = OrderedDict()
        self._looking: asyncio.Task[None] | None = None

    async def open(self, lfn: Lfn) -> OpenFile:
        """Return ``lfn`` acquired: the caller must release it.

        One ``stat`` of a name opened before, on the event loop; all else in a thread. Raises
        `NoSuchFile`, `BadRequest` for a directory, and `Refused` for a link that leads outside.
        """
        known = self._open.get(lfn)
        if known is not None:
            file, local = known
            if _still_there(local, file.identity):
                self._open.move_to_end(lfn)
                return file.acquire()
            del self._open[lfn]
            file.retire()
        file, local = await blocking(_open, self._files, lfn)
        replaced = self._open.pop(lfn, None)
        if replaced is not None:
            replaced[0].retire()
        self._open[lfn] = (file.acquire(), local)
        while len(self._open) > self._keep:
            self._open.popitem(last=False)[1][0].retire()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._let_go_of_removed())
        return file

    async def _let_go_of_removed(self) -> None:
        """Look after the open files for as long as there are any."""
        while self._open:
            await asyncio.sleep(_LOOK_S)
            for lfn, (file, _) in await blocking(_removed, list(self._open.items())):
                known = self._open.get(lfn)
                if known is not None and known[0] is file:
                    del self._open[lfn]
                    file.retire()


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _still_there(local: str, identity: tuple[int, int, int, int]) -> bool:
    try:
        return _identity(os.stat(local)) == identity  # noqa: PTH116 - on the hot path
    except OSError:
        return False


def _removed(items: list[tuple[Lfn, tuple[OpenFile, str]]]) -> list[tuple[Lfn, tuple[OpenFile, str]]]:
    return [item for item in items if not _still_there(item[1][1], item[1][0].identity)]


def _open(files: DoorFiles, lfn: Lfn) -> tuple[OpenFile, str]:
    path = files.path(lfn)
    found = files.driver.stat([path]).one(path)
    if found.is_directory:
        raise BadRequest(f"read {lfn}", "it is a directory", "list it with PROPFIND")
    local = str(files.local(lfn))
    try:
        fd = os.open(local, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise mapped(f"read {lfn}", error) from error
    try:
        # What was opened is what is judged: a link swapped meanwhile cannot lead outside.
        _confirm_below(os.readlink(f"/proc/self/fd/{fd}"), files.root(), lfn)  # noqa: PTH115
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NoSuchFile(f"read {lfn}", "it is not a regular file")
    except BaseException:
        os.close(fd)
        raise
    return OpenFile(fd, status), local


def _confirm_below(real: str, root: str, lfn: Lfn) -> None:
    if root not in ("/", real) and not real.startswith(root + "/"):
        raise Refused(403, Denied(f"use {lfn}", "it is a link that leads out of the files of this door"))
