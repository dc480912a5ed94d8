"""Third-party copies between two real XRootD servers: by the root protocol, and by HTTP."""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from servers.certificates import Certificates, make_certificates
from servers.xrootd import XrootdServer, free_port, xrootd
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.contract import CHUNK_BYTES, Driver
from vse.storage.drivers.http import HttpDriver
from vse.storage.drivers.xroot import XrootDriver
from vse.testing.drivers import adler32, fetch, pattern

pytestmark = pytest.mark.slow

SIZE_BYTES = 64 * CHUNK_BYTES
Make = Callable[[XrootdServer], Driver]


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return make_certificates()


@pytest.fixture(scope="module")
def here(certificates: Certificates) -> Iterator[XrootdServer]:
    with xrootd(certificates) as server:
        yield server


@pytest.fixture(scope="module")
def there(certificates: Certificates) -> Iterator[XrootdServer]:
    with xrootd(certificates) as server:
        (server.data / "source.bin").write_bytes(pattern(SIZE_BYTES))
        yield server


def by_root(server: XrootdServer) -> Driver:
    return XrootDriver(_section("root", server.port), 20.0)


def by_http(server: XrootdServer, tls: ssl.SSLContext | None = None) -> Driver:
    return HttpDriver(_section("davs", server.http_port), 20.0, tls or server.certificates.trusting())


def _section(protocol: str, port: int) -> ProtocolSettings:
    # XRootD's servers do not find each other as localhost for a copy by root; certificates want the name.
    host = "127.0.0.1" if protocol == "root" else "localhost"
    settings: dict[str, Any] = {"Protocol": protocol, "Host": host, "Port": port, "Path": "/data"}
    return ProtocolSettings.model_validate(settings)


@pytest.mark.parametrize("make", [by_root, by_http])
class TestThirdParty:
    def test_pull_and_push_of_a_large_file(self, make: Make, here: XrootdServer, there: XrootdServer) -> None:
        data, name = pattern(SIZE_BYTES), f"/data/{uuid.uuid4().hex}"
        active, other = make(here), make(there)
        told: list[int] = []
        active.pull(other.url("/data/source.bin"), f"{name}.pulled", SIZE_BYTES, adler32(data), told.append)
        assert (here.data.parent / f"{name}.pulled"[1:]).read_bytes() == data
        assert told == sorted(told)
        assert told
        if make is by_http:  # by root, a push is the other server's pull
            there_too = other.url(f"{name}.pushed")
            active.push(f"{name}.pulled", there_too, SIZE_BYTES, adler32(data), lambda _: None)
            assert fetch(other, f"{name}.pushed") == data
        for server in (here, there):
            assert not list(server.data.rglob("*.upload"))
            assert not list(server.data.rglob("*.lock"))

    def test_a_failure_tells_the_servers_words(
        self, make: Make, here: XrootdServer, there: XrootdServer
    ) -> None:
        active = make(here)
        with pytest.raises(errors.VseError, match=r"(?i)no such file") as caught:
            active.pull(make(there).url("/data/none.bin"), "/data/c.bin", 5, None, lambda _: None)
        assert "none.bin" in str(caught.value)
        nobody = (
            make(there)
            .url("/data/source.bin")
            .replace(str(there.port if make is by_root else there.http_port), str(free_port()))
        )
        with pytest.raises(errors.VseError):
            active.pull(nobody, "/data/c.bin", 5, None, lambda _: None)
        assert not [path for path in here.data.rglob("*") if path.name.endswith(("c.bin", ".upload"))]

    def test_a_cancelled_copy_leaves_nothing(
        self, make: Make, here: XrootdServer, there: XrootdServer
    ) -> None:
        reason = errors.Interrupted("copy", "the user pressed Ctrl-C")

        def refuse(_: int) -> None:
            raise reason

        source = make(there).url("/data/source.bin")
        with pytest.raises(errors.Interrupted) as caught:
            make(here).pull(source, "/data/cancelled.bin", SIZE_BYTES, None, refuse)
        assert caught.value is reason
        assert not [path for path in here.data.rglob("*") if path.name.endswith(("cancelled.bin", ".upload"))]


def test_an_http_server_of_an_untrusted_authority_cannot_be_pulled_from(here: XrootdServer) -> None:
    with xrootd(make_certificates()) as stranger:
        (stranger.data / "source.bin").write_bytes(b"12345")
        source = f"https://localhost:{stranger.http_port}/data/source.bin"
        with pytest.raises(errors.ServerFault, match=r"(?i)certificate|ssl|verify|security|failed"):
            by_http(here).pull(source, "/data/strange.bin", 5, adler32(b"12345"), lambda _: None)
    assert not (here.data / "strange.bin").exists()


def test_a_section_without_tls_makes_no_http_copies(here: XrootdServer, there: XrootdServer) -> None:
    driver = HttpDriver(_section("http", here.http_port), 5.0)
    with pytest.raises(errors.Unsupported):
        driver.pull(by_http(there).url("/data/source.bin"), "/data/x", SIZE_BYTES, None, lambda _: None)
