"""Copies that HTTP servers make themselves: each server gets the token of its own element, and no other.

The servers are small and real: they speak TLS, keep files, copy from and to each other as XRootD does, and
turn away whoever does not bring their token.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import urllib3

from servers.certificates import Certificates, make_certificates
from vse.config.settings import Settings
from vse.errors import ServerFault
from vse.storage.drivers.http_session import Origin
from vse.storage.element import Elements

DATA = b"event data\n" * 1000
_PREFIX = "TransferHeader"


class Request(NamedTuple):
    method: str
    token: str | None
    """What came as Authorization."""
    passed_on: str | None
    """What is to be sent to the other side as Authorization."""


class Handler(BaseHTTPRequestHandler):
    server: Storage

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _refused(self) -> bool:
        token = self.headers["Authorization"]
        self.server.seen.append(Request(self.command, token, self.headers[f"{_PREFIX}Authorization"]))
        refused = token != self.server.wanted
        if refused:
            self._answer(403)
        return refused

    def do_HEAD(self) -> None:
        if not self._refused():
            data = self.server.files.get(self.path)
            is_directory = any(name.startswith(f"{self.path.rstrip('/')}/") for name in self.server.files)
            self._answer(200 if data or is_directory else 404, length=len(data or b""))

    def do_GET(self) -> None:
        if not self._refused():
            self._answer(200, self.server.files[self.path])

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._refused():
            self.server.files[self.path] = data
            self._answer(201)

    def do_COPY(self) -> None:
        if self._refused():
            return
        source, target, files = self.headers["Source"], self.headers["Destination"], self.server.files
        answer = self._asked("GET", source) if source else self._asked("PUT", target, files[self.path])
        if source and answer.status == 200:
            files[self.path] = answer.data
        failed = answer.status >= 400
        self._answer(
            201, f"failure: it answered {answer.status}\n".encode() if failed else b"success: Created\n"
        )

    def _asked(self, method: str, url: str, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
        passed_on = ((name, value) for name, value in self.headers.items() if name.startswith(_PREFIX))
        headers = {name.removeprefix(_PREFIX): value for name, value in passed_on}
        return self.server.client.request(method, url, body=body, headers=headers, timeout=60)


class Storage(ThreadingHTTPServer):
    """``wanted`` is the only Authorization it takes; None takes only who brings none."""

    def __init__(self, wanted: str | None, certificates: Certificates, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.wanted = wanted
        self.files: dict[str, bytes] = {"/d/there": b""}
        self.seen: list[Request] = []
        self.client = urllib3.PoolManager(ssl_context=certificates.trusting())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "host.pem", directory / "host.key")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def tokens(self, *methods: str) -> set[str | None]:
        return {request.token for request in self.seen if request.method in methods}

    def url(self, path: str, scheme: str = "https") -> str:
        return f"{scheme}://localhost:{self.server_port}{path}"


class Site(NamedTuple):
    """``one`` and ``two`` are elements that know their tokens; no element names ``nobody``."""

    elements: Elements
    one: Storage
    two: Storage
    nobody: Storage


@contextmanager
def running(server: Storage) -> Iterator[Storage]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    certificates = make_certificates()
    certificates.write(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with ExitStack() as stack:

        def started(wanted: str | None) -> Storage:
            return stack.enter_context(running(Storage(wanted, certificates, tmp_path)))

        one, two, nobody = (started(wanted) for wanted in ("Bearer of-one", "Bearer of-two", None))
        elements = {"ONE": _element(tmp_path, one, "of-one"), "TWO": _element(tmp_path, two, "of-two")}
        made = Elements.from_settings(Settings.model_validate({"StorageElements": elements}))
        stack.callback(made.close)
        yield Site(made, one, two, nobody)


def _element(directory: Path, server: Storage, token: str) -> dict[str, Any]:
    file = directory / token
    file.write_text(token)
    # A host is written as one likes, and is the same.
    section = {"Protocol": "https", "Host": "LocalHost", "Port": server.server_port, "Path": "/d"}
    return {"HTTP": section | {"TokenFile": str(file)}}


@pytest.mark.parametrize("scheme", ["https", "davs"])
def test_a_source_gets_the_token_of_its_own_element(site: Site, scheme: str) -> None:
    site.two.files["/d/a"] = DATA
    driver, path = site.elements.driver_for(site.one.url("/d/a"))
    driver.pull(site.two.url("/d/a", scheme), path, len(DATA), None, _unheard)
    assert site.one.files["/d/a"] == DATA
    assert site.one.tokens("HEAD", "COPY") == {"Bearer of-one"}
    assert [asked.passed_on for asked in site.one.seen if asked.method == "COPY"] == ["Bearer of-two"]
    assert [asked[:2] for asked in site.two.seen] == [("GET", "Bearer of-two")]


@pytest.mark.parametrize("scheme", ["https", "davs"])
def test_a_destination_gets_the_token_of_its_own_element(site: Site, scheme: str) -> None:
    site.one.files["/d/a"] = DATA
    driver, path = site.elements.driver_for(site.one.url("/d/a"))
    driver.push(path, site.two.url("/d/b", scheme), len(DATA), None, _unheard)
    assert site.two.files["/d/b"] == DATA
    assert site.one.tokens("HEAD", "COPY") == {"Bearer of-one"}
    assert [asked.passed_on for asked in site.one.seen if asked.method == "COPY"] == ["Bearer of-two"]
    assert {asked.method for asked in site.two.seen} == {"HEAD", "PUT"}
    assert site.two.tokens("HEAD", "PUT") == {"Bearer of-two"}


def test_a_server_that_no_element_names_gets_no_token(site: Site) -> None:
    site.nobody.files["/d/a"] = DATA
    driver, path = site.elements.driver_for(site.one.url("/d/a"))
    driver.pull(site.nobody.url("/d/a"), path, len(DATA), None, _unheard)
    driver.push(path, site.nobody.url("/d/b"), len(DATA), None, _unheard)
    assert site.nobody.files["/d/b"] == site.one.files["/d/a"] == DATA
    assert [asked.passed_on for asked in site.one.seen if asked.method == "COPY"] == [None, None]
    assert {asked.method for asked in site.nobody.seen} == {"GET", "HEAD", "PUT"}
    assert site.nobody.tokens("GET", "HEAD", "PUT") == {None}


def test_a_source_that_does_not_know_the_token_is_told_and_nothing_is_left(site: Site) -> None:
    site.two.files["/d/a"], site.two.wanted = DATA, "Bearer another"
    driver, path = site.elements.driver_for(site.one.url("/d/a"))
    with pytest.raises(ServerFault, match="403"):
        driver.pull(site.two.url("/d/a"), path, len(DATA), None, _unheard)
    assert "/d/a" not in site.one.files


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://Two.example.org", "https://two.example.org:443/x"),
        ("https://two.example.org/d", "davs://TWO.example.org/"),
        ("http://[::1]:8080", "dav://[::1]:8080/"),
    ],
)
def test_a_server_is_the_same_however_its_url_is_written(written: str, url: str) -> None:
    assert Origin.of(written) == Origin.of(url)
    assert str(Origin.of(url)) == str(Origin.of(written))


def _unheard(_: int) -> None:
    pass
