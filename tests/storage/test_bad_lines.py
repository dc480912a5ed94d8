"""Every driver over a line that is slow, falls silent or breaks off in mid-transfer, to a real server."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import pytest

from servers.certificates import make_certificates
from servers.line import BURST_S, Line, line_to
from servers.s3 import ceph
from servers.sftp import sftp
from servers.webdav import apache, nginx
from servers.xrootd import xrootd
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.contract import Driver
from vse.storage.drivers.fsspec import FsspecDriver
from vse.storage.drivers.gfal import GfalDriver
from vse.storage.drivers.http import HttpDriver
from vse.storage.drivers.s3 import S3Driver
from vse.storage.drivers.xroot import XrootDriver
from vse.testing.drivers import adler32, fetch, is_there, pattern, store

pytestmark = pytest.mark.slow

SIZE_BYTES = 12 << 20
SFTP_SIZE_BYTES = 3 << 20  # whose client computes much for each byte
PATIENCE_S = 1.0
SLOW_PATIENCE_S = 1.5  # the machine may be busy: nothing but the line shall be what is waited for


@dataclass
class Site:
    """A server that runs, and how to make a driver of it that connects to a port."""

    port: int
    base: str
    make: Callable[[int, float], Driver]
    size_bytes: int = SIZE_BYTES
    requests: int = 1
    """How many share the line, each of which has to end within the patience."""

    @cached_property
    def data(self) -> bytes:
        return pattern(self.size_bytes)

    def direct(self) -> Driver:
        return self.make(self.port, 20.0)


def _section(port: int, base: str, **more: object) -> ProtocolSettings:
    given = {"Section": "X", "Host": "localhost", "Port": port, "Path": base, **more}
    return ProtocolSettings.model_validate(given)


def _started(kind: str, running: ExitStack) -> Site:
    start = running.enter_context
    if kind in ("xroot", "gfal", "http-xrootd", "davs-xrootd"):
        server = start(xrootd(make_certificates()))
        if kind == "xroot":
            return Site(server.port, "/data", lambda port, s: XrootDriver(_section(port, "/data"), s))
        if kind == "gfal":
            section = {"Protocol": "root", "Host": "127.0.0.1"}
            return Site(
                server.port, "/data", lambda port, s: GfalDriver(_section(port, "/data", **section), s)
            )
        tls = server.certificates.trusting() if kind == "davs-xrootd" else None
        protocol = kind.partition("-")[0]
        return Site(
            server.http_port,
            "/data",
            lambda port, s: HttpDriver(_section(port, "/data", Protocol=protocol), s, tls),
        )
    if kind == "http-nginx":
        web = start(nginx("absolute_redirect off;"))
        return Site(
            web.port, "/data", lambda port, s: HttpDriver(_section(port, "/data", Protocol="http"), s)
        )
    if kind == "https-apache":
        web = start(apache())
        trusted = web.certificates.trusting()
        return Site(
            web.port,
            "/data",
            lambda port, s: HttpDriver(_section(port, "/data", Protocol="https"), s, trusted),
        )
    if kind == "s3":
        store_ = start(ceph())
        keys = {
            "SecureConnection": False,
            "Aws_access_key_id": store_.access_key,
            "Aws_secret_access_key": store_.secret_key,
            "Host": "127.0.0.1",
        }
        base = f"/{store_.bucket}/data"
        return Site(store_.port, base, lambda port, s: S3Driver(_section(port, base, **keys), s), requests=4)
    ssh = start(sftp())
    options = {"username": ssh.user, "key_filename": str(ssh.key_file), "look_for_keys": False}
    more = {"Protocol": "sftp", "Options": options, "Host": "127.0.0.1"}
    base = str(ssh.directory)
    return Site(
        ssh.port, base, lambda port, s: FsspecDriver(_section(port, base, **more), s), SFTP_SIZE_BYTES
    )


KINDS = ("xroot", "gfal", "http-xrootd", "davs-xrootd", "http-nginx", "https-apache", "s3", "sftp")


@pytest.fixture(scope="module", params=KINDS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with ExitStack() as running:
        yield _started(request.param, running)


@pytest.fixture
def line(site: Site) -> Iterator[Line]:
    with line_to(site.port) as line:
        yield line


@pytest.fixture
def driver(site: Site, line: Line) -> Iterator[Driver]:
    driver = site.make(line.port, PATIENCE_S)
    yield driver
    line.break_off()
    driver.close()


@pytest.fixture
def kept(site: Site) -> str:
    """Return a file that is there already."""
    path = f"{site.base}/{uuid.uuid4().hex}/kept.bin"
    driver = site.direct()
    store(driver, path, site.data, adler32(site.data))
    driver.close()
    return path


def assert_nothing(site: Site, path: str) -> None:
    driver = site.direct()
    assert not is_there(driver, path)
    above = path.rpartition("/")[0]
    if is_there(driver, above):
        assert [file.path for file in driver.list(above)] == []
    store(driver, path, b"a new attempt")
    assert fetch(driver, path) == b"a new attempt"
    driver.close()


def fails(act: Callable[[], object], within_s: float) -> errors.VseError:
    started_s = time.monotonic()
    with pytest.raises(errors.StorageError) as caught:
        act()
    assert time.monotonic() - started_s < within_s
    assert caught.value.found
    assert "localhost" in caught.value.wanted or "127.0.0.1" in caught.value.wanted
    return caught.value


@pytest.mark.parametrize("silent", [False, True], ids=["breaks", "silent"])
def test_a_get_over_a_line_that_ends_in_the_middle(
    site: Site, line: Line, driver: Driver, kept: str, silent: bool
) -> None:
    line.silent, line.left_bytes = silent, site.size_bytes // 2
    error = fails(lambda: fetch(driver, kept), 30)
    assert error.retryable
    if silent:
        assert isinstance(error, errors.Stalled | errors.SourceUnavailable), repr(error)


@pytest.mark.parametrize("silent", [False, True], ids=["breaks", "silent"])
def test_a_put_over_a_line_that_ends_in_the_middle_leaves_no_name(
    site: Site, line: Line, driver: Driver, silent: bool
) -> None:
    path = f"{site.base}/{uuid.uuid4().hex}/new.bin"
    line.silent, line.left_bytes = silent, site.size_bytes // 2
    fails(lambda: store(driver, path, site.data, adler32(site.data)), 45)
    line.break_off()
    assert_nothing(site, path)


def test_a_slow_line_is_waited_for_as_long_as_something_comes(site: Site, line: Line, kept: str) -> None:
    """The whole takes longer than the patience for silence."""
    driver = site.make(line.port, SLOW_PATIENCE_S * site.requests)
    line.bytes_per_s = site.size_bytes / (1.2 * SLOW_PATIENCE_S)
    started_s = time.monotonic()
    assert fetch(driver, kept) == site.data
    assert time.monotonic() - started_s > SLOW_PATIENCE_S - BURST_S
    if isinstance(driver, GfalDriver):
        line.bytes_per_s *= 4  # it tells of its progress every 8 MiB only
    path = f"{site.base}/{uuid.uuid4().hex}/slow.bin"
    store(driver, path, site.data, adler32(site.data))
    driver.close()
    direct = site.direct()
    assert fetch(direct, path) == site.data
    direct.close()
