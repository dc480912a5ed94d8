"""PUT and its faults, MKCOL, DELETE, MOVE: what is on the disk afterwards."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.door_site import MakeSite, Site, adler32
from support.waiting import until
from vse.doors.http import uploads
from vse.doors.http.exchange import Refused
from vse.doors.http.uploads import RefusedUploads
from vse.model import Lfn

BIG = os.urandom(3 * 1024 * 1024 + 17)


@pytest.fixture
def own(make_site: MakeSite) -> Site:
    """A door of the test's own, so that it can look at everything that is left on the disk."""
    return make_site()


def curl(site: Site, *args: object, **more: Any) -> subprocess.CompletedProcess[str]:
    command = ["curl", "-sS", "-H", f"Authorization: Bearer {site.token}", "-w", "%{http_code}"]
    return subprocess.run(
        [*command, *map(str, args)], capture_output=True, text=True, check=True, timeout=60, **more
    )


def test_put_makes_parents_and_answers_201(own: Site) -> None:
    answer = own.ask("PUT", "/data/a/b/c.bin", BIG)
    assert (answer.status, answer.body) == (201, b"")
    assert (own.root / "a/b/c.bin").read_bytes() == BIG
    assert own.left_behind() == ["a/b/c.bin"]


def test_put_of_nothing(own: Site) -> None:
    assert own.ask("PUT", "/data/nothing", b"").status == 201
    assert (own.root / "nothing").read_bytes() == b""


def test_put_chunked(own: Site) -> None:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(BIG), 100_000):
            yield BIG[start : start + 100_000]

    assert own.ask("PUT", "/data/chunked", pieces(), Digest=f"adler32={adler32(BIG)}").status == 201
    assert (own.root / "chunked").read_bytes() == BIG
    again = own.ask("PUT", "/data/chunked", iter([b"other"]))
    assert again.status == 409
    assert own.left_behind() == ["chunked"] and (own.root / "chunked").read_bytes() == BIG


@pytest.mark.slow
def test_curl_puts_with_expect_and_chunked(own: Site, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(BIG)
    done = curl(own, "-H", "Expect: 100-continue", "-v", "-T", source, f"{own.url}/data/one")
    assert done.stdout.endswith("201") and "100 Continue" in done.stderr
    with source.open("rb") as file:
        assert curl(own, "-T", "-", f"{own.url}/data/two", stdin=file).stdout.endswith("201")
    assert (own.root / "one").read_bytes() == (own.root / "two").read_bytes() == BIG


def test_refused_before_the_body_is_sent(own: Site) -> None:
    """With Expect a refusal comes instead of '100 Continue', and the connection ends with it."""
    own.ask("PUT", "/data/taken", b"old")
    with own.dial() as client:
        client.sendall(own.head("PUT", "/data/taken", "Content-Length: 1000000", "Expect: 100-continue"))
        got = b""
        while data := client.recv(65536):
            got += data
    assert got.startswith(b"HTTP/1.1 409") and b"connection: close" in got.lower()
    assert (own.root / "taken").read_bytes() == b"old"


def test_write_once(own: Site) -> None:
    assert own.ask("PUT", "/data/once", b"first").status == 201
    for body in (b"second", b"first"):
        answer = own.ask("PUT", "/data/once", body)
        assert answer.status == 409 and b'"already-exists"' in answer.body
    assert (own.root / "once").read_bytes() == b"first"
    (own.root / "dir").mkdir()
    assert own.ask("PUT", "/data/dir", b"x").status == 409
    assert own.ask("PUT", "/data/once/below", b"x").status in (400, 409)
    assert own.left_behind() == ["once"]


def test_the_same_name_twice_at_once(own: Site) -> None:
    barrier = threading.Barrier(6)
    bodies = [bytes([number]) * 2_000_000 for number in range(6)]

    def put(body: bytes) -> int:
        barrier.wait()
        return own.ask("PUT", "/data/race", body).status

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(put, bodies))
    assert sorted(statuses) == [201, 409, 409, 409, 409, 409]
    assert (own.root / "race").read_bytes() == bodies[statuses.index(201)]
    assert own.left_behind() == ["race"]


