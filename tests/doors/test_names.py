"""The catalogue over HTTP, as any client that speaks JSON sees it. Behind it is the real one."""

from __future__ import annotations

import contextlib
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.databases import ensure_sqlite
from support.door_site import MakeSite, Site
from support.waiting import until
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.errors import DatabaseBusy
from vse.model import Lfn, Located, NewFile

FIND = "/api/v1/catalogue/find"


def new_file(lfn: str, se: str = "REMOTE", url: str | None = None) -> NewFile:
    return NewFile(Lfn.parse(lfn), 7, 0x0639C6F0, se, url, bytes(range(16)))


FILES = [
    new_file("/lhc/a/one.root"),
    new_file("/lhc/a/two.txt"),
    new_file("/lhc/b/tre x#ü%.root"),
    new_file("/lhc/c/far.root", "FAR", "root://far.example//x/far.root"),
    new_file("/lhc/c/hidden.root", "LOCAL", "file:///srv/secret/hidden.root"),
]


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[SqlCatalogue]:
    database = Database.open(ensure_sqlite(tmp_path / "vse.db"))
    made = SqlCatalogue(database, time.time)
    assert not made.register(FILES).failed
    yield made
    database.close()


@pytest.fixture
def own(make_site: MakeSite, catalogue: SqlCatalogue) -> Site:
    return make_site(None, catalogue)


def post(site: Site, what: str, body: object) -> tuple[int, list[dict[str, object]]]:
    answer = site.ask("POST", f"/api/v1/catalogue/{what}", json.dumps(body))
    return answer.status, [json.loads(line) for line in answer.body.splitlines()]


def test_find_streams_files_and_their_number(own: Site) -> None:
    answer = own.ask("POST", FIND, json.dumps({"base": "/lhc", "pattern": "*.root"}))
    assert answer.status == 200 and answer.headers["content-type"].startswith("application/x-ndjson")
    *files, end = [json.loads(line) for line in answer.body.splitlines()]
    assert end == {"end": 4}
    assert [file["entry"]["lfn"] for file in files] == [
        "/lhc/a/one.root",
        "/lhc/b/tre x#ü%.root",
        "/lhc/c/far.root",
        "/lhc/c/hidden.root",
    ]
    assert files[0]["entry"]["adler32"] == "0639c6f0"
    assert files[0]["entry"]["guid"] == bytes(range(16)).hex()


def test_replicas_here_have_urls_that_work_and_paths_of_the_machine_are_not_told(own: Site) -> None:
    own.ask("PUT", "/data/lhc/b/tre%20x%23%C3%BC%25.root", b"1234567")
    _, [found] = post(own, "resolve", {"lfns": [file.lfn for file in FILES]})
    urls = {lfn: value["replicas"][0]["url"] for lfn, value in found["ok"].items()}  # type: ignore[attr-defined]
    assert urls["/lhc/a/one.root"] == f"{own.url}/data/lhc/a/one.root"
    assert own.ask("GET", urls["/lhc/b/tre x#ü%.root"].removeprefix(own.url)).body == b"1234567"
    assert urls["/lhc/c/far.root"] == "root://far.example//x/far.root"
    assert urls["/lhc/c/hidden.root"] is None


def test_find_nothing(own: Site) -> None:
    assert post(own, "find", {"base": "/nowhere", "pattern": "*"}) == (200, [{"end": 0}])


def test_resolve_and_stat_answer_every_name(own: Site) -> None:
    names = ["/lhc/a/one.root", "/lhc/missing", "/lhc/../x", "lhc", "/lhc/a/"]
    _, [resolved] = post(own, "resolve", {"lfns": names})
    assert set(resolved["ok"]) == {"/lhc/a/one.root"}  # type: ignore[call-overload]
    codes = {name: error["code"] for name, error in resolved["failed"].items()}  # type: ignore[attr-defined]
    assert codes == {
        "/lhc/missing": "no-such-entry",
        "/lhc/../x": "bad-lfn",
        "lhc": "bad-lfn",
        "/lhc/a/": "no-such-entry",
    }
    _, [described] = post(own, "stat", {"lfns": names})
    assert set(described["ok"]) == {"/lhc/a/one.root", "/lhc/a/"}  # type: ignore[call-overload]
    assert described["ok"]["/lhc/a/"]["kind"] == "directory"  # type: ignore[index]


