"""The names inside one HTTP server: what of them can be asked for, made, moved and removed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Generator
from contextlib import closing, suppress

from vse import errors
from vse.model import Checksum
from vse.storage.contract import CHUNK_BYTES, StoredFile
from vse.storage.drivers import http_listing
from vse.storage.drivers.http_server import Product
from vse.storage.drivers.http_session import HttpSession, discard, error_of, mapped, refusal

_NO_WEBDAV = (400, 405, 501)
DIGESTS = {"adler32": ("adler32", "adler"), "crc32c": ("crc32c",), "md5": ("md5",)}
"""The checksums that servers tell, and the names they have in a Digest header."""


class HttpNames:
    """Base of the driver: one server's name space, and what was learnt of the server's ways."""

    def __init__(self, session: HttpSession) -> None:
        self._session = session
        self._product = Product()

    def _url(self, path: str) -> str:
        """Return the URL for a request; `BadRequest` where this server would take it for another's."""
        url = self._session.url(path)
        if not self._product.known and ("?" in path or not path.isprintable()):
            self._ask_who()
        self._product.check(path, url)
        return url

    def _ask_who(self) -> None:
        url = self._session.url("/")
        response = self._session.request("HEAD", url, f"speak to {url}")
        discard(response)
        self._product.learn(response.headers.get("Server"))

    def _stat_one(self, path: str) -> StoredFile:
        """By HEAD; where that leaves open whether it is a directory, PROPFIND decides."""
        url = self._url(path)
        wanted = f"look at {url}"
        if self._product.is_xrootd:  # which tells a directory from a file by PROPFIND only
            return self._stat_described(path, wanted)
        response = self._session.request("HEAD", url, wanted)
        discard(response)
        self._product.learn(response.headers.get("Server"))
        if self._product.is_xrootd and response.status == 200:
            return self._stat_described(path, wanted)
        length = response.headers.get("Content-Length", "")
        modified_s = http_listing.seconds(response.headers.get("Last-Modified"))
        if response.status == 200 and length.isdecimal() and int(length) > 0:
            return StoredFile(path, int(length), modified_s)
        if response.status != 200 and not 300 <= response.status < 400:
            raise error_of(response.status, wanted)
        try:
            found = self._stat_described(path, wanted)
        except errors.Unsupported:
            return StoredFile(path, int(length) if length.isdecimal() else None, modified_s)
        return found if found.modified_s else found._replace(modified_s=modified_s)

    def _stat_described(self, path: str, wanted: str) -> StoredFile:
        found = self._described(path, wanted)
        return StoredFile(path, None if found.is_directory else found.size_bytes or 0, found.modified_s)

    def _delete(self, path: str, wanted: str) -> None:
        response = self._session.request("DELETE", self._url(path), wanted)
        try:
            if response.status == 409:
                raise errors.NotEmpty(wanted, "the directory still holds something")
            if response.status not in (200, 204):
                raise refusal(response, wanted)
        finally:
            discard(response)

    def _move(self, url: str, target: str, wanted: str) -> bool:
        """Whether the server moved it; False where it answers 409."""
        destination = self._url(target)
        if self._product.is_xrootd:
            # It takes the header as it stands, but for blanks and bytes above 127 at its end, which it
            # cuts off: an argument, which it drops, stands there instead.
            destination = f"{self._session.origin}{target}?vse".encode().decode("latin-1")
        headers = {"Destination": destination, "Overwrite": "F"}
        with self._session.answered("MOVE", url, wanted, accept=(201, 204, 409), headers=headers) as response:
            return response.status != 409

    def _exists(self, path: str, wanted: str) -> bool:
        response = self._session.request("HEAD", self._url(path), wanted)
        discard(response)
        self._product.learn(response.headers.get("Server"))
        self._product.check(path, self._session.url(path))
        if response.status == 500 and self._product.is_xrootd:  # it says so of what is below a file, too
            return self._is_described(path, wanted)
        if response.status >= 400 and response.status != 404:
            raise error_of(response.status, wanted)
        return response.status < 400

    def _is_described(self, path: str, wanted: str) -> bool:
        try:
            self._described(path, wanted)
        except errors.NoSuchFile:
            return False
        return True

    def _make_parents(self, path: str, wanted: str) -> None:
        """Make the missing directories above ``path``, the highest first."""
        missing = []
        parent = path.rpartition("/")[0]
        while parent and not self._exists(parent, wanted):
            missing.append(parent)
            parent = parent.rpartition("/")[0]
        for directory in reversed(missing):
            self._make_one(directory, wanted)

    def _make_one(self, directory: str, wanted: str) -> None:
        """Make a directory; another may have made it meanwhile, which servers tell in their own ways."""
        url = f"{self._url(directory)}/"
        with self._session.answered("MKCOL", url, wanted, accept=(201, 403, 405, 409, 500)) as response:
            refused = None if response.status in (201, 405) else refusal(response, wanted)
        if refused is not None and not self._exists(directory, wanted):
            raise refused

    def _check_free(self, path: str, wanted: str) -> None:
        if self._exists(path, wanted):
            raise errors.AlreadyExists(wanted, "the name is taken", "files are write-once: remove it first")

    def _drop(self, path: str, wanted: str) -> None:
        with suppress(errors.VseError):
            self._delete(path, wanted)

    def _checksum_one(self, path: str, algorithm: str) -> Checksum:
        url = self._url(path)
        wanted = f"ask for the {algorithm} of {url}"
        with self._session.answered("HEAD", url, wanted, headers={"Want-Digest": algorithm}) as response:
            digests = response.headers.get("Digest", "")
        for digest in digests.split(","):
            name, _, value = digest.strip().partition("=")
            if name.lower() in DIGESTS[algorithm]:
                return _digest(algorithm, value, wanted)
        raise errors.Unsupported(wanted, "the server does not tell it")

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
            "PROPFIND", self._url(path), wanted, headers=headers, body=http_listing.QUESTION
        )
        try:
            if response.status in _NO_WEBDAV:
                raise errors.Unsupported(wanted, "the server does not speak WebDAV")
            if response.status != 207:
                raise refusal(response, wanted)
            with mapped(wanted):
                body = response.stream(CHUNK_BYTES, decode_content=False)
                # XRootD 5.5 writes names into its answer as they are, not as parts of a URL.
                yield from http_listing.described(body, raw_names=self._product.is_xrootd)
        except http_listing.BadListing as error:
            raise errors.ServerFault(wanted, f"the server's answer cannot be used: {error}") from error
        finally:
            discard(response)


def _digest(algorithm: str, value: str, wanted: str) -> Checksum:
    """Read a digest: in hex, or (RFC 3230 says so for md5, XRootD does for crc32c) in base64."""
    text = value
    if value.endswith("="):
        with suppress(binascii.Error):
            text = base64.b64decode(value, validate=True).hex()
    try:
        return Checksum.parse(f"{algorithm}:{text}")
    except errors.BadRequest as error:
        raise errors.ServerFault(wanted, f"the server says {value!r}") from error
