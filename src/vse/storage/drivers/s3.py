"""The ``s3`` protocol: objects in a bucket of AWS, Ceph, MinIO or another server that speaks S3.

A server must honour ``If-None-Match: *`` on PUT (AWS since 2024, Ceph, MinIO); the driver proves that before
its first write, and refuses to write where files could be overwritten. Directories are what names have in
common, and an empty object ``NAME/`` keeps one that is empty. S3 moves nothing under a condition that every
server honours, so `rename` is not declared.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from vse.config.settings import ProtocolSettings
from vse.errors import (
    AlreadyExists,
    BadRequest,
    NoSuchFile,
    NotEmpty,
    Unsupported,
    VseError,
)
from vse.model import BulkResult, Checksum
from vse.storage.contract import Capabilities, StoredFile, Upload
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY
from vse.storage.drivers.http_session import HttpSession, discard
from vse.storage.drivers.in_bulk import each
from vse.storage.drivers.s3_signing import encoded, signed
from vse.storage.drivers.s3_store import Bucket, library, mapped, of_answer
from vse.storage.drivers.s3_transfer import (
    ADLER32,
    BUFFERED_BYTES,
    BufferedUpload,
    S3Reader,
    StreamedUpload,
    begin_put,
)
from vse.storage.drivers.undeclared import Undeclared

_AT_ONCE = 8


class S3Driver(Undeclared):
    """`vse.storage.contract.Driver` of one bucket.

    Checksums are those that VSE stored with a file: of any file up to 4 MiB, and of a larger one that was
    announced with its adler32. Keys are read from their files at each (re)connection, and are never shown.
    """

    capabilities = Capabilities(
        write=True, remove=True, list=True, checksums=frozenset({"adler32"}), make_directory=True
    )

    def __init__(self, section: ProtocolSettings, no_progress_s: float = 60.0) -> None:
        self.protocol = section.protocol or "s3"
        self._bucket = Bucket(section, no_progress_s)
        http = section.model_copy(update={"protocol": self._bucket.transport, "token_file": None})
        self._session = HttpSession(http, no_progress_s)
        self._lock = threading.Lock()
        self._store: Any = None
        self._write_once: bool | None = None

    def url(self, path: str) -> str:
        key = encoded("/" + self._bucket.key(path))
        return f"{self.protocol}://{self._bucket.netloc}/{self._bucket.name}{key}"

    def path_of(self, url: str) -> str:
        parts = urlsplit(url)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        here = (self.protocol, self._bucket.netloc.lower(), self._bucket.name)
        if (parts.scheme, parts.netloc.lower(), bucket) != here or parts.query or parts.fragment:
            raise BadRequest(f"find the path in {url!r}", f"it is no {'://'.join(here[:2])}/{here[2]}/KEY")
        return self._bucket.path(key)

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        return each(paths, self._stat_one, at_once=_AT_ONCE)

    def _stat_one(self, path: str) -> StoredFile:
        wanted = f"look at {self.url(path)}"
        found = self._object(path, wanted)
        if found is not None:
            return found
        if self._is_directory(path, wanted):
            return StoredFile(path, None, None)
        raise NoSuchFile(wanted, "the bucket does not hold it")

    def _object(self, path: str, wanted: str) -> StoredFile | None:
        """Describe the object of that very name; None where there is none."""
        obstore = library()

        key = self._bucket.key(path)
        if not key:
            return None
        try:
            with mapped(wanted):
                meta = obstore.head(self._client(), key)
        except NoSuchFile:
            return None
        return StoredFile(path, meta["size"], meta["last_modified"].timestamp())

    def _is_directory(self, path: str, wanted: str) -> bool:
        """Whether it is the bucket, or something has it in its name, or it was made as a directory."""
        obstore = library()

        key = self._bucket.key(path)
        with mapped(wanted):
            pages = obstore.list(self._client(), prefix=key or None, chunk_size=1)
            if next(iter(pages), None) or not key:
                return True
        return self._marker("HEAD", key, wanted) == 200

    def open(self, path: str) -> S3Reader:
        wanted = f"read {self.url(path)}"
        found = self._stat_one(path)
        if found.size_bytes is None:
            raise BadRequest(wanted, "it is a directory")
        return S3Reader(wanted, self._client(), self._bucket.key(path), found.size_bytes)

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> Upload:
        wanted = f"write {self.url(path)}"
        self._must_be_write_once(wanted)
        self._must_be_free(path, wanted)
        if size_bytes <= BUFFERED_BYTES:
            return BufferedUpload(
                wanted, size_bytes, checksum, lambda data, sum_: self._put(path, data, sum_, wanted)
            )
        keys, region = self._bucket.keys, self._bucket.region
        request = begin_put(
            self._session, self._address(self._bucket.key(path)), size_bytes, checksum, keys, region, wanted
        )
        try:
            return StreamedUpload(wanted, size_bytes, checksum, request, lambda: self._stat_one(path))
        except BaseException:
            request.close()
            raise

    def _put(self, path: str, data: bytes, checksum: Checksum, wanted: str) -> StoredFile:
        obstore = library()

        with mapped(wanted):
            attributes: Any = {ADLER32: checksum.value}
            obstore.put(self._client(), self._bucket.key(path), data, mode="create", attributes=attributes)
        return StoredFile(path, len(data), time.time())

    def _must_be_free(self, path: str, wanted: str) -> None:
        if self._object(path, wanted) or self._is_directory(path, wanted):
            raise AlreadyExists(wanted, "the name is taken", "files are write-once: remove it first")
        above = path.rpartition("/")[0]
        while above and self._bucket.key(above):
            if self._object(above, wanted):
                raise BadRequest(wanted, f"{above} is a file, not a directory")
            above = above.rpartition("/")[0]

    def _must_be_write_once(self, wanted: str) -> None:
        """Prove, once, that the server refuses to overwrite where it is told to."""
        with self._lock:
            known = self._write_once
        if known is None:
            known = self._proved(wanted)
            with self._lock:
                self._write_once = known
        if not known:
            raise Unsupported(
                wanted,
                "the server ignores 'If-None-Match: *', so that a file could be overwritten",
                "use this storage element for reading only: WriteAccess = Banned",
            )

    def _proved(self, wanted: str) -> bool:
        obstore = library()

        probe = f"{PARTIAL_DIRECTORY}/probe-{uuid.uuid4().hex}"
        with mapped(wanted):
            client = self._client()
            obstore.put(client, probe, b"1", mode="create")
        try:
            with mapped(wanted):
                obstore.put(client, probe, b"2", mode="create")
        except AlreadyExists:
            return True
        finally:
            with mapped(wanted):
                obstore.delete(client, probe)
        return False

    def list(self, path: str) -> Iterator[StoredFile]:
        obstore = library()

        wanted = f"list {self.url(path)}"
        key = self._bucket.key(path)
        with mapped(wanted):
            answer = obstore.list_with_delimiter(self._client(), key or None)
        objects = [meta for meta in answer["objects"] if meta["path"] != key]
        if not objects and not answer["common_prefixes"] and self._stat_one(path).size_bytes is not None:
            raise BadRequest(wanted, "it is a file")
        for prefix in answer["common_prefixes"]:
            if prefix != PARTIAL_DIRECTORY:
                yield StoredFile(self._bucket.path(prefix), None, None)
        for meta in objects:
            modified_s = meta["last_modified"].timestamp()
            yield StoredFile(self._bucket.path(meta["path"]), meta["size"], modified_s)

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        return each(paths, self._remove_one, at_once=_AT_ONCE)

    def _remove_one(self, path: str) -> None:
        obstore = library()

        wanted = f"remove {self.url(path)}"
        key = self._bucket.key(path)
        if self._object(path, wanted) is None:
            self._remove_directory(path, key, wanted)
            return
        parent = key.rpartition("/")[0]
        if parent:  # as on a file system, the directory does not go with its last file
            self._marker("PUT", parent, wanted)
        with mapped(wanted):
            obstore.delete(self._client(), key)

    def _remove_directory(self, path: str, key: str, wanted: str) -> None:
        if not key:
            raise BadRequest(wanted, "it is the bucket itself")
        if self._stat_one(path).size_bytes is None and next(self.list(path), None) is not None:
            raise NotEmpty(wanted, "the directory still holds something")
        parent = key.rpartition("/")[0]
        if parent:
            self._marker("PUT", parent, wanted)
        self._marker("DELETE", key, wanted)

    def make_directory(self, path: str) -> None:
        wanted = f"make the directory {self.url(path)}"
        key = self._bucket.key(path)
        if not key or self._is_directory(path, wanted):
            return
        self._must_be_write_once(wanted)
        try:
            self._must_be_free(path, wanted)
        except AlreadyExists:
            if self._stat_one(path).is_directory:  # somebody else has made it meanwhile
                return
            raise
        self._marker("PUT", key, wanted)

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        if algorithm not in self.capabilities.checksums:
            raise Unsupported(f"ask for {algorithm}", "only adler32 is kept with a file in S3")
        return each(paths, self._adler32, at_once=_AT_ONCE)

    def _adler32(self, path: str) -> Checksum:
        obstore = library()

        wanted = f"ask for the checksum of {self.url(path)}"
        with mapped(wanted):
            options: Any = {"head": True}
            found = obstore.get(self._client(), self._bucket.key(path), options=options).attributes
        value = found.get(ADLER32)
        if not value:
            raise Unsupported(wanted, "no adler32 was stored with it")
        return Checksum.parse(f"adler32:{value}")

    def close(self) -> None:
        self._store = None
        self._session.close()

    def _client(self) -> Any:
        with self._lock:
            if self._store is None:
                self._store = self._bucket.store()
            return self._store

    def _address(self, key: str) -> str:
        return f"{self._session.origin}/{self._bucket.name}{encoded('/' + key)}"

    def _marker(self, method: str, key: str, wanted: str) -> int:
        """HEAD, PUT or DELETE the empty object that keeps a directory; returns the status."""
        url = self._address(f"{key}/")
        keys = self._bucket.keys
        headers: dict[str, str] = {}
        if keys is not None:
            headers = signed(method, url, headers, keys, self._bucket.region, time.time())
        body = b"" if method == "PUT" else None
        response = self._session.request(method, url, wanted, headers=headers, body=body)
        discard(response)
        if response.status >= 300 and not (method == "HEAD" and response.status == 404):
            error: VseError = of_answer(wanted, response.status, "")
            raise error
        return int(response.status)
