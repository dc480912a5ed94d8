"""How many calls a server gets at once: one limit per host, shared by all drivers of the process.

A slot is held only while the server is waited for, and never two by one thread: copies within one host
cannot block each other, however low its limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from vse.errors import BadRequest, Stalled
from vse.model import BulkResult, Checksum, Closing, Space
from vse.storage.contract import Driver, Locality, Note, Reader, StoredFile, Upload
from vse.storage.drivers.aborting import Aborting

T = TypeVar("T")


class Slots:
    """The slots of one host. ``wait_s``: how long a call waits for one before it fails with `Stalled`."""

    def __init__(self, host: str, count: int, wait_s: float) -> None:
        if count < 1:
            raise BadRequest(
                f"limit the calls to {host}", f"{count} is no number of calls", "allow 1 or more"
            )
        self.host = host
        self.count = count
        self._wait_s = wait_s
        self._free = threading.BoundedSemaphore(count)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a slot; raises `Stalled` where none becomes free in time."""
        if not self._free.acquire(timeout=self._wait_s):
            raise Stalled(
                f"ask {self.host}",
                f"the {self.count} calls allowed at once have all been waiting for {self._wait_s:g} s",
                "see why it is slow, or allow more calls at once",
            )
        try:
            yield
        finally:
            self._free.release()


class HostLimits:
    """The slots of every host, made when first asked for.

    ``limits`` maps a host, or ``host:port``, to its number of calls at once, over ``default``.
    """

    def __init__(
        self,
        limits: Mapping[str, int] | None = None,
        default: int = 16,
        wait_s: float = 300.0,
    ) -> None:
        self._limits = {host.lower(): count for host, count in (limits or {}).items()}
        self._default = default
        self._wait_s = wait_s
        self._slots: dict[tuple[str, str], Slots] = {}
        self._lock = threading.Lock()

    def of(self, protocol: str, host: str, port: int | None = None) -> Slots:
        """Return the slots of a host for a protocol: always the same ones for the same host."""
        name = host.lower() if port is None else f"{host.lower()}:{port}"
        with self._lock:
            slots = self._slots.get((protocol, name))
            if slots is None:
                count = self._limits.get(name, self._limits.get(host.lower(), self._default))
                slots = self._slots[protocol, name] = Slots(f"{protocol}://{name}", count, self._wait_s)
            return slots


class LimitedDriver:
    """`vse.storage.contract.Driver` over another one, a slot for each call to its server."""

    def __init__(self, inner: Driver, slots: Slots) -> None:
        self.inner = inner
        self.protocol = inner.protocol
        self.capabilities = inner.capabilities
        self._slots = slots

    def _one(self, ask: Callable[[], T]) -> T:
        with self._slots.one():
            return ask()

    def url(self, path: str) -> str:
        return self.inner.url(path)

    def path_of(self, url: str) -> str:
        return self.inner.path_of(url)

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        return self._one(lambda: self.inner.stat(paths))

    def open(self, path: str) -> LimitedReader:
        return LimitedReader(self._one(lambda: self.inner.open(path)), self._slots)

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> LimitedUpload:
        return LimitedUpload(self._one(lambda: self.inner.put(path, size_bytes, checksum)), self._slots)

    def list(self, path: str) -> Iterator[StoredFile]:
        return _slot_for_each(self.inner.list(path), self._slots)

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        return self._one(lambda: self.inner.remove(paths))

    def rename(self, source: str, target: str) -> None:
        self._one(lambda: self.inner.rename(source, target))

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        return self._one(lambda: self.inner.checksum(paths, algorithm))

    def space(self, path: str) -> Space:
        return self._one(lambda: self.inner.space(path))

    def local_path(self, path: str) -> Path:
        return self.inner.local_path(path)

    def make_directory(self, path: str) -> None:
        self._one(lambda: self.inner.make_directory(path))

    def link(self, existing: str, path: str) -> None:
        self._one(lambda: self.inner.link(existing, path))

    def stage(self, paths: Sequence[str], lifetime_s: float) -> BulkResult[str]:
        return self._one(lambda: self.inner.stage(paths, lifetime_s))

    def poll(self, paths: Sequence[str]) -> BulkResult[Locality]:
        return self._one(lambda: self.inner.poll(paths))

    def release(self, paths: Sequence[str]) -> BulkResult[None]:
        return self._one(lambda: self.inner.release(paths))

    def pull(
        self, source_url: str, path: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        self._one(lambda: self.inner.pull(source_url, path, size_bytes, checksum, note))

    def push(
        self, path: str, target_url: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        self._one(lambda: self.inner.push(path, target_url, size_bytes, checksum, note))

    def close(self) -> None:
        self.inner.close()


def _slot_for_each(items: Iterator[T], slots: Slots) -> Iterator[T]:
    """Yield ``items``, a slot held while each is waited for and none while the caller works on it."""
    end = object()
    while True:
        with slots.one():
            item = next(items, end)
        if item is end:
            return
        yield item  # type: ignore[misc]


class LimitedReader(Closing):
    """A `vse.storage.contract.Reader`, a slot for each read."""

    def __init__(self, reader: Reader, slots: Slots) -> None:
        self.size_bytes = reader.size_bytes
        self._reader = reader
        self._slots = slots

    def pread(self, offset: int, size_bytes: int) -> bytes:
        with self._slots.one():
            return self._reader.pread(offset, size_bytes)

    def pread_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        with self._slots.one():
            return self._reader.pread_many(ranges)

    def stream(self, offset: int = 0) -> Iterator[memoryview]:
        return _slot_for_each(self._reader.stream(offset), self._slots)

    def close(self) -> None:
        self._reader.close()


class LimitedUpload(Aborting):
    """A `vse.storage.contract.Upload`, a slot for each piece and for the end."""

    def __init__(self, upload: Upload, slots: Slots) -> None:
        self._upload = upload
        self._slots = slots

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with self._slots.one():
            self._upload.write(data)

    def partial_path(self) -> Path | None:
        return self._upload.partial_path()

    def commit(self) -> StoredFile:
        with self._slots.one():
            return self._upload.commit()

    def abort(self) -> None:
        self._upload.abort()
