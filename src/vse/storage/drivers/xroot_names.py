"""The names inside one XRootD server: what of them can be asked for, made, published and removed."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from vse.errors import (
    AlreadyExists,
    BadRequest,
    ChecksumMismatch,
    NoSuchFile,
    ServerFault,
    SizeMismatch,
    SourceUnavailable,
    Unsupported,
    VseError,
)
from vse.model import Checksum
from vse.storage.contract import StoredFile
from vse.storage.drivers.xroot_client import FileLocked, checked, error_of, library, whole_s

_FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
_LOCK_WAIT_S = 5.0
_LOCK_POLL_S = 0.05
_LOCK_STALE_S = 30.0
_CHECKSUM_WAIT_S = 3600.0


class XrootNames:
    """One server's name space; ``partials`` is what the paths of files on their way in begin with.

    A name with ``?`` or a control character raises `BadRequest` before anything is sent: the protocol
    takes what follows a ``?`` for arguments (and would work on another file), and ends names with a
    line feed in listings.
    """

    def __init__(self, server_url: str, partials: str, no_progress_s: float) -> None:
        self.server_url = server_url
        self.no_progress_s = no_progress_s
        self.timeout_s = whole_s(no_progress_s)
        self._partials = partials
        self._files: Any = None
        self.flags = library().flags

    @property
    def files(self) -> Any:
        """The ``XRootD.client.FileSystem``."""
        if self._files is None:
            self._files = library().FileSystem(self.server_url)
        return self._files

    def ask(self, wanted: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """Return the response to a call of `files`; raise what its status tells."""
        return checked(call(*arguments, timeout=self.timeout_s), wanted)

    def forget(self) -> None:
        self._files = None

    def raw_url(self, path: str) -> str:
        """Return the URL that the library takes: nothing in it is escaped."""
        return f"{self.server_url}/{path}"

    def check(self, path: str) -> str:
        """Return ``path``, or raise `BadRequest` where the protocol cannot carry it."""
        if "?" in path or any(ord(char) < 32 or ord(char) == 127 for char in path):
            raise BadRequest(
                f"use the name {path!r} at {self.server_url}",
                "the root protocol carries neither '?' nor control characters in a name",
                "give the file another name",
            )
        return path

    def stat(self, path: str, wanted: str = "") -> StoredFile:
        wanted = wanted or f"look at {self.raw_url(path)}"
        found = self.described(path, wanted)
        is_directory = bool(found.flags & self.flags.StatInfoFlags.IS_DIR)
        return StoredFile(path, None if is_directory else found.size, float(found.modtime))

    def described(self, path: str, wanted: str) -> Any:
        """Return the library's ``StatInfo`` of a path."""
        return self.ask(wanted, self.files.stat, self.check(path))

    def exists(self, path: str, wanted: str) -> bool:
        try:
            self.stat(path, wanted)
        except NoSuchFile:
            return False
        return True

    def make_directory(self, path: str, wanted: str) -> None:
        """Make a directory and those above; `AlreadyExists` where one of them is a file."""
        make = self.flags.MkDirFlags.MAKEPATH
        status, _ = self.files.mkdir(self.check(path), make, _DIRECTORY_MODE, timeout=self.timeout_s)
        if status.ok:
            return
        error = error_of(status, wanted)
        with suppress(NoSuchFile):
            if isinstance(error, AlreadyExists) and self.stat(path, wanted).is_directory:
                return
        if isinstance(error, NoSuchFile):  # 'not a directory'
            raise AlreadyExists(wanted, error.found, "a directory above is a file") from None
        raise error

    def remove(self, path: str) -> None:
        wanted = f"remove {self.raw_url(path)}"
        # rm takes an empty directory, too, and rmdir what is not there: look what it is.
        if self.stat(path, wanted).is_directory:
            self.ask(wanted, self.files.rmdir, path)
        else:
            self.ask(wanted, self.files.rm, path)

    def checksum(self, path: str, algorithm: str) -> Checksum:
        """Return what the server computes, which may take long: it reads the file."""
        wanted = f"ask for the checksum of {self.raw_url(path)}"
        arguments = f"{self.check(path)}?cks.type={algorithm}"
        code = self.flags.QueryCode.CHECKSUM
        timeout_s = whole_s(max(self.no_progress_s, _CHECKSUM_WAIT_S))
        answer = checked(self.files.query(code, arguments, timeout=timeout_s), wanted)
        text = answer.rstrip(b"\0 \n").decode("ascii", "replace")
        found, _, value = text.partition(" ")
        if found != algorithm:  # a server that knows one algorithm only answers with that
            raise Unsupported(wanted, f"the server computes {found}, not {algorithm}")
        try:
            return Checksum.parse(f"{found}:{value}")
        except BadRequest as error:
            raise ServerFault(wanted, f"the server says {text!r}") from error

    def new_partial(self) -> str:
        """Return a name for a file on its way in; listings do not show it."""
        return f"{self._partials}{uuid.uuid4().hex}.upload"

    def discard(self, partial: str) -> None:
        """Remove a partial file, as far as that goes."""
        self.files.rm(partial, timeout=self.timeout_s)

    def verify(self, partial: str, size_bytes: int, checksums: list[Checksum], wanted: str) -> StoredFile:
        """Hold what the server has against what it should have; its checksum where it offers one."""
        stored = self.stat(partial, wanted)
        if stored.size_bytes != size_bytes:
            raise SizeMismatch(wanted, f"the server has {stored.size_bytes} of {size_bytes} bytes")
        for expected in checksums:
            try:
                found = self.checksum(partial, expected.algorithm)
            except Unsupported:
                continue  # it offers none of this kind
            if found != expected:
                raise ChecksumMismatch(wanted, f"the server's bytes have {found}, declared was {expected}")
            break
        return stored

    def publish(self, source: str, target: str, wanted: str) -> None:
        """Rename to a name that is free; `AlreadyExists` where it is not.

        The server's own rename replaces what is there (XRootD 5.5). So a file that only one can make
        is held while we look and rename: no two of VSE, wherever they run, can take one name. Somebody
        else's program that makes the name between our look and the rename, well under a millisecond,
        would be replaced: the protocol has no rename that refuses.
        """
        with self._locked(target, wanted):
            if self.exists(target, wanted):
                raise AlreadyExists(wanted, "the name is taken", "files are write-once: remove it first")
            self.make_directory(target.rpartition("/")[0] or "/", wanted)
            self.ask(wanted, self.files.mv, source, self.check(target))

    @contextmanager
    def _locked(self, target: str, wanted: str) -> Iterator[None]:
        name = hashlib.sha256(target.encode()).hexdigest()
        lock = f"{self._partials}{name}.lock"
        until_s = time.monotonic() + _LOCK_WAIT_S
        while not self._created(lock, wanted):
            if time.monotonic() > until_s:
                if not self._break_stale(lock, wanted):
                    raise SourceUnavailable(wanted, "another upload is about to take the same name")
                until_s = time.monotonic() + _LOCK_WAIT_S
            time.sleep(_LOCK_POLL_S)
        try:
            yield
        finally:
            self.discard(lock)

    def _created(self, path: str, wanted: str) -> bool:
        """Make an empty file; False where there is one. Of many that try, one succeeds."""
        try:
            self.create(path, wanted, held=False).close(timeout=self.timeout_s)
        except (AlreadyExists, FileLocked):
            return False
        return True

    def create(self, path: str, wanted: str, *, held: bool) -> Any:
        """Return a new file open for writing; ``held``: the server drops it if we are gone for long."""
        open_flags = self.flags.OpenFlags
        flags = open_flags.NEW | open_flags.WRITE | open_flags.MAKEPATH | (open_flags.POSC if held else 0)
        file = library().File()
        checked(file.open(self.raw_url(self.check(path)), flags, _FILE_MODE, self.timeout_s), wanted)
        return file

    def _break_stale(self, lock: str, wanted: str) -> bool:
        """Remove the lock of one that died in the middle; its age is told by the server's clock alone."""
        probe = self.new_partial()
        try:
            self._created(probe, wanted)
            now_s, made_s = self.stat(probe, wanted).modified_s, self.stat(lock, wanted).modified_s
            stale = (now_s or 0) - (made_s or 0) > _LOCK_STALE_S
            # Of two that find it stale, one renames it: the other must not take away a new one.
            return stale and bool(self.files.mv(lock, probe, timeout=self.timeout_s)[0].ok)
        except NoSuchFile:
            return True
        finally:
            with suppress(VseError):
                self.discard(probe)
