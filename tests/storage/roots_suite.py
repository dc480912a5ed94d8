"""The roots protocol: XRootD with TLS, its certificate signed by an authority made for the test."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from servers.certificates import make_certificates
from servers.xrootd import XrootdServer, xrootd
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.drivers.xroot import XrootDriver
from vse.testing.drivers import NAMES, DriverConformance, Other, adler32, fetch, is_there, pattern, store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[XrootdServer]:
    """A server that takes nothing without TLS. The client library reads its settings once a process."""
    with pytest.MonkeyPatch.context() as patch, xrootd(make_certificates(), "xrootd.tls all") as running:
        patch.setenv("X509_CERT_FILE", str(running.directory / "ca.pem"))
        patch.setenv("X509_CERT_DIR", str(running.directory))
        yield running


def driver_of(server: XrootdServer, protocol: str = "roots") -> XrootDriver:
    given = {"Section": "XROOT", "Protocol": protocol, "Host": "127.0.0.1", "Port": server.port}
    return XrootDriver(ProtocolSettings.model_validate(given | {"Path": "/data"}), 10.0)


class TestRoots(DriverConformance):
    server_name = "XRootD"

    names = tuple(name for name in NAMES if "?" not in name)
    refused = ("a?b", "line\nfeed", "\x7f")

    @pytest.fixture
    def driver(self, server: XrootdServer) -> Iterator[XrootDriver]:
        driver = driver_of(server)
        yield driver
        driver.close()

    @pytest.fixture
    def base(self, driver: XrootDriver) -> str:
        path = f"/data/{uuid.uuid4().hex}"
        driver.make_directory(path)
        return path

    @pytest.fixture
    def other(self, server: XrootdServer) -> Iterator[tuple[XrootDriver, str]]:
        with xrootd(server.certificates) as plain:  # each must trust the other
            there = driver_of(plain, "root")
            path = f"/data/{uuid.uuid4().hex}"
            there.make_directory(path)
            yield there, path
            there.close()

    def test_push(self, driver: XrootDriver, base: str, other: Other) -> None:
        """The server that pulls (Debian's, by its xrdcp) does not get through this one's TLS, and says so."""
        store(driver, f"{base}/a.bin", b"12345")
        there, directory = other
        with pytest.raises(errors.ServerFault, match="TLS"):
            driver.push(f"{base}/a.bin", there.url(f"{directory}/b.bin"), 5, None, lambda _: None)
        assert not is_there(there, f"{directory}/b.bin")


def test_urls_are_of_their_own_protocol(server: XrootdServer) -> None:
    driver = driver_of(server)
    assert driver.url("/data/a") == f"roots://127.0.0.1:{server.port}//data/a"
    with pytest.raises(errors.BadRequest):
        driver.path_of(f"root://127.0.0.1:{server.port}//data/a")


_ASK = """
import sys
from vse.config.settings import ProtocolSettings
from vse.errors import VseError
from vse.storage.drivers.xroot import XrootDriver
given = {"Protocol": "roots", "Host": "localhost", "Port": sys.argv[1], "Path": "/data"}
try:
    print(XrootDriver(ProtocolSettings.model_validate(given), 10.0).stat(["/data"]).one("/data").is_directory)
except VseError as error:
    print(type(error).__name__, error)
"""


def test_a_server_of_another_authority_is_not_trusted(server: XrootdServer, tmp_path: object) -> None:
    def asked(authority: str) -> str:
        environment = {**os.environ, "X509_CERT_FILE": authority, "X509_CERT_DIR": str(tmp_path)}
        command = [sys.executable, "-c", _ASK, str(server.port)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    stranger = server.directory / "stranger.pem"
    stranger.write_bytes(make_certificates().ca)
    assert asked(str(server.directory / "ca.pem")) == "True\n"
    said = asked(str(stranger))
    assert "True" not in said
    assert f"localhost:{server.port}" in said


def test_a_large_file_goes_through(server: XrootdServer) -> None:
    driver, data = driver_of(server), pattern(20 << 20)
    store(driver, "/data/large.bin", data, adler32(data))
    assert fetch(driver, "/data/large.bin") == data
    driver.close()
