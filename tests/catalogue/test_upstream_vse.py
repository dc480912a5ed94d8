"""Another VSE's catalogue: a real door with a real catalogue, and servers that lie, stall and break off."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.databases import ensure_sqlite
from vse.catalogue import wire
from vse.catalogue.sql import SqlCatalogue
from vse.catalogue.upstream import build
from vse.catalogue.upstream.vse import VseUpstream
from vse.config.settings import UpstreamSettings
from vse.db import Database
from vse.doors.http.access import DoorAccess, ensure_token
from vse.doors.http.app import create_app
from vse.errors import Denied, NoSuchEntry, UpstreamGarbage, UpstreamUnavailable, VseError
from vse.model import Contents, Entry, Lfn, Located, NewFile, Replica, ReplicaState
from vse.testing.door import running_door

BASE = Lfn("/lhc")
COUNT = 12_000
TOKEN = "a-token"


@pytest.fixture(scope="module")
def upstream_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a door with `COUNT` files, and the file of its token."""
    root = tmp_path_factory.mktemp("upstream")
    database = Database.open(ensure_sqlite(root / "vse.db"))
    catalogue = SqlCatalogue(database, time.time)
    catalogue.register(NewFile(Lfn(f"/lhc/d{n % 7}/f{n}.root"), n, n, "FAR") for n in range(COUNT))
    token = ensure_token(root / "token")
    with running_door(create_app(DoorAccess("token", "none", token), None, catalogue, "FAR")) as url:
        yield url, root / "token"
    database.close()


@pytest.fixture
def upstream(upstream_site: tuple[str, Path]) -> VseUpstream:
    url, token_file = upstream_site
    return VseUpstream("far", url, token_file, 20.0)


def test_find_gives_everything_in_order(upstream: VseUpstream, upstream_site: tuple[str, Path]) -> None:
    found = list(upstream.find(BASE, "*.root"))
    assert len(found) == COUNT
    assert [file.entry.lfn for file in found] == sorted(file.entry.lfn for file in found)
    eleven = next(file for file in found if file.entry.lfn.name == "f11.root")
    assert (eleven.entry.size_bytes, eleven.entry.adler32, eleven.entry.kind) == (11, 11, "file")
    url = f"{upstream_site[0]}/data/lhc/d4/f11.root"
    lfn = Lfn("/lhc/d4/f11.root")
    assert eleven.replicas == (Replica(lfn, "FAR", url, ReplicaState.AVAILABLE, None, "far"),)
    assert list(upstream.find(BASE, "nothing*")) == []
    assert list(upstream.find(Lfn("/nowhere"), "*")) == []


@pytest.mark.slow
def test_find_may_be_left_early_and_the_client_used_again(upstream: VseUpstream) -> None:
    for _ in range(20):
        assert next(iter(upstream.find(BASE, "*"))).entry.lfn == "/lhc/d0/f0.root"
    assert len(list(upstream.find(BASE, "f1.root"))) == 1


def test_resolve_asks_in_batches_and_answers_every_name(upstream: VseUpstream) -> None:
    names = [Lfn(f"/lhc/d{n % 7}/f{n}.root") for n in range(COUNT)]
    missing = [Lfn("/lhc/missing"), Lfn("/lhc/d0"), Lfn("/ä #%/x")]
    result = upstream.resolve([*names, *missing, names[0]])
    assert set(result.ok) == set(names) and set(result.failed) == set(missing)
    assert all(isinstance(error, NoSuchEntry) for error in result.failed.values())
    assert result.ok[names[5]].entry.size_bytes == 5
    assert upstream.resolve([]).ok == {}


def test_token_is_read_again_when_its_file_changes(upstream_site: tuple[str, Path], tmp_path: Path) -> None:
    url, right = upstream_site
    token_file = tmp_path / "token"
    client = VseUpstream("far", url, token_file)
    with pytest.raises(Denied, match="cannot be read"):
        client.resolve([BASE])
    token_file.write_text("wrong")
    with pytest.raises(Denied, match="answered 403"):
        client.resolve([BASE])
    token_file.write_text(right.read_text())
    assert BASE in client.resolve([BASE]).failed
    for nonsense in ("", "two words", "line\nbreak\r\nX: y"):
        token_file.write_text(nonsense)
        with pytest.raises(Denied, match="holds no token"):
            list(client.find(BASE, "*"))
    with pytest.raises(Denied, match="answered 401"):
        VseUpstream("far", url).resolve([BASE])


