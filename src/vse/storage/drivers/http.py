"""The ``http``, ``https``, ``dav`` and ``davs`` protocols: any WebDAV server, VSE's own door first.

What is asked of a server, and how it may answer, follows RFC 9110 and RFC 4918 and what grid storages
do (checksums by ``Want-Digest``, RFC 3230). Write-once is kept with servers that would overwrite, too.
"""

from __future__ import annotations

import ssl
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from vse import errors
from vse.config.settings import ProtocolSettings
from vse.model import BulkResult, Checksum, Space
from vse.storage.contract import CHUNK_BYTES, Capabilities, StoredFile
from vse.storage.drivers import http_listing
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY
from vse.storage.drivers.http_reader import HttpReader
from vse.storage.drivers.http_session import (
    HttpSession,
    Origin,
    discard,
    error_of,
    escaped,
    mapped,
    path_in,
    refusal,
)
from vse.storage.drivers.http_upload import HttpUpload
from vse.storage.drivers.in_bulk import each

_AT_ONCE = 8
_NO_WEBDAV = (400, 405, 501)


class HttpDriver:
    """`vse.storage.contract.Driver` of one server.

    ``no_progress_s``: how long the server may send nothing. ``tls``: whom to trust; the system's
    certificate authorities where left out.
    """

    capabilities = Capabilities(
        write=True, remove=True, list=True, rename=True, space=True, checksums=frozenset({"adler32"})
    )

    def __init__(
        self,
        settings: ProtocolSettings,
        no_progress_s: float = 60.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.protocol = settings.protocol or "http"
        self._session = HttpSession(settings, no_progress_s, tls)

    def url(self, path: str) -> str:
        return f"{self.protocol}://{self._session.origin.netloc}{escaped(path)}"

    def path_of(self, url: str) -> str:
        if Origin.of(url) != self._session.origin:
            raise errors.BadRequest(f"find the path in {url!r}", f"it is not a URL of {self._session.origin}")
        return path_in(url)

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        return each(paths, self._stat_one, at_once=_AT_ONCE)

    def _stat_one(self, path: str) -> StoredFile:
        """By HEAD; where that leaves open whether it is a directory, PROPFIND decides."""
        url = self._session.url(path)
        wanted = f"look at {url}"
        response = self._session.request("HEAD", url, wanted)
        discard(response)
        length = response.headers.get("Content-Length", "")
        modified_s = http_listing.seconds(response.headers.get("Last-Modified"))
        if response.status == 200 and length.isdecimal() and int(length) > 0:
            return StoredFile(path, int(length), modified_s)
        if response.status != 200 and not 300 <= response.status < 400:
            raise error_of(response.status, wanted)
        try:
            found = self._described(path, wanted)
        except errors.Unsupported:
            return StoredFile(path, int(length) if length.isdecimal() else None, modified_s)
        size_bytes = None if found.is_directory else found.size_bytes or 0
        return StoredFile(path, size_bytes, found.modified_s or modified_s)

    def open(self, path: str) -> HttpReader:
        found = self._stat_one(path)
        if found.size_bytes is None:
            raise errors.BadRequest(f"read {self._session.url(path)}", "it is a directory")
        return HttpReader(self._session, path, found.size_bytes)

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> HttpUpload:
        wanted = f"write {self._session.url(path)}"
        if size_bytes < 0:
            raise errors.BadRequest(wanted, f"a file cannot have {size_bytes} bytes")
        if self._exists(path, wanted):
            raise errors.AlreadyExists(wanted, "the name is taken", "files are write-once: remove it first")

        def confirm(expected_bytes: int) -> StoredFile:
            stored = self._stat_one(path)
            if stored.size_bytes != expected_bytes:
                self._delete(path, wanted)
                raise errors.SizeMismatch(
                    wanted, f"the server kept {stored.size_bytes} of {expected_bytes} bytes"
                )
            return stored

        return HttpUpload(self._session, path, size_bytes, checksum, confirm)

    def list(self, path: str) -> Iterator[StoredFile]:
        wanted = f"list {self._session.url(path)}"
        here = path.rstrip("/") or "/"
        for found in self._propfind(path, "1", wanted):
            parent, _, name = found.path.rpartition("/")
            if found.path == here:
                if not found.is_directory:
                    raise errors.BadRequest(wanted, "it is a file")
            elif (parent or "/") != here or name in ("", ".", ".."):
                raise errors.ServerFault(wanted, f"the server lists {found.path!r}, which is not in it")
            elif name != PARTIAL_DIRECTORY:
                size_bytes = None if found.is_directory else found.size_bytes or 0
                yield StoredFile(found.path, size_bytes, found.modified_s)

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        return each(paths, self._remove_one, at_once=_AT_ONCE)

    def _remove_one(self, path: str) -> None:
        """A WebDAV server removes a directory with all that is in it: so look first."""
        wanted = f"remove {self._session.url(path)}"
        try:
            with closing(self._propfind(path, "1", wanted)) as answers:
                if len(list(islice(answers, 2))) > 1:
                    raise errors.NotEmpty(wanted, "the directory still holds something")
        except errors.Unsupported:
            pass  # no WebDAV, no directories that go with all that is in them
        self._delete(path, wanted)

    def _delete(self, path: str, wanted: str) -> None:
        response = self._session.request("DELETE", self._session.url(path), wanted)
        try:
            if response.status == 409:
                raise errors.NotEmpty(wanted, "the directory still holds something")
            if response.status not in (200, 204):
                raise refusal(response, wanted)
        finally:
            discard(response)

    def rename(self, source: str, target: str) -> None:
        url = self._session.url(source)
        wanted = f"rename {url} to {target}"
        if self._move(url, target, wanted):
            return
        # 409 is 'no directory for it' (RFC 4918 §9.9.4), but some servers mean 'the name is taken'.
        if self._exists(target, wanted):
            raise errors.AlreadyExists(wanted, "the name is taken")
        self._make_parents(target, wanted)
        if not self._move(url, target, wanted):
            raise errors.AlreadyExists(wanted, "the name is taken, or its directory cannot be made")

    def _move(self, url: str, target: str, wanted: str) -> bool:
        """Whether the server moved it; False where it answers 409."""
        headers = {"Destination": self._session.url(target), "Overwrite": "F"}
        with self._session.answered("MOVE", url, wanted, accept=(201, 204, 409), headers=headers) as response:
            return response.status != 409

    def _exists(self, path: str, wanted: str) -> bool:
        response = self._session.request("HEAD", self._session.url(path), wanted)
        discard(response)
        if response.status >= 400 and response.status != 404:
            raise error_of(response.status, wanted)
        return response.status < 400

    def _make_parents(self, path: str, wanted: str) -> None:
        """Make the missing directories above ``path``, the highest first."""
        missing = []
        parent = path.rpartition("/")[0]
        while parent and not self._exists(parent, wanted):
            missing.append(parent)
            parent = parent.rpartition("/")[0]
        for directory in reversed(missing):
            # 405: somebody else has made it meanwhile (RFC 4918 §9.3.1).
            with self._session.answered("MKCOL", self._session.url(directory), wanted, accept=(201, 405)):
                pass

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        if algorithm not in self.capabilities.checksums:
            raise errors.Unsupported(f"ask for {algorithm}", "over HTTP only adler32 can be asked for")
        return each(paths, self._adler32, at_once=_AT_ONCE)

    def _adler32(self, path: str) -> Checksum:
        url = self._session.url(path)
        wanted = f"ask for the checksum of {url}"
        with self._session.answered("HEAD", url, wanted, headers={"Want-Digest": "adler32"}) as response:
            digests = response.headers.get("Digest", "")
        for digest in digests.split(","):
            algorithm, _, value = digest.strip().partition("=")
            if algorithm.lower() in ("adler32", "adler"):
                try:
                    return Checksum.parse(f"adler32:{value}")
                except errors.BadRequest as error:
                    raise errors.ServerFault(wanted, f"the server says {digest.strip()!r}") from error
        raise errors.Unsupported(wanted, "the server does not tell it")

    def space(self, path: str) -> Space:
        wanted = f"measure the space of {self._session.url(path)}"
        found = self._described(path, wanted)
        if found.available_bytes is None:
            return Space(None, None)
        total = None if found.used_bytes is None else found.available_bytes + found.used_bytes
        return Space(total, found.available_bytes)

    def local_path(self, path: str) -> Path:
        raise errors.Unsupported(
            f"open {self._session.url(path)} by path", "it is on another machine, as far as HTTP tells"
        )

    def close(self) -> None:
        self._session.close()

    def _described(self, path: str, wanted: str) -> http_listing.Described:
        """Return what the server says of one path."""
        with closing(self._propfind(path, "0", wanted)) as answers:
            found = next(answers, None)
            if found is None or next(answers, None) is not None:
                number = "nothing" if found is None else "more than one path"
                raise errors.ServerFault(wanted, f"the server's answer cannot be used: it describes {number}")
        return found

    def _propfind(self, path: str, depth: str, wanted: str) -> Generator[http_listing.Described, None, None]:
        """Yield what the server describes; `Unsupported` from a server without WebDAV."""
        headers = {"Depth": depth, "Content-Type": "application/xml; charset=utf-8"}
        response = self._session.request(
            "PROPFIND", self._session.url(path), wanted, headers=headers, body=http_listing.QUESTION
        )
        try:
            if response.status in _NO_WEBDAV:
                raise errors.Unsupported(wanted, "the server does not speak WebDAV")
            if response.status != 207:
                raise refusal(response, wanted)
            with mapped(wanted):
                yield from http_listing.described(response.stream(CHUNK_BYTES, decode_content=False))
        except http_listing.BadListing as error:
            raise errors.ServerFault(wanted, f"the server's answer cannot be used: {error}") from error
        finally:
            discard(response)