def test_digest_is_verified(own: Site) -> None:
    good = adler32(BIG)
    wrong = own.ask("PUT", "/data/file", BIG, Digest="adler32=00000001")
    assert wrong.status == 400 and b"checksum-mismatch" in wrong.body
    assert own.left_behind() == []
    assert own.ask("PUT", "/data/file", BIG, Digest="adler32=xyz").status == 400
    right = own.ask("PUT", "/data/file", BIG, Digest=f"md5=abc, adler32={good}")
    assert (right.status, right.headers["digest"]) == (201, f"adler32={good}")
    stripped = next(text for n in range(10**6) if (text := adler32(b"%d" % n)).startswith("0"))
    body = next(b"%d" % n for n in range(10**6) if adler32(b"%d" % n) == stripped)
    assert own.ask("PUT", "/data/zero", body, Digest=f"adler32={stripped.lstrip('0')}").status == 201


def test_a_client_that_breaks_off_leaves_nothing(own: Site) -> None:
    for framing in ("Content-Length: 5000000", "Transfer-Encoding: chunked"):
        with own.dial() as client:
            chunk = b"%x\r\n" % (1 << 20) if "chunked" in framing else b""
            client.sendall(own.head("PUT", "/data/broken", framing) + chunk + BIG[: 1 << 20])
            if "Length" in framing:
                until(lambda: own.left_behind() != [])  # it had begun
        until(lambda: own.left_behind() == [])
    assert own.ask("PUT", "/data/broken", b"now").status == 201


@pytest.mark.slow
def test_a_client_that_is_killed_leaves_nothing(own: Site, tmp_path: Path) -> None:
    source = tmp_path / "big"
    with source.open("wb") as file:
        file.truncate(1 << 30)
    command = ["curl", "-sS", "--limit-rate", "20M", "-H", f"Authorization: Bearer {own.token}"]
    with subprocess.Popen([*command, "-T", source, f"{own.url}/data/killed"]) as client:
        try:
            until(lambda: own.left_behind() != [])
        finally:
            client.kill()
    until(lambda: own.left_behind() == [])


def test_a_client_that_sends_nothing_more_is_cut_off(own: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "NO_PROGRESS_S", 0.3)
    with own.dial() as client:
        client.sendall(own.head("PUT", "/data/slow", "Content-Length: 1000") + b"abc")
        assert client.recv(65536).startswith(b"HTTP/1.1 408")
        until(lambda: own.left_behind() == [])


def test_a_body_of_the_wrong_length(own: Site) -> None:
    """What comes after Content-Length is no part of the file."""
    with own.dial() as client:
        client.sendall(own.head("PUT", "/data/long", "Content-Length: 3") + b"abcdef")
        client.recv(65536)
    until(lambda: own.left_behind() in ([], ["long"]))
    assert not (own.root / "long").exists() or (own.root / "long").read_bytes() == b"abc"
    for length in ("-1", "x", "1e3", "9" * 30):
        assert own.ask("PUT", "/data/odd", None, Content_Length=length).status in (400, 507)
    assert own.ask("PUT", "/data/odd", b"x", Content_Range="bytes 0-0/2").status == 400
    until(lambda: set(own.left_behind()) <= {"long"})


def test_a_file_that_cannot_fit_is_507(own: Site) -> None:
    with own.dial() as client:
        client.sendall(own.head("PUT", "/data/huge", f"Content-Length: {1 << 50}", "Expect: 100-continue"))
        assert client.recv(65536).startswith(b"HTTP/1.1 507")
    assert own.left_behind() == []


def test_many_uploads_at_once(own: Site) -> None:
    bodies = {f"/f{n}": hashlib.sha256(b"%d" % n).digest() * 20_000 for n in range(24)}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda name: own.ask("PUT", "/data" + name, bodies[name]).status, bodies))
    assert answers == [201] * 24
    assert all((own.root / name[1:]).read_bytes() == body for name, body in bodies.items())


