"""The ``http``, ``https``, ``dav`` and ``davs`` protocols: any WebDAV server, VSE's own door first.

What is asked of a server, and how it may answer, follows RFC 9110 and RFC 4918 and what grid storages
do (checksums by ``Want-Digest``, RFC 3230; third-party copies by COPY, WLCG HTTP-TPC).

Write-once: VSE's door keeps it by itself. With a server that would overwrite, the name is looked at right
before it is taken, and one process never takes a name twice at once; of two processes that take one name
in the same milliseconds the second replaces the first, since these servers know no other way.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from vse import errors
from vse.config.settings import ProtocolSettings
from vse.model import BulkResult, Checksum, Space
from vse.storage.contract import Capabilities, Note, StoredFile
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY
from vse.storage.drivers.http_copy import third_party
from vse.storage.drivers.http_names import DIGESTS, HttpNames
from vse.storage.drivers.http_reader import HttpReader
from vse.storage.drivers.http_session import (
    TRANSPORTS,
    HttpSession,
    Origin,
    Token,
    escaped,
    path_in,
)
from vse.storage.drivers.http_upload import HttpUpload
from vse.storage.drivers.in_bulk import each
from vse.storage.drivers.taking import one_at_a_time
from vse.storage.drivers.undeclared import Undeclared

_XROOTD_PAUSE_S = 0.01
"""XRootD 5.5 now and then never looks at a body that comes while it is still busy with its '100 Continue'."""
_AT_ONCE = 8


class HttpDriver(HttpNames, Undeclared):
    """`vse.storage.contract.Driver` of one server.

    ``no_progress_s``: how long the server may send nothing. ``tls``: whom to trust; the system's
    certificate authorities where left out. ``other_tokens``: for third-party copies, the token files of
    the other sides by origin (``https://host:port``); our own token is sent to our server only.

    Not every server tells its space and checksums or makes third-party copies (which those reached by
    TLS are taken to do): one that does not is refused with `Unsupported` when it is asked.
    """

    capabilities = Capabilities(
        write=True,
        remove=True,
        list=True,
        rename=True,
        space=True,
        checksums=frozenset(DIGESTS),
        make_directory=True,
    )

    def __init__(
        self,
        settings: ProtocolSettings,
        no_progress_s: float = 60.0,
        tls: ssl.SSLContext | None = None,
        *,
        other_tokens: Mapping[str, Path] | None = None,
    ) -> None:
        self.protocol = settings.protocol or "http"
        super().__init__(HttpSession(settings, no_progress_s, tls))
        self._tls = tls
        self._other_tokens = dict(other_tokens or {})
        self._partials = f"{settings.path.rstrip('/')}/{PARTIAL_DIRECTORY}/"
        if self._session.origin.transport == "https":
            others = frozenset(TRANSPORTS)
            self.capabilities = replace(self.capabilities, pull=others, push=others)

    def url(self, path: str) -> str:
        return f"{self.protocol}://{self._session.origin.netloc}{escaped(path)}"

    def path_of(self, url: str) -> str:
        if Origin.of(url) != self._session.origin:
            raise errors.BadRequest(f"find the path in {url!r}", f"it is not a URL of {self._session.origin}")
        return path_in(url)

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        return each(paths, self._stat_one, at_once=_AT_ONCE)

    def open(self, path: str) -> HttpReader:
        found = self._stat_one(path)
        if found.size_bytes is None:
            raise errors.BadRequest(f"read {self._url(path)}", "it is a directory")
        return HttpReader(self._session, path, found.size_bytes)

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> HttpUpload:
        wanted = f"write {self._url(path)}"
        if size_bytes < 0:
            raise errors.BadRequest(wanted, f"a file cannot have {size_bytes} bytes")
        self._check_free(path, wanted)
        if self._product.is_xrootd:
            return self._put_aside(path, size_bytes, checksum, wanted)

        def confirm(expected_bytes: int, _: Checksum) -> StoredFile:
            stored = self._stat_one(path)
            if stored.size_bytes != expected_bytes:
                self._delete(path, wanted)
                raise errors.SizeMismatch(
                    wanted, f"the server kept {stored.size_bytes} of {expected_bytes} bytes"
                )
            return stored

        if not self._product.replaces:
            return HttpUpload(self._session, path, size_bytes, checksum, confirm)
        self._make_parents(path, wanted)
        return HttpUpload(
            self._session, path, size_bytes, checksum, confirm, taking=lambda: self._taking(path, wanted)
        )

    def _put_aside(self, path: str, size_bytes: int, checksum: Checksum | None, wanted: str) -> HttpUpload:
        """Write under another name, and take the right one when the file is whole and proved."""
        partial = self._new_partial()

        def confirm(expected_bytes: int, seen: Checksum) -> StoredFile:
            return self._settle(partial, path, expected_bytes, seen, wanted)

        return HttpUpload(
            self._session,
            partial,
            size_bytes,
            checksum,
            confirm,
            accept=(200, 201),
            dropped=lambda: self._drop(partial, wanted),
            pause_s=_XROOTD_PAUSE_S,
        )

    def _new_partial(self) -> str:
        return f"{self._partials}{uuid.uuid4().hex}.upload"

    def _settle(
        self, partial: str, path: str, size_bytes: int, checksum: Checksum | None, wanted: str
    ) -> StoredFile:
        """Hold what the server has against what it should have, then give it its name."""
        stored = self._verified(partial, size_bytes, checksum, wanted)
        with self._taking(path, wanted):
            if not self._move(self._url(partial), path, wanted):
                raise errors.AlreadyExists(wanted, "the name is taken, or its directory cannot be made")
        return stored._replace(path=path)

    def _verified(self, path: str, size_bytes: int, checksum: Checksum | None, wanted: str) -> StoredFile:
        stored = self._stat_one(path)
        if stored.size_bytes != size_bytes:
            raise errors.SizeMismatch(wanted, f"the server has {stored.size_bytes} of {size_bytes} bytes")
        if checksum is not None and checksum.algorithm in self.capabilities.checksums:
            found = None
            with suppress(errors.Unsupported):
                found = self._checksum_one(path, checksum.algorithm)
            if found not in (None, checksum):
                raise errors.ChecksumMismatch(wanted, f"the server's bytes have {found}, not {checksum}")
        return stored

    @contextmanager
    def _taking(self, path: str, wanted: str) -> Iterator[None]:
        """Hold a free name against others of this process while it is taken."""
        with one_at_a_time(self._session.url(path)):
            self._check_free(path, wanted)
            yield

    def list(self, path: str) -> Iterator[StoredFile]:
        wanted = f"list {self._url(path)}"
        here = path.rstrip("/") or "/"
        for found in self._propfind(path, "1", wanted):
            parent, _, name = found.path.rpartition("/")
            if found.path == here:
                if not found.is_directory:
                    raise errors.BadRequest(wanted, "it is a file")
            elif (parent or "/") != here or name in ("", ".", ".."):
                raise errors.ServerFault(wanted, f"the server lists {found.path!r}, which is not in it")
            elif not name.startswith(PARTIAL_DIRECTORY):
                size_bytes = None if found.is_directory else found.size_bytes or 0
                yield StoredFile(found.path, size_bytes, found.modified_s)

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        return each(paths, self._remove_one, at_once=_AT_ONCE)

    def _remove_one(self, path: str) -> None:
        """A WebDAV server removes a directory with all that is in it: so look first."""
        wanted = f"remove {self._url(path)}"
        is_directory = False
        try:
            with closing(self._propfind(path, "1", wanted)) as answers:
                found = list(islice(answers, 2))
            if len(found) > 1:
                raise errors.NotEmpty(wanted, "the directory still holds something")
            is_directory = any(one.is_directory for one in found)
        except errors.Unsupported:
            pass  # no WebDAV, no directories that go with all that is in them
        self._delete(f"{path.rstrip('/')}/" if is_directory else path, wanted)

    def rename(self, source: str, target: str) -> None:
        url = self._url(source)
        wanted = f"rename {url} to {target}"
        if not self._product.known:
            self._ask_who()
        if self._product.replaces:
            self._rename_by_looking(source, target, wanted)
            return
        if self._move(url, target, wanted):
            return
        # 409 is 'no directory for it' (RFC 4918 §9.9.4), but some servers mean 'the name is taken'.
        if self._exists(target, wanted):
            raise errors.AlreadyExists(wanted, "the name is taken")
        self._make_parents(target, wanted)
        if not self._move(url, target, wanted):
            raise errors.AlreadyExists(wanted, "the name is taken, or its directory cannot be made")

    def _rename_by_looking(self, source: str, target: str, wanted: str) -> None:
        """With a server whose MOVE may replace what is there."""
        self._stat_one(source)
        with self._taking(target, wanted):
            self._make_parents(target, wanted)
            if not self._move(self._url(source), target, wanted):
                raise errors.AlreadyExists(wanted, "the name is taken")

    def make_directory(self, path: str) -> None:
        wanted = f"make the directory {self._url(path)}"
        here = path.rstrip("/")
        self._make_parents(f"{here}/", wanted)
        try:
            is_directory = not here or self._stat_one(here).is_directory
        except errors.NoSuchFile as error:  # below a file
            raise errors.AlreadyExists(wanted, "something above it is a file") from error
        if not is_directory:
            raise errors.AlreadyExists(wanted, "it is a file")

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        if algorithm not in self.capabilities.checksums:
            self._undeclared(f"ask for {algorithm}")
        return each(paths, lambda path: self._checksum_one(path, algorithm), at_once=_AT_ONCE)

    def space(self, path: str) -> Space:
        wanted = f"measure the space of {self._url(path)}"
        found = self._described(path, wanted)
        if found.available_bytes is None:
            raise errors.Unsupported(wanted, "the server does not tell it")
        total = None if found.used_bytes is None else found.available_bytes + found.used_bytes
        return Space(total, found.available_bytes)

    def pull(
        self, source_url: str, path: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        wanted = f"have {self._session.origin} copy {source_url} to {path}"
        source = self._other("pull", source_url)

        def copy(target: str) -> None:
            headers = {"Source": _as_http(source_url), **self._passive(source)}
            third_party(self._session, self._url(target), wanted, headers, note)

        self._land(path, size_bytes, checksum, wanted, copy)

    def push(
        self, path: str, target_url: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        wanted = f"have {self._session.origin} copy {path} to {target_url}"
        origin = self._other("push", target_url)
        target_path = path_in(target_url)
        there = self._driver_of(origin)
        there._partials = f"{target_path.rpartition('/')[0]}/{PARTIAL_DIRECTORY}-"

        def copy(target: str) -> None:
            headers = {"Destination": there._url(target), **self._passive(origin)}
            third_party(self._session, self._url(path), wanted, headers, note)

        try:
            there._land(target_path, size_bytes, checksum, wanted, copy)
        finally:
            there.close()

    def _other(self, what: str, url: str) -> Origin:
        protocols = self.capabilities.pull if what == "pull" else self.capabilities.push
        if urlsplit(url).scheme not in protocols:
            self._undeclared(f"{what} a third-party copy of {url}")
        return Origin.of(url)

    def _driver_of(self, origin: Origin) -> HttpDriver:
        settings = {"Protocol": origin.transport, "Host": origin.host, "Port": origin.port}
        token_file = self._other_tokens.get(str(origin))
        if token_file is not None:
            settings["TokenFile"] = str(token_file)
        return HttpDriver(ProtocolSettings.model_validate(settings), self._session.no_progress_s, self._tls)

    def _passive(self, origin: Origin) -> dict[str, str]:
        """Return the headers that the active server is to send to the other one."""
        header = Token(self._other_tokens.get(str(origin))).header()
        return {f"TransferHeader{name}": value for name, value in header.items()}

    def _land(
        self, path: str, size_bytes: int, checksum: Checksum | None, wanted: str, copy: Callable[[str], None]
    ) -> None:
        """Have ``copy`` bring a file here, prove it and give it its name; after an error nothing remains."""
        self._check_free(path, wanted)
        landing = self._new_partial() if self._product.is_xrootd else path
        self._make_parents(landing, wanted)  # which XRootD does for a PUT, and not for a copy
        try:
            copy(landing)
            if landing == path:
                self._verified(path, size_bytes, checksum, wanted)
            else:
                self._settle(landing, path, size_bytes, checksum, wanted)
        except errors.AlreadyExists:
            if landing != path:
                self._drop(landing, wanted)
            raise
        except BaseException:
            self._drop(landing, wanted)
            raise

    def close(self) -> None:
        self._session.close()


def _as_http(url: str) -> str:
    """Return a dav or davs URL as http or https, which is what servers take."""
    scheme, separator, rest = url.partition("://")
    return f"{TRANSPORTS.get(scheme, scheme)}{separator}{rest}"
