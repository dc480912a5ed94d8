"""What the tests of a storage driver share: bytes to write, ways to write and read them, expectations."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from vse.errors import NoSuchFile, Unsupported, VseError
from vse.model import Adler32, Checksum
from vse.storage.contract import Driver, StoredFile

NAMES = (
    "plain.root",
    "with blanks in it.root",
    " leading and trailing ",
    "Größe-日本語-Ω.root",
    "number#sign?question&amp=equal+plus.root",
    "100%.root",
    "%41%2F not escaped.root",
    "semi;colon,comma'quote\"double.root",
    "[brackets]{braces}<angle>|^`~@:!$*().root",
    "back\\slash.root",
    "x" * 200,
    "ü" * 100,
    ".hidden",
)
"""Names that must survive every way to a storage and back."""


def pattern(size_bytes: int, seed: int = 1) -> bytes:
    """Return bytes that differ at every place they could be taken from by mistake."""
    return random.Random(seed).randbytes(size_bytes)


def adler32(data: bytes) -> Checksum:
    """Return the checksum of ``data``."""
    total = Adler32()
    total.update(data)
    return total.checksum


def checksum_of(data: bytes, algorithm: str) -> Checksum:
    """Return the checksum of ``data`` by any algorithm there is."""
    if algorithm == "adler32":
        return adler32(data)
    if algorithm == "crc32c":
        return Checksum.parse(f"crc32c:{_crc32c(data):08x}")
    return Checksum.parse(f"{algorithm}:{hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()}")


def _crc32c(data: bytes) -> int:
    """By the polynomial of Castagnoli (RFC 3720 §12.1), a byte at a time."""
    table = []
    for index in range(256):
        for _ in range(8):
            index = index >> 1 ^ (0x82F63B78 if index & 1 else 0)
        table.append(index)
    value = 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


@contextmanager
def raising(kind: type[VseError]) -> Iterator[None]:
    """Expect ``kind``, and that it explains itself."""
    try:
        yield
    except kind as error:
        assert error.wanted, f"{kind.__name__} does not say what was wanted"
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def store(driver: Driver, path: str, data: bytes, checksum: Checksum | None = None) -> StoredFile:
    """Put ``data`` at ``path``."""
    with driver.put(path, len(data), checksum) as upload:
        upload.write(data)
        return upload.commit()


def fetch(driver: Driver, path: str) -> bytes:
    """Return the whole of a file."""
    with driver.open(path) as reader:
        return b"".join(bytes(piece) for piece in reader.stream())


def names_in(driver: Driver, path: str) -> list[str]:
    """Return the last parts of the names in a directory, sorted."""
    return sorted(child.path.rpartition("/")[2] for child in driver.list(path))


def is_there(driver: Driver, path: str) -> bool:
    """Whether the storage knows the path at all."""
    result = driver.stat([path])
    for error in result.failed.values():
        assert isinstance(error, NoSuchFile), repr(error)
    return path in result.ok


def assert_unsupported(ask: Callable[[], Iterable[VseError]]) -> None:
    """Expect `Unsupported`, for the whole call or for each of its items."""
    try:
        failures = list(ask())
    except Unsupported:
        return
    assert failures
    assert all(isinstance(error, Unsupported) for error in failures)
