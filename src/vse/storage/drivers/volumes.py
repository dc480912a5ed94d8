"""The ``volumes`` protocol: several mounted file systems as one storage (seed 004 §II.2.2).

A file is whole on one volume, the one that had most room when it was written; a directory may be on
several. To the outside there is one name space, below the section's Path, in which files are write-once.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from vse.config.settings import ProtocolSettings, VolumeSettings
from vse.errors import AlreadyExists, BadRequest, BadSettings, NoSuchFile, NotEmpty, Unsupported, VseError
from vse.model import BulkResult, Checksum, Space
from vse.storage.contract import StoredFile
from vse.storage.drivers.aborting import Aborting
from vse.storage.drivers.file import FileDriver
from vse.storage.drivers.file_reader import FileReader
from vse.storage.drivers.file_upload import FileUpload
from vse.storage.drivers.in_bulk import each
from vse.storage.drivers.undeclared import Undeclared
from vse.storage.volumes import (
    Counted,
    Ledger,
    Room,
    choose,
    expired,
    files_on,
    free_together,
    room_on,
    storage_lock,
)


class Volume(NamedTuple):
    """One mounted file system, with what reads and writes it and what it may hold."""

    settings: VolumeSettings
    driver: FileDriver
    ledger: Ledger

    @property
    def path(self) -> Path:
        return self.settings.path


class Resynchronised(NamedTuple):
    """A volume's bytes as the account had them, and what was found on it."""

    volume: Path
    before_bytes: int
    found: Counted


