"""Any file system that fsspec has, as the catch-all: ``Protocol`` names it, ``Options`` are its arguments.

Every one can be read. One is written to only where a file can be given its name in one step that never
replaces another (see `vse.storage.drivers.fsspec_publish`): all else is not declared.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from vse.config.settings import ProtocolSettings
from vse.errors import AlreadyExists, BadRequest, BadSettings, NotEmpty, SizeMismatch, VseError
from vse.model import BulkResult, Checksum
from vse.storage.contract import Capabilities, StoredFile, Upload
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY
from vse.storage.drivers.fsspec_publish import PUBLISHERS
from vse.storage.drivers.fsspec_system import Calls, FsspecSystem, modified_s
from vse.storage.drivers.held_upload import HeldUpload
from vse.storage.drivers.in_bulk import each
from vse.storage.drivers.pieces import PieceReader
from vse.storage.drivers.undeclared import Undeclared


class FsspecDriver(Undeclared):
    """`vse.storage.contract.Driver` of one fsspec file system; what it declares depends on which."""

    def __init__(self, section: ProtocolSettings, no_progress_s: float = 60.0) -> None:
        if not section.protocol:
            wanted = f"use the protocol section {section.section!r}"
            raise BadSettings(wanted, "it has no Protocol", "name the fsspec protocol, e.g. Protocol = sftp")
        self.protocol = section.protocol
        self._system = FsspecSystem(section, section.protocol, no_progress_s)
        self._base = section.path.rstrip("/")
        self._publish = PUBLISHERS.get(self.protocol)
        writable = self._publish is not None
        self.capabilities = Capabilities(
            write=writable,
            remove=writable,
            rename=writable,
            make_directory=writable,
            list=not self._system.is_web,
        )
        self._lock = threading.RLock()

    def url(self, path: str) -> str:
        return self._system.url(path)

    def path_of(self, url: str) -> str:
        return self._system.path_of(url)

    def _made(self) -> Any:
        with self._lock:
            return self._system.made()

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        return each(paths, self._stat_one)

    def _stat_one(self, path: str) -> StoredFile:
        with self._system.calls(f"look at {self.url(path)}"):
            return self._described(path, self._made().info(self._system.name(path)))

    def _described(self, path: str, info: dict[str, Any]) -> StoredFile:
        if info.get("type") == "directory":
            return StoredFile(path, None, modified_s(info))
        size_bytes = info.get("size")
        if size_bytes is None:
            raise BadRequest(f"look at {self.url(path)}", "the file system does not tell its size")
        return StoredFile(path, int(size_bytes), modified_s(info))

    def open(self, path: str) -> PieceReader:
        wanted = f"read {self.url(path)}"
        found = self._stat_one(path)
        if found.size_bytes is None:
            raise BadRequest(wanted, "it is a directory")
        system, name = self._made(), self._system.name(path)
        if system.async_impl or self.protocol == "memory":
            return _Ranges(wanted, found.size_bytes, system, name, self._system.calls)
        with self._system.calls(wanted):
            return _Handle(wanted, found.size_bytes, system.open(name, "rb"), self._system.calls)

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> Upload:
        if self._publish is None:
            self._undeclared("write")
        wanted = f"write {self.url(path)}"
        self._must_be_free(path, wanted)
        return FsspecUpload(self, wanted, path, size_bytes, checksum, self._system.calls)

    def _must_be_free(self, path: str, wanted: str) -> None:
        with self._system.calls(wanted):
            system = self._made()
            if system.exists(path):
                raise AlreadyExists(wanted, "the name is taken", "files are write-once: remove it first")
            above = path.rpartition("/")[0]
            while above and not system.exists(above):
                above = above.rpartition("/")[0]
            if above and not system.isdir(above):
                raise BadRequest(wanted, f"{above} is a file, not a directory")

    def begin(self, wanted: str) -> tuple[str, Any]:
        """Return the name and the open handle of a new partial file."""
        directory = f"{self._base}/{PARTIAL_DIRECTORY}"
        partial = f"{directory}/{uuid.uuid4().hex}.part"
        with self._system.calls(wanted):
            self._make(directory)
            handle = self._made().open(partial, "wb")
            if hasattr(handle, "set_pipelined"):
                handle.set_pipelined(True)  # SFTP: do not wait for the answer to each 32 KiB
            return partial, handle

    def publish(self, partial: str, path: str, size_bytes: int, wanted: str) -> StoredFile:
        """Give a partial file its name; its size is looked at first."""
        if self._publish is None:
            self._undeclared("write")
        with self._system.calls(wanted):
            kept = self._made().info(partial)["size"]
            if kept != size_bytes:
                raise SizeMismatch(
                    wanted, f"the file system kept {kept} of {size_bytes} bytes: its disk may be full"
                )
            self._make(path.rpartition("/")[0])
            self._publish(self._made(), partial, path)
        return self._stat_one(path)

    def forget(self, partial: str) -> None:
        """Remove a partial file, if it is there."""
        with suppress(VseError), self._system.calls("clear a partial file"):
            self._made().rm_file(partial)

    def _make(self, directory: str) -> None:
        """Make a directory and what is missing above it; others may do the same now."""
        system = self._made()
        missing: list[str] = []
        while directory and not system.isdir(directory):
            missing.append(directory)
            directory = directory.rpartition("/")[0]
        for one in reversed(missing):
            try:
                system.mkdir(one, create_parents=False)
            except OSError:
                if not system.isdir(one):
                    raise

    def list(self, path: str) -> Iterator[StoredFile]:
        if not self.capabilities.list:
            self._undeclared("list")
        wanted = f"list {self.url(path)}"
        if self._stat_one(path).size_bytes is not None:
            raise BadRequest(wanted, "it is a file")
        with self._system.calls(wanted):
            children = self._made().ls(path.rstrip("/") or "/", detail=True)
        prefix = path.rstrip("/")
        for info in children:
            name = str(info["name"]).rstrip("/").rpartition("/")[2]
            if name not in ("", PARTIAL_DIRECTORY):
                yield self._described(f"{prefix}/{name}", info)

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        if not self.capabilities.remove:
            self._undeclared("remove")
        return each(paths, self._remove_one)

    def _remove_one(self, path: str) -> None:
        wanted = f"remove {self.url(path)}"
        found = self._stat_one(path)
        if found.is_directory and next(self.list(path), None) is not None:
            raise NotEmpty(wanted, "the directory still holds something")
        with self._system.calls(wanted):
            if found.is_directory:
                self._made().rmdir(path)
            else:
                self._made().rm_file(path)

    def rename(self, source: str, target: str) -> None:
        if self._publish is None:
            self._undeclared("rename")
        wanted = f"rename {self.url(source)} to {target}"
        self._stat_one(source)
        self._must_be_free(target, wanted)
        with self._system.calls(wanted):
            self._make(target.rpartition("/")[0])
            self._publish(self._made(), source, target)

    def make_directory(self, path: str) -> None:
        if not self.capabilities.make_directory:
            self._undeclared("make a directory")
        wanted = f"make the directory {self.url(path)}"
        with self._system.calls(wanted):
            if self._made().isdir(path):
                return
        try:
            self._must_be_free(path, wanted)
        except AlreadyExists:
            if self._stat_one(path).is_directory:  # somebody else has made it meanwhile
                return
            raise
        with self._system.calls(wanted):
            self._make(path.rstrip("/"))

    def close(self) -> None:
        with self._lock:
            self._system.close()


class _Ranges(PieceReader):
    """A file of a system that is asked for each range."""

    def __init__(self, wanted: str, size_bytes: int, system: Any, name: str, calls: Calls) -> None:
        super().__init__(wanted, size_bytes, self._range)
        self._calls = calls
        self._system = system
        self._name = name

    def _range(self, start: int, end: int) -> bytes:
        with self._calls(self._wanted):
            return bytes(self._system.cat_file(self._name, start=start, end=end))

    def pread_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        asked = [self._clipped(offset, size_bytes) for offset, size_bytes in ranges]
        full = [one for one in asked if one[0] < one[1]]
        starts, ends = [one[0] for one in full], [one[1] for one in full]
        with self._calls(self._wanted):
            names = [self._name] * len(full)
            found = iter(self._system.cat_ranges(names, starts, ends, on_error="raise") if full else ())
        return [
            self._checked(bytes(next(found)), end - start) if start < end else b"" for start, end in asked
        ]


class _Handle(PieceReader):
    """A file that stays open; one reads at a time."""

    def __init__(self, wanted: str, size_bytes: int, handle: Any, calls: Calls) -> None:
        super().__init__(wanted, size_bytes, self._range)
        self._calls = calls
        self._handle = handle
        self._one_at_a_time = threading.Lock()

    def _range(self, start: int, end: int) -> bytes:
        with self._one_at_a_time, self._calls(self._wanted):
            self._handle.seek(start)
            pieces: list[bytes] = []
            while start < end and (piece := self._handle.read(end - start)):
                pieces.append(piece)
                start += len(piece)
            return b"".join(pieces)

    def close(self) -> None:
        super().close()
        with self._one_at_a_time, suppress(VseError), self._calls(self._wanted):
            self._handle.close()


class FsspecUpload(HeldUpload):
    """`vse.storage.contract.Upload` to a partial file that is moved to its name at `commit`."""

    def __init__(
        self,
        driver: FsspecDriver,
        wanted: str,
        path: str,
        size_bytes: int,
        checksum: Checksum | None,
        calls: Calls,
    ) -> None:
        super().__init__(wanted, size_bytes, checksum)
        self._calls = calls
        self._driver = driver
        self._path = path
        self._partial, self._handle = driver.begin(wanted)

    def _send(self, data: memoryview) -> None:
        with self._calls(self._wanted):
            self._handle.write(bytes(data))

    def _publish(self) -> StoredFile:
        with self._calls(self._wanted):
            self._handle.close()
        return self._driver.publish(self._partial, self._path, self._declared.size_bytes, self._wanted)

    def _forget(self) -> None:
        with suppress(VseError), self._calls(self._wanted):
            self._handle.close()
        self._driver.forget(self._partial)
