"""Files on tape, by the drivers that can bring them, with a real XRootD server that has a tape behind it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from servers.certificates import make_certificates
from servers.tape import TapeServer, tape
from support.waiting import until
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.contract import Driver, Locality
from vse.storage.drivers.gfal import GfalDriver
from vse.storage.drivers.xroot import XrootDriver
from vse.testing.driver_extras import TapeConformance
from vse.testing.drivers import fetch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[TapeServer]:
    with tape(make_certificates()) as running:
        yield running


@pytest.fixture(params=[XrootDriver, GfalDriver])
def driver(request: pytest.FixtureRequest, server: TapeServer) -> Iterator[Driver]:
    section = ProtocolSettings(
        Section="TAPE", Protocol="root", Host="127.0.0.1", Port=server.server.port, Path="/data"
    )
    driver: Driver = request.param(section, 20.0)
    yield driver
    driver.close()


@pytest.fixture
def base() -> str:
    return f"/data/{uuid.uuid4().hex}"


class TestTape(TapeConformance):
    server_name = "XRootD with a tape"

    @pytest.fixture(autouse=True)
    def _tape(self, server: TapeServer) -> None:
        self.server = server

    def seed(self, driver: Driver, path: str, data: bytes) -> None:
        self.server.write(path, data)


def test_a_file_comes_from_tape_and_leaves_the_disk_again(
    driver: Driver, base: str, server: TapeServer
) -> None:
    path, other = f"{base}/a.bin", f"{base}/b.bin"
    server.write(path, b"on tape")
    server.write(other, b"stays there")
    assert driver.poll([path, other]).ok == {path: Locality.TAPE, other: Locality.TAPE}
    assert driver.stat([path]).one(path).size_bytes == 7
    assert driver.stage([path], 60.0).ok[path]
    _until(driver, path, on_disk=True)
    assert driver.poll([other]).ok == {other: Locality.TAPE}
    assert server.on_disk(path)
    assert not server.on_disk(other)
    assert fetch(driver, path) == b"on tape"
    assert not driver.release([path]).failed
    _until(driver, path, on_disk=False)
    assert not server.on_disk(path)


def test_what_cannot_come_says_why(base: str, server: TapeServer) -> None:
    section = ProtocolSettings(
        Section="TAPE", Protocol="root", Host="127.0.0.1", Port=server.server.port, Path="/data"
    )
    driver = XrootDriver(section, 20.0)
    server.write(f"{base}/a.bin", b"torn")
    server.write(f"{base}/a.bin.broken", b"")
    answer = driver.poll([f"{base}/a.bin", f"{base}/none", f"{base}/a?b"])
    assert not answer.ok
    assert isinstance(answer.failed[f"{base}/a.bin"], errors.ServerFault)
    assert "the cartridge is torn" in str(answer.failed[f"{base}/a.bin"])
    assert isinstance(answer.failed[f"{base}/none"], errors.NoSuchFile)
    assert isinstance(answer.failed[f"{base}/a?b"], errors.BadRequest)


def _until(driver: Driver, path: str, *, on_disk: bool) -> None:
    """Wait for a request to be done: the server's own programs run a moment later."""
    until(lambda: (driver.poll([path]).one(path) in (Locality.DISK, Locality.DISK_AND_TAPE)) == on_disk)
