"""What readers of storages without descriptors share: checked ranges, the end, and the closed state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from vse.errors import BadRequest, ShortRead
from vse.model import Closing
from vse.storage.contract import CHUNK_BYTES

Fetch = Callable[[int, int], bytes]
"""Returns the bytes from ``offset`` to ``end``, which lie inside the file and are at least one."""


class PieceReader(Closing):
    """`vse.storage.contract.Reader` over a function that fetches one range."""

    def __init__(self, wanted: str, size_bytes: int, fetch: Fetch) -> None:
        self.size_bytes = size_bytes
        self._wanted = wanted
        self._fetch = fetch
        self._closed = False

    def pread(self, offset: int, size_bytes: int) -> bytes:
        start, end = self._clipped(offset, size_bytes)
        return self._exactly(start, end) if start < end else b""

    def pread_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        for offset, size_bytes in ranges:
            self._clipped(offset, size_bytes)
        return [self.pread(offset, size_bytes) for offset, size_bytes in ranges]

    def stream(self, offset: int = 0) -> Iterator[memoryview]:
        start, _ = self._clipped(offset, 0)
        while start < self.size_bytes:
            piece = self.pread(start, CHUNK_BYTES)
            start += len(piece)
            yield memoryview(piece)

    def close(self) -> None:
        self._closed = True

    def _clipped(self, offset: int, size_bytes: int) -> tuple[int, int]:
        if self._closed:
            raise BadRequest(self._wanted, "it was closed")
        if offset < 0 or size_bytes < 0:
            raise BadRequest(self._wanted, f"a range from {offset} of {size_bytes} bytes is impossible")
        start = min(offset, self.size_bytes)
        return start, min(start + size_bytes, self.size_bytes)

    def _exactly(self, start: int, end: int) -> bytes:
        return self._checked(self._fetch(start, end), end - start)

    def _checked(self, piece: bytes, size_bytes: int) -> bytes:
        if len(piece) != size_bytes:
            raise ShortRead(self._wanted, f"{len(piece)} bytes came of the {size_bytes} asked for")
        return piece
