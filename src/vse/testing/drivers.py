"""The conformance suite of storage drivers: what `vse.storage.contract` promises, proved.

To prove a driver of your own, subclass in a test module and give two pytest fixtures; every test of the
suite then runs over it::

    class TestMyDriver(DriverConformance):
        @pytest.fixture
        def driver(self): ...      # connected to a real server

        @pytest.fixture
        def base(self): ...        # the path of an existing, empty directory there

A driver that cannot write overrides `seed`, to bring a file to the storage by other means. One that
declares `pull` or `push` overrides the fixture `other`: a second server of a kind it copies from and to::

        @pytest.fixture
        def other(self): ...       # (driver, base): connected to it, and an empty directory there

The suite holds each declared capability to what it promises, and expects `Unsupported` for each other.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from vse.errors import (
    AlreadyExists,
    BadRequest,
    ChecksumMismatch,
    NoSuchFile,
    NotEmpty,
    SizeMismatch,
    Unsupported,
    VseError,
)
from vse.model import Checksum
from vse.storage.contract import CHUNK_BYTES, Driver
from vse.testing.driver_extras import BeyondFiles, Other
from vse.testing.driver_tools import (
    NAMES,
    adler32,
    assert_unsupported,
    checksum_of,
    fetch,
    is_there,
    names_in,
    pattern,
    raising,
    store,
)

__all__ = [
    "NAMES",
    "PROVED_BY",
    "DriverConformance",
    "Other",
    "adler32",
    "fetch",
    "is_there",
    "names_in",
    "pattern",
    "raising",
    "store",
]

PROVED_BY: Mapping[str, tuple[str, ...]] = {
    "write": (
        "test_put_makes_parents_and_keeps_the_bytes",
        "test_partial_path_holds_what_was_written",
        "test_files_are_write_once",
        "test_abort_leaves_nothing",
        "test_bytes_that_are_not_the_declared_ones_leave_nothing",
        "test_an_upload_that_has_ended_refuses",
        "test_of_many_that_write_one_name_one_wins",
    ),
    "remove": ("test_remove_answers_each",),
    "list": ("test_list", "test_list_shows_no_upload_under_way"),
    "rename": ("test_rename_never_replaces",),
    "make_directory": ("test_make_directory", "test_many_make_one_directory"),
    "link": ("test_link_is_a_second_name",),
    "space": ("test_space",),
    "checksums": ("test_checksum_of_each", "test_checksums_are_canonical"),
    "local_paths": ("test_local_path",),
    "stage": ("test_stage_poll_and_release",),
    "pull": ("test_pull",),
    "push": ("test_push",),
}
"""The tests that prove each of `vse.storage.contract.Capabilities`, if the driver declares it."""


class DriverConformance(BeyondFiles):
    """The suite; see the module's docstring.

    ``names``: those that must survive. A driver whose protocol cannot carry one of `NAMES` leaves it out
    here, and names it in ``refused``: it must raise `BadRequest` before anything is sent.
    """

    names: Sequence[str] = NAMES
    refused: Sequence[str] = ()

    # -- reading ---------------------------------------------------------------------------------

    def test_stat_tells_size_and_kind_of_each(self, driver: Driver, base: str) -> None:
        self.seed(driver, f"{base}/a.bin", b"12345")
        before_s = driver.stat([f"{base}/a.bin"]).one(f"{base}/a.bin").modified_s
        answer = driver.stat([f"{base}/a.bin", f"{base}/none", base])
        assert answer.ok[f"{base}/a.bin"].size_bytes == 5
        assert answer.ok[f"{base}/a.bin"].path == f"{base}/a.bin"
        assert not answer.ok[f"{base}/a.bin"].is_directory
        assert answer.ok[base].is_directory
        assert isinstance(answer.failed[f"{base}/none"], NoSuchFile)
        assert set(answer.ok) | set(answer.failed) == {f"{base}/a.bin", f"{base}/none", base}
        assert before_s is None or before_s > 1e9

    def test_nothing_asked_is_nothing_answered(self, driver: Driver) -> None:
        assert not driver.stat([]).ok
        assert not driver.stat([]).failed

    def test_open_of_what_is_no_file(self, driver: Driver, base: str) -> None:
        with raising(NoSuchFile):
            driver.open(f"{base}/none")
        with raising(NoSuchFile):
            driver.open(f"{base}/none/below")
        with raising(BadRequest):
            driver.open(base)

    def test_ranges_at_every_edge(self, driver: Driver, base: str) -> None:
        data = pattern(4096)
        self.seed(driver, f"{base}/a.bin", data)
        edges = (0, 1, 2, 511, 512, 4094, 4095, 4096, 4097, 10000)
        with driver.open(f"{base}/a.bin") as reader:
            assert reader.size_bytes == 4096
            for offset in edges:
                for size_bytes in (0, 1, 2, 4095, 4096, 9999):
                    assert reader.pread(offset, size_bytes) == data[offset : offset + size_bytes]
            for offset, size_bytes in ((-1, 1), (0, -1)):
                with raising(BadRequest):
                    reader.pread(offset, size_bytes)

    def test_many_ranges_at_once(self, driver: Driver, base: str) -> None:
        data = pattern(100_000)
        self.seed(driver, f"{base}/a.bin", data)
        spread = [(offset, 100) for offset in range(0, 100_000, 300)]
        mixed = [(99_990, 50), (0, 10), (5, 10), (0, 10), (100_000, 5), (7, 0), (10, 20), (60_000, 30_000)]
        with driver.open(f"{base}/a.bin") as reader:
            for ranges in ([], [(5, 5)], spread, mixed, [(0, 200_000)]):
                expected = [data[offset : offset + size_bytes] for offset, size_bytes in ranges]
                assert reader.pread_many(ranges) == expected
            with raising(BadRequest):
                reader.pread_many([(0, 1), (-5, 1)])

    def test_stream_gives_the_whole_file_in_order(self, driver: Driver, base: str) -> None:
        data = pattern(2 * CHUNK_BYTES + 17)
        self.seed(driver, f"{base}/a.bin", data)
        with driver.open(f"{base}/a.bin") as reader:
            for offset in (0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(data) - 1, len(data), len(data) + 5):
                assert b"".join(bytes(piece) for piece in reader.stream(offset)) == data[offset:]
            for piece in reader.stream():
                assert piece == data[: len(piece)]
                break  # a stream may be left at any time, and the reader goes on
            assert reader.pread(10, 10) == data[10:20]

    def test_an_empty_file_is_a_file(self, driver: Driver, base: str) -> None:
        self.seed(driver, f"{base}/empty", b"")
        assert driver.stat([f"{base}/empty"]).one(f"{base}/empty").size_bytes == 0
        with driver.open(f"{base}/empty") as reader:
            assert reader.size_bytes == 0
            assert list(reader.stream()) == []
            assert reader.pread(0, 10) == b""
            assert reader.pread_many([(0, 10), (5, 5)]) == [b"", b""]

    def test_a_closed_reader_refuses(self, driver: Driver, base: str) -> None:
        self.seed(driver, f"{base}/a.bin", b"12345")
        reader = driver.open(f"{base}/a.bin")
        reader.close()
        reader.close()
        with raising(BadRequest):
            reader.pread(0, 1)

    def test_readers_are_shared_between_threads(self, driver: Driver, base: str) -> None:
        data = pattern(3 * CHUNK_BYTES + 5)
        self.seed(driver, f"{base}/a.bin", data)
        with driver.open(f"{base}/a.bin") as reader, ThreadPoolExecutor(8) as pool:
            offsets = [random.Random(number).randrange(len(data)) for number in range(64)]
            pieces = list(pool.map(lambda offset: reader.pread(offset, 5000), offsets))
            whole = list(
                pool.map(lambda _: hashlib.sha256(fetch(driver, f"{base}/a.bin")).digest(), range(4))
            )
        assert pieces == [data[offset : offset + 5000] for offset in offsets]
        assert set(whole) == {hashlib.sha256(data).digest()}

    def test_a_closed_driver_connects_anew(self, driver: Driver, base: str) -> None:
        self.seed(driver, f"{base}/a.bin", b"12345")
        driver.close()
        assert fetch(driver, f"{base}/a.bin") == b"12345"

    # -- names -----------------------------------------------------------------------------------

    def test_urls_come_back_as_paths(self, driver: Driver, base: str) -> None:
        for name in self.names:
            url = driver.url(f"{base}/{name}")
            assert url.startswith(f"{driver.protocol}://")
            assert url.isascii()
            assert " " not in url
            assert driver.path_of(url) == f"{base}/{name}"
        with raising(BadRequest):
            driver.path_of("gopher://elsewhere.invalid/a")

    def test_every_name_survives(self, driver: Driver, base: str) -> None:
        for number, name in enumerate(self.names):
            self.seed(driver, f"{base}/d/{name}", pattern(50 + number, number))
        paths = [f"{base}/d/{name}" for name in self.names]
        answer = driver.stat(paths)
        assert not answer.failed
        for number, path in enumerate(paths):
            assert answer.ok[path].size_bytes == 50 + number
            assert fetch(driver, path) == pattern(50 + number, number)
        if driver.capabilities.list:
            assert names_in(driver, f"{base}/d") == sorted(self.names)
        if driver.capabilities.remove:
            assert not driver.remove(paths).failed
            assert not driver.stat(paths).ok

    def test_a_name_that_cannot_be_carried_is_refused(self, driver: Driver, base: str) -> None:
        self.seed(driver, f"{base}/a", b"12345")
        for name in self.refused:
            path = f"{base}/{name}"
            assert isinstance(driver.stat([path]).failed[path], BadRequest)
            with raising(BadRequest):
                driver.open(path)
            if driver.capabilities.write:
                with raising(BadRequest):
                    driver.put(path, 1)
            if driver.capabilities.remove:
                assert isinstance(driver.remove([path]).failed[path], BadRequest)
            if driver.capabilities.rename:
                with raising(BadRequest):
                    driver.rename(f"{base}/a", path)
        assert fetch(driver, f"{base}/a") == b"12345"

    # -- writing ---------------------------------------------------------------------------------

    def test_put_makes_parents_and_keeps_the_bytes(self, driver: Driver, base: str) -> None:
        path = f"{base}/new/deep/er/a.bin"
        data = pattern(CHUNK_BYTES + 999)
        if not driver.capabilities.write:
            with raising(Unsupported):
                driver.put(path, len(data))
            return
        with driver.put(path, len(data), adler32(data)) as upload:
            for piece in _pieces(data, 70_000):
                upload.write(piece)
            assert not is_there(driver, path)
            stored = upload.commit()
        assert stored.path == path
        assert stored.size_bytes == len(data)
        assert fetch(driver, path) == data

    def test_partial_path_holds_what_was_written(self, driver: Driver, base: str) -> None:
        if not driver.capabilities.write:
            return
        with driver.put(f"{base}/a.bin", 10) as upload:
            upload.write(b"12345")
            partial = upload.partial_path()
            assert partial is None or partial.read_bytes() == b"12345"
            upload.write(bytearray(b"67890"))
            upload.commit()
        assert fetch(driver, f"{base}/a.bin") == b"1234567890"

    def test_files_are_write_once(self, driver: Driver, base: str) -> None:
        if not driver.capabilities.write:
            return
        store(driver, f"{base}/a.bin", b"first")
        with raising(AlreadyExists):
            driver.put(f"{base}/a.bin", 6)
        with raising(AlreadyExists):
            driver.put(base, 6)
        with raising(VseError):
            store(driver, f"{base}/a.bin/below", b"x")
        assert fetch(driver, f"{base}/a.bin") == b"first"

    def test_abort_leaves_nothing(self, driver: Driver, base: str) -> None:
        if not driver.capabilities.write:
            return

        def never_written(size_bytes: int) -> None:
            upload = driver.put(f"{base}/a.bin", size_bytes)
            upload.abort()
            upload.abort()

        def half_written(size_bytes: int) -> None:
            with driver.put(f"{base}/a.bin", size_bytes) as upload:
                upload.write(pattern(size_bytes // 2))

        def not_committed(size_bytes: int) -> None:
            with driver.put(f"{base}/a.bin", size_bytes) as upload:
                upload.write(pattern(size_bytes))

        for leave in (never_written, half_written, not_committed):
            for size_bytes in (0, 1, 100, CHUNK_BYTES):
                leave(size_bytes)
                self._assert_nothing(driver, base)
        store(driver, f"{base}/a.bin", b"and the name is free")

    def test_bytes_that_are_not_the_declared_ones_leave_nothing(self, driver: Driver, base: str) -> None:
        if not driver.capabilities.write:
            return
        data = pattern(1000)
        wrong = Checksum.adler32(0x12345678)
        cases: Sequence[tuple[int, bytes, Checksum | None, type[VseError]]] = (
            (1000, data, wrong, ChecksumMismatch),
            (0, b"", wrong, ChecksumMismatch),
            (1001, data, adler32(data), SizeMismatch),
            (999, data, None, SizeMismatch),
            (0, data, None, SizeMismatch),
            (5, b"", None, SizeMismatch),
        )
        for size_bytes, written, checksum, kind in cases:
            with raising(kind), driver.put(f"{base}/a.bin", size_bytes, checksum) as upload:
                upload.write(written)
                upload.commit()
            self._assert_nothing(driver, base)
        store(driver, f"{base}/a.bin", data, adler32(data))

    def test_an_upload_that_has_ended_refuses(self, driver: Driver, base: str) -> None:
        if not driver.capabilities.write:
            return
        upload = driver.put(f"{base}/a.bin", 4)
        upload.write(b"1234")
        upload.commit()
        with raising(BadRequest):
            upload.write(b"5")
        with raising(BadRequest):
            upload.commit()
        upload.abort()
        assert fetch(driver, f"{base}/a.bin") == b"1234"

    def test_of_many_that_write_one_name_one_wins(self, driver: Driver, base: str) -> None:
        if not driver.capabilities.write:
            return
        start = threading.Barrier(6)

        def attempt(number: int) -> int | None:
            data = pattern(50_000, number)
            start.wait(30)
            try:
                store(driver, f"{base}/same/name.bin", data, adler32(data))
            except AlreadyExists:
                return None
            return number

        with ThreadPoolExecutor(6) as pool:
            winners = [number for number in pool.map(attempt, range(6)) if number is not None]
        assert len(winners) == 1
        assert fetch(driver, f"{base}/same/name.bin") == pattern(50_000, winners[0])

    # -- the rest --------------------------------------------------------------------------------

    def test_list(self, driver: Driver, base: str) -> None:
        if not driver.capabilities.list:
            with raising(Unsupported):
                list(driver.list(base))
            return
        assert list(driver.list(base)) == []
        with raising(NoSuchFile):
            list(driver.list(f"{base}/none"))
        for number in range(25):
            self.seed(driver, f"{base}/{number}.bin", b"x" * number)
        self.seed(driver, f"{base}/sub/below.bin", b"1")
        found = {child.path: child.size_bytes for child in driver.list(base)}
        assert found == {f"{base}/{number}.bin": number for number in range(25)} | {f"{base}/sub": None}
        assert found.keys() == {child.path for child in driver.list(f"{base}/")}
        with raising(BadRequest):
            list(driver.list(f"{base}/1.bin"))

    def test_list_shows_no_upload_under_way(self, driver: Driver, base: str) -> None:
        if not (driver.capabilities.list and driver.capabilities.write):
            return
        with driver.put(f"{base}/a.bin", 10) as upload:
            upload.write(b"12345")
            assert names_in(driver, base) == []

    def test_remove_answers_each(self, driver: Driver, base: str) -> None:
        self.seed(driver, f"{base}/full/a.bin", b"1")
        asked = [f"{base}/full", f"{base}/none"]
        if not driver.capabilities.remove:
            assert_unsupported(lambda: driver.remove(asked).failed.values())
            return
        answer = driver.remove(asked)
        assert not answer.ok
        assert isinstance(answer.failed[f"{base}/full"], NotEmpty)
        assert isinstance(answer.failed[f"{base}/none"], NoSuchFile)
        assert fetch(driver, f"{base}/full/a.bin") == b"1"
        assert set(driver.remove([f"{base}/full/a.bin"]).ok) == {f"{base}/full/a.bin"}
        assert set(driver.remove([f"{base}/full"]).ok) == {f"{base}/full"}
        self._assert_nothing(driver, base)

    def test_rename_never_replaces(self, driver: Driver, base: str) -> None:
        self.seed(driver, f"{base}/a.bin", b"of a")
        if not driver.capabilities.rename:
            with raising(Unsupported):
                driver.rename(f"{base}/a.bin", f"{base}/b.bin")
            return
        self.seed(driver, f"{base}/b.bin", b"of b")
        self.seed(driver, f"{base}/d/x.bin", b"of x")
        for target in (f"{base}/b.bin", f"{base}/d"):
            with raising(AlreadyExists):
                driver.rename(f"{base}/a.bin", target)
        with raising(NoSuchFile):
            driver.rename(f"{base}/none", f"{base}/c.bin")
        assert fetch(driver, f"{base}/a.bin") == b"of a"
        assert fetch(driver, f"{base}/b.bin") == b"of b"
        driver.rename(f"{base}/a.bin", f"{base}/new/place/100% #1.bin")
        assert fetch(driver, f"{base}/new/place/100% #1.bin") == b"of a"
        assert not is_there(driver, f"{base}/a.bin")

    def test_checksum_of_each(self, driver: Driver, base: str) -> None:
        data = pattern(CHUNK_BYTES + 1)
        self.seed(driver, f"{base}/a.bin", data)
        # Its adler32, 00040002, begins with zeros, which some servers leave out.
        self.seed(driver, f"{base}/small.bin", b"\x01\x00")
        paths = [f"{base}/a.bin", f"{base}/small.bin", f"{base}/none"]
        for algorithm in {"adler32", "crc32c", "md5", "sha256"} - driver.capabilities.checksums:
            assert_unsupported(partial(_failures_of_checksum, driver, paths[:2], algorithm))
        for algorithm in driver.capabilities.checksums:
            answer = driver.checksum(paths, algorithm)
            assert answer.one(f"{base}/a.bin") == checksum_of(data, algorithm)
            assert answer.one(f"{base}/small.bin") == checksum_of(b"\x01\x00", algorithm)
            assert isinstance(answer.failed[f"{base}/none"], NoSuchFile)

    def test_space(self, driver: Driver, base: str) -> None:
        if not driver.capabilities.space:
            with raising(Unsupported):
                driver.space(base)
            return
        space = driver.space(base)
        assert space.free_bytes is not None
        assert space.free_bytes > 0
        assert space.total_bytes is None or space.total_bytes >= space.free_bytes

    def test_local_path(self, driver: Driver, base: str) -> None:
        self.seed(driver, f"{base}/a b.bin", b"12345")
        if not driver.capabilities.local_paths:
            with raising(Unsupported):
                driver.local_path(f"{base}/a b.bin")
            return
        assert driver.local_path(f"{base}/a b.bin").read_bytes() == b"12345"

    def _assert_nothing(self, driver: Driver, base: str) -> None:
        assert not is_there(driver, f"{base}/a.bin")
        if driver.capabilities.list:
            assert names_in(driver, base) == []


def _pieces(data: bytes, size_bytes: int) -> Iterator[memoryview]:
    view = memoryview(data)
    for offset in range(0, len(data), size_bytes):
        yield view[offset : offset + size_bytes]


def _failures_of_checksum(driver: Driver, paths: Sequence[str], algorithm: str) -> Iterable[VseError]:
    return driver.checksum(paths, algorithm).failed.values()
