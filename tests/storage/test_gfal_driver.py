"""The gfal driver with real gfal2: on files of this machine, over root, and over http."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.certificates import make_certificates
from servers.xrootd import XrootdServer, xrootd
from support.gfal_base import new_base
from support.served_door import TOKEN, Served
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.drivers.gfal import GfalDriver
from vse.testing.drivers import NAMES, DriverConformance, Other, adler32, fetch, pattern, store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[XrootdServer, XrootdServer]]:
    certificates = make_certificates()
    with xrootd(certificates) as one, xrootd(certificates) as two:
        yield one, two


def over_root(server: XrootdServer) -> GfalDriver:
    section = ProtocolSettings(
        Section="GFAL2", Protocol="root", Host="127.0.0.1", Port=server.port, Path="/data"
    )
    return GfalDriver(section, 20.0)


class TestFiles(DriverConformance):
    server_name = "Linux"

    refused = ("line\nfeed", "\x7f")

    @pytest.fixture
    def driver(self, tmp_path: Path) -> Iterator[GfalDriver]:
        driver = GfalDriver(ProtocolSettings(Section="GFAL2", Protocol="file", Path=str(tmp_path)), 20.0)
        yield driver
        driver.close()

    @pytest.fixture
    def base(self, tmp_path: Path) -> str:
        (tmp_path / "base").mkdir()
        return str(tmp_path / "base")

    @pytest.fixture
    def other(self, driver: GfalDriver, tmp_path: Path) -> Other:
        (tmp_path / "there").mkdir()
        return driver, str(tmp_path / "there")


class TestRoot(DriverConformance):
    server_name = "XRootD"

    names = tuple(name for name in NAMES if "?" not in name)
    refused = ("a?b", "line\nfeed", "\x7f")

    @pytest.fixture
    def driver(self, servers: tuple[XrootdServer, XrootdServer]) -> Iterator[GfalDriver]:
        driver = over_root(servers[0])
        yield driver
        driver.close()

    @pytest.fixture
    def base(self, driver: GfalDriver) -> str:
        return new_base(driver, "/data")

    @pytest.fixture
    def other(self, servers: tuple[XrootdServer, XrootdServer]) -> Iterator[Other]:
        driver = over_root(servers[1])
        yield driver, new_base(driver, "/data")
        driver.close()


def test_http_is_read_and_not_written(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEARER_TOKEN", TOKEN)
    data = pattern(300_000)
    (served.directory / "sub").mkdir()
    (served.directory / "sub" / "a #1% ü.bin").write_bytes(data)
    section = served.section(Section="GFAL2", Protocol="http", TokenFile=None)
    driver = GfalDriver(section, 20.0)
    path = "/data/sub/a #1% ü.bin"
    assert driver.stat(["/data/sub"]).one("/data/sub").is_directory
    assert [(one.path, one.size_bytes) for one in driver.list("/data/sub")] == [(path, len(data))]
    assert driver.checksum([path], "adler32").one(path) == adler32(data)
    with driver.open(path) as reader:
        ranges = [(0, 10), (5, 0), (299_990, 100), (100_000, 50_000)]
        assert reader.pread_many(ranges) == [data[start : start + size] for start, size in ranges]
    with pytest.raises(errors.NoSuchFile):
        driver.open("/data/none")
    for call in (
        lambda: driver.put("/data/new", 5),
        lambda: driver.remove([path]),
        lambda: driver.rename(path, "/data/b"),
        lambda: driver.make_directory("/data/c"),
    ):
        with pytest.raises(errors.Unsupported):
            call()
    driver.close()


def test_a_server_that_falls_silent_is_given_up(servers: tuple[XrootdServer, XrootdServer]) -> None:
    server = servers[0]
    driver = GfalDriver(
        ProtocolSettings(Section="GFAL2", Protocol="root", Host="127.0.0.1", Port=server.port), 1.0
    )
    assert driver.stat(["/data"]).one("/data").is_directory
    server.pause(signal.SIGSTOP)
    try:
        with pytest.raises(errors.Stalled, match="no sign of progress for 1 s"):
            driver.stat(["/data"]).one("/data")
    finally:
        server.pause(signal.SIGCONT)
    assert driver.stat(["/data"]).one("/data").is_directory
    driver.close()


def test_a_third_party_copy_leaves_no_partial_file(servers: tuple[XrootdServer, XrootdServer]) -> None:
    here, there = (over_root(server) for server in servers)
    source, target = new_base(here, "/data"), new_base(there, "/data")
    data = pattern(3 << 20)
    store(here, f"{source}/a", data)
    there.pull(here.url(f"{source}/a"), f"{target}/b", len(data), adler32(data), lambda _: None)
    assert fetch(there, f"{target}/b") == data
    for server in servers:
        assert list((server.data / ".vse-partial").iterdir()) == []
    here.close()
    there.close()


def test_a_protocol_without_its_plugin_says_so() -> None:
    section = ProtocolSettings(Section="GFAL2", Protocol="lfc", Host="127.0.0.1")
    with pytest.raises(errors.Unsupported, match="plugin"):
        GfalDriver(section, 10.0).stat(["/a"]).one("/a")


def test_srm_urls_have_their_web_service() -> None:
    section = ProtocolSettings(
        Section="SRM", Protocol="srm", Host="se.example.org", Port=8443, WSUrl="/srm/managerv2?SFN="
    )
    driver = GfalDriver(section)
    url = "srm://se.example.org:8443/srm/managerv2?SFN=/lhc/a%20b"
    assert driver.url("/lhc/a b") == url
    assert driver.path_of(url) == "/lhc/a b"
    with pytest.raises(errors.BadRequest):
        driver.path_of("srm://other.example.org:8443/srm/managerv2?SFN=/lhc/a")
