"""Reading a file of a mounted storage."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vse.errors import BadRequest, ShortRead, SizeMismatch
from vse.model import Closing
from vse.storage.contract import CHUNK_BYTES
from vse.storage.drivers.os_errors import mapped

T = TypeVar("T")


class FileReader(Closing):
    """`vse.storage.contract.Reader` over a file descriptor; ``path`` is already checked."""

    def __init__(self, path: Path) -> None:
        self._wanted = f"read {path}"
        self._lock = threading.Lock()
        self._calls = 0
        self._closed = False
        # O_NONBLOCK: opening a named pipe would wait for somebody to write to it.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise BadRequest(self._wanted, "it is not a file")
        self.size_bytes = status.st_size

    def pread(self, offset: int, size_bytes: int) -> bytes:
        expected = self._clipped(offset, size_bytes)
        pieces: list[bytes] = []
        done = 0
        while done < expected:
            piece = self._call(os.pread, expected - done, offset + done)
            pieces.append(piece)
            done += len(piece)
            if not piece:
                break
        self._check(expected - done)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def pread_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return [self.pread(offset, size_bytes) for offset, size_bytes in ranges]

    def stream(self, offset: int = 0) -> Iterator[memoryview]:
        self._clipped(offset, 0)
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while offset < self.size_bytes:
            want = buffer[: min(CHUNK_BYTES, self.size_bytes - offset)]
            count = self._call(os.preadv, [want], offset)
            self._check(len(want) if count == 0 else 0)
            offset += count
            yield want[:count]
        self._check(0)

    def _clipped(self, offset: int, size_bytes: int) -> int:
        if offset < 0 or size_bytes < 0:
            raise BadRequest(self._wanted, f"a range from {offset} of {size_bytes} bytes is impossible")
        return max(0, min(size_bytes, self.size_bytes - offset))

    def _call(self, call: Callable[..., T], *arguments: Any) -> T:
        with self._lock:
            if self._closed:
                raise BadRequest(self._wanted, "it was closed")
            self._calls += 1
        try:
            return call(self._descriptor, *arguments)
        except OSError as error:
            raise mapped(self._wanted, error) from error
        finally:
            with self._lock:
                self._calls -= 1
                self._let_go()

    def _check(self, missing_bytes: int) -> None:
        """Raise where the file is not what it was when it was opened, or bytes are missing."""
        now_bytes = self._call(os.fstat).st_size
        if now_bytes != self.size_bytes:
            raise SizeMismatch(
                self._wanted, f"it had {self.size_bytes} bytes when it was opened and has {now_bytes} now"
            )
        if missing_bytes:
            raise ShortRead(self._wanted, f"{missing_bytes} bytes are missing")

    def close(self) -> None:
        """Close once the calls of other threads are through; a number may be another file's after that."""
        with self._lock:
            self._closed = True
            self._let_go()

    def _let_go(self) -> None:
        if self._closed and not self._calls and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
