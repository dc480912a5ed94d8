"""Whatever gfal2 speaks (srm, gsiftp, davs, root, file), by Debian's gfal2 and its plugins.

Every protocol can be read. Only those are written to where a rename never replaces a file: an upload is kept
on this machine, copied to a partial name, its size and checksum compared with what the server says, and
renamed. Names that a protocol cannot carry unescaped are refused.
"""

from __future__ import annotations

import base64
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from vse.config.settings import ProtocolSettings
from vse.errors import (
    AlreadyExists,
    BadRequest,
    BadSettings,
    ChecksumMismatch,
    NoSuchFile,
    NotEmpty,
    SizeMismatch,
    Unsupported,
    VseError,
)
from vse.model import BulkResult, Checksum
from vse.storage.contract import CHUNK_BYTES, Capabilities, Note, StoredFile, Upload
from vse.storage.drivers import linux
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY
from vse.storage.drivers.gfal_process import GfalCalls
from vse.storage.drivers.held_upload import HeldUpload
from vse.storage.drivers.in_bulk import each
from vse.storage.drivers.pieces import PieceReader
from vse.storage.drivers.undeclared import Undeclared

_AT_ONCE = 4
_COPY_TIMEOUT_S = 24 * 3600
_WRITABLE = ("file", "root", "xroot")
_ESCAPED = ("http", "https", "dav", "davs", "s3", "s3s")