def test_build_from_settings(upstream_site: tuple[str, Path]) -> None:
    url, token_file = upstream_site
    built = build(UpstreamSettings(name="far", url=url + "/", token_file=token_file))
    assert built.name == "far" and len(list(built.find(BASE, "f7.root"))) == 1


# ---- servers that lie ------------------------------------------------------------------------------


@contextmanager
def lying_server(*answer: bytes, stall: bool = False) -> Iterator[str]:
    """Answers every request with these bytes and ends the connection (or, with ``stall``, does nothing)."""
    listening = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def answer_one(client: socket.socket) -> None:
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            missing = length - len(head.partition(b"\r\n\r\n")[2])
            while missing > 0:
                missing -= len(client.recv(65536))
            for piece in answer:
                client.sendall(piece)
            if stall:
                done.wait(20)

    def serve() -> None:
        while not done.is_set():
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with contextlib.suppress(ConnectionError):
                answer_one(client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        done.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


def http_answer(status: int, kind: str, body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    reason = http.client.responses.get(status, "Odd")
    return (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + body


def located_json(lfn: str = "/lhc/a", **changes: Any) -> dict[str, Any]:
    data = wire.located_to_json(a_file(lfn))
    for key, value in changes.items():
        part = data["entry"] if key in data["entry"] else data
        part[key] = value
    return data


def a_file(lfn: str = "/lhc/a") -> Located:
    name = Lfn(lfn)
    entry = Entry(name, "file", 7, 0x00000001, bytes(16), "anna", "cms", 0o644, 1e9, 1.5e9)
    replica = Replica(name, "FAR", "root://far//a", ReplicaState.SUSPECT, 1e9, "elsewhere")
    return Located(entry, (replica,), Contents("events", 3))


def stream(*lines: object) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


GOOD, END = located_json(), {"end": 1}
NDJSON, JSON = "application/x-ndjson", "application/json"

GARBAGE_STREAMS: dict[str, tuple[str, bytes]] = {
    "no end line": (NDJSON, stream(GOOD)),
    "nothing at all": (NDJSON, b""),
    "wrong count": (NDJSON, stream(GOOD, {"end": 2})),
    "count is no number": (NDJSON, stream(GOOD, {"end": "1"})),
    "more after the end": (NDJSON, stream(GOOD, END, GOOD)),
    "bad JSON": (NDJSON, b"{nonsense\n"),
    "half a line": (NDJSON, stream(GOOD) + b'{"end": 1}'),
    "no UTF-8": (NDJSON, b"\xff\xfe\n"),
    "a page for people": ("text/html; charset=utf-8", b"<html>Log in</html>"),
    "a page that claims to be a stream": (NDJSON, b"<html>\nLog in\n</html>\n"),
    "a list": (NDJSON, stream([], END)),
    "a file outside of what was asked": (NDJSON, stream(located_json("/etc/passwd"), END)),
    "a file of another name": (NDJSON, stream(located_json("/lhc/b"), END)),
    "an unknown key": (NDJSON, stream(located_json() | {"more": 1}, END)),
    "a name with dots": (NDJSON, stream(located_json(lfn="/lhc/../a"), END)),
    "a name not in normal form": (NDJSON, stream(located_json(lfn="/lhc//a"), END)),
    "a negative size": (NDJSON, stream(located_json(size_bytes=-1), END)),
    "a size that is true": (NDJSON, stream(located_json(size_bytes=True), END)),
    "no size": (NDJSON, stream(located_json(size_bytes=None), END)),
    "a size beyond all": (NDJSON, stream(located_json(size_bytes=2**70), END)),
    "a checksum cut short": (NDJSON, stream(located_json(adler32="1"), END)),
    "a checksum in capitals": (NDJSON, stream(located_json(adler32="ABCDEF01"), END)),
    "a time that is none": (NDJSON, b'%s{"end":1}\n' % stream(located_json(created_s=float("nan")))),
    "a directory": (NDJSON, stream(located_json(kind="directory"), END)),
    "a state nobody knows": (
        NDJSON,
        stream(located_json(replicas=[{"se": "X", "url": None, "state": "?"}]), END),
    ),
    "replicas that are no list": (NDJSON, stream(located_json(replicas={}), END)),
    "deep nesting": (NDJSON, b"[" * 200_000 + b"\n"),
    "an endless line": (NDJSON, b"x" * (9 << 20)),
}


@pytest.mark.parametrize("lie", GARBAGE_STREAMS)
def test_garbage_instead_of_a_stream(lie: str) -> None:
    kind, body = GARBAGE_STREAMS[lie]
    with lying_server(http_answer(200, kind, body)) as url, pytest.raises(UpstreamGarbage) as raised:
        list(VseUpstream("far", url, None, 5.0).find(BASE, "a"))
    assert len(str(raised.value)) < 400


def test_the_good_stream_of_the_lying_server_is_good() -> None:
    """So that the cases above fail for their own reason."""
    with lying_server(http_answer(200, NDJSON, stream(GOOD, END))) as url:
        [found] = VseUpstream("far", url, None, 5.0).find(BASE, "a")
    assert found.entry == a_file().entry and found.contents == Contents("events", 3)


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(200, NDJSON, stream(GOOD), length=100_000),
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n" % (len(stream(GOOD)), stream(GOOD)),
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_stream_that_breaks_off_never_just_ends(answer: bytes) -> None:
    with lying_server(answer) as url, pytest.raises(UpstreamGarbage, match="broke off"):
        list(VseUpstream("far", url, None, 5.0).find(BASE, "a"))


def resolve_body(**changes: Any) -> bytes:
    return json.dumps({"ok": {"/lhc/a": GOOD}, "failed": {}} | changes).encode()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, b""),
        (JSON, b"null"),
        (JSON, b"{}"),
        (JSON, resolve_body(more=1)),
        (JSON, resolve_body(ok=[])),
        (JSON, resolve_body(ok={})),
        (JSON, resolve_body(ok={"/lhc/a": GOOD, "/lhc/b": located_json("/lhc/b")})),
        (JSON, resolve_body(failed={"/lhc/a": NoSuchEntry("x").to_dict()})),
        (JSON, resolve_body(ok={}, failed={"/lhc/a": {"code": "x"}})),
        (JSON, resolve_body(ok={}, failed={"/lhc/a": "not there"})),
        ("text/html", b"<html/>"),
        (NDJSON, resolve_body()),
    ],
)
def test_garbage_instead_of_an_answer(kind: str, body: bytes) -> None:
    with lying_server(http_answer(200, kind, body)) as url, pytest.raises(UpstreamGarbage):
        VseUpstream("far", url, None, 5.0).resolve([Lfn("/lhc/a")])


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Denied),
        (403, Denied),
        (429, UpstreamUnavailable),
        (500, UpstreamUnavailable),
        (502, UpstreamUnavailable),
        (503, UpstreamUnavailable),
        (204, UpstreamGarbage),
        (302, UpstreamGarbage),
        (404, UpstreamGarbage),
        (418, UpstreamGarbage),
    ],
)
def test_statuses(status: int, error: type[VseError]) -> None:
    answer = http_answer(status, "text/plain", b"" if status == 204 else b"no")
    with lying_server(answer) as url:
        client = VseUpstream("far", url, None, 5.0)
        for ask in both(client):
            with pytest.raises(error, match=str(status)):
                ask()


