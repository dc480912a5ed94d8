"""What the ``mem`` protocol keeps: one small file system a host name, for the life of the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from vse.errors import AlreadyExists, BadRequest, NoSuchFile, NotEmpty
from vse.storage.contract import Locality, StoredFile

Fault = Callable[[str, str], None]
"""Called with (operation, path) before each operation: what it raises is what the storage does. For tests."""


@dataclass
class MemoryFile:
    """The bytes of a file, and where they are: ``polls_to_disk`` counts down while it comes from tape."""

    data: bytes
    modified_s: float
    locality: Locality = Locality.DISK
    polls_to_disk: int | None = None


@dataclass
class MemoryStore:
    """One host. ``capacity_bytes`` is what fits; ``tape``: new files go to tape, and leave the disk at once.

    ``tape_polls``: how often a staged file must be asked for before it is on disk. ``fault`` is for tests:
    see `Fault`. Directories exist from the moment something is put into them.
    """

    capacity_bytes: int = 1 << 30
    tape: bool = False
    tape_polls: int = 1
    fault: Fault | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    files: dict[str, MemoryFile] = field(default_factory=dict)
    directories: set[str] = field(default_factory=lambda: {"/"})
    reserved_bytes: int = 0

    def check(self, operation: str, path: str) -> None:
        """Give an injected fault its chance."""
        if self.fault is not None:
            self.fault(operation, path)

    def used_bytes(self) -> int:
        distinct = {id(file): len(file.data) for file in self.files.values()}
        return sum(distinct.values()) + self.reserved_bytes

    def stat(self, path: str) -> StoredFile:
        """Describe a path; raise `NoSuchFile` where there is none."""
        if path in self.directories:
            return StoredFile(path, None, None)
        file = self.file(path, f"look at {path}")
        return StoredFile(path, len(file.data), file.modified_s)

    def file(self, path: str, wanted: str) -> MemoryFile:
        """Return a file; `BadRequest` for a directory."""
        if path in self.directories:
            raise BadRequest(wanted, "it is a directory")
        if path not in self.files:
            raise NoSuchFile(wanted, "the storage does not hold it")
        return self.files[path]

    def must_be_free(self, path: str, wanted: str) -> None:
        """Raise `AlreadyExists` where a name is taken, `BadRequest` where it would be below a file."""
        if path in self.files or path in self.directories:
            raise AlreadyExists(wanted, "the name is taken", "files are write-once: remove it first")
        above = next((one for one in ancestors(path) if one in self.files), None)
        if above is not None:
            raise BadRequest(wanted, f"{above} is a file, not a directory")

    def make_parents(self, path: str) -> None:
        self.directories.update(ancestors(path))

    def add(self, path: str, file: MemoryFile, wanted: str) -> StoredFile:
        """Publish a file under a free name."""
        self.must_be_free(path, wanted)
        self.make_parents(path)
        self.files[path] = file
        return self.stat(path)

    def children(self, path: str, wanted: str) -> list[StoredFile]:
        """Return what is directly in a directory."""
        if path not in self.directories:
            self.file(path, wanted)
            raise BadRequest(wanted, "it is a file")
        below = path.rstrip("/") + "/"
        names = (*self.files, *(self.directories - {"/"}))
        return [self.stat(name) for name in names if name.startswith(below) and "/" not in name[len(below) :]]

    def remove(self, path: str) -> None:
        """Remove a file or an empty directory."""
        wanted = f"remove {path}"
        if path not in self.directories:
            self.file(path, wanted)
            del self.files[path]
        elif self.children(path, wanted):
            raise NotEmpty(wanted, "the directory still holds something")
        elif path == "/":
            raise BadRequest(wanted, "it is the storage itself")
        else:
            self.directories.discard(path)


def ancestors(path: str) -> list[str]:
    """Return the directories above a path, the nearest first, ``/`` last."""
    found = []
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        found.append(path)
    return found


_STORES: dict[str, MemoryStore] = {}
_STORES_LOCK = threading.Lock()


def store_at(host: str) -> MemoryStore:
    """Return the store of a host name, made when first asked for."""
    with _STORES_LOCK:
        return _STORES.setdefault(host, MemoryStore())


def forget_stores() -> None:
    """Empty every store: for the end of a test."""
    with _STORES_LOCK:
        _STORES.clear()
