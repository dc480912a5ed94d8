"""Writing a file by the root protocol: under a hidden name, proved on the server, then renamed."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from vse.errors import BadRequest, Stalled
from vse.model import Checksum
from vse.storage.contract import CHUNK_BYTES, StoredFile
from vse.storage.drivers.aborting import Aborting
from vse.storage.drivers.sums import Declared
from vse.storage.drivers.xroot_client import asked, checked, error_of
from vse.storage.drivers.xroot_names import XrootNames

_PIECE_BYTES = 4 * CHUNK_BYTES
_AHEAD = 3
_CLOSE_S = 5


class XrootUpload(Aborting):
    """`vse.storage.contract.Upload` to one server.

    Of a process that dies the server drops the partial file itself, after the time it keeps for clients
    to come back (ten minutes where its configuration does not say otherwise).
    """

    def __init__(self, names: XrootNames, path: str, size_bytes: int, checksum: Checksum | None) -> None:
        self._names = names
        self._path = path
        self._wanted = f"write {names.raw_url(path)}"
        self._declared = Declared(self._wanted, size_bytes, checksum)
        self._lock = threading.RLock()
        self._held = bytearray()
        self._offset = 0
        self._pending: deque[Future[Any]] = deque()
        self._partial: str | None = names.new_partial()
        self._file: Any = names.create(self._partial, self._wanted, held=True)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with self._guarded():
            self._open()
            view = memoryview(data).cast("B")
            self._declared.update(view)
            while view:
                room = _PIECE_BYTES - len(self._held)
                self._held += view[:room]
                view = view[room:]
                if len(self._held) == _PIECE_BYTES:
                    self._send()

    def partial_path(self) -> Path | None:
        return None

    def commit(self) -> StoredFile:
        with self._guarded():
            partial = self._open()
            self._declared.check()
            if self._held:
                self._send()
            while self._pending:
                self._await_oldest()
            file, self._file = self._file, None
            checked(asked(self._wanted, file.close, timeout=self._names.timeout_s), self._wanted)
            checksums = [self._declared.seen.checksum]
            if self._declared.checksum not in (None, *checksums):
                checksums.append(self._declared.checksum)  # type: ignore[arg-type]
            stored = self._names.verify(partial, self._declared.size_bytes, checksums, self._wanted)
            self._names.publish(partial, self._path, self._wanted)
            self._partial = None
        return stored._replace(path=self._path)

    def abort(self) -> None:
        with self._lock:
            file, self._file = self._file, None
            partial, self._partial = self._partial, None
            self._held.clear()
            if file is not None:
                file.close(timeout=_CLOSE_S)
            if partial is not None:
                self._names.discard(partial)

    def _send(self) -> None:
        while len(self._pending) >= _AHEAD:
            self._await_oldest()
        data = bytes(self._held)
        self._held.clear()
        future: Future[Any] = Future()

        def done(status: Any, _response: Any, _hosts: Any, _sent: bytes = data) -> None:
            future.set_result(status)  # the library reads the bytes until now: they must live so long

        timeout_s = self._names.timeout_s * (_AHEAD + 1)
        status = asked(
            self._wanted, self._file.write, data, self._offset, len(data), timeout=timeout_s, callback=done
        )
        if not status.ok:
            raise error_of(status, self._wanted)
        self._offset += len(data)
        self._pending.append(future)

    def _await_oldest(self) -> None:
        try:
            status = self._pending.popleft().result(self._names.no_progress_s)
        except TimeoutError as error:
            silent_s = self._names.no_progress_s
            raise Stalled(self._wanted, f"the server took no byte for {silent_s:g} s") from error
        if not status.ok:
            raise error_of(status, self._wanted)

    def _open(self) -> str:
        if self._partial is None:
            raise BadRequest(self._wanted, "the upload has ended already")
        return self._partial
