"""The HTTP driver against VSE's own door, and over TLS."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.certificates import Certificates, make_certificates
from servers.tls import tls_before
from support.raw_answers import LyingServer, answer
from support.served_door import TOKEN, Served
from support.waiting import until
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.drivers.http import HttpDriver
from vse.storage.drivers.http_ranges import joined
from vse.testing.drivers import DriverConformance, adler32, fetch, is_there, pattern, store

TLS = Path(__file__).parent / "tls"


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return make_certificates()


@pytest.mark.slow
class TestHttpDriver(DriverConformance):
    server_name = "VSE's door"

    @pytest.fixture
    def driver(self, served: Served) -> Iterator[HttpDriver]:
        (served.directory / "store").mkdir()
        driver = HttpDriver(served.section(), 10.0)
        # VSE's door computes this one only.
        driver.capabilities = replace(driver.capabilities, checksums=frozenset({"adler32"}))
        yield driver
        driver.close()

    @pytest.fixture
    def base(self) -> str:
        return "/data/store"


@pytest.mark.slow
class TestDavsDriver(DriverConformance):
    """As above, with TLS in between. VSE's door makes no third-party copies."""

    server_name = "VSE's door"

    @pytest.fixture
    def driver(self, served: Served, certificates: Certificates) -> Iterator[HttpDriver]:
        (served.directory / "store").mkdir()
        with tls_before(urlsplit(served.url).port or 0, certificates) as port:
            section = served.section(Protocol="davs", Host="localhost", Port=port)
            driver = HttpDriver(section, 10.0, certificates.trusting())
            lacking = {"checksums": frozenset({"adler32"}), "pull": frozenset(), "push": frozenset()}
            driver.capabilities = replace(driver.capabilities, **lacking)
            yield driver
            driver.close()

    @pytest.fixture
    def base(self) -> str:
        return "/data/store"


@pytest.mark.slow
def test_the_token_is_read_when_needed_and_again_when_it_changes(served: Served) -> None:
    served.token_file.unlink()
    driver = HttpDriver(served.section(), 5.0)
    with pytest.raises(errors.Denied, match="token file"):
        driver.stat(["/data"]).one("/data")
    served.token_file.write_text("not-the-right-one")
    with pytest.raises(errors.Denied, match="403") as caught:
        driver.stat(["/data"]).one("/data")
    assert "not-the-right-one" not in str(caught.value)
    with pytest.raises(errors.Denied):
        driver.put("/data/a.bin", 5)
    served.token_file.write_text(TOKEN)
    os.utime(served.token_file, (1, 1))
    assert driver.stat(["/data"]).one("/data").is_directory
    for text in ("", "two words", "line\nbreak", "Ünicode"):
        served.token_file.write_text(text)
        with pytest.raises(errors.Denied, match="token file"):
            driver.stat(["/data"]).one("/data")
    driver.close()


@pytest.mark.slow
def test_a_wrong_checksum_is_refused_by_the_server_too(served: Served) -> None:
    driver = HttpDriver(served.section(), 5.0)
    upload = driver.put("/data/a.bin", 5, adler32(b"12345"))
    upload._declared.checksum = None  # so that only the server compares
    with pytest.raises(errors.VseError), upload:
        upload.write(b"12346")
        upload.commit()
    assert not is_there(driver, "/data/a.bin")
    driver.close()


@pytest.mark.slow
def test_a_file_that_changes_its_size_while_open(served: Served) -> None:
    driver = HttpDriver(served.section(), 5.0)
    (served.directory / "a.bin").write_bytes(pattern(5000))
    with driver.open("/data/a.bin") as reader:
        os.truncate(served.directory / "a.bin", 4000)
        for read in (
            lambda: reader.pread(0, 10),
            lambda: reader.pread(4500, 10),
            lambda: reader.pread_many([(0, 10), (100, 10)]),
            lambda: list(reader.stream()),
            lambda: list(reader.stream(10)),
        ):
            with pytest.raises(errors.SizeMismatch):
                read()
    driver.close()


def test_a_server_that_went_and_came_back_on_its_port() -> None:
    first = LyingServer({"HEAD": answer("200 OK", length=5)})
    driver = HttpDriver(first.section(), 5.0)
    assert driver.stat(["/a"]).ok["/a"].size_bytes == 5
    first.close()
    with pytest.raises(errors.SourceUnavailable):
        driver.stat(["/a"]).one("/a")
    driver.close()


