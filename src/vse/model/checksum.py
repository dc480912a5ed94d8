"""Checksums as canonical values, so that 00040001 and 40001 can never differ."""

from __future__ import annotations

import zlib
from typing import NamedTuple, Self

from vse.errors import BadRequest

_HEX_DIGITS = {"adler32": 8, "crc32c": 8, "md5": 32, "sha256": 64}


class Checksum(NamedTuple):
    """An algorithm and its value in lower-case hex, padded to full width."""

    algorithm: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``adler32:b639c6f0`` or ``adler32=b639c6f0``; raise `BadRequest` where it is neither."""
        algorithm, separator, value = text.strip().partition(":" if ":" in text else "=")
        algorithm, value = algorithm.strip().lower(), value.strip().lower().removeprefix("0x")
        digits = _HEX_DIGITS.get(algorithm)
        wanted = f"read the checksum {text!r}"
        if not separator or digits is None:
            known = ", ".join(_HEX_DIGITS)
            raise BadRequest(wanted, "it is not ALGORITHM:HEX", f"algorithms are {known}")
        padded = value.zfill(digits)
        if len(padded) != digits or set(padded) - set("0123456789abcdef"):
            raise BadRequest(wanted, f"{algorithm} has {digits} hex digits, not {value!r}")
        return cls(algorithm, padded)

    @classmethod
    def adler32(cls, number: int) -> Self:
        """Return the checksum for an adler32 as `zlib.adler32` gives it."""
        return cls("adler32", f"{number & 0xFFFFFFFF:08x}")

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


class Adler32:
    """An adler32 that grows with the bytes it is shown."""

    def __init__(self) -> None:
        self._state = 1
        self.size_bytes = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._state = zlib.adler32(data, self._state)
        self.size_bytes += len(data)

    @property
    def checksum(self) -> Checksum:
        return Checksum.adler32(self._state)
