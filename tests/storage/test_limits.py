"""A server is never asked more at once than its limit allows, and a limit never locks anybody up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vse.config.settings import ProtocolSettings
from vse.errors import BadRequest, NoSuchFile, Stalled
from vse.model import BulkResult
from vse.storage.contract import CHUNK_BYTES, StoredFile
from vse.storage.drivers.file import FileDriver
from vse.storage.drivers.limited import HostLimits, LimitedDriver
from vse.testing.drivers import DriverConformance, fetch, pattern, store


def file_driver(directory: Path) -> FileDriver:
    return FileDriver(ProtocolSettings(Section="File", Path=str(directory)))


class TestLimitedDriver(DriverConformance):
    """With one call at once the whole suite passes: nothing waits for itself."""

    @pytest.fixture
    def driver(self, tmp_path: Path) -> LimitedDriver:
        limits = HostLimits(default=1, wait_s=20.0)
        return LimitedDriver(file_driver(tmp_path), limits.of("file", "localhost"))

    @pytest.fixture
    def base(self, tmp_path: Path) -> str:
        return str(tmp_path)


class Counting(FileDriver):
    """Counts the calls that are in it at once; each waits until ``together`` are, or a moment passed."""

    def __init__(self, directory: Path) -> None:
        super().__init__(ProtocolSettings(Section="File", Path=str(directory)))
        self.inside = self.most = 0
        self._changed = threading.Condition()

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        with self._changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.inside > 3, timeout=0.05)
            self.inside -= 1
        return super().stat(paths)


def test_no_more_than_the_limit_over_all_drivers_of_a_host(tmp_path: Path) -> None:
    limits = HostLimits({"se.example.org": 3})
    counting = Counting(tmp_path)
    drivers = [
        LimitedDriver(counting, limits.of("root", host)) for host in ("se.example.org", "SE.example.org")
    ]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda n: drivers[n % 2].stat([str(tmp_path)]), range(24)))
    assert counting.most == 3


def test_each_host_protocol_and_port_has_its_own() -> None:
    limits = HostLimits({"one.example.org": 2, "two.example.org:1095": 5})
    assert limits.of("root", "one.example.org") is limits.of("root", "one.example.org")
    assert limits.of("root", "one.example.org") is not limits.of("davs", "one.example.org")
    assert limits.of("root", "one.example.org", 1094).count == 2
    assert limits.of("root", "two.example.org", 1095).count == 5
    assert limits.of("root", "two.example.org", 1094).count == 16
    assert limits.of("root", "three.example.org").count == 16
    with pytest.raises(BadRequest):
        HostLimits({"one.example.org": 0}).of("root", "one.example.org")


def test_a_copy_within_one_host_of_limit_one_does_not_wait_for_itself(tmp_path: Path) -> None:
    driver = LimitedDriver(file_driver(tmp_path), HostLimits(default=1, wait_s=5.0).of("file", "localhost"))
    data = pattern(5 * CHUNK_BYTES)
    store(driver, f"{tmp_path}/a", data)

    def copy(number: int) -> None:
        with driver.open(f"{tmp_path}/a") as reader, driver.put(f"{tmp_path}/{number}", len(data)) as upload:
            for piece in reader.stream():
                upload.write(piece)
            upload.commit()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(copy, range(4)))
    assert all(fetch(driver, f"{tmp_path}/{number}") == data for number in range(4))


def test_a_call_that_fails_gives_its_slot_back(tmp_path: Path) -> None:
    driver = LimitedDriver(file_driver(tmp_path), HostLimits(default=1, wait_s=1.0).of("file", "localhost"))
    for _ in range(3):
        with pytest.raises(NoSuchFile):
            driver.open(f"{tmp_path}/none")


def test_a_host_that_holds_every_slot_makes_the_next_call_fail_in_time(tmp_path: Path) -> None:
    slots = HostLimits(default=1, wait_s=0.1).of("file", "localhost")
    driver = LimitedDriver(file_driver(tmp_path), slots)
    started = time.monotonic()
    with slots.one(), pytest.raises(Stalled, match=r"1 calls allowed at once.*0\.1 s"):
        ThreadPoolExecutor(1).submit(driver.stat, [str(tmp_path)]).result(10)
    assert time.monotonic() - started < 5


def test_a_listing_holds_no_slot_while_its_reader_thinks(tmp_path: Path) -> None:
    driver = LimitedDriver(file_driver(tmp_path), HostLimits(default=1, wait_s=1.0).of("file", "localhost"))
    for number in range(3):
        store(driver, f"{tmp_path}/{number}", b"1")
    children: Iterator[StoredFile] = driver.list(str(tmp_path))
    first = next(children)
    assert driver.stat([first.path]).ok
    assert len(list(children)) == 2
