"""The driver in memory: by the suite, with a tape, and with faults injected."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.contract import Locality
from vse.storage.drivers.memory import MemoryDriver
from vse.storage.drivers.memory_store import MemoryStore, store_at
from vse.testing.drivers import DriverConformance, Other, fetch, is_there, names_in, store


def new_driver() -> MemoryDriver:
    return MemoryDriver(ProtocolSettings(Section="Memory", Host=f"host-{uuid.uuid4().hex}"))


@pytest.fixture
def driver() -> MemoryDriver:
    return new_driver()


@pytest.fixture
def memory(driver: MemoryDriver) -> MemoryStore:
    return store_at(driver.url("/").removeprefix("mem://").rstrip("/"))


class TestMemoryDriver(DriverConformance):
    server_name = "memory"

    @pytest.fixture
    def driver(self) -> MemoryDriver:
        return new_driver()

    @pytest.fixture
    def base(self, driver: MemoryDriver) -> str:
        driver.make_directory("/data")
        return "/data"

    @pytest.fixture
    def other(self) -> Iterator[Other]:
        there = new_driver()
        there.make_directory("/there")
        yield there, "/there"


def test_one_host_is_one_storage(driver: MemoryDriver) -> None:
    store(driver, "/a", b"1")
    host = driver.url("/").removeprefix("mem://").rstrip("/")
    assert fetch(MemoryDriver(ProtocolSettings(Section="Memory", Host=host)), "/a") == b"1"
    assert not is_there(new_driver(), "/a")


def test_a_file_on_tape_is_staged_read_and_released(driver: MemoryDriver, memory: MemoryStore) -> None:
    memory.tape, memory.tape_polls = True, 2
    store(driver, "/a", b"on tape")
    assert driver.poll(["/a"]).one("/a") is Locality.TAPE
    with pytest.raises(errors.SourceUnavailable, match="on tape only"):
        driver.open("/a")
    driver.stage(["/a"], 60.0).one("/a")
    assert [driver.poll(["/a"]).one("/a") for _ in range(3)] == [
        Locality.TAPE,
        Locality.DISK_AND_TAPE,
        Locality.DISK_AND_TAPE,
    ]
    assert fetch(driver, "/a") == b"on tape"
    driver.release(["/a"]).one("/a")
    assert driver.poll(["/a"]).one("/a") is Locality.TAPE


def test_what_does_not_fit_is_refused_at_once(driver: MemoryDriver, memory: MemoryStore) -> None:
    memory.capacity_bytes = 100
    with driver.put("/a", 60), pytest.raises(errors.StorageFull, match="60 bytes and 40 are free"):
        driver.put("/b", 60)
    store(driver, "/b", b"x" * 60)
    assert driver.space("/").free_bytes == 40


@pytest.mark.parametrize("operation", ["put", "write", "commit"])
def test_an_injected_fault_leaves_nothing(driver: MemoryDriver, memory: MemoryStore, operation: str) -> None:
    def fault(seen: str, path: str) -> None:
        if seen == operation:
            raise errors.ServerFault(f"{seen} {path}", "the test says so")

    memory.fault = fault
    with pytest.raises(errors.ServerFault, match="the test says so"):
        store(driver, "/a", b"12345")
    memory.fault = None
    assert names_in(driver, "/") == []
    assert memory.used_bytes() == 0
