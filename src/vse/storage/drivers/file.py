"""The ``file`` protocol: a storage mounted on this machine (seed 003: the File plugin)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from vse.config.settings import ProtocolSettings
from vse.errors import (
    AlreadyExists,
    BadRequest,
    BadSettings,
    Denied,
    SourceUnavailable,
    Unsupported,
    VseError,
)
from vse.model import Adler32, BulkResult, Checksum, Space
from vse.storage.contract import Capabilities, StoredFile
from vse.storage.drivers import linux
from vse.storage.drivers.file_kept import KeptUpload, drop_kept, kept_names
from vse.storage.drivers.file_reader import FileReader
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY, FileUpload, make_parents, sweep
from vse.storage.drivers.in_bulk import each
from vse.storage.drivers.os_errors import mapped
from vse.storage.drivers.undeclared import Undeclared


class FileDriver(Undeclared):
    """`vse.storage.contract.Driver` over the directory ``Path`` of a section.

    The directory must exist: it is often a mount point, and a file written beneath one that is not
    mounted would be lost from sight. A symbolic link that leads out of it is refused (`Denied`).
    """

    capabilities = Capabilities(
        write=True,
        remove=True,
        list=True,
        rename=True,
        space=True,
        checksums=frozenset({"adler32"}),
        local_paths=True,
        make_directory=True,
        link=True,
    )

    def __init__(self, settings: ProtocolSettings) -> None:
        self.protocol = settings.protocol or "file"
        self._base = Path(settings.path)
        if not self._base.is_absolute():
            raise BadSettings(
                f"use the protocol section {settings.section!r}",
                f"its Path {settings.path!r} does not start with '/'",
                "give the whole path of the storage's directory",
            )

    def url(self, path: str) -> str:
        return f"{self.protocol}://{quote(path)}"

    def path_of(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != self.protocol or parts.netloc not in ("", "localhost") or parts.query:
            raise BadRequest(f"find the path in {url!r}", f"it is no {self.protocol}:///PATH")
        return unquote(parts.path)

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        return each(paths, self._stat_one)

    def _stat_one(self, path: str) -> StoredFile:
        wanted = f"look at {path}"
        with self._mapped(wanted):
            return _described(path, self._resolved(path, wanted).stat())

    def open(self, path: str) -> FileReader:
        wanted = f"read {path}"
        with self._mapped(wanted):
            return FileReader(self._resolved(path, wanted))

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> FileUpload:
        wanted = f"write {path}"
        with self._mapped(wanted):
            target = self._resolved_name(path, wanted)
            if size_bytes < 0:
                raise BadRequest(wanted, f"a file cannot have {size_bytes} bytes")
            if target.is_symlink() or target.exists():
                raise AlreadyExists(wanted, "the name is taken", "files are write-once: remove it first")
            self._check_parents(target, wanted)
        return FileUpload(self._real_base(wanted), path, target, size_bytes, checksum)

    def resume(self, path: str, size_bytes: int, checksum: Checksum | None, name: str) -> KeptUpload | None:
        """Begin or go on with the upload called ``name``; None while somebody else writes to it."""
        wanted = f"write {path}"
        with self._mapped(wanted):
            target = self._resolved_name(path, wanted)
            if target.is_symlink() or target.exists():
                raise AlreadyExists(wanted, "the name is taken", "files are write-once: remove it first")
            self._check_parents(target, wanted)
            try:
                return KeptUpload(self._real_base(wanted), path, target, size_bytes, checksum, name)
            except BlockingIOError:
                return None

    def kept(self) -> list[str]:
        """Return the names of uploads that were left half-done, or are being written."""
        wanted = f"look for partial files of {self._base}"
        with self._mapped(wanted):
            return kept_names(self._real_base(wanted))

    def drop(self, names: Sequence[str]) -> int:
        """Remove half-done uploads, unless somebody writes to them; return how many."""
        wanted = f"clear partial files of {self._base}"
        with self._mapped(wanted):
            base = self._real_base(wanted)
            return sum(drop_kept(base, name) for name in names)

    def list(self, path: str) -> Iterator[StoredFile]:
        wanted = f"list {path}"
        with self._mapped(wanted):
            directory = self._resolved(path, wanted)
            if not stat.S_ISDIR(directory.stat().st_mode):
                raise BadRequest(wanted, "it is a file")
            prefix = path.rstrip("/")
            with os.scandir(directory) as children:
                for child in children:
                    found = self._child(directory, f"{prefix}/{child.name}", child)
                    if found is not None:
                        yield found

    def _child(self, directory: Path, path: str, child: os.DirEntry[str]) -> StoredFile | None:
        """Describe a child; None for what is not of the element: partial files, links that lead nowhere."""
        if child.name == PARTIAL_DIRECTORY and directory == self._real_base(path):
            return None
        try:
            if child.is_symlink():
                return self._stat_one(path)
            return _described(path, child.stat(follow_symlinks=False))
        except (OSError, VseError):
            return None

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        return each(paths, self._remove_one)

    def _remove_one(self, path: str) -> None:
        wanted = f"remove {path}"
        with self._mapped(wanted):
            target = self._resolved_name(path, wanted)
            if target == self._real_base(wanted):
                raise BadRequest(wanted, "it is the storage itself")
            if stat.S_ISDIR(target.lstat().st_mode):
                target.rmdir()
            else:
                target.unlink()

    def rename(self, source: str, target: str) -> None:
        wanted = f"rename {source} to {target}"
        with self._mapped(wanted):
            old = self._resolved_name(source, wanted)
            new = self._resolved_name(target, wanted)
            old.lstat()
            self._check_parents(new, wanted)
            make_parents(self._real_base(wanted), new)
            linux.rename_new(old, new)
            linux.sync_directory(new.parent)
            linux.sync_directory(old.parent)

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        if algorithm not in self.capabilities.checksums:
            raise Unsupported(f"compute {algorithm}", "files on this machine have adler32 only")
        return each(paths, self._adler32)

    def _adler32(self, path: str) -> Checksum:
        total = Adler32()
        with self.open(path) as reader:
            for piece in reader.stream():
                total.update(piece)
        return total.checksum

    def space(self, path: str) -> Space:
        wanted = f"measure the space of {path}"
        with self._mapped(wanted):
            status = os.statvfs(self._resolved(path, wanted))
        return Space(status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)

    def local_path(self, path: str) -> Path:
        return Path(path)

    def make_directory(self, path: str) -> None:
        wanted = f"make the directory {path}"
        with self._mapped(wanted):
            where = self._resolved(path, wanted)
            if where.exists() and not where.is_dir():
                raise AlreadyExists(wanted, "a file is there", "choose another name")
            self._check_parents(where, wanted)
            make_parents(self._real_base(wanted), where / "any")

    def link(self, existing: str, path: str) -> None:
        """As the contract says, by a hard link: both names are the file's own, on one file system."""
        wanted = f"link {path} to {existing}"
        with self._mapped(wanted):
            file = self._resolved(existing, wanted)
            name = self._resolved_name(path, wanted)
            if stat.S_ISDIR(file.stat().st_mode):
                raise BadRequest(wanted, f"{existing} is a directory", "link files only")
            self._check_parents(name, wanted)
            make_parents(self._real_base(wanted), name)
            os.link(file, name, follow_symlinks=False)
            linux.sync_directory(name.parent)

    def sweep_partials(self, older_than_s: float, now_s: float) -> int:
        """Remove partial files whose writers are gone; return how many.

        ``older_than_s``: how long nothing was written, on a file system that cannot tell a dead writer.
        """
        wanted = f"clear partial files of {self._base}"
        with self._mapped(wanted):
            return sweep(self._real_base(wanted), older_than_s, now_s)

    def close(self) -> None:
        """There is nothing to drop."""

    def _real_base(self, wanted: str) -> Path:
        """Return the storage's directory without links; raise where it is not there."""
        try:
            return self._base.resolve(strict=True)
        except OSError as error:
            raise SourceUnavailable(
                wanted,
                f"the storage's directory {self._base} cannot be reached ({error.strerror})",
                f"mount it, or make it: mkdir -p {self._base}",
            ) from error

    def _resolved(self, path: str, wanted: str) -> Path:
        """Return ``path`` with every link followed; raise `Denied` where that leaves the storage."""
        return self._inside(_followed(Path(path)), wanted)

    def _resolved_name(self, path: str, wanted: str) -> Path:
        """As `_resolved`, but a link that is the last part stays one."""
        plain = Path(path)
        return self._inside(_followed(plain.parent) / plain.name, wanted)

    def _inside(self, where: Path, wanted: str) -> Path:
        base = self._real_base(wanted)
        if not where.is_relative_to(base):
            raise Denied(wanted, f"it leads to {where}, outside of the storage {self._base}")
        if where.is_relative_to(base / PARTIAL_DIRECTORY):
            raise BadRequest(wanted, f"the name {PARTIAL_DIRECTORY} is kept for unfinished files")
        return where

    def _check_parents(self, target: Path, wanted: str) -> None:
        above = next(parent for parent in target.parents if parent.exists())
        if not above.is_dir():
            raise BadRequest(wanted, f"{above} is a file, not a directory")

    @contextmanager
    def _mapped(self, wanted: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise mapped(wanted, error) from error


def _followed(path: Path) -> Path:
    """Return ``path`` with every link followed, whether it is there or not."""
    try:
        return path.resolve()
    except RuntimeError as error:  # how pathlib tells of a loop of links, before Python 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error


def _described(path: str, status: os.stat_result) -> StoredFile:
    size_bytes = None if stat.S_ISDIR(status.st_mode) else status.st_size
    return StoredFile(path, size_bytes, status.st_mtime)
