"""The file that a move writes, over all the sources that it is read from."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

from vse.errors import ChecksumMismatch, Interrupted, SizeMismatch, StorageError, StorageFull, VseError
from vse.model import Adler32, Checksum, Closing
from vse.storage.contract import CHUNK_BYTES, Reader, Resumable, StoredFile, Upload
from vse.transfer.caps import Pace
from vse.transfer.lifecycle import Transfer
from vse.transfer.mover_live import Live
from vse.transfer.sources import Source

_KEPT_BYTES = CHUNK_BYTES
"""Less than this is read again rather than kept."""


class Target(Protocol):
    """What takes the bytes of one file."""

    def put(self, size_bytes: int, checksum: Checksum | None) -> Upload: ...

    def resume(self, size_bytes: int, checksum: Checksum | None, name: str) -> Resumable | None:
        """Begin or go on with the upload called ``name``; None where there is no such thing."""
        ...


class Destination(Target, Protocol):
    """The place of one file at the storage element it goes to."""

    def open(self) -> Reader:
        """Open what is there already; `NoSuchFile` where nothing is."""
        ...

    def local_path(self) -> Path | None: ...

    def remove(self) -> None: ...


class KeptName(NamedTuple):
    """The name of a half-done upload: whose it is, and of which bytes."""

    transfer_id: int
    size_bytes: int
    adler32: int

    def __str__(self) -> str:
        return f"{self.transfer_id}-{self.size_bytes}-{self.adler32:08x}"

    @classmethod
    def of(cls, transfer: Transfer) -> KeptName | None:
        """Return None for a transfer without a checksum: nothing would tell that the rest belongs to it."""
        if transfer.adler32 is None:
            return None
        return cls(transfer.id, transfer.size_bytes, transfer.adler32)

    @classmethod
    def parse(cls, text: str) -> KeptName | None:
        parts = text.split("-")
        try:
            return cls(int(parts[0]), int(parts[1]), int(parts[2], 16)) if len(parts) == 3 else None
        except ValueError:
            return None


class ComingFile(Closing):
    """Gathers the bytes of a file until they are all there; nothing is visible before `commit`.

    At the end of the ``with`` block without a commit, nothing remains but what may be gone on with: enough
    bytes, at a storage that keeps them, after an error that is not of the bytes themselves.
    """

    def __init__(self, transfer: Transfer, destination: Target, live: Live, pace: Pace) -> None:
        self._transfer = transfer
        self._destination = destination
        self._live = live
        self._pace = pace
        self._upload: Upload | None = None
        self._resumable: Resumable | None = None
        self._own = Adler32()
        self.moved_bytes = 0

    @property
    def seen(self) -> Adler32:
        """What has been written so far."""
        return self._resumable.seen if self._resumable is not None else self._own

    def begin(self) -> int:
        """Open the file; return how many bytes of an earlier attempt are there (and are read by now)."""
        if self._upload is not None:
            return 0
        size_bytes, checksum = self._transfer.size_bytes, self._transfer.checksum
        name = KeptName.of(self._transfer)
        self._own = Adler32()
        if name is not None:
            self._resumable = self._destination.resume(size_bytes, checksum, str(name))
        if self._resumable is None:
            self._upload = self._destination.put(size_bytes, checksum)
            return 0
        self._upload = self._resumable
        self._resumable.recover(self._live.note)
        return self.seen.size_bytes

    def pour(self, source: Source) -> None:
        """Add the bytes that are missing, out of ``source``; what it gave before an error stays."""
        transfer, live, offset = self._transfer, self._live, self.seen.size_bytes
        with source.open() as reader:
            if reader.size_bytes != transfer.size_bytes:
                raise self._wrong_size(source, reader.size_bytes)
            with live.reading.calls(reader.close):
                for piece in reader.stream(offset):
                    self._write(piece)
                    live.note(self.seen.size_bytes)
                    wait_s = self._pace(source.se, transfer.destination, len(piece))
                    if wait_s:
                        live.pause(wait_s)
        live.read_through()
        if self.seen.size_bytes != transfer.size_bytes:
            raise self._wrong_size(source, self.seen.size_bytes)

    def _write(self, piece: memoryview) -> None:
        upload = self._upload
        assert upload is not None  # noqa: S101  # `begin` comes first
        try:
            upload.write(piece)
        except VseError:
            self.drop()  # it has ended
            raise
        if self._resumable is None:
            self._own.update(piece)
        self.moved_bytes += len(piece)

    def compare(self, source: Source) -> None:
        """Raise `ChecksumMismatch` where the bytes are not those of the catalogue."""
        wanted = self._transfer.checksum
        if wanted is not None and self.seen.checksum != wanted:
            raise ChecksumMismatch(
                f"read {self._transfer.lfn} from {source.url}",
                f"the bytes have {self.seen.checksum}; the catalogue says {wanted}",
                "the copy at the source is damaged, or the catalogue is wrong: compare it with another copy",
            )

    def partial_path(self) -> Path | None:
        return self._upload.partial_path() if self._upload else None

    def commit(self) -> StoredFile:
        assert self._upload is not None  # noqa: S101
        return self._upload.commit()

    def drop(self) -> None:
        """Forget what came, and begin anew."""
        upload, self._upload, self._resumable = self._upload, None, None
        self._own = Adler32()
        if upload is not None:
            upload.abort()

    def close(self) -> None:
        self.drop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        later = isinstance(error, StorageError | Interrupted) and not isinstance(error, StorageFull)
        half = self._resumable
        if later and half is not None and max(half.kept_bytes, half.seen.size_bytes) >= _KEPT_BYTES:
            half.keep()
            self._live.kept = True
        self.drop()

    def _wrong_size(self, source: Source, size_bytes: int) -> SizeMismatch:
        return SizeMismatch(
            f"read {self._transfer.lfn} from {source.url}",
            f"it has {size_bytes} bytes; the catalogue says {self._transfer.size_bytes}",
            "the copy at the source is not the file that was registered",
        )
