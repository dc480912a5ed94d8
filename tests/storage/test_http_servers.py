"""The HTTP driver against servers of others: XRootD's HTTP door, Apache's mod_dav and nginx."""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from servers.certificates import Certificates, make_certificates
from servers.webdav import WebdavServer, apache, nginx
from servers.xrootd import UNSTEADY, XrootdServer, xrootd
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.contract import CHUNK_BYTES
from vse.storage.drivers.http import HttpDriver
from vse.testing.drivers import NAMES, DriverConformance, adler32, fetch, is_there, pattern, store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return make_certificates()


@pytest.fixture(scope="module")
def xrootd_server(certificates: Certificates) -> Iterator[XrootdServer]:
    with xrootd(certificates) as server:
        yield server


@pytest.fixture(scope="module")
def second(certificates: Certificates) -> Iterator[XrootdServer]:
    with xrootd(certificates) as server:
        yield server


@pytest.fixture(scope="module")
def apache_server() -> Iterator[WebdavServer]:
    with apache() as server:
        yield server


@pytest.fixture(scope="module")
def nginx_server() -> Iterator[WebdavServer]:
    with nginx() as server:
        yield server


def driver_of(protocol: str, port: int, tls: ssl.SSLContext | None) -> HttpDriver:
    settings = {"Section": "HTTP", "Protocol": protocol, "Host": "localhost", "Port": port, "Path": "/data"}
    return HttpDriver(ProtocolSettings.model_validate(settings), 10.0, tls)


def new_base(driver: HttpDriver) -> str:
    path = f"/data/{uuid.uuid4().hex}"
    driver.make_directory(path)
    return path


class OverXrootd(DriverConformance):
    server_name = "XRootD"

    names = (*(name for name in NAMES if "?" not in name), "number#sign&amp=equal+plus.root")
    refused = ("a?b", "a?", "line\nfeed", "\x7f")


@pytest.mark.unsteady_server(UNSTEADY)
class TestHttpOverXrootd(OverXrootd):
    @pytest.fixture
    def driver(self, xrootd_server: XrootdServer) -> Iterator[HttpDriver]:
        driver = driver_of("http", xrootd_server.http_port, None)
        driver.capabilities = replace(driver.capabilities, space=False)
        yield driver
        driver.close()

    @pytest.fixture
    def base(self, driver: HttpDriver) -> str:
        return new_base(driver)


@pytest.mark.unsteady_server(UNSTEADY)
class TestDavsOverXrootd(OverXrootd):
    @pytest.fixture
    def driver(self, xrootd_server: XrootdServer) -> Iterator[HttpDriver]:
        driver = driver_of("davs", xrootd_server.http_port, xrootd_server.certificates.trusting())
        driver.capabilities = replace(driver.capabilities, space=False)
        yield driver
        driver.close()

    @pytest.fixture
    def base(self, driver: HttpDriver) -> str:
        return new_base(driver)

    @pytest.fixture
    def other(self, second: XrootdServer) -> Iterator[tuple[HttpDriver, str]]:
        driver = driver_of("davs", second.http_port, second.certificates.trusting())
        yield driver, new_base(driver)
        driver.close()


class TestHttpsOverApache(DriverConformance):
    server_name = "Apache"

    @pytest.fixture
    def driver(self, apache_server: WebdavServer) -> Iterator[HttpDriver]:
        driver = driver_of("https", apache_server.port, apache_server.certificates.trusting())
        lacking = {"space": False, "checksums": frozenset(), "pull": frozenset(), "push": frozenset()}
        driver.capabilities = replace(driver.capabilities, **lacking)
        yield driver
        driver.close()

    @pytest.fixture
    def base(self, driver: HttpDriver) -> str:
        return new_base(driver)


class TestHttpOverNginx(DriverConformance):
    server_name = "nginx"

    names = tuple(name for name in NAMES if not name.startswith("."))  # its listings show no dot files

    @pytest.fixture
    def driver(self, nginx_server: WebdavServer) -> Iterator[HttpDriver]:
        driver = driver_of("http", nginx_server.port, None)
        driver.capabilities = replace(driver.capabilities, space=False, checksums=frozenset())
        yield driver
        driver.close()

    @pytest.fixture
    def base(self, driver: HttpDriver) -> str:
        return new_base(driver)


def test_ranges_past_the_end_never_reach_xrootd(xrootd_server: XrootdServer) -> None:
    """It would answer many ranges of which one lies past the end after 60 seconds, if at all."""
    driver = driver_of("http", xrootd_server.http_port, None)
    data = pattern(CHUNK_BYTES)
    store(driver, "/data/past.bin", data)
    started_s = time.monotonic()
    with driver.open("/data/past.bin") as reader:
        asked = [(0, 10), (500, 20), (len(data) - 5, 100), (len(data) + 10, 10), (10**12, 1)]
        assert reader.pread_many(asked) == [data[offset : offset + size] for offset, size in asked]
    assert time.monotonic() - started_s < 5
    driver.close()


def test_what_xrootd_keeps_is_held_against_the_checksum(xrootd_server: XrootdServer) -> None:
    """The bytes are changed on the disk between the PUT and the rename."""
    driver = driver_of("http", xrootd_server.http_port, None)
    data = pattern(10_000)
    upload = driver.put("/data/kept.bin", len(data), adler32(data))
    confirm = upload._confirm

    def after_damage(*told: object) -> object:
        (partial,) = (xrootd_server.data / ".vse-partial").glob("*.upload")
        with partial.open("r+b") as file:
            file.write(b"\x01\x02\x03\x04")
        return confirm(*told)  # type: ignore[arg-type]

    upload._confirm = after_damage  # type: ignore[assignment]
    with pytest.raises(errors.ChecksumMismatch, match="the server's bytes"), upload:
        upload.write(data)
        upload.commit()
    assert not is_there(driver, "/data/kept.bin")
    assert not list((xrootd_server.data / ".vse-partial").iterdir())
    driver.close()


def test_an_upload_that_is_left_leaves_no_partial_file_at_xrootd(xrootd_server: XrootdServer) -> None:
    driver = driver_of("http", xrootd_server.http_port, None)
    with driver.put("/data/left.bin", 10 * CHUNK_BYTES) as upload:
        upload.write(pattern(5 * CHUNK_BYTES))
        assert list((xrootd_server.data / ".vse-partial").glob("*.upload"))
    assert not list((xrootd_server.data / ".vse-partial").iterdir())
    assert not is_there(driver, "/data/left.bin")
    driver.close()


def test_a_server_of_another_authority_is_not_trusted(xrootd_server: XrootdServer) -> None:
    driver = driver_of("davs", xrootd_server.http_port, make_certificates().trusting())
    with pytest.raises(errors.SourceUnavailable, match="secure"):
        fetch(driver, "/data/a.bin")
    driver.close()
