"""The part of the conformance suite beyond plain files: directories, links, tape, third-party copies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import pytest

from vse.errors import (
    AlreadyExists,
    BadRequest,
    ChecksumMismatch,
    Interrupted,
    NoSuchFile,
    SizeMismatch,
    Unsupported,
    VseError,
)
from vse.model import Checksum
from vse.storage.contract import CHUNK_BYTES, Driver, Locality, Note
from vse.testing.driver_tools import (
    adler32,
    assert_unsupported,
    fetch,
    is_there,
    names_in,
    pattern,
    raising,
    store,
)

Other: TypeAlias = tuple[Driver, str]
"""A second server: its driver, and the path of an empty directory there."""

STAGED_WITHIN_S = 30.0
"""How long a test's tape may take to bring a small file to disk."""

_Copy: TypeAlias = Callable[[str, int, Checksum | None, Note], None]


class TapeConformance:
    """What a driver that brings files from tape is held to; may be run alone, over a server with a tape.

    ``server_name``: what the driver is proved with, for the record of what passed.
    """

    server_name: str = ""

    def seed(self, driver: Driver, path: str, data: bytes) -> None:
        """Bring a file to the storage before it is read."""
        store(driver, path, data)

    def test_stage_poll_and_release(self, driver: Driver, base: str) -> None:
        path, missing = f"{base}/a.bin", f"{base}/none"
        self.seed(driver, path, b"on tape")
        if not driver.capabilities.stage:
            assert_unsupported(lambda: driver.stage([path], 60.0).failed.values())
            assert_unsupported(lambda: driver.poll([path]).failed.values())
            assert_unsupported(lambda: driver.release([path]).failed.values())
            return
        asked = driver.stage([path, missing], 60.0)
        assert asked.ok[path]
        assert isinstance(asked.failed.get(missing, NoSuchFile("")), NoSuchFile)
        until_s = time.monotonic() + STAGED_WITHIN_S
        found = driver.poll([path, missing])
        while found.ok[path] not in (Locality.DISK, Locality.DISK_AND_TAPE):
            assert time.monotonic() < until_s, f"not on disk within {STAGED_WITHIN_S} s: {found}"
            time.sleep(0.05)
            found = driver.poll([path, missing])
        assert isinstance(found.failed[missing], NoSuchFile)
        assert fetch(driver, path) == b"on tape"
        assert not driver.release([path]).failed
        assert not driver.stage([], 60.0).ok
        assert not driver.poll([]).ok


