"""The ``mem`` protocol: files in this process's memory, for tests and simulations.

Every section with the same Host sees the same files. `vse.storage.drivers.memory_store.store_at` gives
a test the store itself: to set its capacity, put it on tape or inject faults.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import quote, unquote, urlsplit

from vse.config.settings import ProtocolSettings
from vse.errors import BadRequest, SourceUnavailable, StorageFull, Unsupported
from vse.model import Adler32, BulkResult, Checksum, Clock, Space
from vse.storage.contract import CHUNK_BYTES, Capabilities, Locality, Note, StoredFile
from vse.storage.drivers.held_upload import HeldUpload
from vse.storage.drivers.in_bulk import each
from vse.storage.drivers.memory_store import MemoryFile, MemoryStore, store_at
from vse.storage.drivers.pieces import PieceReader
from vse.storage.drivers.undeclared import Undeclared


class MemoryDriver(Undeclared):
    """`vse.storage.contract.Driver` of the store of a host name."""

    capabilities = Capabilities(
        write=True,
        remove=True,
        list=True,
        rename=True,
        space=True,
        checksums=frozenset({"adler32"}),
        make_directory=True,
        link=True,
        stage=True,
        pull=frozenset({"mem"}),
        push=frozenset({"mem"}),
    )

    def __init__(
        self, section: ProtocolSettings, no_progress_s: float = 60.0, clock: Clock = time.time
    ) -> None:
        self.protocol = section.protocol or "mem"
        self._no_progress_s = no_progress_s
        self._host = section.host or "localhost"
        self._clock = clock

    @property
    def _store(self) -> MemoryStore:
        return store_at(self._host)

    def url(self, path: str) -> str:
        return f"{self.protocol}://{self._host}{quote(path)}"

    def path_of(self, url: str) -> str:
        host, path = _parts(url, self.protocol)
        if host != self._host:
            raise BadRequest(
                f"find the path in {url!r}", f"it is not a URL of {self.protocol}://{self._host}"
            )
        return path

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        return each(paths, self._stat_one)

    def _stat_one(self, path: str) -> StoredFile:
        with self._store.lock:
            self._store.check("stat", path)
            return self._store.stat(_plain(path))._replace(path=path)

    def open(self, path: str) -> PieceReader:
        wanted = f"read {self.url(path)}"
        store = self._store
        with store.lock:
            store.check("open", path)
            file = store.file(_plain(path), wanted)
            if file.locality is Locality.TAPE:
                raise SourceUnavailable(wanted, "it is on tape only", "stage it first")
            data = file.data

        def fetch(start: int, end: int) -> bytes:
            store.check("read", path)
            return data[start:end]

        return PieceReader(wanted, len(data), fetch)

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> MemoryUpload:
        self._store.check("put", path)
        return MemoryUpload(self._store, self.url(path), _plain(path), size_bytes, checksum, self._clock)

    def list(self, path: str) -> Iterator[StoredFile]:
        with self._store.lock:
            self._store.check("list", path)
            children = self._store.children(_plain(path), f"list {self.url(path)}")
        yield from children

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        return each(paths, self._remove_one)

    def _remove_one(self, path: str) -> None:
        with self._store.lock:
            self._store.check("remove", path)
            self._store.remove(_plain(path))

    def rename(self, source: str, target: str) -> None:
        wanted = f"rename {self.url(source)} to {target}"
        with self._store.lock:
            self._store.check("rename", source)
            file = self._store.file(_plain(source), wanted)
            self._store.add(_plain(target), file, wanted)
            del self._store.files[_plain(source)]

    def link(self, existing: str, path: str) -> None:
        wanted = f"link {path} to {self.url(existing)}"
        with self._store.lock:
            self._store.check("link", existing)
            file = self._store.file(_plain(existing), wanted)
            self._store.add(_plain(path), file, wanted)

    def make_directory(self, path: str) -> None:
        with self._store.lock:
            self._store.check("make_directory", path)
            if _plain(path) not in self._store.directories:
                self._store.must_be_free(_plain(path), f"make the directory {self.url(path)}")
                self._store.make_parents(_plain(path) + "/.")

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        if algorithm not in self.capabilities.checksums:
            raise Unsupported(f"compute {algorithm}", "files in memory have adler32 only")
        return each(paths, self._adler32)

    def _adler32(self, path: str) -> Checksum:
        with self._asked("checksum", path) as file:
            return _adler32_of(file.data)

    def space(self, path: str) -> Space:
        with self._store.lock:
            self._store.check("space", path)
            total = self._store.capacity_bytes
            return Space(total, max(0, total - self._store.used_bytes()))

    @contextmanager
    def _asked(self, operation: str, path: str) -> Iterator[MemoryFile]:
        """Give the file at ``path`` to an operation, and hold the store meanwhile."""
        with self._store.lock:
            self._store.check(operation, path)
            yield self._store.file(_plain(path), f"{operation} {self.url(path)}")

    def stage(self, paths: Sequence[str], lifetime_s: float) -> BulkResult[str]:
        return each(paths, self._stage_one)

    def _stage_one(self, path: str) -> str:
        with self._asked("stage", path) as file:
            if file.locality is Locality.TAPE and file.polls_to_disk is None:
                file.polls_to_disk = self._store.tape_polls
        return f"{self._host}:{_plain(path)}"

    def poll(self, paths: Sequence[str]) -> BulkResult[Locality]:
        return each(paths, self._poll_one)

    def _poll_one(self, path: str) -> Locality:
        with self._asked("poll", path) as file:
            if file.polls_to_disk is not None:
                file.polls_to_disk -= 1
                if file.polls_to_disk <= 0:
                    file.polls_to_disk, file.locality = None, Locality.DISK_AND_TAPE
            return file.locality

    def release(self, paths: Sequence[str]) -> BulkResult[None]:
        return each(paths, self._release_one)

    def _release_one(self, path: str) -> None:
        with self._asked("release", path) as file:
            if file.locality is Locality.DISK_AND_TAPE:
                file.locality = Locality.TAPE

    def pull(
        self, source_url: str, path: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        host, source = _parts(source_url, self.protocol)
        self._store.check("pull", path)
        _copy(MemoryDriver(_section(host)), source, self, path, size_bytes, checksum, note)

    def push(
        self, path: str, target_url: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        host, target = _parts(target_url, self.protocol)
        self._store.check("push", path)
        _copy(self, path, MemoryDriver(_section(host)), target, size_bytes, checksum, note)

    def close(self) -> None:
        """There is nothing to drop."""


class MemoryUpload(HeldUpload):
    """`vse.storage.contract.Upload` into a store; its room is reserved from the beginning."""

    def __init__(
        self,
        store: MemoryStore,
        url: str,
        path: str,
        size_bytes: int,
        checksum: Checksum | None,
        clock: Clock,
    ) -> None:
        super().__init__(f"write {url}", size_bytes, checksum)
        self._store = store
        self._path = path
        self._clock = clock
        self._data = bytearray()
        with store.lock:
            store.must_be_free(path, self._wanted)
            free_bytes = store.capacity_bytes - store.used_bytes()
            if size_bytes > free_bytes:
                raise StorageFull(self._wanted, f"it has {size_bytes} bytes and {free_bytes} are free")
            store.reserved_bytes += size_bytes

    def _send(self, data: memoryview) -> None:
        self._store.check("write", self._path)
        self._data += data

    def _publish(self) -> StoredFile:
        with self._store.lock:
            self._store.check("commit", self._path)
            locality = Locality.TAPE if self._store.tape else Locality.DISK
            file = MemoryFile(bytes(self._data), self._clock(), locality)
            return self._store.add(self._path, file, self._wanted)

    def _forget(self) -> None:
        with self._store.lock:
            self._store.reserved_bytes -= self._declared.size_bytes
        self._data = bytearray()


def _copy(
    source: MemoryDriver,
    source_path: str,
    target: MemoryDriver,
    path: str,
    size_bytes: int,
    checksum: Checksum | None,
    note: Note,
) -> None:
    with source.open(source_path) as reader, target.put(path, size_bytes, checksum) as upload:
        done_bytes = 0
        for start in range(0, reader.size_bytes, CHUNK_BYTES):
            piece = reader.pread(start, CHUNK_BYTES)
            upload.write(piece)
            done_bytes += len(piece)
            note(done_bytes)
        upload.commit()


def _section(host: str) -> ProtocolSettings:
    return ProtocolSettings.model_validate({"Section": "Memory", "Host": host})


def _parts(url: str, protocol: str) -> tuple[str, str]:
    parts = urlsplit(url)
    if parts.scheme != protocol or not parts.netloc or parts.query or parts.fragment:
        raise BadRequest(f"find the path in {url!r}", f"it is no {protocol}://HOST/PATH")
    return parts.netloc, unquote(parts.path) or "/"


def _plain(path: str) -> str:
    return path.rstrip("/") or "/"


def _adler32_of(data: bytes) -> Checksum:
    total = Adler32()
    total.update(data)
    return total.checksum