def both(client: VseUpstream) -> list[Callable[[], object]]:
    return [lambda: list(client.find(BASE, "a")), lambda: client.resolve([Lfn("/lhc/a")])]


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", "http://nowhere.invalid", "http://", "nonsense:x", "http://[x"):
        for ask in both(VseUpstream("far", url, None, 5.0)):
            with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
                ask()


def test_silence_is_not_waited_for_longer_than_the_settings_say() -> None:
    half = http_answer(200, NDJSON, stream(GOOD), length=10_000)
    for answer in (b"", half, half[:20]):
        with lying_server(answer, stall=True) as url:
            begin_s = time.monotonic()
            with pytest.raises(UpstreamUnavailable, match=r"silent for 0\.3 s"):
                list(VseUpstream("far", url, None, 0.3).find(BASE, "a"))
            assert time.monotonic() - begin_s < 3


def test_a_server_that_hangs_up_at_once() -> None:
    with lying_server(b"") as url:
        for ask in both(VseUpstream("far", url, None, 5.0)):
            with pytest.raises(UpstreamUnavailable):
                ask()
    with (
        lying_server(b"SSH-2.0-OpenSSH_9.2\r\n") as url,
        pytest.raises((UpstreamUnavailable, UpstreamGarbage)),
    ):
        VseUpstream("far", url, None, 5.0).resolve([BASE])


