"""Several volumes as one storage (seed 004 §II.2.2, the Logical Volume Manager): the account and the choice.

What is used and reserved on a volume is kept in one small file on it, so that every process that shares
the storage sees the same, and a restart knows it at once. It is changed only under the storage's lock,
and replaced in one step. A reservation names the partial file it is for; one whose partial file is gone
without the account being told (its process was killed) makes the account doubtful, and the volume is
counted anew. So the account may be too high for a moment, never too low.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vse.errors import StorageFull
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY, is_alive
from vse.storage.drivers.os_errors import mapped

_ACCOUNT = "account.json"
_LOCK = "lock"


class Room(NamedTuple):
    """A volume when a file is to be placed: what is left of its declared size, and free on its disk."""

    name: str
    left_bytes: int
    free_bytes: int
    disk: int

    @property
    def usable_bytes(self) -> int:
        return max(0, min(self.left_bytes, self.free_bytes))


def choose(rooms: Sequence[Room], size_bytes: int, wanted: str) -> int:
    """Return which volume takes a file: the one with most room, the first of equals.

    Raises `StorageFull`, with what every volume has left, where none has room for it.
    """
    best = max(range(len(rooms)), key=lambda one: (rooms[one].usable_bytes, -one))
    if rooms[best].usable_bytes >= size_bytes:
        return best
    left = ", ".join(f"{room.name}: {room.usable_bytes}" for room in rooms)
    raise StorageFull(
        wanted,
        f"it has {size_bytes} bytes, and no volume has so many left ({left})",
        "remove files, give a volume a larger size in the settings, or send files to another element",
    )


def free_together(rooms: Sequence[Room]) -> int:
    """Return the bytes that can still be stored; volumes that share a disk share what is free on it."""
    by_disk: dict[int, list[Room]] = {}
    for room in rooms:
        by_disk.setdefault(room.disk, []).append(room)
    return sum(
        max(0, min(sum(max(0, room.left_bytes) for room in some), min(room.free_bytes for room in some)))
        for some in by_disk.values()
    )


def expired(stored_s: float, now_s: float, lifetime_s: float) -> bool:
    """Whether a file stored at ``stored_s`` has outlived its volume's lifetime; 0 keeps for ever."""
    return lifetime_s > 0 and now_s - stored_s > lifetime_s


@dataclass(slots=True)
class Account:
    """Bytes of published files, and of reservations by the name of their partial file."""

    used_bytes: int = 0
    reserved: dict[str, int] = field(default_factory=dict)

    @property
    def taken_bytes(self) -> int:
        return self.used_bytes + sum(self.reserved.values())


class Counted(NamedTuple):
    """What is on a volume: files (each once, however many names it has) and their bytes."""

    files: int
    size_bytes: int


class Ledger:
    """The account of one volume, in a file on it. Its calls are made under `storage_lock`."""

    def __init__(self, volume: Path) -> None:
        self.volume = volume
        self._directory = volume / PARTIAL_DIRECTORY
        self._file = self._directory / _ACCOUNT

    def read(self) -> Account:
        """Return the account, counted anew where there is none or it is doubtful."""
        account = self._written()
        if account is None or any(not self._alive(name) for name in account.reserved):
            return self.recount()[0]
        return account

    def known(self) -> Account:
        """Return the account as it is written, doubtful or not."""
        return self._written() or Account()

    def recount(self) -> tuple[Account, Counted]:
        """Make the account from what is on the volume; reservations of writers that live are kept."""
        account = self.known()
        found = counted(self.volume)
        kept = {name: size for name, size in account.reserved.items() if self._alive(name)}
        account = Account(found.size_bytes, kept)
        self.write(account)
        return account, found

    def write(self, account: Account) -> None:
        """Replace the account in one step."""
        text = json.dumps({"used_bytes": account.used_bytes, "reserved": account.reserved})
        new = self._file.with_suffix(".new")
        with _told(f"keep the account of {self.volume}"):
            self._directory.mkdir(exist_ok=True)
            with new.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._file)

    def reserve(self, partial: str, size_bytes: int) -> None:
        account = self.read()
        account.reserved[partial] = size_bytes
        self.write(account)

    def settle(self, partial: str, stored_bytes: int) -> None:
        """End a reservation; ``stored_bytes`` of it were published, 0 where the upload was given up."""
        account = self._written() or self.recount()[0]
        if account.reserved.pop(partial, None) is None and not stored_bytes:
            return
        account.used_bytes += stored_bytes
        self.write(account)

    def release(self, size_bytes: int) -> None:
        """Take removed bytes off."""
        account = self.read()
        account.used_bytes = max(0, account.used_bytes - size_bytes)
        self.write(account)

    def _written(self) -> Account | None:
        try:
            data = json.loads(self._file.read_text())
            reserved = {str(name): int(size) for name, size in data["reserved"].items()}
            return Account(int(data["used_bytes"]), reserved)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # not there, or damaged: it is counted anew

    def _alive(self, partial: str) -> bool:
        return is_alive(self._directory / partial)


def counted(volume: Path) -> Counted:
    """Count the files on a volume, without its unfinished ones and without following links."""
    files = size_bytes = 0
    seen: set[tuple[int, int]] = set()
    with _told(f"count the files of {volume}"):
        for _, status in files_on(volume):
            if status.st_nlink > 1:
                key = (status.st_dev, status.st_ino)
                if key in seen:
                    continue
                seen.add(key)
            files += 1
            size_bytes += status.st_size
    return Counted(files, size_bytes)


def files_on(volume: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the path and the status of every file on a volume, but its unfinished ones."""
    top = str(volume)
    directories = [top]
    while directories:
        where = directories.pop()
        with os.scandir(where) as children:
            for child in children:
                if where == top and child.name == PARTIAL_DIRECTORY:
                    continue
                if child.is_dir(follow_symlinks=False):
                    directories.append(child.path)
                elif child.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # removed meanwhile
                        yield child.path, child.stat(follow_symlinks=False)


def room_on(ledger: Ledger, size_bytes: int) -> Room:
    """Return what is left on a volume that may hold ``size_bytes``. Under `storage_lock`."""
    left_bytes = size_bytes - ledger.read().taken_bytes
    with _told(f"measure the volume {ledger.volume}"):
        status = os.statvfs(ledger.volume)
        disk = ledger.volume.stat().st_dev
    return Room(str(ledger.volume), left_bytes, status.f_bavail * status.f_frsize, disk)


_HELD = threading.local()


@contextmanager
def storage_lock(volume: Path) -> Iterator[None]:
    """Hold the lock of a storage, kept on its first volume, against all threads and processes.

    A thread that holds it may take it again. It ends with its process, however that ends.
    """
    held: dict[Path, int] = _HELD.__dict__.setdefault("depth", {})
    if held.get(volume, 0):
        held[volume] += 1
        try:
            yield
        finally:
            held[volume] -= 1
        return
    with _told(f"lock the storage at {volume}"):
        directory = volume / PARTIAL_DIRECTORY
        directory.mkdir(exist_ok=True)
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except BaseException:
            os.close(descriptor)
            raise
    held[volume] = 1
    try:
        yield
    finally:
        held[volume] = 0
        os.close(descriptor)


@contextmanager
def _told(wanted: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise mapped(wanted, error) from error