class GfalDriver(Undeclared):
    """`vse.storage.contract.Driver` of one server that gfal2 reaches.

    ``no_progress_s``: how long gfal2 may stay silent. Credentials are those that gfal2 finds itself
    (``X509_USER_PROXY``, ``BEARER_TOKEN``).
    """

    def __init__(self, section: ProtocolSettings, no_progress_s: float = 60.0) -> None:
        wanted = f"use the protocol section {section.section!r}"
        if not section.protocol:
            raise BadSettings(wanted, "it has no Protocol", "name it, e.g. Protocol = srm")
        if section.protocol != "file" and not section.host:
            raise BadSettings(wanted, "it has no Host", "give the server's name")
        self.protocol = section.protocol
        self._netloc = f"{section.host}:{section.port}" if section.port else section.host
        self._before_path = section.ws_url if self.protocol == "srm" else ""
        self._base = section.path.rstrip("/")
        self._calls = GfalCalls(no_progress_s)
        writable = self.protocol in _WRITABLE
        self.capabilities = Capabilities(
            write=writable,
            remove=writable,
            rename=writable,
            make_directory=writable,
            list=True,
            checksums=frozenset({"adler32"}),
            pull=frozenset({self.protocol}) if writable else frozenset(),
        )

    def url(self, path: str) -> str:
        slash = "/" if self.protocol in ("root", "xroot") else ""
        return f"{self.protocol}://{self._netloc}{self._before_path}{slash}{quote(path)}"

    def path_of(self, url: str) -> str:
        begin = self.url("/")
        if not url.startswith(begin) or "#" in url or "?" in url[len(begin) :]:
            raise BadRequest(f"find the path in {url!r}", f"it is not a URL of {begin}")
        return unquote("/" + url[len(begin) :])

    def _name(self, path: str, wanted: str) -> str:
        """Return a path as gfal2 wants it: most of its plugins take it as it is."""
        if any(ord(char) < 32 or ord(char) == 127 for char in path):
            raise BadRequest(wanted, "a control character cannot be given to gfal2")
        if self.protocol in _ESCAPED:
            return self.url(path)
        if self.protocol != "file" and "?" in path:
            raise BadRequest(wanted, f"'?' cannot be part of a name in {self.protocol}")
        return self._as_taken(self.url("/").removesuffix("/") + path)

    def _as_taken(self, url: str) -> str:
        """Return an unescaped URL as the plugin takes it: XRootD's unescapes what looks escaped."""
        return url if self.protocol == "file" else url.replace("%", "%25")

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        return each(paths, self._stat_one, at_once=_AT_ONCE)

    def _stat_one(self, path: str) -> StoredFile:
        wanted = f"look at {self.url(path)}"
        is_directory, size_bytes, modified_s = self._calls.ask(wanted, "stat", url=self._name(path, wanted))
        return StoredFile(path, None if is_directory else size_bytes, modified_s)

    def open(self, path: str) -> PieceReader:
        wanted = f"read {self.url(path)}"
        found = self._stat_one(path)
        if found.size_bytes is None:
            raise BadRequest(wanted, "it is a directory")
        return _GfalReader(wanted, found.size_bytes, self._calls, self._name(path, wanted))

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> Upload:
        if not self.capabilities.write:
            self._undeclared("write")
        wanted = f"write {self.url(path)}"
        self._must_be_free(path, wanted)
        return GfalUpload(wanted, size_bytes, checksum, lambda local, sum_: self._bring(local, path, sum_))

    def _bring(self, local: Path, path: str, declared: Checksum) -> StoredFile:
        size_bytes = local.stat().st_size
        self._copied(f"file://{local}", path, size_bytes, declared, None, f"write {self.url(path)}")
        return self._stat_one(path)

    def _copied(
        self,
        source: str,
        path: str,
        size_bytes: int,
        checksum: Checksum | None,
        note: Note | None,
        wanted: str,
    ) -> None:
        """Copy to a partial name, compare, and rename; after any error nothing remains."""
        partial = f"{self._base}/{PARTIAL_DIRECTORY}/{uuid.uuid4().hex}.part"
        name = self._name(partial, wanted)
        try:
            self._calls.ask(wanted, "copy", note=note, source=source, target=name, timeout_s=_COPY_TIMEOUT_S)
            kept = self._stat_one(partial).size_bytes
            if kept != size_bytes:
                raise SizeMismatch(wanted, f"{kept} bytes came of the declared {size_bytes}")
            found = self._adler32(partial) if checksum and checksum.algorithm == "adler32" else checksum
            if found != checksum:
                raise ChecksumMismatch(wanted, f"the server has {found}, declared was {checksum}")
            self._publish(partial, path, wanted)
        except BaseException:
            with suppress(VseError):
                self._calls.ask(wanted, "unlink", url=name)
            raise

    def _publish(self, source: str, target: str, wanted: str) -> None:
        """Rename, never over an existing file: on this machine by the kernel, else by the server's rule."""
        self._make(target.rpartition("/")[0] or "/", wanted)
        if self.protocol == "file":
            try:
                linux.rename_new(Path(source), Path(target))
            except FileExistsError as error:
                raise AlreadyExists(wanted, "the name is taken") from error
            return
        old, new = self._name(source, wanted), self._name(target, wanted)
        try:
            self._calls.ask(wanted, "rename", source=old, target=new)
        except VseError as error:
            if not isinstance(error, AlreadyExists) and self._is_there(target):
                raise AlreadyExists(wanted, "the name is taken") from error
            raise

    def _make(self, directory: str, wanted: str) -> None:
        with suppress(AlreadyExists):
            self._calls.ask(wanted, "mkdir", url=self._name(directory, wanted))

    def _is_there(self, path: str) -> bool:
        try:
            self._stat_one(path)
        except NoSuchFile:
            return False
        return True

    def _must_be_free(self, path: str, wanted: str) -> None:
        self._name(path, wanted)
        if self._is_there(path):
            raise AlreadyExists(wanted, "the name is taken", "files are write-once: remove it first")
        above = path.rpartition("/")[0]
        while above:
            with suppress(NoSuchFile):
                if self._stat_one(above).is_directory:
                    return
                raise BadRequest(wanted, f"{above} is a file, not a directory")
            above = above.rpartition("/")[0]

    def list(self, path: str) -> Iterator[StoredFile]:
        wanted = f"list {self.url(path)}"
        if not self._stat_one(path).is_directory:
            raise BadRequest(wanted, "it is a file")
        prefix = path.rstrip("/")
        for name, is_directory, size_bytes, modified_s in self._calls.ask(
            wanted, "children", url=self._name(path, wanted)
        ):
            child = f"{prefix}/{unquote(name) if self.protocol in _ESCAPED else name}"
            if name == PARTIAL_DIRECTORY:
                continue
            if is_directory is None:
                yield self._stat_one(child)
            else:
                yield StoredFile(child, None if is_directory else size_bytes, modified_s)

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        if not self.capabilities.remove:
            self._undeclared("remove")
        return each(paths, self._remove_one, at_once=_AT_ONCE)

    def _remove_one(self, path: str) -> None:
        wanted = f"remove {self.url(path)}"
        name = self._name(path, wanted)
        is_directory = self._stat_one(path).is_directory
        if is_directory and next(self.list(path), None) is not None:
            raise NotEmpty(wanted, "the directory still holds something")
        self._calls.ask(wanted, "rmdir" if is_directory else "unlink", url=name)

    def rename(self, source: str, target: str) -> None:
        if not self.capabilities.rename:
            self._undeclared("rename")
        wanted = f"rename {self.url(source)} to {target}"
        self._stat_one(source)
        self._must_be_free(target, wanted)
        self._publish(source, target, wanted)

    def make_directory(self, path: str) -> None:
        if not self.capabilities.make_directory:
            self._undeclared("make a directory")
        wanted = f"make the directory {self.url(path)}"
        try:
            if self._stat_one(path).is_directory:
                return
        except NoSuchFile:
            pass
        try:
            self._must_be_free(path, wanted)
        except AlreadyExists:
            if self._stat_one(path).is_directory:  # somebody else has made it meanwhile
                return
            raise
        self._make(path, wanted)

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        if algorithm not in self.capabilities.checksums:
            raise Unsupported(f"ask for {algorithm}", "the gfal driver asks for adler32 only")
        return each(paths, self._adler32, at_once=_AT_ONCE)

    def _adler32(self, path: str) -> Checksum:
        wanted = f"ask for the checksum of {self.url(path)}"
        value = self._calls.ask(wanted, "checksum", url=self._name(path, wanted), algorithm="adler32")
        return Checksum.parse(f"adler32:{value}")

    def pull(
        self, source_url: str, path: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        if not self.capabilities.pull:
            self._undeclared("pull a third-party copy")
        wanted = f"copy {source_url} to {self.url(path)}"
        if urlsplit(source_url).scheme not in self.capabilities.pull:
            raise Unsupported(wanted, f"the source must be one of {', '.join(self.capabilities.pull)}")
        self._must_be_free(path, wanted)
        source = source_url if self.protocol in _ESCAPED else self._as_taken(unquote(source_url))
        self._copied(source, path, size_bytes, checksum, note, wanted)

    def close(self) -> None:
        self._calls.close()


class _GfalReader(PieceReader):
    """`vse.storage.contract.Reader` by calls to gfal2."""

    def __init__(self, wanted: str, size_bytes: int, calls: GfalCalls, name: str) -> None:
        super().__init__(wanted, size_bytes, self._range)
        self._calls = calls
        self._name = name

    def _range(self, start: int, end: int) -> bytes:
        pieces = []
        for offset in range(start, end, 8 * CHUNK_BYTES):
            one = (offset, min(8 * CHUNK_BYTES, end - offset))
            pieces.extend(self._read([one]))
        return b"".join(pieces)

    def _read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        found = self._calls.ask(self._wanted, "read", url=self._name, ranges=ranges)
        return [base64.b64decode(piece) for piece in found]

    def pread_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """All in one call, unless they are more than it should hold."""
        asked = [self._clipped(offset, size_bytes) for offset, size_bytes in ranges]
        if sum(end - start for start, end in asked) > 64 * CHUNK_BYTES:
            return super().pread_many(ranges)
        pieces = self._read([(start, end - start) for start, end in asked]) if asked else []
        return [self._checked(piece, end - start) for piece, (start, end) in zip(pieces, asked, strict=True)]


class GfalUpload(HeldUpload):
    """`vse.storage.contract.Upload`: spooled here, brought by gfal2 at `commit`."""

    def __init__(
        self,
        wanted: str,
        size_bytes: int,
        checksum: Checksum | None,
        bring: Callable[[Path, Checksum], StoredFile],
    ) -> None:
        super().__init__(wanted, size_bytes, checksum)
        self._bring = bring
        self._spool = tempfile.NamedTemporaryFile(prefix="vse-gfal-")  # noqa: SIM115  closed by _forget

    def _send(self, data: memoryview) -> None:
        self._spool.write(data)

    def partial_path(self) -> Path | None:
        self._spool.flush()
        return Path(self._spool.name)

    def _publish(self) -> StoredFile:
        self._spool.flush()
        return self._bring(Path(self._spool.name), self._declared.seen.checksum)

    def _forget(self) -> None:
        self._spool.close()