# ---- the wire --------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
entries = st.builds(
    Entry,
    lfn=st.just(Lfn("/a/b ü#")),
    kind=st.just("file"),
    size_bytes=st.integers(0, 2**63 - 1),
    adler32=st.none() | st.integers(0, 2**32 - 1),
    guid=st.none() | st.binary(min_size=16, max_size=16),
    owner=texts,
    group=texts,
    mode=st.integers(0, 0o7777),
    created_s=st.floats(0, 1e11),
    modified_s=st.floats(0, 1e11),
    target=st.none(),
)


@given(entries, texts, st.none() | texts, st.sampled_from(ReplicaState), st.none() | st.integers(0, 2**62))
def test_what_goes_over_the_wire_comes_back(
    entry: Entry, se: str, url: str | None, state: ReplicaState, count: int | None
) -> None:
    contents = None if count is None else Contents(se, count)
    sent = Located(entry, (Replica(entry.lfn, se, url, state, 5.0, "own"),), contents)
    line = wire.dumps(wire.located_to_json(sent))
    assert b"\n" not in line
    got = wire.located_from_json(json.loads(line), "far")
    assert got == Located(entry, (Replica(entry.lfn, se, url, state, None, "far"),), contents)


def test_a_name_that_leads_elsewhere_is_answered_with_the_real_one() -> None:
    body = resolve_body(ok={"/lhc/a": located_json("/lhc/b")})
    with lying_server(http_answer(200, JSON, body)) as url:
        assert VseUpstream("far", url, None, 5.0).resolve([Lfn("/lhc/a")]).ok["/lhc/a"].entry.lfn == "/lhc/b"


def test_other_kinds_and_errors_come_back() -> None:
    entry = Entry(Lfn("/a"), "directory", None, None, None, "o", "g", 0o755, 1.0, 2.0)
    link = entry._replace(kind="link", target="../b")
    for one in (entry, link, entry._replace(kind="collection")):
        assert wire.entry_from_json(json.loads(wire.dumps(wire.entry_to_json(one)))) == one
    with pytest.raises(UpstreamGarbage, match="target"):
        wire.entry_from_json(wire.entry_to_json(link._replace(target=None)))
    error = NoSuchEntry("look up /a", "it is not there", "ask again")
    assert str(wire.error_from_json(error.to_dict())) == str(error)


@pytest.mark.parametrize(
    "key", ["lfn", "kind", "size_bytes", "adler32", "guid", "owner", "mode", "modified_s"]
)
def test_a_missing_or_wrong_key_is_named(key: str) -> None:
    data = wire.entry_to_json(a_file().entry)
    for wrong in ({**data, key: [1]}, {**data, key: {}}):
        with pytest.raises(UpstreamGarbage, match=key):
            wire.entry_from_json(wrong)
    del data[key]
    with pytest.raises(UpstreamGarbage, match=f"no key '{key}'"):
        wire.entry_from_json(data)
    with pytest.raises(UpstreamGarbage, match="unknown key 'colour'"):
        wire.entry_from_json(wire.entry_to_json(a_file().entry) | {"colour": 1})
