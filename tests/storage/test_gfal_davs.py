"""The gfal driver over davs, with the HTTP door of Debian's XRootD."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from servers.certificates import make_certificates
from servers.xrootd import UNSTEADY, XrootdServer, xrootd
from support.gfal_base import new_base
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.contract import Driver
from vse.storage.drivers.gfal import GfalDriver
from vse.testing.drivers import NAMES, DriverConformance, Other

pytestmark = [pytest.mark.slow, pytest.mark.unsteady_server(UNSTEADY)]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[XrootdServer, XrootdServer]]:
    certificates = make_certificates()
    with xrootd(certificates) as one, xrootd(certificates) as two:
        yield one, two


class TestDavs(DriverConformance):
    """Read, and copied between servers; written to by the HTTP driver."""

    server_name = "XRootD"

    names = tuple(name for name in NAMES if not set("?%") & set(name) and not name.endswith(" "))
    refused = ("blank at its end ", "line\nfeed", "\x7f")

    @pytest.fixture(autouse=True)
    def _roots(self, servers: tuple[XrootdServer, XrootdServer]) -> None:
        self.roots = {server.http_port: server.data.parent for server in servers}

    def seed(self, driver: Driver, path: str, data: bytes) -> None:
        place = self.roots[urlsplit(driver.url(path)).port or 0] / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(0o666)
        place.parent.chmod(0o777)

    @pytest.fixture
    def driver(
        self,
        servers: tuple[XrootdServer, XrootdServer],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[GfalDriver]:
        servers[0].certificates.write_directory(tmp_path / "trusted")
        monkeypatch.setenv("X509_CERT_DIR", str(tmp_path / "trusted"))
        monkeypatch.setenv("BEARER_TOKEN", "anybody")
        driver = over_davs(servers[0])
        yield driver
        driver.close()

    @pytest.fixture
    def base(self, driver: GfalDriver) -> str:
        return new_base(driver, "/data")

    @pytest.fixture
    def other(self, driver: GfalDriver, servers: tuple[XrootdServer, XrootdServer]) -> Iterator[Other]:
        there = over_davs(servers[1])
        yield there, new_base(there, "/data")
        there.close()


def test_two_davs_servers_that_cannot_copy_are_not_helped_by_this_machine(
    servers: tuple[XrootdServer, XrootdServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gfal2 would stream the bytes through here; a third-party copy is one, or none."""
    servers[0].certificates.write_directory(tmp_path / "trusted")
    monkeypatch.setenv("X509_CERT_DIR", str(tmp_path / "trusted"))
    monkeypatch.delenv("BEARER_TOKEN", raising=False)  # XRootD takes no delegated proxy, and there is none
    (servers[0].data / "a.bin").write_bytes(b"12345")
    source, target = (over_davs(server) for server in servers)
    with pytest.raises(errors.VseError, match=r"(?i)copy failed"):
        target.pull(source.url("/data/a.bin"), "/data/not-helped.bin", 5, None, lambda _: None)
    assert not (servers[1].data / "not-helped.bin").exists()


def over_davs(server: XrootdServer) -> GfalDriver:
    section = ProtocolSettings(
        Section="GFAL2", Protocol="davs", Host="localhost", Port=server.http_port, Path="/data"
    )
    return GfalDriver(section, 20.0)
