"""Servers whose disk is full or read-only: an error that says so, and nothing under a final name."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from servers.certificates import make_certificates
from servers.disk import make_read_only, small_disk
from servers.sftp import sftp
from servers.webdav import apache, nginx
from servers.xrootd import xrootd
from support.waiting import until
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.contract import Driver
from vse.storage.drivers.file import FileDriver
from vse.storage.drivers.fsspec import FsspecDriver
from vse.storage.drivers.gfal import GfalDriver
from vse.storage.drivers.http import HttpDriver
from vse.storage.drivers.xroot import XrootDriver
from vse.testing.drivers import adler32, fetch, names_in, pattern, store

pytestmark = pytest.mark.slow

DISK_BYTES = 4 << 20
TOO_MUCH = pattern(6 << 20)
TOLD = ("file", "xroot", "gfal-root")
"""Those that tell a full disk from any other fault. An HTTP server says 500 or 507, SFTP says 'failure'."""


@dataclass
class Small:
    """A storage on a small disk of its own, which is seen at ``disk`` here."""

    kind: str
    driver: Driver
    base: str
    disk: Path


def _section(port: int, base: str, **more: object) -> ProtocolSettings:
    given = {"Section": "X", "Host": "localhost", "Port": port, "Path": base, **more}
    return ProtocolSettings.model_validate(given)


def _started(kind: str, where: Path, running: ExitStack) -> Small:
    start = running.enter_context
    if kind == "file":
        disk = start(small_disk(where, DISK_BYTES))
        section = ProtocolSettings(Section="File", Path=str(disk))
        return Small(kind, FileDriver(section), str(disk), disk)
    if kind == "sftp":
        ssh = start(sftp())
        disk, base = start(small_disk(ssh.directory, DISK_BYTES)), str(ssh.directory)
        options = {"username": ssh.user, "key_filename": str(ssh.key_file), "look_for_keys": False}
        section = _section(ssh.port, base, Protocol="sftp", Options=options)
        return Small(kind, FsspecDriver(section, 10.0), base, disk)
    webs = {"http-nginx": nginx, "https-apache": apache}
    server = start(webs[kind]() if kind in webs else xrootd(make_certificates()))
    if kind == "http-nginx":  # bodies under way must lie on the same disk: docs/drivers.md
        disk = start(small_disk(server.root, DISK_BYTES))
        server.lay_out()
    else:
        disk = start(small_disk(server.data, DISK_BYTES))
    trusted = server.certificates.trusting() if kind == "https-apache" else None
    makes: dict[str, Callable[[], Driver]] = {
        "xroot": lambda: XrootDriver(_section(server.port, "/data"), 10.0),
        "gfal-root": lambda: GfalDriver(_section(server.port, "/data", Protocol="root"), 20.0),
        "http-xrootd": lambda: HttpDriver(_section(server.http_port, "/data", Protocol="http"), 10.0),
        "http-nginx": lambda: HttpDriver(_section(server.port, "/data", Protocol="http"), 10.0),
        "https-apache": lambda: HttpDriver(_section(server.port, "/data", Protocol="https"), 10.0, trusted),
    }
    return Small(kind, makes[kind](), "/data", disk)


@pytest.fixture(params=["file", "xroot", "gfal-root", "http-xrootd", "http-nginx", "https-apache", "sftp"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Small]:
    with ExitStack() as running:
        small = _started(request.param, tmp_path, running)
        running.callback(small.driver.close)
        yield small


def files_on(disk: Path) -> list[str]:
    return sorted(path.name for path in disk.rglob("*") if path.is_file())


def test_a_full_disk(small: Small) -> None:
    small_file = pattern(100_000)
    store(small.driver, f"{small.base}/before.bin", small_file, adler32(small_file))
    with pytest.raises((errors.StorageError, errors.SizeMismatch)) as caught:
        store(small.driver, f"{small.base}/new/large.bin", TOO_MUCH, adler32(TOO_MUCH))
    if small.kind in TOLD:
        assert isinstance(caught.value, errors.StorageFull)
        assert "Make room there" in str(caught.value)
    # nginx clears a body when it has noticed that its client is gone
    until(lambda: files_on(small.disk) == ["before.bin"], told=lambda: files_on(small.disk))
    # There is room again: nothing of the attempt is in the way.
    store(small.driver, f"{small.base}/new/large.bin", small_file, adler32(small_file))
    assert fetch(small.driver, f"{small.base}/new/large.bin") == small_file


def test_a_disk_that_became_read_only(small: Small) -> None:
    data, name = pattern(100_000), f"{small.base}/{uuid.uuid4().hex}"
    store(small.driver, name, data, adler32(data))
    before = files_on(small.disk)
    make_read_only(small.disk)
    for act in (
        lambda: store(small.driver, f"{small.base}/b.bin", data, adler32(data)),
        lambda: small.driver.remove([name]).one(name),
        lambda: small.driver.make_directory(f"{small.base}/d"),
        lambda: small.driver.rename(name, f"{small.base}/c.bin"),
    ):
        with pytest.raises(errors.VseError) as caught:
            act()
        if small.kind in TOLD:
            assert isinstance(caught.value, errors.Denied | errors.StorageFault), repr(caught.value)
            assert "read-only" in str(caught.value).lower() or small.kind == "xroot"
    assert files_on(small.disk) == before
    assert fetch(small.driver, name) == data
    assert names_in(small.driver, small.base) == [Path(name).name]
