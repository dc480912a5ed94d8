"""Reading a file by the root protocol: single ranges, vectors of ranges, and a stream read ahead."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

from vse.errors import BadRequest, ShortRead, SizeMismatch, Stalled, VseError
from vse.model import Closing
from vse.storage.contract import CHUNK_BYTES
from vse.storage.drivers.http_ranges import joined
from vse.storage.drivers.xroot_client import asked, checked, error_of, whole_s

_PIECE_BYTES = 2 * CHUNK_BYTES
_AHEAD = 4
_VECTOR_RANGES = 1024
"""What a server takes in one vector read (readv_iov_max), and the longest range in it (readv_ior_max)."""
_VECTOR_RANGE_BYTES = 2097136
_VECTOR_BYTES = 16 * CHUNK_BYTES
_CLOSE_S = 5


class XrootReader(Closing):
    """`vse.storage.contract.Reader` of an open ``XRootD.client.File``, which it takes over."""

    def __init__(self, file: Any, wanted: str, size_bytes: int, no_progress_s: float) -> None:
        self.size_bytes = size_bytes
        self._file = file
        self._wanted = wanted
        self._no_progress_s = no_progress_s
        self._timeout_s = whole_s(no_progress_s)
        self._lock = threading.Lock()
        self._calls = 0
        self._closed = False
        self._let_go = False

    def pread(self, offset: int, size_bytes: int) -> bytes:
        start, end = self._clipped(offset, size_bytes)
        self._enter()
        try:
            if end - start > _PIECE_BYTES:
                return b"".join(self._pieces(start, end))
            return self._read(start, end) if start < end else b""
        finally:
            self._leave()

    def pread_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        clipped = [self._clipped(offset, size_bytes) for offset, size_bytes in ranges]
        whole = [piece for one in joined(clipped) for piece in _cut(*one)]
        starts = [start for start, _ in whole]
        with self._in_use():
            held = [data for some in _requests(whole) for data in self._read_vector(some)]
        result = []
        for start, end in clipped:
            parts = []
            index = bisect_right(starts, start) - 1
            while start < end:
                upto = min(end, whole[index][1])
                parts.append(held[index][start - starts[index] : upto - starts[index]])
                start, index = upto, index + 1
            result.append(parts[0] if len(parts) == 1 else b"".join(parts))
        return result

    def stream(self, offset: int = 0) -> Iterator[memoryview]:
        start, end = self._clipped(offset, self.size_bytes)
        with self._in_use():
            for piece in self._pieces(start, end):
                yield memoryview(piece)
                self._check_open()

    def close(self) -> None:
        """Close once the calls of other threads are through; a stream of theirs ends with an error."""
        with self._lock:
            self._closed = True
        self._close_if_unused()

    def _read(self, start: int, end: int) -> bytes:
        data: bytes = checked(
            asked(self._wanted, self._file.read, start, end - start, self._timeout_s), self._wanted
        )
        if len(data) != end - start:
            raise self._short(end - start - len(data))
        return data

    def _read_vector(self, some: Sequence[tuple[int, int]]) -> list[bytes]:
        if len(some) == 1:
            return [self._read(*some[0])]
        ranges = [(start, end - start) for start, end in some]
        status, answer = asked(self._wanted, self._file.vector_read, ranges, timeout=self._timeout_s)
        if not status.ok:
            self._check_size()
            raise error_of(status, self._wanted)
        pieces: list[bytes] = [chunk.buffer for chunk in answer.chunks]
        missing = sum(size for _, size in ranges) - sum(map(len, pieces))
        if missing or [len(piece) for piece in pieces] != [size for _, size in ranges]:
            raise self._short(missing)
        return pieces

    def _pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Yield bytes ``start`` to ``end`` in order, with some requests always under way.

        Stalls are told by the time in which no piece came, not by that of one request, so that a slow
        line with many requests on the way is no stall.
        """
        pending: deque[tuple[int, Future[tuple[Any, Any]]]] = deque()
        position = start
        try:
            while position < end or pending:
                while position < end and len(pending) < _AHEAD:
                    size_bytes = min(_PIECE_BYTES, end - position)
                    pending.append((size_bytes, self._ask(position, size_bytes)))
                    position += size_bytes
                size_bytes, answer = pending.popleft()
                try:
                    data: bytes = checked(answer.result(self._no_progress_s), self._wanted)
                except TimeoutError as error:
                    raise Stalled(self._wanted, f"no byte came for {self._no_progress_s:g} s") from error
                if len(data) != size_bytes:
                    raise self._short(size_bytes - len(data))
                yield data
        finally:
            for _, answer in pending:  # the file must not be closed under them
                with suppress(TimeoutError):
                    answer.result(_CLOSE_S)

    def _ask(self, offset: int, size_bytes: int) -> Future[tuple[Any, Any]]:
        future: Future[tuple[Any, Any]] = Future()
        status = asked(
            self._wanted,
            self._file.read,
            offset,
            size_bytes,
            timeout=self._timeout_s * (_AHEAD + 1),
            callback=lambda status, data, _hosts: future.set_result((status, data)),
        )
        if not status.ok:
            raise error_of(status, self._wanted)
        return future

    def _short(self, missing_bytes: int) -> VseError:
        self._check_size()
        return ShortRead(self._wanted, f"{missing_bytes} bytes are missing")

    def _check_size(self) -> None:
        status, found = asked(self._wanted, self._file.stat, force=True, timeout=self._timeout_s)
        if status.ok and found.size != self.size_bytes:
            raise SizeMismatch(
                self._wanted, f"it had {self.size_bytes} bytes when it was opened and has {found.size} now"
            )

    def _clipped(self, offset: int, size_bytes: int) -> tuple[int, int]:
        self._check_open()
        if offset < 0 or size_bytes < 0:
            raise BadRequest(self._wanted, f"a range from {offset} of {size_bytes} bytes is impossible")
        start = min(offset, self.size_bytes)
        return start, min(start + size_bytes, self.size_bytes)

    def _check_open(self) -> None:
        if self._closed:
            raise BadRequest(self._wanted, "it was closed")

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._lock:
            self._check_open()
            self._calls += 1

    def _leave(self) -> None:
        with self._lock:
            self._calls -= 1
            last = self._closed and not self._calls
        if last:
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        with self._lock:
            if not self._closed or self._calls or self._let_go:
                return
            self._let_go = True
        self._file.close(timeout=_CLOSE_S)


def _cut(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a range to what one element of a vector read may hold."""
    for offset in range(start, end, _VECTOR_RANGE_BYTES):
        yield offset, min(offset + _VECTOR_RANGE_BYTES, end)


def _requests(whole: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Share ranges out to vector reads, none over the server's limits or too much to hold at once."""
    some: list[tuple[int, int]] = []
    size_bytes = 0
    for start, end in whole:
        if some and (len(some) == _VECTOR_RANGES or size_bytes + end - start > _VECTOR_BYTES):
            yield some
            some, size_bytes = [], 0
        some.append((start, end))
        size_bytes += end - start
    if some:
        yield some