def test_mkcol(own: Site) -> None:
    assert own.ask("MKCOL", "/data/new/").status == 201
    assert (own.root / "new").is_dir()
    assert own.ask("MKCOL", "/data/new").status == 405
    assert own.ask("MKCOL", "/data/").status == 405
    assert own.ask("MKCOL", "/data/missing/below").status == 409
    own.ask("PUT", "/data/file", b"x")
    assert own.ask("MKCOL", "/data/file").status == 405
    assert own.ask("MKCOL", "/data/file/below").status in (400, 409)
    assert own.ask("MKCOL", "/data/other", b"<xml/>").status == 415


def test_the_names_of_unfinished_files_are_nobodys(own: Site) -> None:
    for method in ("GET", "PUT", "MKCOL", "PROPFIND"):
        assert own.ask(method, "/data/.vse-partial/x", b"x" if method == "PUT" else None).status == 400


def test_delete(own: Site) -> None:
    own.ask("PUT", "/data/dir/file", b"x")
    assert own.ask("DELETE", "/data/dir/").status == 409
    assert own.ask("DELETE", "/data/dir/file").status == 204
    assert own.ask("DELETE", "/data/dir/file").status == 404
    assert own.ask("DELETE", "/data/dir/").status == 204
    assert own.ask("DELETE", "/data/").status == 403
    assert own.root.is_dir() and not (own.root / "dir").exists()


def test_the_clean_up_of_gfal_does_not_remove_a_good_file(own: Site) -> None:
    """gfal2 sends DELETE after a PUT that failed because the file is there (measured)."""
    own.ask("PUT", "/data/good", b"good")
    assert own.ask("PUT", "/data/good", b"other").status == 409
    assert own.ask("DELETE", "/data/good").status == 403
    assert (own.root / "good").read_bytes() == b"good"
    assert own.ask("DELETE", "/data/good").status == 204  # who means it can


def test_refused_uploads_are_remembered_for_a_while_and_per_client() -> None:
    refused, lfn = RefusedUploads(window_s=30, keep=2), Lfn("/a")
    refused.note("here", lfn, 100.0)
    refused.confirm_meant("there", lfn, 101.0)
    refused.confirm_meant("here", Lfn("/b"), 101.0)
    with pytest.raises(Refused):
        refused.confirm_meant("here", lfn, 129.0)
    refused.confirm_meant("here", lfn, 129.0)
    refused.note("here", lfn, 200.0)
    refused.confirm_meant("here", lfn, 231.0)


def test_move(own: Site) -> None:
    own.ask("PUT", "/data/from", b"x")
    assert own.ask("MOVE", "/data/from", Destination=f"{own.url}/data/to%20here").status == 201
    assert (own.root / "to here").read_bytes() == b"x" and not (own.root / "from").exists()
    own.ask("MKCOL", "/data/dir")
    assert own.ask("MOVE", "/data/dir", Destination="/data/renamed/").status == 201
    assert (own.root / "renamed").is_dir()


@pytest.mark.parametrize("overwrite", ["T", "F", None])
def test_move_never_replaces_and_never_answers_412(own: Site, overwrite: str | None) -> None:
    own.ask("PUT", "/data/from", b"new")
    own.ask("PUT", "/data/to", b"old")
    headers = {} if overwrite is None else {"Overwrite": overwrite}
    assert own.ask("MOVE", "/data/from", Destination="/data/to", **headers).status == 409
    assert (own.root / "to").read_bytes() == b"old" and (own.root / "from").read_bytes() == b"new"


def test_moves_that_cannot_be(own: Site) -> None:
    own.ask("PUT", "/data/from", b"x")
    for destination, status in [
        ("http://elsewhere.example/data/to", 502),
        ("/to", 400),
        ("/data/../to", 400),
        ("/data/%2e%2e/to", 400),
        ("http://[broken/data/to", 400),
        ("/data/missing/to", 409),
        ("/data", 403),
        ("", 400),
    ]:
        assert own.ask("MOVE", "/data/from", Destination=destination).status == status, destination
    assert own.ask("MOVE", "/data/from").status == 400
    assert own.ask("MOVE", "/data/missing", Destination="/data/to").status == 404
    assert own.left_behind() == ["from"]
