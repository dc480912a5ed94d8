"""A real XRootD whose checksums come from a program that prints them in its own way.

XRootD once printed 40001 for 00040001: a checksum is a number, however it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from servers.certificates import make_certificates
from servers.xrootd import XrootdServer, xrootd
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.model import Checksum
from vse.storage.contract import Driver
from vse.storage.drivers.gfal import GfalDriver
from vse.storage.drivers.http import HttpDriver
from vse.storage.drivers.xroot import XrootDriver
from vse.testing.drivers import adler32, is_there, store

pytestmark = pytest.mark.slow

ZEROS = bytes(4)
assert adler32(ZEROS) == Checksum("adler32", "00040001")


@contextmanager
def printing(said: str) -> Iterator[XrootdServer]:
    """Run a server that says ``said`` for every checksum."""
    with TemporaryDirectory(prefix="vse-checksum-") as name:
        program = Path(name) / "checksum.sh"
        program.write_text(f"#!/bin/sh\necho {said}\n")
        for path in (program, program.parent):  # the server runs as a user of its own
            path.chmod(0o755)
        with xrootd(make_certificates(), f"xrootd.chksum max 64 adler32 {program}") as server:
            yield server


def _settings(port: int, protocol: str) -> ProtocolSettings:
    given = {"Section": "X", "Protocol": protocol, "Host": "localhost", "Port": port, "Path": "/data"}
    return ProtocolSettings.model_validate(given)


def by_root(server: XrootdServer) -> Driver:
    return XrootDriver(_settings(server.port, "root"), 10.0)


def by_gfal(server: XrootdServer) -> Driver:
    return GfalDriver(_settings(server.port, "root"), 20.0)


def by_http(server: XrootdServer) -> Driver:
    return HttpDriver(_settings(server.http_port, "http"), 10.0)


MAKES = pytest.mark.parametrize("make", [by_root, by_gfal, by_http])


@MAKES
@pytest.mark.parametrize("said", ["40001", "00040001"])
def test_zeros_in_front_do_not_matter(make: Callable[[XrootdServer], Driver], said: str) -> None:
    with printing(said) as server:
        driver = make(server)
        store(driver, "/data/zeros.bin", ZEROS, adler32(ZEROS))
        found = driver.checksum(["/data/zeros.bin"], "adler32").one("/data/zeros.bin")
        assert (found, str(found)) == (adler32(ZEROS), "adler32:00040001")
        driver.close()


@MAKES
def test_another_checksum_of_the_server_leaves_nothing(make: Callable[[XrootdServer], Driver]) -> None:
    with printing("40002") as server:
        driver = make(server)
        with pytest.raises(errors.ChecksumMismatch, match=r"00040002.*00040001"):
            store(driver, "/data/zeros.bin", ZEROS, adler32(ZEROS))
        assert not is_there(driver, "/data/zeros.bin")
        assert not [path for path in server.data.rglob("*") if path.is_file() and path.suffix != ".lock"]
        driver.close()


@pytest.mark.parametrize("make", [by_root, by_http])
def test_what_is_no_checksum_is_the_servers_fault(make: Callable[[XrootdServer], Driver]) -> None:
    with printing("oops") as server:
        driver = make(server)
        (server.data / "a.bin").write_bytes(ZEROS)
        with pytest.raises(errors.VseError) as caught:
            driver.checksum(["/data/a.bin"], "adler32").one("/data/a.bin")
        assert "localhost" in str(caught.value)
        driver.close()
