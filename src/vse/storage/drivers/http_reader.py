"""Reading a file over HTTP: the whole of it as one stream, or ranges, many in one request."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import urllib3

from vse.errors import BadRequest, ServerFault, ShortRead, SizeMismatch
from vse.model import Closing
from vse.storage.contract import CHUNK_BYTES
from vse.storage.drivers import http_ranges as ranges
from vse.storage.drivers.http_session import HttpSession, read_into

_AT_ONCE = 8
_PART_HEAD_BYTES = 1024


class HttpReader(Closing):
    """`vse.storage.contract.Reader` of a file of known size."""

    def __init__(self, session: HttpSession, path: str, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._session = session
        self._url = session.url(path)
        self._wanted = f"read {self._url}"
        self._closed = False
        self._many_at_once = True
        self._lock = threading.Lock()
        self._answers: set[urllib3.BaseHTTPResponse] = set()

    def pread(self, offset: int, size_bytes: int) -> bytes:
        asked = self._clipped(offset, size_bytes)
        return self._fetch(asked) if asked[0] < asked[1] else b""

    def pread_many(self, ranges_: Sequence[tuple[int, int]]) -> list[bytes]:
        asked = [self._clipped(offset, size_bytes) for offset, size_bytes in ranges_]
        whole = ranges.joined(asked)
        starts = [start for start, _ in whole]
        held: list[bytes | memoryview] = []
        for first in range(0, len(whole), ranges.MAX_RANGES):
            held.extend(self._fetch_many(whole[first : first + ranges.MAX_RANGES]))
        pieces: list[bytes] = []
        for start, end in asked:
            if start == end:
                pieces.append(b"")
                continue
            index = bisect_right(starts, start) - 1
            pieces.append(bytes(held[index][start - starts[index] : end - starts[index]]))
        return pieces

    def stream(self, offset: int = 0) -> Iterator[memoryview]:
        start, end = self._clipped(offset, self.size_bytes)
        if start == end:
            return
        # The end is said: XRootD 5.5 answers a range without one with an impossible Content-Range.
        with self._get(ranges.header([(start, end)]) if start else None) as response:
            yield from self._body(response, start, end)

    def close(self) -> None:
        """Close, and end what other threads are reading: they raise."""
        with self._lock:
            self._closed = True
            open_now = list(self._answers)
        for response in open_now:
            with suppress(OSError, ValueError, RuntimeError):  # it has ended by itself
                response.shutdown()

    @contextmanager
    def _get(self, byte_range: str | None) -> Iterator[urllib3.BaseHTTPResponse]:
        headers = {"Range": byte_range} if byte_range else {}
        with self._session.answered(
            "GET", self._url, self._wanted, accept=(200, 206), headers=headers
        ) as response:
            with self._lock:
                self._answers.add(response)
            try:
                self._check_open()
                yield response
            finally:
                with self._lock:
                    self._answers.discard(response)

    def _check_open(self) -> None:
        if self._closed:
            raise BadRequest(self._wanted, "it was closed")

    def _clipped(self, offset: int, size_bytes: int) -> ranges.Range:
        self._check_open()
        if offset < 0 or size_bytes < 0:
            raise BadRequest(self._wanted, f"a range from {offset} of {size_bytes} bytes is impossible")
        start = min(offset, self.size_bytes)
        return start, min(start + size_bytes, self.size_bytes)

    def _fetch(self, asked: ranges.Range) -> bytes:
        with self._get(ranges.header([asked])) as response:
            return b"".join([bytes(piece) for piece in self._body(response, *asked)])

    def _fetch_many(self, asked: Sequence[ranges.Range]) -> list[bytes | memoryview]:
        """Return the bytes of each range (none empty, none touching), one request if the server can."""
        parts: dict[ranges.Range, memoryview] = {}
        if self._many_at_once and len(asked) > 1:
            parts = self._ask_for_parts(asked)
        missing = [one for one in asked if one not in parts]
        if len(missing) > 1:
            with ThreadPoolExecutor(min(_AT_ONCE, len(missing)), thread_name_prefix="vse-range") as pool:
                single = dict(zip(missing, pool.map(self._fetch, missing), strict=True))
        else:
            single = {one: self._fetch(one) for one in missing}
        return [parts[one] if one in parts else single[one] for one in asked]

    def _ask_for_parts(self, asked: Sequence[ranges.Range]) -> dict[ranges.Range, memoryview]:
        """Return what one multi-range request gives; nothing from a server that does not do them."""
        limit = sum(end - start for start, end in asked) + _PART_HEAD_BYTES * (len(asked) + 2)
        with self._get(ranges.header(asked)) as response:
            try:
                boundary = ranges.boundary_of(response.headers.get("Content-Type"))
                if response.status == 200 or boundary is None:
                    self._many_at_once = False
                    return {}
                body = response.read(limit, decode_content=False)
                found = list(ranges.parts(body, boundary))
            except ranges.BadAnswer as error:
                raise self._bad(error) from error
        for _, total_bytes, _ in found:
            self._check_size(total_bytes)
        return {
            one: data[one[0] - start : one[1] - start]
            for one in asked
            for (start, end), _, data in found
            if start <= one[0] and one[1] <= end
        }

    def _body(self, response: urllib3.BaseHTTPResponse, start: int, end: int) -> Iterator[memoryview]:
        """Yield bytes ``start`` to ``end`` of the file from an answer that must hold them."""
        skip = self._skip_to(response, start, end)
        missing = skip + end - start
        # One buffer for all pieces: a new one each time costs more than the copy from the socket.
        buffer = memoryview(bytearray(min(CHUNK_BYTES, missing)))
        while missing:
            piece = buffer[: read_into(response, buffer[:missing], self._wanted)]
            if not piece:
                raise ShortRead(self._wanted, f"the server closed with {missing} bytes missing")
            missing -= len(piece)
            dropped = min(skip, len(piece))
            skip -= dropped
            if dropped < len(piece):
                yield piece[dropped:]

    def _skip_to(self, response: urllib3.BaseHTTPResponse, start: int, end: int) -> int:
        """Return how many bytes of the body come before ``start``; raise if it is another file's."""
        if response.status == 206:
            try:
                found, total_bytes = ranges.content_range(response.headers.get("Content-Range"))
            except ranges.BadAnswer as error:
                raise self._bad(error) from error
            self._check_size(total_bytes)
            if found != (start, end):
                asked = f"bytes {start}-{end - 1} were asked for"
                raise self._bad(f"{asked}, {found[0]}-{found[1] - 1} came")
            return 0
        length = response.headers.get("Content-Length", "")
        self._check_size(int(length) if length.isdecimal() else None)
        return start

    def _check_size(self, now_bytes: int | None) -> None:
        if now_bytes is not None and now_bytes != self.size_bytes:
            raise SizeMismatch(
                self._wanted, f"it had {self.size_bytes} bytes when it was opened and has {now_bytes} now"
            )

    def _bad(self, what: object) -> ServerFault:
        return ServerFault(self._wanted, f"the server's answer cannot be used: {what}")
