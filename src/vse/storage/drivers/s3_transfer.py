"""Bytes to and from S3: ranges fetched in parallel, and a file put in one conditional request.

``If-None-Match: *`` makes a PUT write-once, and a server publishes the object when its last byte has come:
the last one is held back until `commit`, so nothing appears that was not verified, and nothing is left of an
upload that ends in any other way.
"""

from __future__ import annotations

import http.client
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from vse.errors import ServerFault, SourceUnavailable, Unsupported, VseError
from vse.model import Checksum
from vse.storage.contract import StoredFile
from vse.storage.drivers.held_upload import HeldUpload
from vse.storage.drivers.http_session import MAX_SAID_BYTES, HttpSession
from vse.storage.drivers.http_upload import PutRequest
from vse.storage.drivers.pieces import PieceReader
from vse.storage.drivers.s3_signing import Keys, signed
from vse.storage.drivers.s3_store import library, mapped, of_answer

ADLER32 = "vse-adler32"
"""The metadata that keeps the checksum: ``x-amz-meta-vse-adler32``."""
MAX_PUT_BYTES = 5 << 30
"""What one PUT may hold (AWS, Ceph and MinIO alike)."""
BUFFERED_BYTES = 4 << 20
"""A file up to this size is kept in memory until `commit`, so that its checksum goes with it."""
_PIECE_BYTES = 4 << 20
_AT_ONCE = 4
_CONTINUE_WAIT_S = 1.0


class S3Reader(PieceReader):
    """`vse.storage.contract.Reader` of an object."""

    def __init__(self, wanted: str, store: Any, key: str, size_bytes: int) -> None:
        super().__init__(wanted, size_bytes, self._range)
        self._store = store
        self._key = key

    def _range(self, start: int, end: int) -> bytes:
        obstore = library()

        with mapped(self._wanted):
            return bytes(obstore.get_range(self._store, self._key, start=start, end=end))

    def pread_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The library joins near ranges and asks for several at once."""
        obstore = library()

        asked = [self._clipped(offset, size_bytes) for offset, size_bytes in ranges]
        full = [one for one in asked if one[0] < one[1]]
        if not full:
            return [b""] * len(asked)
        with mapped(self._wanted):
            starts, ends = [one[0] for one in full], [one[1] for one in full]
            found = iter(obstore.get_ranges(self._store, self._key, starts=starts, ends=ends))
        return [
            self._checked(bytes(next(found)), end - start) if start < end else b"" for start, end in asked
        ]

    def stream(self, offset: int = 0) -> Iterator[memoryview]:
        """Several pieces are on their way at once: one connection to S3 is slow."""
        position, _ = self._clipped(offset, 0)
        if self.size_bytes - position <= _PIECE_BYTES:
            yield from (memoryview(piece) for piece in [self.pread(position, _PIECE_BYTES)] if piece)
            return
        coming: deque[Future[bytes]] = deque()
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="vse-s3") as pool:
            try:
                while coming or position < self.size_bytes:
                    while len(coming) < _AT_ONCE and position < self.size_bytes:
                        coming.append(pool.submit(self.pread, position, _PIECE_BYTES))
                        position += _PIECE_BYTES
                    yield memoryview(coming.popleft().result())
            finally:
                for one in coming:
                    one.cancel()


class BufferedUpload(HeldUpload):
    """A small file: kept here, put at `commit`."""

    def __init__(
        self,
        wanted: str,
        size_bytes: int,
        checksum: Checksum | None,
        put: Callable[[bytes, Checksum], StoredFile],
    ) -> None:
        super().__init__(wanted, size_bytes, checksum)
        self._put = put
        self._data = bytearray()

    def _send(self, data: memoryview) -> None:
        self._data += data

    def _publish(self) -> StoredFile:
        return self._put(bytes(self._data), self._declared.seen.checksum)

    def _forget(self) -> None:
        self._data = bytearray()


class StreamedUpload(HeldUpload):
    """A large file: one PUT whose last byte is held back. ``confirm`` tells what the server has then."""

    def __init__(
        self,
        wanted: str,
        size_bytes: int,
        checksum: Checksum | None,
        request: PutRequest,
        confirm: Callable[[], StoredFile],
    ) -> None:
        super().__init__(wanted, size_bytes, checksum)
        self._request = request
        self._confirm = confirm
        self._held = b""
        if request.refused(_CONTINUE_WAIT_S):
            self._refuse()

    def _send(self, data: memoryview) -> None:
        if self._declared.seen.size_bytes == self._declared.size_bytes:
            self._held = bytes(data[-1:])
            data = data[:-1]
        self._push(data)

    def _publish(self) -> StoredFile:
        self._push(memoryview(self._held))
        response = self._request.answer()
        if response.status != 200:
            raise self._error(response)
        return self._confirm()

    def _forget(self) -> None:
        self._request.close()

    def _push(self, data: memoryview) -> None:
        if self._request.refused():
            self._refuse()
        try:
            self._request.send(data)
        except SourceUnavailable as broken:
            refusal: VseError = broken
            with suppress(VseError):  # a server that refuses in the middle answers, then closes
                refusal = self._error(self._request.answer())
            raise refusal from broken

    def _refuse(self) -> None:
        error = self._error(self._request.answer())
        self.abort()
        raise error

    def _error(self, response: http.client.HTTPResponse) -> VseError:
        if response.status < 400:
            return ServerFault(self._wanted, f"the server answered {response.status} to a PUT")
        return of_answer(
            self._wanted, response.status, response.read(MAX_SAID_BYTES).decode("utf-8", "replace")
        )


def begin_put(
    session: HttpSession,
    url: str,
    size_bytes: int,
    checksum: Checksum | None,
    keys: Keys | None,
    region: str,
    wanted: str,
) -> PutRequest:
    """Start the conditional PUT of a large file."""
    if size_bytes > MAX_PUT_BYTES:
        found = f"it has {size_bytes} bytes, and one conditional PUT holds {MAX_PUT_BYTES}"
        raise Unsupported(wanted, found, "send it to another storage element")
    headers = {"If-None-Match": "*"}
    if checksum is not None and checksum.algorithm == "adler32":
        headers[f"x-amz-meta-{ADLER32}"] = checksum.value
    if keys is not None:
        headers = signed("PUT", url, headers, keys, region, time.time())
    return PutRequest(session, url, size_bytes, headers, wanted)