class _ClosesIdle(BaseHTTPRequestHandler):
    """Says that it keeps connections, and closes each after one answer."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True


def test_a_kept_connection_that_the_server_closed_is_opened_anew() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ClosesIdle)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    section = ProtocolSettings(Section="HTTP", Host="127.0.0.1", Port=server.server_port)
    driver = HttpDriver(section, 5.0)
    for _ in range(30):
        assert driver.stat(["/a"]).one("/a").size_bytes == 5
    driver.close()
    server.shutdown()
    server.server_close()
    thread.join(10)


_KILLED = """
import sys
from vse.config.settings import ProtocolSettings
from vse.storage.drivers.http import HttpDriver
port, token_file = sys.argv[1:]
section = ProtocolSettings(Section="HTTP", Host="127.0.0.1", Port=int(port), TokenFile=token_file)
upload = HttpDriver(section, 10.0).put("/data/d/a.bin", 4_000_000)
upload.write(bytes(3_000_000))
print("most", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_nothing_on_the_server(served: Served) -> None:
    section = served.section()
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(section.port), str(served.token_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "most\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait(30)
    until(lambda: not list(served.directory.rglob("*.part")))
    driver = HttpDriver(section, 10.0)
    assert not is_there(driver, "/data/d/a.bin")
    store(driver, "/data/d/a.bin", b"again")
    driver.close()


# -- TLS ---------------------------------------------------------------------------------------------


@pytest.fixture
def tls_server() -> Iterator[int]:
    """A server with a certificate of its own, that takes one PUT and keeps one file."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _reply(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            found = files.get(self.path)
            self._reply(404 if found is None else 200, found or b"")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_PUT(self) -> None:
            files[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self._reply(201)

        def handle_expect_100(self) -> bool:
            if self.path == "/refused":
                self._reply(507)
                return False
            return super().handle_expect_100()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "localhost.pem", TLS / "localhost.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.mark.parametrize("protocol", ["https", "davs"])
@pytest.mark.slow
def test_reading_and_writing_over_tls(tls_server: int, protocol: str) -> None:
    section = ProtocolSettings(Section="HTTPS", Protocol=protocol, Host="localhost", Port=tls_server)
    driver = HttpDriver(section, 5.0, ssl.create_default_context(cafile=str(TLS / "localhost.pem")))
    data = pattern(3_000_000)
    assert store(driver, "/a b.bin", data).size_bytes == len(data)
    assert fetch(driver, "/a b.bin") == data
    assert driver.url("/a b.bin") == f"{protocol}://localhost:{tls_server}/a%20b.bin"
    with pytest.raises(errors.StorageFull):
        driver.put("/refused", 10**9)
    driver.close()


@pytest.mark.slow
def test_a_server_that_cannot_be_trusted(tls_server: int) -> None:
    section = ProtocolSettings(Section="HTTPS", Protocol="https", Host="localhost", Port=tls_server)
    driver = HttpDriver(section, 5.0)
    with pytest.raises(errors.SourceUnavailable, match="no secure connection"):
        driver.stat(["/a.bin"]).one("/a.bin")
    driver.close()


def test_a_redirect_out_of_tls_is_refused() -> None:
    from vse.storage.drivers.http_session import redirected

    with pytest.raises(errors.Denied, match="https"):
        redirected(302, "https://a.invalid/x", "http://a.invalid/x", "read x")
    assert redirected(302, "https://a.invalid/x", "/y", "read x") == "https://a.invalid/y"


# -- URLs and ranges ---------------------------------------------------------------------------------

_parts = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=30
).filter(lambda text: text not in (".", ".."))
_driver = HttpDriver(ProtocolSettings(Section="HTTP", Host="SE.example.org", Port=8443))


@given(st.lists(_parts, min_size=1, max_size=4))
def test_a_url_is_the_way_back_to_its_path(parts: list[str]) -> None:
    path = "/" + "/".join(parts)
    url = _driver.url(path)
    assert url.startswith("http://se.example.org:8443/")
    assert url.isascii()
    assert _driver.path_of(url) == path


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example.org:8443/a",
        "http://se.example.org/a",
        "https://se.example.org:8443/a",
        "root://se.example.org:8443/a",
        "http://se.example.org:8443/a?x=1",
        "http://se.example.org:8443/a#x",
        "http://se.example.org:99999/a",
        "http:///a",
        "/a",
        "",
    ],
)
def test_urls_of_others(url: str) -> None:
    with pytest.raises(errors.BadRequest):
        _driver.path_of(url)


def test_default_ports_and_ipv6() -> None:
    plain = HttpDriver(ProtocolSettings(Section="HTTP", Host="[::1]"))
    assert plain.url("/a") == "http://[::1]/a"
    assert plain.path_of("http://[::1]:80/a") == "/a"
    assert plain.path_of("dav://[::1]/a") == "/a"


@pytest.mark.parametrize("changes", [{"Host": ""}, {"Protocol": "gopher"}])
def test_sections_that_cannot_be_used(changes: dict[str, str]) -> None:
    with pytest.raises(errors.BadSettings):
        HttpDriver(ProtocolSettings(**{"Section": "HTTP", "Host": "a.invalid"} | changes))


def test_no_answer_from_a_server_that_takes_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        section = ProtocolSettings(Section="HTTP", Host="127.0.0.1", Port=silent.getsockname()[1])
        driver = HttpDriver(section, 0.3)
        with pytest.raises(errors.Stalled):
            driver.stat(["/a"]).one("/a")
        driver.close()


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)).map(lambda it: (it[0], sum(it)))))
def test_joined_ranges_cover_the_same_bytes_and_touch_nowhere(wanted: list[tuple[int, int]]) -> None:
    result = joined(wanted)
    assert {byte for one in result for byte in range(*one)} == {
        byte for one in wanted for byte in range(*one)
    }
    assert all(first[1] < second[0] for first, second in pairwise(result))
    assert all(start < end for start, end in result)
