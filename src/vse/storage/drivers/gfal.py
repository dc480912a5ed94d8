"""Whatever gfal2 speaks (srm, gsiftp, davs, root, file), by Debian's gfal2 and its plugins.

Every protocol can be read; what more is told by `gfal_protocols`. An upload is kept on this machine, copied
to a partial name, its size and checksum compared with what the server says, and renamed. Names that a
protocol cannot carry are refused.

Write-once: on this machine the kernel refuses to replace a file. gfal2 has no such rename for servers: the
name is looked at right before it is taken, and one process never takes a name twice at once; of two
processes that take one name in the same milliseconds the second replaces the first.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from vse.config.settings import ProtocolSettings
from vse.errors import (
    AlreadyExists,
    BadRequest,
    BadSettings,
    ChecksumMismatch,
    NoSuchFile,
    NotEmpty,
    ServerFault,
    SizeMismatch,
    Unsupported,
    VseError,
)
from vse.model import BulkResult, Checksum
from vse.storage.contract import Capabilities, Locality, Note, StoredFile, Upload
from vse.storage.drivers import linux
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY
from vse.storage.drivers.gfal_files import GfalReader, GfalUpload
from vse.storage.drivers.gfal_process import GfalCalls, error_of
from vse.storage.drivers.gfal_protocols import spoken
from vse.storage.drivers.in_bulk import each
from vse.storage.drivers.pieces import PieceReader
from vse.storage.drivers.taking import one_at_a_time
from vse.storage.drivers.undeclared import Undeclared

_AT_ONCE = 4
_COPY_TIMEOUT_S = 24 * 3600
_STAGE_TIMEOUT_S = 12 * 3600
_LOCALITIES = {
    "ONLINE": Locality.DISK,
    "NEARLINE": Locality.TAPE,
    "ONLINE_AND_NEARLINE": Locality.DISK_AND_TAPE,
    "LOST": Locality.LOST,
    "NONE": Locality.LOST,
}


class _Copy(NamedTuple):
    """What is copied, and what has to come of it. ``source`` is a name as gfal2 takes it."""

    source: str
    size_bytes: int
    checksum: Checksum | None
    note: Note | None = None


class GfalDriver(Undeclared):
    """`vse.storage.contract.Driver` of one server that gfal2 reaches.

    ``no_progress_s``: how long gfal2 may stay silent. Credentials are those that gfal2 finds itself
    (``X509_USER_PROXY``, ``BEARER_TOKEN``). ``bring_online_s``: how long a tape system may take for a
    request before it forgets it (BringOnlineTimeout; the usual one is that of DIRAC's plugins).
    """

    def __init__(
        self,
        section: ProtocolSettings,
        no_progress_s: float = 60.0,
        *,
        bring_online_s: int = _STAGE_TIMEOUT_S,
    ) -> None:
        wanted = f"use the protocol section {section.section!r}"
        if not section.protocol:
            raise BadSettings(wanted, "it has no Protocol", "name it, e.g. Protocol = srm")
        if section.protocol != "file" and not section.host:
            raise BadSettings(wanted, "it has no Host", "give the server's name")
        self.protocol = section.protocol
        self._netloc = f"{section.host}:{section.port}" if section.port else section.host
        self._before_path = section.ws_url if self.protocol == "srm" else ""
        self._base = section.path.rstrip("/")
        self._section = section
        self._no_progress_s = no_progress_s
        self._bring_online_s = bring_online_s
        self._calls = GfalCalls(no_progress_s)
        self._spoken = spoken(self.protocol)
        writable, removable = self._spoken.writable, self._spoken.removable
        self.capabilities = Capabilities(
            write=writable,
            remove=removable,
            rename=writable,
            make_directory=removable,
            list=True,
            checksums=self._spoken.checksums,
            stage=self._spoken.staged,
            pull=self._spoken.copied,
            push=self._spoken.copied,
        )

    def url(self, path: str) -> str:
        return f"{self.protocol}://{self._netloc}{self._before_path}{self._spoken.slashes}{quote(path)}"

    def path_of(self, url: str) -> str:
        begin = self.url("/")
        if not url.startswith(begin) or "#" in url or "?" in url[len(begin) :]:
            raise BadRequest(f"find the path in {url!r}", f"it is not a URL of {begin}")
        return unquote("/" + url[len(begin) :])

    def _name(self, path: str, wanted: str) -> str:
        """Return a path as gfal2 wants it: most of its plugins take it as it is."""
        if any(ord(char) < 32 or ord(char) == 127 for char in path):
            raise BadRequest(wanted, "a control character cannot be given to gfal2")
        if self._spoken.refused and path.endswith(tuple(self._spoken.refused)):
            raise BadRequest(wanted, f"a name in {self.protocol} cannot end with {path[-1]!r}")
        if self._spoken.escaped:
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
        return GfalReader(wanted, found.size_bytes, self._calls, self._name(path, wanted))

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> Upload:
        if not self.capabilities.write:
            self._undeclared("write")
        wanted = f"write {self.url(path)}"
        self._must_be_free(path, wanted)
        return GfalUpload(wanted, size_bytes, checksum, lambda local, sum_: self._bring(local, path, sum_))

    def _bring(self, local: Path, path: str, declared: Checksum) -> StoredFile:
        size_bytes = local.stat().st_size
        self._copied(_Copy(f"file://{local}", size_bytes, declared), path, f"write {self.url(path)}")
        return self._stat_one(path)

    def _copied(self, copy: _Copy, path: str, wanted: str) -> None:
        """Copy to a partial name, prove and rename; without a rename, to the name itself.

        After any error nothing remains.
        """
        if not self.capabilities.rename:
            with one_at_a_time(self.url(path)):
                self._must_be_free(path, wanted)
                self._proved(copy, path, wanted)
            return
        partial = f"{self._base}/{PARTIAL_DIRECTORY}/{uuid.uuid4().hex}.part"
        self._proved(copy, partial, wanted)
        try:
            self._publish(partial, path, wanted)
        except BaseException:
            self._drop(partial, wanted)
            raise

    def _proved(self, copy: _Copy, path: str, wanted: str) -> None:
        """Copy to a free name, and hold what the server has against what it should have."""
        _, size_bytes, checksum, note = copy
        try:
            name = self._name(path, wanted)
            told = {"source": copy.source, "target": name, "timeout_s": _COPY_TIMEOUT_S}
            self._calls.ask(wanted, "copy", note=note, **told)
            kept = self._stat_one(path).size_bytes
            if kept != size_bytes:
                raise SizeMismatch(wanted, f"{kept} bytes came of the declared {size_bytes}")
            if checksum is not None and checksum.algorithm in self.capabilities.checksums:
                found = self._checksum_one(path, checksum.algorithm)
                if found != checksum:
                    raise ChecksumMismatch(wanted, f"the server has {found}, declared was {checksum}")
        except AlreadyExists:
            raise  # it is somebody else's
        except BaseException:
            self._drop(path, wanted)
            raise

    def _drop(self, path: str, wanted: str) -> None:
        with suppress(VseError):
            self._calls.ask(wanted, "unlink", url=self._name(path, wanted))

    def _publish(self, source: str, target: str, wanted: str) -> None:
        """Rename, never over an existing file (see the module's docstring)."""
        self._make(target.rpartition("/")[0] or "/", wanted)
        if self.protocol == "file":
            try:
                linux.rename_new(Path(source), Path(target))
            except FileExistsError as error:
                raise AlreadyExists(wanted, "the name is taken") from error
            return
        with one_at_a_time(self.url(target)):
            if self._is_there(target):
                raise AlreadyExists(wanted, "the name is taken")
            old, new = self._name(source, wanted), self._name(target, wanted)
            self._calls.ask(wanted, "rename", source=old, target=new)

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
            child = f"{prefix}/{unquote(name) if self._spoken.listed_escaped else name}"
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
            self._undeclared(f"ask for {algorithm}")
        return each(paths, lambda path: self._checksum_one(path, algorithm), at_once=_AT_ONCE)

    def _checksum_one(self, path: str, algorithm: str) -> Checksum:
        wanted = f"ask for the {algorithm} of {self.url(path)}"
        value = self._calls.ask(wanted, "checksum", url=self._name(path, wanted), algorithm=algorithm)
        try:
            return Checksum.parse(f"{algorithm}:{value}")
        except BadRequest as error:
            raise ServerFault(wanted, f"gfal2 says {value!r}") from error

    def stage(self, paths: Sequence[str], lifetime_s: float) -> BulkResult[str]:
        """All in one request: its token is the request of each."""
        if not self.capabilities.stage:
            self._undeclared("stage")
        wanted = f"have {len(paths)} files brought to disk at {self.url('/')}"
        told: dict[str, Any] = {
            "lifetime_s": max(1, math.ceil(lifetime_s)),
            "timeout_s": self._bring_online_s,
        }
        return self._in_bulk(paths, wanted, "bring_online", told)

    def poll(self, paths: Sequence[str]) -> BulkResult[Locality]:
        if not self.capabilities.stage:
            self._undeclared("poll")
        return each(paths, self._locality, at_once=_AT_ONCE)

    def _locality(self, path: str) -> Locality:
        wanted = f"ask where the bytes of {self.url(path)} are"
        status = self._calls.ask(wanted, "status", url=self._name(path, wanted))
        # XRootD's servers tell that a file is not on disk; where it is then, gfal2 does not take from that.
        unknown = Locality.TAPE if self._spoken.slashes else Locality.UNAVAILABLE
        return _LOCALITIES.get(status, unknown)

    def release(self, paths: Sequence[str]) -> BulkResult[None]:
        if not self.capabilities.stage:
            self._undeclared("release")
        wanted = f"have {len(paths)} files released at {self.url('/')}"
        answers = self._in_bulk(paths, wanted, "release", {})
        return BulkResult(dict.fromkeys(answers.ok), answers.failed)

    def _in_bulk(self, paths: Sequence[str], wanted: str, call: str, told: dict[str, Any]) -> BulkResult[str]:
        """Ask for all paths that can be named at once; the answer for those that did not fail is one text."""
        result: BulkResult[str] = BulkResult()
        named = each(paths, lambda path: self._name(path, wanted))
        result.failed.update(named.failed)
        if not named.ok:
            return result
        failures, text = self._calls.ask(wanted, call, urls=list(named.ok.values()), **told)
        for path, failure in zip(named.ok, failures, strict=True):
            if failure is None:
                result.ok[path] = text
            else:
                result.failed[path] = error_of(f"{call.replace('_', ' ')} {self.url(path)}", *failure)
        return result

    def pull(
        self, source_url: str, path: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        if not self.capabilities.pull:
            self._undeclared("pull a third-party copy")
        wanted = f"copy {source_url} to {self.url(path)}"
        if urlsplit(source_url).scheme not in self.capabilities.pull:
            raise Unsupported(wanted, f"the source must be one of {', '.join(self.capabilities.pull)}")
        self._must_be_free(path, wanted)
        source = source_url if self._spoken.escaped else self._as_taken(unquote(source_url))
        self._copied(_Copy(source, size_bytes, checksum, note), path, wanted)

    def push(
        self, path: str, target_url: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        """gfal2 tells the two servers to copy: which of them is the active one is theirs to settle."""
        parts = urlsplit(target_url)
        if parts.scheme not in self.capabilities.push:
            self._undeclared(f"push a third-party copy to {target_url}")
        section = self._section.model_copy(
            update={"protocol": parts.scheme, "host": parts.hostname or "", "port": parts.port or 0}
        )
        there = GfalDriver(section, self._no_progress_s)
        target = there.path_of(target_url)
        # Which part of that server is an element's is not known here: the partial file lies beside.
        there._base = target.rpartition("/")[0]
        try:
            there.pull(self.url(path), target, size_bytes, checksum, note)
            there._tidy()
        finally:
            there.close()

    def _tidy(self) -> None:
        """Remove the directory of partial files, if nothing is in it."""
        with suppress(VseError):
            self._remove_one(f"{self._base}/{PARTIAL_DIRECTORY}")

    def close(self) -> None:
        self._calls.close()
