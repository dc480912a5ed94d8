"""The catalogue from elsewhere: hard names, long calls, refusals, and streams that break."""

from __future__ import annotations

import json
import threading
import unicodedata
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vse.catalogue.guarded import Guarded
from vse.catalogue.remote import RemoteCatalogue
from vse.catalogue.wire import MAX_BODY_BYTES, NAMES_PATH
from vse.doors.http.access import DoorAccess
from vse.doors.http.app import create_app
from vse.errors import (
    BadLfn,
    BadRequest,
    DatabaseBusy,
    Denied,
    NoSuchEntry,
    UpstreamGarbage,
    UpstreamUnavailable,
    VseError,
)
from vse.model import Identity, Lfn, NewAccess, NewFile
from vse.testing.door import running_door

pytestmark = pytest.mark.slow

NAMES = (
    unicodedata.normalize("NFC", "/é/ä.root"), "/É/ä.root", "/e/trailing.", "/e/trailing..", "/e/ blank ",
    "/" + "x" * 255, "/" + "ü" * 127 + "y", "/quo\"te/back\\slash", "/per%2Fcent/#?&", "/emoji/😀",
)  # fmt: skip


@pytest.fixture
def remote(catalogue, remote_of):
    return remote_of(catalogue)


def test_hard_names_stay_what_they_are(remote, catalogue):
    lfns = [Lfn.parse(name) for name in NAMES]
    assert not remote.register([NewFile(lfn, place) for place, lfn in enumerate(lfns)]).failed
    found = {one.entry.lfn: one.entry.size_bytes for one in remote.find(Lfn("/"), "*")}
    assert found == {lfn: place for place, lfn in enumerate(lfns)}
    assert set(remote.stat(lfns).ok) == set(catalogue.stat(lfns).ok) == set(lfns)
    for lfn in lfns:
        assert [one.lfn for one in remote.history(lfn)] == [one.lfn for one in catalogue.history(lfn)]


@pytest.mark.parametrize(
    "name",
    ["/a\nb", "/a\x00b", unicodedata.normalize("NFD", "/é"), "/" + "x" * 256, "/a//b", "/a/../b", "no", ""],
)
def test_names_that_cannot_be_fail_alone_and_make_nothing(remote, name):
    bad, good = Lfn(name), Lfn("/good")
    remote.register([NewFile(good, 1)])
    result = remote.stat([good, bad])
    assert (set(result.ok), set(result.failed)) == ({good}, {name})
    assert isinstance(result.failed[name], BadLfn)
    assert isinstance(remote.remove([bad]).failed[name], BadLfn)
    with pytest.raises((BadLfn, BadRequest)):
        remote.register([NewFile(Lfn("/other"), 1), NewFile(bad, 1)])
    with pytest.raises((BadLfn, BadRequest)):
        remote.rename(good, bad)
    assert [entry.lfn for entry in remote.list(Lfn("/"))] == [good]


@pytest.mark.slow
def test_calls_longer_than_a_request_are_several(remote):
    lfns = [Lfn(f"/many/{number % 9}/{number:05d}") for number in range(25_000)]
    assert len(remote.register(NewFile(lfn, 1, se="X") for lfn in lfns).ok) == 25_000
    assert len(remote.resolve([*lfns, Lfn("/none")]).ok) == 25_000
    assert [entry.lfn for entry in remote.list(Lfn("/many/3"))] == sorted(lfns[3::9])
    assert [one.entry.lfn for one in remote.find(Lfn("/many"), "0000?")] == sorted(lfns[:10])
    directories = [Lfn("/many"), *(Lfn(f"/many/{number}") for number in range(9))]
    assert not remote.remove([*directories, *lfns], forever=True).failed, "what they hold goes first"
    assert list(remote.list(Lfn("/"))) == []


