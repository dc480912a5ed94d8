"""The gfal driver over gsiftp, with the Globus GridFTP server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.certificates import make_certificates
from servers.gridftp import GridftpServer, gridftp
from support.gfal_base import new_base
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.drivers.gfal import GfalDriver
from vse.testing.drivers import NAMES, DriverConformance, Other

pytestmark = [
    pytest.mark.slow,
    pytest.mark.unsteady_server("Globus's client now and then loses the state of its connection"),
]


@pytest.fixture(scope="module")
def gridftp_servers() -> Iterator[tuple[GridftpServer, GridftpServer]]:
    certificates = make_certificates(with_rsa=True)
    with gridftp(certificates) as one, gridftp(certificates) as two:
        yield one, two


class TestGsiftp(DriverConformance):
    server_name = "Globus GridFTP"

    names = tuple(name for name in NAMES if not name.endswith(" "))
    refused = ("blank at its end ", "line\nfeed", "\x7f")

    @pytest.fixture
    def driver(
        self, gridftp_servers: tuple[GridftpServer, GridftpServer], monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[GfalDriver]:
        for name, value in gridftp_servers[0].environment.items():
            monkeypatch.setenv(name, value)
        driver = over_gsiftp(gridftp_servers[0])
        yield driver
        driver.close()

    @pytest.fixture
    def base(self, driver: GfalDriver, gridftp_servers: tuple[GridftpServer, GridftpServer]) -> str:
        return new_base(driver, str(gridftp_servers[0].directory))

    @pytest.fixture
    def other(
        self, driver: GfalDriver, gridftp_servers: tuple[GridftpServer, GridftpServer]
    ) -> Iterator[Other]:
        there = over_gsiftp(gridftp_servers[1])
        yield there, new_base(there, str(gridftp_servers[1].directory))
        there.close()


def over_gsiftp(server: GridftpServer) -> GfalDriver:
    section = ProtocolSettings(
        Section="GFAL2", Protocol="gsiftp", Host="localhost", Port=server.port, Path=str(server.directory)
    )
    return GfalDriver(section, 20.0)


def test_gsiftp_without_a_credential_the_server_knows(
    gridftp_servers: tuple[GridftpServer, GridftpServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = gridftp_servers[0]
    monkeypatch.setenv("X509_CERT_DIR", server.environment["X509_CERT_DIR"])
    stranger = make_certificates(with_rsa=True)
    (tmp_path / "proxy").touch(0o600)
    (tmp_path / "proxy").write_bytes(stranger.host + stranger.key)
    monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "proxy"))
    driver = over_gsiftp(server)
    with pytest.raises(errors.Denied, match="proxy certificate"):
        driver.stat([str(server.directory)]).one(str(server.directory))
    driver.close()