class VolumesDriver(Undeclared):
    """`vse.storage.contract.Driver` over the Volumes of a section.

    Every process that shares the volumes must have them in the same order: the lock that keeps a name on
    one volume, and the storage within its size, is on the first. While a volume cannot be reached, files
    on the others are read, and nothing is written: the new name might be on it.
    """

    protocol = "volumes"
    capabilities = FileDriver.capabilities

    def __init__(self, settings: ProtocolSettings, no_progress_s: float = 60.0) -> None:
        _check(settings)
        self._base = settings.path.rstrip("/")
        self.volumes = tuple(
            Volume(one, FileDriver(_section_of(one)), Ledger(one.path)) for one in settings.volumes
        )
        self._first = self.volumes[0].path

    # -- names -----------------------------------------------------------------------------------

    def url(self, path: str) -> str:
        return f"{self.protocol}://{quote(path)}"

    def path_of(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != self.protocol or parts.netloc or parts.query:
            raise BadRequest(f"find the path in {url!r}", f"it is no {self.protocol}:///PATH")
        return unquote(parts.path)

    def _at(self, volume: Volume, path: str) -> str:
        """Return where ``path`` is, or would be, on a volume."""
        if ".." in path.split("/") or (path != self._base and not path.startswith(f"{self._base}/")):
            raise BadRequest(f"find {path}", f"it lies outside of Path {self._base or '/'}")
        return f"{volume.path}{path[len(self._base) :]}".rstrip("/")

    def _look(self, path: str, *, strict: bool = False) -> dict[Volume, StoredFile]:
        """Return what each volume has at ``path``.

        Raises where a volume cannot tell and no other has it; with ``strict`` wherever one cannot tell.
        """
        found: dict[Volume, StoredFile] = {}
        unknown: VseError | None = None
        for volume in self.volumes:
            at = self._at(volume, path)
            answer = volume.driver.stat([at])
            if at in answer.ok:
                found[volume] = answer.ok[at]._replace(path=path)
            elif not isinstance(answer.failed[at], NoSuchFile):
                unknown = unknown or answer.failed[at]
        if unknown is not None and (strict or not found):
            raise unknown
        return found

    def _holder(self, path: str, wanted: str) -> tuple[Volume, StoredFile]:
        """Return the volume that has ``path``, of several that which has it as a file; or `NoSuchFile`."""
        found = self._look(path)
        if not found:
            raise NoSuchFile(wanted, "no volume has it")
        return min(found.items(), key=lambda one: one[1].is_directory)

    def _refuse_taken(self, path: str, wanted: str) -> None:
        if self._look(path, strict=True):
            raise AlreadyExists(wanted, "the name is taken", "files are write-once: remove it first")
        parent = path.rpartition("/")[0]
        while len(parent) > len(self._base):
            above = self._look(parent, strict=True)
            if any(not one.is_directory for one in above.values()):
                raise BadRequest(wanted, f"{parent} is a file, not a directory")
            if above:
                return
            parent = parent.rpartition("/")[0]

    # -- reading ---------------------------------------------------------------------------------

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        return each(paths, lambda path: self._holder(path, f"look at {path}")[1])

    def open(self, path: str) -> FileReader:
        volume, _ = self._holder(path, f"read {path}")
        return volume.driver.open(self._at(volume, path))

    def list(self, path: str) -> Iterator[StoredFile]:
        wanted = f"list {path}"
        if not self._holder(path, wanted)[1].is_directory:
            raise BadRequest(wanted, "it is a file")
        told: set[str] = set()
        for volume, stored in self._look(path, strict=True).items():
            if not stored.is_directory:
                continue
            for child in volume.driver.list(self._at(volume, path)):
                name = f"{path.rstrip('/')}/{child.path.rpartition('/')[2]}"
                if name not in told:
                    told.add(name)
                    yield child._replace(path=name)

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        if algorithm not in self.capabilities.checksums:
            raise Unsupported(f"compute {algorithm}", "files on this machine have adler32 only")

        def one(path: str) -> Checksum:
            volume, _ = self._holder(path, f"compute {algorithm} of {path}")
            at = self._at(volume, path)
            return volume.driver.checksum([at], algorithm).one(at)

        return each(paths, one)

    def local_path(self, path: str) -> Path:
        """Return where the file is; where no volume has it, where the first one would."""
        with suppress(VseError):
            volume, _ = self._holder(path, f"find {path}")
            return Path(self._at(volume, path))
        return Path(self._at(self.volumes[0], path))

    def space(self, path: str) -> Space:
        """Return the declared size of all volumes, and what can still be stored on them."""
        with storage_lock(self._first):
            rooms = self._rooms()
        return Space(sum(volume.settings.size_bytes for volume in self.volumes), free_together(rooms))

    def _rooms(self) -> tuple[Room, ...]:
        return tuple(room_on(volume.ledger, volume.settings.size_bytes) for volume in self.volumes)

    # -- writing ---------------------------------------------------------------------------------

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> VolumesUpload:
        """As the contract says; the room for the file is reserved, over all processes, until it ends."""
        wanted = f"write {path}"
        if size_bytes < 0:
            raise BadRequest(wanted, f"a file cannot have {size_bytes} bytes")
        with storage_lock(self._first):
            self._refuse_taken(path, wanted)
            volume = self.volumes[choose(self._rooms(), size_bytes, wanted)]
            upload = volume.driver.put(self._at(volume, path), size_bytes, checksum)
            try:
                return VolumesUpload(self, volume, path, upload, size_bytes)
            except BaseException:
                upload.abort()
                raise

    def publish(
        self, upload: FileUpload, path: str, size_bytes: int, volume: Volume, partial: str
    ) -> StoredFile:
        """Give an upload its name, if no volume has it by now, and enter it into the account."""
        with storage_lock(self._first):
            self._refuse_taken(path, f"write {path}")
            stored = upload.commit()
            volume.ledger.settle(partial, size_bytes)
        return stored._replace(path=path)

    def give_up(self, volume: Volume, partial: str) -> None:
        """Give back what was reserved. Where the volume is gone, the account is mended when it is back."""
        with suppress(VseError), storage_lock(self._first):
            volume.ledger.settle(partial, 0)

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        return each(paths, self._remove_one)

    def _remove_one(self, path: str) -> None:
        wanted = f"remove {path}"
        with storage_lock(self._first):
            found = self._look(path, strict=True)
            if not found:
                raise NoSuchFile(wanted, "no volume has it")
            for volume, stored in found.items():
                if stored.is_directory and next(volume.driver.list(self._at(volume, path)), None):
                    raise NotEmpty(wanted, f"it holds files on {volume.path}", "remove what it holds first")
            for volume in found:
                self._remove_on(volume, self._at(volume, path))

    def _remove_on(self, volume: Volume, at: str) -> int:
        """Remove a file or directory of a volume; return the bytes that became free."""
        status = Path(at).lstat()
        volume.driver.remove([at]).one(at)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            return 0
        volume.ledger.release(status.st_size)
        return status.st_size

    def rename(self, source: str, target: str) -> None:
        """As the contract says. Raises `BadRequest` for a directory that is on several volumes: its parts
        could not be moved in one step."""
        wanted = f"rename {source} to {target}"
        with storage_lock(self._first):
            found = self._look(source, strict=True)
            if not found:
                raise NoSuchFile(wanted, f"no volume has {source}")
            self._refuse_taken(target, wanted)
            if len(found) > 1:
                raise BadRequest(
                    wanted, f"the directory is on {len(found)} volumes", "move the files it holds one by one"
                )
            for volume in found:
                volume.driver.rename(self._at(volume, source), self._at(volume, target))

    def make_directory(self, path: str) -> None:
        wanted = f"make the directory {path}"
        with storage_lock(self._first):
            found = self._look(path, strict=True)
            if any(not one.is_directory for one in found.values()):
                raise AlreadyExists(wanted, "a file is there", "choose another name")
            if not found:
                self._refuse_taken(path, wanted)
                self.volumes[0].driver.make_directory(self._at(self.volumes[0], path))

    def link(self, existing: str, path: str) -> None:
        """As the contract says; both names are on the volume of the file and need its bytes once."""
        wanted = f"link {path} to {existing}"
        with storage_lock(self._first):
            volume, stored = self._holder(existing, wanted)
            if stored.is_directory:
                raise BadRequest(wanted, f"{existing} is a directory", "link files only")
            self._refuse_taken(path, wanted)
            volume.driver.link(self._at(volume, existing), self._at(volume, path))

    # -- housekeeping ----------------------------------------------------------------------------

    def expire(self, now_s: float) -> BulkResult[int]:
        """Erase the files that have outlived their volume's lifetime; ``ok`` maps each path to its bytes.

        Age counts from when a file came to the volume. The catalogue is not told: that is the caller's.
        """
        result: BulkResult[int] = BulkResult()
        for volume in self.volumes:
            lifetime_s = volume.settings.lifetime_s
            if not lifetime_s:
                continue
            for at, status in files_on(volume.path):
                if not expired(max(status.st_mtime, status.st_ctime), now_s, lifetime_s):
                    continue
                path = f"{self._base}{at.removeprefix(str(volume.path))}"
                try:
                    with storage_lock(self._first):
                        result.ok[path] = self._remove_on(volume, at)
                except VseError as error:
                    result.failed[path] = error
                except FileNotFoundError:
                    continue  # removed meanwhile
        return result

    def resynchronise(self) -> tuple[Resynchronised, ...]:
        """Make the account of each volume from what is really on it (files may come and go by hand)."""
        return tuple(map(self._resynchronise, self.volumes))

    def _resynchronise(self, volume: Volume) -> Resynchronised:
        with storage_lock(self._first):
            before = volume.ledger.known()
            _, found = volume.ledger.recount()
        return Resynchronised(volume.path, before.used_bytes, found)

    def sweep_partials(self, older_than_s: float, now_s: float) -> int:
        """Remove partial files whose writers are gone; see `FileDriver.sweep_partials`."""
        return sum(volume.driver.sweep_partials(older_than_s, now_s) for volume in self.volumes)

    def close(self) -> None:
        """There is nothing to drop."""


class VolumesUpload(Aborting):
    """`vse.storage.contract.Upload` to the volume that was chosen, with its reservation."""

    def __init__(
        self, storage: VolumesDriver, volume: Volume, path: str, upload: FileUpload, size_bytes: int
    ) -> None:
        partial = upload.partial_path()
        assert partial is not None  # noqa: S101  # a file upload has one until it ends
        self._storage = storage
        self._volume = volume
        self._path = path
        self._upload = upload
        self._size_bytes = size_bytes
        self._partial = partial.name
        self._settled = False
        volume.ledger.reserve(self._partial, size_bytes)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._upload.write(data)
        except BaseException:
            self.abort()
            raise

    def partial_path(self) -> Path | None:
        return self._upload.partial_path()

    def commit(self) -> StoredFile:
        try:
            self._upload.prepare()
            stored = self._storage.publish(
                self._upload, self._path, self._size_bytes, self._volume, self._partial
            )
        except BaseException:
            self.abort()
            raise
        self._settled = True
        return stored

    def abort(self) -> None:
        self._upload.abort()
        if not self._settled:
            self._settled = True
            self._storage.give_up(self._volume, self._partial)


def _section_of(volume: VolumeSettings) -> ProtocolSettings:
    return ProtocolSettings.model_validate({"Section": "File", "Protocol": "file", "Path": str(volume.path)})


def _check(settings: ProtocolSettings) -> None:
    wanted = f"use the protocol section {settings.section!r}"
    if not settings.volumes:
        raise BadSettings(wanted, "it has no Volumes", "give Path and Size_bytes of each")
    paths = [volume.path for volume in settings.volumes]
    for number, path in enumerate(paths):
        for other in paths[number + 1 :]:
            if path.is_relative_to(other) or other.is_relative_to(path):
                raise BadSettings(wanted, f"the volumes {path} and {other} overlap", "keep them apart")