@pytest.mark.slow
def test_a_request_that_is_too_long_is_refused_before_it_is_sent(remote):
    member = "/" + "x" * 250
    members = [Lfn(f"{member}{number}") for number in range(MAX_BODY_BYTES // 250)]
    with pytest.raises(BadRequest, match="a request has at most"):
        remote.put_collection(Lfn("/set"), members, "o", "g")


def test_the_door_acts_as_somebody_who_may_be_refused(catalogue, remote_of):
    catalogue.register([NewFile(Lfn("/open/a"), 1), NewFile(Lfn("/shut/b"), 1)])
    catalogue.change_access([NewAccess(Lfn("/shut"), mode=0o700)])
    remote = remote_of(Guarded(catalogue.acting("eve"), Identity("eve", ("evil",))))
    result = remote.stat([Lfn("/open/a"), Lfn("/shut/b")])
    assert set(result.ok) == {"/open/a"}
    assert isinstance(result.failed["/shut/b"], Denied)
    with pytest.raises(Denied, match="eve"):
        remote.rename(Lfn("/open/a"), Lfn("/mine"))
    with pytest.raises(Denied):
        remote.list(Lfn("/shut"))
    found = remote.find(Lfn("/"), "*")
    assert next(found).entry.lfn == "/open/a"
    with pytest.raises(Denied, match="/shut"):
        list(found)


def test_without_the_right_to_write_nothing_is_told(catalogue, tmp_path):
    token = tmp_path / "token"
    token.write_text("right")
    with running_door(create_app(DoorAccess("anonymous", "none", "right"), whole=catalogue)) as url:
        for client in (RemoteCatalogue(url, token), RemoteCatalogue(url)):
            with client, pytest.raises(Denied, match="read-only"):
                client.stat([Lfn("/")])
    with running_door(create_app(DoorAccess("anonymous", "token", "right"), whole=catalogue)) as url:
        with RemoteCatalogue(url) as client, pytest.raises(Denied, match="no token"):
            list(client.find(Lfn("/"), "*"))
        token.write_text("wrong")
        with RemoteCatalogue(url, token) as client, pytest.raises(Denied, match="not the one"):
            client.register([NewFile(Lfn("/x"), 1)])
    with pytest.raises(UpstreamUnavailable), RemoteCatalogue(url, token) as client:
        client.stat([Lfn("/")])
    assert not catalogue.stat([Lfn("/x")]).ok


class Breaking:
    """A catalogue whose streams fail in the middle; it needs no other call."""

    def __init__(self, inner: object, error: VseError) -> None:
        self._inner, self._error = inner, error

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def find(self, base: Lfn, pattern: str) -> Iterator[object]:
        yield from self._inner.find(base, pattern)
        raise self._error


def test_a_stream_that_fails_in_the_middle_raises(catalogue, remote_of):
    catalogue.register([NewFile(Lfn(f"/d/{number:04d}"), 1) for number in range(2000)])
    secret = DatabaseBusy("read /srv/secret", "it stayed locked")
    for error, told in ((NoSuchEntry("find", "it went"), NoSuchEntry), (secret, UpstreamGarbage)):
        found = remote_of(Breaking(catalogue, error)).find(Lfn("/d"), "*")
        assert next(found).entry.lfn == "/d/0000"
        with pytest.raises(told) as raised:
            list(found)
        assert "secret" not in str(raised.value)


def test_a_stream_may_be_left_and_the_client_used_again(remote):
    remote.register([NewFile(Lfn(f"/d/{number:04d}"), 1) for number in range(3000)])
    for _ in range(20):
        found = remote.find(Lfn("/d"), "*")
        assert next(found).entry.lfn == "/d/0000"
        found.close()
    assert sum(1 for _ in remote.find(Lfn("/d"), "*")) == 3000


@pytest.fixture
def lying() -> Iterator[tuple[type[BaseHTTPRequestHandler], str]]:
    """A server that answers whatever ``handler.answer`` is."""

    class Handler(BaseHTTPRequestHandler):
        answer: tuple[int, str, bytes] = (200, "", b"")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, kind, body = self.answer
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


ROW = ["/a", "file", 1, None, None, "o", "g", 420, 1.0, 1.0, None]
GARBAGE = [
    b"", b"{", b"[]", b'{"ok": {}}', b'{"ok": [], "failed": {}}',
    json.dumps({"ok": {"/a": ROW[:-1]}, "failed": {}}).encode(),
    *(
        json.dumps({"ok": {"/a": [*ROW[:place], wrong, *ROW[place + 1 :]]}, "failed": {}}).encode()
        for place, wrong in ((0, "a"), (0, "/a/../b"), (1, "device"), (2, -1), (2, None), (3, 2**32),
                             (4, "ab"), (5, None), (7, "644"), (8, "now"))
    ),
    json.dumps({"ok": {}, "failed": {"/a": "gone"}}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("body", GARBAGE)
def test_garbage_is_not_believed(lying, body):
    handler, url = lying
    handler.answer = (200, "application/json", body)
    with RemoteCatalogue(url) as client, pytest.raises(UpstreamGarbage):
        client.stat([Lfn("/a")])


@pytest.mark.parametrize(
    ("status", "kind", "body", "error"),
    [
        (200, "text/html", b"<html>", UpstreamGarbage),
        (404, "text/html", b"<html>", UpstreamGarbage),
        (404, "application/json", b"{}", UpstreamGarbage),
        (503, "text/html", b"<html>", UpstreamUnavailable),
        (429, "text/plain", b"", UpstreamUnavailable),
        (200, "application/x-ndjson", b"", UpstreamGarbage),
        (200, "application/x-ndjson", b'{"end": 1}\n', UpstreamGarbage),
        (200, "application/x-ndjson", b'{"end": 0}\n[]\n', UpstreamGarbage),
        (200, "application/x-ndjson", b'[["/a"]]\n{"end": 1}\n', UpstreamGarbage),
        (200, "application/x-ndjson", b'{"end": 0}', UpstreamGarbage),
        (200, "application/x-ndjson", b"7\n", UpstreamGarbage),
    ],
)
def test_a_stream_that_is_none_raises(lying, status, kind, body, error):
    handler, url = lying
    handler.answer = (status, kind, body)
    with RemoteCatalogue(url) as client, pytest.raises(error):
        list(client.list(Lfn("/")))


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("register", {"files": [["/a"]]}),
        ("register", {"files": {}}),
        ("register", {"files": [[]] * 10_001}),
        ("stat", {"lfns": ["/a"] * 10_001}),
        ("stat", {"lfns": "/a"}),
        ("rename", {"source": "/a"}),
        ("rename", {"source": "/a", "target": 7}),
        ("mark_replicas", {"lfns": ["/a"], "se": "X", "state": "gone", "master": False}),
        ("mark_replicas", {"lfns": ["/a"], "se": "X", "state": None, "master": 1}),
        ("undelete", {"ids": ["1"]}),
        ("expired", {"now_s": "now", "ids": None}),
        ("by_guid", {"guids": ["ab"]}),
        ("find", {"base": "/", "pattern": None}),
        ("change_access", {"changes": [["/a", None, None, None, [["user", "bob", 8]], None]]}),
    ],
)
def test_what_cannot_be_understood_is_a_bad_request(remote, front, tmp_path: Path, call, body):
    import urllib3

    token = (tmp_path / "door.token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    answer = urllib3.request("POST", f"{front[1]}{NAMES_PATH}/{call}", json=body, headers=headers)
    assert answer.status == 400, answer.data
    assert answer.json()["code"] in ("bad-request", "bad-lfn")
