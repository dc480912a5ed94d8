"""What an upload knows of the bytes it was given: how many, and their checksum."""

from __future__ import annotations

import hashlib

from vse.errors import ChecksumMismatch, SizeMismatch, Unsupported
from vse.model import Adler32, Checksum

_DIGESTS = ("md5", "sha256")


class Declared:
    """The size and checksum a file was announced with, held against the bytes that come.

    Raises `Unsupported` for a checksum that cannot be computed here.
    """

    def __init__(self, wanted: str, size_bytes: int, checksum: Checksum | None) -> None:
        self._wanted = wanted
        self.size_bytes = size_bytes
        self.checksum = checksum
        self.seen = Adler32()
        self._digest = None
        if checksum is not None and checksum.algorithm != "adler32":
            if checksum.algorithm not in _DIGESTS:
                known = ", ".join(("adler32", *_DIGESTS))
                raise Unsupported(wanted, f"{checksum.algorithm} is not computed here (only {known})")
            self._digest = hashlib.new(checksum.algorithm, usedforsecurity=False)

    def update(self, data: memoryview) -> None:
        """Count ``data`` in; raises `SizeMismatch` at the first byte beyond the declared size."""
        if self.seen.size_bytes + len(data) > self.size_bytes:
            raise SizeMismatch(self._wanted, f"more than the declared {self.size_bytes} bytes came")
        self.seen.update(data)
        if self._digest is not None:
            self._digest.update(data)

    def check(self) -> None:
        """Raise `SizeMismatch` or `ChecksumMismatch` where what came is not what was declared."""
        if self.seen.size_bytes != self.size_bytes:
            raise SizeMismatch(
                self._wanted, f"{self.seen.size_bytes} bytes came of the declared {self.size_bytes}"
            )
        if self.checksum is None:
            return
        found = self.seen.checksum
        if self._digest is not None:
            found = Checksum(self.checksum.algorithm, self._digest.hexdigest())
        if found != self.checksum:
            raise ChecksumMismatch(self._wanted, f"the bytes have {found}, declared was {self.checksum}")