def test_list(own: Site) -> None:
    status, [*entries, end] = post(own, "list", {"directory": "/lhc"})
    assert status == 200 and end == {"end": 3}
    assert [entry["lfn"] for entry in entries] == ["/lhc/a", "/lhc/b", "/lhc/c"]
    status, [error] = post(own, "list", {"directory": "/nowhere"})
    assert (status, error["code"]) == (404, "no-such-entry")


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("find", {"base": "/lhc"}),
        ("find", {"base": "/lhc", "pattern": 3}),
        ("find", {"base": "/lhc/..", "pattern": "*"}),
        ("find", {"base": "/lhc", "pattern": "*", "more": 1}),
        ("find", []),
        ("resolve", {"lfns": "/lhc"}),
        ("resolve", {"lfns": [1]}),
        ("resolve", {"lfns": ["/x"] * 10_001}),
        ("stat", {}),
        ("list", {"directory": None}),
    ],
)
def test_bad_requests(own: Site, what: str, body: object) -> None:
    status, [error] = post(own, what, body)
    assert status == 400 and error["retryable"] is False


def test_bodies_that_are_no_json_or_endless(own: Site) -> None:
    for body in (b"", b"{", b"\xff", b"[" * 100_000, b"nonsense"):
        assert own.ask("POST", FIND, body).status == 400, body[:10]
    pieces = (b" " * (1 << 20) for _ in range(40))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # cut off while it was still sending
        assert own.ask("POST", FIND, pieces).status == 413
    assert own.ask("GET", FIND).status == 405


class Endless:
    """A catalogue with more files than fit into memory; notes when its answer was let go."""

    def __init__(self, files: int, fails_at: int = -1) -> None:
        self.files = files
        self.fails_at = fails_at
        self.told = 0
        self.closed = False

    def find(self, base: Lfn, _pattern: str) -> Iterator[Located]:
        entry = next(_located())
        try:
            for number in range(self.files):
                if number == self.fails_at:
                    raise DatabaseBusy("read the database at /srv/secret", "it stayed locked")
                self.told += 1
                yield Located(entry.entry._replace(lfn=base.child(f"f{number}")), ())
        finally:
            self.closed = True


def _located() -> Iterator[Located]:
    from vse.model import Entry

    yield Located(Entry(Lfn("/x"), "file", 1, 1, None, "a", "b", 0o644, 1.0, 2.0), ())


@pytest.mark.slow
def test_a_large_answer_is_streamed_in_constant_memory(make_site: MakeSite) -> None:
    own = make_site(None, Endless(100_000))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection = own.connect()
    body = json.dumps({"base": "/b", "pattern": "*"})
    connection.request("POST", FIND, body, {"Authorization": f"Bearer {own.token}"})
    count, size_bytes, last = 0, 0, b""
    for line in connection.getresponse():
        count, size_bytes, last = count + 1, size_bytes + len(line), line
    connection.close()
    assert (count, json.loads(last)) == (100_001, {"end": 100_000})
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert grown_kib * 1024 < size_bytes / 2


def test_a_client_that_leaves_ends_the_query(make_site: MakeSite) -> None:
    catalogue = Endless(10**9)
    own = make_site(None, catalogue)
    with own.dial() as client:
        body = json.dumps({"base": "/b", "pattern": "*"}).encode()
        client.sendall(own.head("POST", FIND, f"Content-Length: {len(body)}") + body)
        client.recv(1000)
    until(lambda: catalogue.closed)
    assert catalogue.told < 10**6


def test_a_catalogue_that_fails_in_the_middle_breaks_the_answer_off(make_site: MakeSite) -> None:
    own = make_site(None, Endless(10_000, fails_at=5_000))
    with own.dial() as client:
        body = json.dumps({"base": "/b", "pattern": "*"}).encode()
        client.sendall(own.head("POST", FIND, f"Content-Length: {len(body)}") + body)
        got = b""
        while data := client.recv(1 << 16):
            got += data
    assert got.startswith(b"HTTP/1.1 200") and b'"end"' not in got and not got.endswith(b"0\r\n\r\n")
    at_once = make_site(None, Endless(10, fails_at=0))
    answer = at_once.ask("POST", FIND, json.dumps({"base": "/b", "pattern": "*"}))
    assert answer.status == 503 and b"secret" not in answer.body


def test_what_was_not_foreseen_is_told_by_an_id_only(
    make_site: MakeSite, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def resolve(self, lfns: object) -> None:
            raise RuntimeError("secret of /srv")

    status, [error] = post(make_site(None, Broken()), "resolve", {"lfns": ["/x"]})
    assert status == 500 and "secret" not in json.dumps(error)
    name = str(error["found"]).partition("id ")[2].rstrip(")")
    logged = capsys.readouterr()
    assert len(name) == 8 and name in logged.out + logged.err
