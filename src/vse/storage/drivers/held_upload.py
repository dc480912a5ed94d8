"""The frame of an upload: counts and checks the bytes, ends once, leaves nothing after an error.

What is particular to a storage are the three steps it is given: `_send`, `_publish` and `_forget`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vse.errors import BadRequest
from vse.model import Checksum
from vse.storage.contract import StoredFile
from vse.storage.drivers.aborting import Aborting
from vse.storage.drivers.sums import Declared


class HeldUpload(Aborting):
    """Base of uploads. `_forget` is called exactly once, however the upload ends, `_publish` at most once."""

    def __init__(self, wanted: str, size_bytes: int, checksum: Checksum | None) -> None:
        if size_bytes < 0:
            raise BadRequest(wanted, f"a file cannot have {size_bytes} bytes")
        self._wanted = wanted
        self._declared = Declared(wanted, size_bytes, checksum)
        self._lock = threading.RLock()
        self._ended = False

    def _send(self, data: memoryview) -> None:
        """Pass on bytes that are counted already."""
        raise NotImplementedError

    def _publish(self) -> StoredFile:
        """Make the file appear; its bytes are the declared ones."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Drop what is left of the upload; raises nothing."""
        raise NotImplementedError

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with self._guarded():
            view = memoryview(data).cast("B")
            self._declared.update(view)
            if view:
                self._send(view)

    def partial_path(self) -> Path | None:
        return None

    def commit(self) -> StoredFile:
        with self._guarded():
            self._declared.check()
            stored = self._publish()
        self.abort()
        return stored

    def abort(self) -> None:
        with self._lock:
            if not self._ended:
                self._ended = True
                self._forget()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with super()._guarded():
            if self._ended:
                raise BadRequest(self._wanted, "the upload has ended already")
            yield