class BeyondFiles(TapeConformance):
    """Mixed into `vse.testing.drivers.DriverConformance`."""

    @pytest.fixture
    def other(self) -> Other | None:
        """A second server, for third-party copies; None where the driver declares none."""
        return None

    # -- directories and links -------------------------------------------------------------------

    def test_make_directory(self, driver: Driver, base: str) -> None:
        if not driver.capabilities.make_directory:
            with raising(Unsupported):
                driver.make_directory(f"{base}/new")
            return
        for _ in range(2):  # it is idempotent
            driver.make_directory(f"{base}/new/deep/er dir #1")
            assert driver.stat([f"{base}/new/deep/er dir #1"]).one(f"{base}/new/deep/er dir #1").is_directory
        driver.make_directory(f"{base}/new")
        driver.make_directory(base)
        self.seed(driver, f"{base}/new/deep/a.bin", b"12345")
        with raising(AlreadyExists):
            driver.make_directory(f"{base}/new/deep/a.bin")
        with raising(VseError):
            driver.make_directory(f"{base}/new/deep/a.bin/below")
        assert fetch(driver, f"{base}/new/deep/a.bin") == b"12345"
        if driver.capabilities.list:
            assert names_in(driver, f"{base}/new/deep") == ["a.bin", "er dir #1"]

    def test_many_make_one_directory(self, driver: Driver, base: str) -> None:
        if not driver.capabilities.make_directory:
            return
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: driver.make_directory(f"{base}/one/same/place"), range(12)))
        assert driver.stat([f"{base}/one/same/place"]).one(f"{base}/one/same/place").is_directory

    def test_link_is_a_second_name(self, driver: Driver, base: str) -> None:
        self.seed(driver, f"{base}/a.bin", b"of a")
        if not driver.capabilities.link:
            with raising(Unsupported):
                driver.link(f"{base}/a.bin", f"{base}/b.bin")
            return
        self.seed(driver, f"{base}/taken.bin", b"taken")
        for target in (f"{base}/taken.bin", base, f"{base}/a.bin"):
            with raising(AlreadyExists):
                driver.link(f"{base}/a.bin", target)
        with raising(NoSuchFile):
            driver.link(f"{base}/none", f"{base}/c.bin")
        with raising(BadRequest):
            driver.link(base, f"{base}/c.bin")
        driver.link(f"{base}/a.bin", f"{base}/new/place/100% #1.bin")
        assert fetch(driver, f"{base}/new/place/100% #1.bin") == b"of a"
        assert fetch(driver, f"{base}/a.bin") == b"of a"
        assert fetch(driver, f"{base}/taken.bin") == b"taken"
        if driver.capabilities.remove:  # either name may go, and the other stays
            assert not driver.remove([f"{base}/a.bin"]).failed
            assert fetch(driver, f"{base}/new/place/100% #1.bin") == b"of a"

    def test_checksums_are_canonical(self, driver: Driver, base: str) -> None:
        """Eight hex digits, zero-padded, whatever the server prints (XRootD: 40001 for 00040001)."""
        if "adler32" not in driver.capabilities.checksums:
            return
        values = {f"{base}/{size_bytes}.bin": b"\x01" * size_bytes for size_bytes in (1, 2, 20)}
        for path, data in values.items():
            self.seed(driver, path, data)
        answer = driver.checksum(list(values), "adler32")
        assert not answer.failed
        for path, data in values.items():
            assert len(answer.ok[path].value) == 8
            assert set(answer.ok[path].value) <= set("0123456789abcdef")
            assert answer.ok[path] == adler32(data)

    # -- third-party copies ----------------------------------------------------------------------

    def test_pull(self, driver: Driver, base: str, other: Other | None) -> None:
        data = pattern(2 * CHUNK_BYTES + 17)
        if not driver.capabilities.pull:
            with raising(Unsupported):
                driver.pull("root://elsewhere.invalid//a", f"{base}/a.bin", 1, None, lambda _: None)
            return
        there, there_base = _second(other, driver.capabilities.pull)
        self.seed(there, f"{there_base}/source #1.bin", data)
        source = there.url(f"{there_base}/source #1.bin")
        self._third_party(
            driver,
            f"{base}/new/copy #1.bin",
            data,
            lambda path, size, checksum, note: driver.pull(source, path, size, checksum, note),
        )
        missing = there.url(f"{there_base}/none.bin")
        with raising(VseError):
            driver.pull(missing, f"{base}/c.bin", 5, None, lambda _: None)
        assert not is_there(driver, f"{base}/c.bin")
        assert fetch(there, f"{there_base}/source #1.bin") == data

    def test_push(self, driver: Driver, base: str, other: Other | None) -> None:
        data = pattern(2 * CHUNK_BYTES + 17)
        self.seed(driver, f"{base}/source #1.bin", data)
        if not driver.capabilities.push:
            with raising(Unsupported):
                driver.push(f"{base}/source #1.bin", "root://elsewhere.invalid//a", 1, None, lambda _: None)
            return
        there, there_base = _second(other, driver.capabilities.push)
        self._third_party(
            there,
            f"{there_base}/new/copy #1.bin",
            data,
            lambda path, size, checksum, note: driver.push(
                f"{base}/source #1.bin", there.url(path), size, checksum, note
            ),
        )
        with raising(VseError):
            driver.push(f"{base}/none.bin", there.url(f"{there_base}/c.bin"), 5, None, lambda _: None)
        assert not is_there(there, f"{there_base}/c.bin")
        assert fetch(driver, f"{base}/source #1.bin") == data

    def _third_party(self, there: Driver, path: str, data: bytes, copy: _Copy) -> None:
        """Hold a way of copying ``data`` to ``path`` of ``there`` to what `Driver.pull` promises."""
        right, size_bytes = adler32(data), len(data)
        cases: Sequence[tuple[int, Checksum | None, type[VseError]]] = (
            (size_bytes, Checksum.adler32(0x12345678), ChecksumMismatch),
            (size_bytes + 1, right, SizeMismatch),
            (size_bytes - 1, None, SizeMismatch),
        )
        for size, checksum, kind in cases:
            with raising(kind):
                copy(path, size, checksum, lambda _: None)
            assert not is_there(there, path)
        self._cancelled(there, path, lambda note: copy(path, size_bytes, right, note))
        if is_there(there, path):  # it was through before it told of anything
            assert not there.remove([path]).failed
        seen: list[int] = []
        copy(path, size_bytes, right, seen.append)
        assert fetch(there, path) == data
        assert seen == sorted(seen)
        assert all(0 <= count <= size_bytes for count in seen)
        with raising(AlreadyExists):
            copy(path, size_bytes, right, lambda _: None)
        assert fetch(there, path) == data

    def _cancelled(self, there: Driver, path: str, copy: Callable[[Note], None]) -> None:
        """What ``note`` raises ends the copy, and nothing remains."""
        reason = Interrupted("copy", "the test does not want it any more")
        told = False

        def refuse(_: int) -> None:
            nonlocal told
            told = True
            raise reason

        try:
            copy(refuse)
        except Interrupted as error:
            assert error is reason
            assert not is_there(there, path)
        else:
            assert not told, "the copy went on after it was cancelled"


def _second(other: Other | None, protocols: frozenset[str]) -> Other:
    assert other is not None, "a driver that declares third-party copies needs the fixture 'other'"
    assert other[0].protocol in protocols, f"{other[0].protocol} is not among the declared {protocols}"
    return other
