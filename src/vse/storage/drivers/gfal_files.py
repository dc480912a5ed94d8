"""An open file and an upload of the gfal driver."""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from vse.model import Checksum
from vse.storage.contract import CHUNK_BYTES, StoredFile
from vse.storage.drivers.gfal_process import GfalCalls
from vse.storage.drivers.held_upload import HeldUpload
from vse.storage.drivers.pieces import PieceReader


class GfalReader(PieceReader):
    """`vse.storage.contract.Reader` by calls to gfal2."""

    def __init__(self, wanted: str, size_bytes: int, calls: GfalCalls, name: str) -> None:
        super().__init__(wanted, size_bytes, self._range)
        self._calls = calls
        self._name = name

    def _range(self, start: int, end: int) -> bytes:
        pieces = []
        for offset in range(start, end, 8 * CHUNK_BYTES):
            one = (offset, min(8 * CHUNK_BYTES, end - offset))
            pieces.extend(self._read([one]))
        return b"".join(pieces)

    def _read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        found = self._calls.ask(self._wanted, "read", url=self._name, ranges=ranges)
        return [base64.b64decode(piece) for piece in found]

    def pread_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """All in one call, unless they are more than it should hold."""
        asked = [self._clipped(offset, size_bytes) for offset, size_bytes in ranges]
        if sum(end - start for start, end in asked) > 64 * CHUNK_BYTES:
            return super().pread_many(ranges)
        pieces = self._read([(start, end - start) for start, end in asked]) if asked else []
        return [self._checked(piece, end - start) for piece, (start, end) in zip(pieces, asked, strict=True)]


class GfalUpload(HeldUpload):
    """`vse.storage.contract.Upload`: spooled here, brought by gfal2 at `commit`.

    The spool is a file without a name, which gfal2's process reaches by our descriptor: of a process that
    dies nothing is left.
    """

    def __init__(
        self,
        wanted: str,
        size_bytes: int,
        checksum: Checksum | None,
        bring: Callable[[Path, Checksum], StoredFile],
    ) -> None:
        super().__init__(wanted, size_bytes, checksum)
        self._bring = bring
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115  closed by _forget

    def _send(self, data: memoryview) -> None:
        self._spool.write(data)

    def partial_path(self) -> Path:
        self._spool.flush()
        return Path(f"/proc/{os.getpid()}/fd/{self._spool.fileno()}")

    def _publish(self) -> StoredFile:
        return self._bring(self.partial_path(), self._declared.seen.checksum)

    def _forget(self) -> None:
        self._spool.close()
