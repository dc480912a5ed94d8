"""GET and HEAD: what a client reads is what is on the disk, whatever part of it it asks for."""

from __future__ import annotations

import contextlib
import email
import email.policy
import os
import re
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.door_site import MakeSite, Site, adler32
from support.waiting import until
from vse.doors.http import bodies
from vse.doors.http.files import OpenFile

SIZE = 700_001


def parts_of(answer_headers: dict[str, str], body: bytes) -> list[tuple[str, bytes]]:
    """Read a multipart/byteranges body by a parser that is not ours; ``[(Content-Range, bytes)]``."""
    head = f"Content-Type: {answer_headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    assert message.is_multipart() and not message.defects
    return [(part["Content-Range"], part.get_payload(decode=True)) for part in message.iter_parts()]  # type: ignore[attr-defined]


def test_whole_file(site: Site, content: bytes) -> None:
    answer = site.ask("GET", "/data/big.bin")
    assert (answer.status, answer.body) == (200, content)
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["last-modified"].endswith("GMT")


def test_head_tells_the_same_headers_without_a_body(site: Site) -> None:
    get, head = site.ask("GET", "/data/big.bin"), site.ask("HEAD", "/data/big.bin")
    assert head.status == 200 and head.body == b""
    same = ("content-length", "etag", "last-modified", "accept-ranges", "content-type")
    assert {key: head.headers[key] for key in same} == {key: get.headers[key] for key in same}


def test_empty_file(site: Site) -> None:
    assert site.ask("GET", "/data/empty").body == b""
    assert site.ask("GET", "/data/empty", Range="bytes=0-").status == 416


@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=2-5", 206, b"2345", "bytes 2-5/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-99999999999999999", 206, b"56789", "bytes 5-9/10"),
        ("bytes=0-1,50-60", 206, b"01", "bytes 0-1/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=50-60,70-80", 416, None, "bytes */10"),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=a-b", 200, b"0123456789", None),
        ("bytes=" + "9" * 5000 + "-", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=", 200, b"0123456789", None),
        ("bytes=٣-٤", 200, b"0123456789", None),
    ],
)
def test_range_edges(site: Site, asked: str, status: int, body: bytes | None, told: str | None) -> None:
    answer = site.ask("GET", "/data/small.txt", Range=asked.encode().decode("latin-1"))
    assert answer.status == status
    assert answer.headers.get("content-range") == told
    if body is not None:
        assert answer.body == body


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, SIZE + 1000), st.integers(0, 300_000)), min_size=1, max_size=12),
    st.sampled_from(["full", "open", "suffix"]),
)
def test_any_ranges_are_the_bytes_of_the_file(
    site: Site, content: bytes, asked: list[tuple[int, int]], last: str
) -> None:
    specs = [f"{start}-{start + length}" for start, length in asked]
    wanted = [(start, min(start + length + 1, SIZE)) for start, length in asked]
    if last != "full":
        start = asked[-1][0]
        specs[-1] = f"{start}-" if last == "open" else f"-{start}"
        wanted[-1] = (start, SIZE) if last == "open" else (max(0, SIZE - start), SIZE)
    wanted = [(start, stop) for start, stop in wanted if start < stop]
    answer = site.ask("GET", "/data/big.bin", Range="bytes=" + ",".join(specs))
    if not wanted:
        assert answer.status == 416
    elif len(wanted) == 1:
        assert (answer.status, answer.body) == (206, content[slice(*wanted[0])])
    else:
        assert answer.status == 206 and int(answer.headers["content-length"]) == len(answer.body)
        found = parts_of(answer.headers, answer.body)
        assert found == [(f"bytes {a}-{b - 1}/{SIZE}", content[a:b]) for a, b in wanted]


def test_multipart_as_davix_wants_it(site: Site, content: bytes) -> None:
    """Content-Range is the last header of each part, the boundary at most 70 characters; 300 parts."""
    spans = [(n * 2000, n * 2000 + 100) for n in range(300)]
    asked = ",".join(f"{a}-{b - 1}" for a, b in spans)
    answer = site.ask("GET", "/data/big.bin", Range=f"bytes={asked}")
    boundary = answer.headers["content-type"].rpartition("boundary=")[2].encode()
    assert 1 <= len(boundary) <= 70
    heads = [part.partition(b"\r\n\r\n")[0] for part in answer.body.split(b"--" + boundary)[1:-1]]
    assert len(heads) == 300
    assert all(head.split(b"\r\n")[-1].startswith(b"Content-Range: bytes ") for head in heads)
    assert [data for _, data in parts_of(answer.headers, answer.body)] == [content[a:b] for a, b in spans]


def test_files_that_are_not_in_memory(site: Site, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bytes come where every read has to wait for the disk."""
    monkeypatch.setattr(OpenFile, "cached", lambda *_: None)
    assert site.ask("GET", "/data/big.bin").body == content
    assert site.ask("GET", "/data/big.bin", Range="bytes=1000-1999").body == content[1000:2000]
    answer = site.ask("GET", "/data/big.bin", Range="bytes=5-9,300000-699999,0-0")
    assert [data for _, data in parts_of(answer.headers, answer.body)] == [
        content[5:10],
        content[300_000:700_000],
        content[:1],
    ]
    assert site.ask("GET", "/data/empty").body == b""


def test_too_many_ranges_are_refused_not_served_whole(site: Site) -> None:
    answer = site.ask("GET", "/data/big.bin", Range="bytes=" + ",".join(["1-2"] * 5000))
    assert answer.status == 400 and b"at most 4096" in answer.body


def test_conditional_requests(site: Site) -> None:
    first = site.ask("GET", "/data/small.txt").headers
    etag, modified = first["etag"], first["last-modified"]
    unchanged = [
        {"If_None_Match": etag},
        {"If_None_Match": f'"other", W/{etag}'},
        {"If_None_Match": "*"},
        {"If_Modified_Since": modified},
        {"If_Modified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"If_None_Match": etag, "If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
    ]
    for headers in unchanged:
        answer = site.ask("GET", "/data/small.txt", **headers)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag), headers
    changed = [
        {"If_None_Match": '"other"'},
        {"If_None_Match": '"other"', "If_Modified_Since": modified},
        {"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If_Modified_Since": "no date"},
    ]
    for headers in changed:
        assert site.ask("GET", "/data/small.txt", **headers).body == b"0123456789", headers


def test_if_range(site: Site) -> None:
    first = site.ask("GET", "/data/small.txt").headers
    for matching in (first["etag"], first["last-modified"]):
        assert site.ask("GET", "/data/small.txt", Range="bytes=1-2", If_Range=matching).body == b"12"
    for other in ('"other"', f"W/{first['etag']}", "Thu, 01 Jan 1970 00:00:00 GMT", "rubbish"):
        answer = site.ask("GET", "/data/small.txt", Range="bytes=1-2", If_Range=other)
        assert (answer.status, answer.body) == (200, b"0123456789"), other


def test_a_replaced_file_has_another_tag_and_is_served_anew(site: Site) -> None:
    path = site.root / "replaced"
    path.write_bytes(b"old")
    before = site.ask("GET", "/data/replaced")
    (site.root / "new").write_bytes(b"newer")
    (site.root / "new").rename(path)
    after = site.ask("GET", "/data/replaced", If_None_Match=before.headers["etag"])
    assert (after.status, after.body) == (200, b"newer")
    path.unlink()
    assert site.ask("GET", "/data/replaced").status == 404


def test_digest_only_when_wanted(site: Site, content: bytes) -> None:
    for method in ("HEAD", "GET"):
        answer = site.ask(method, "/data/big.bin", Want_Digest="adler32")
        assert answer.headers["digest"] == f"adler32={adler32(content)}"
    assert "digest" not in site.ask("HEAD", "/data/big.bin").headers
    assert "digest" not in site.ask("HEAD", "/data/big.bin", Want_Digest="md5, adler32;q=0").headers
    small = site.ask("HEAD", "/data/empty", Want_Digest="md5;q=0.3, ADLER32;q=1")
    assert small.headers["digest"] == "adler32=00000001"


def test_digest_follows_the_file(site: Site) -> None:
    path = site.root / "changing"
    path.write_bytes(b"one")
    assert (
        site.ask("HEAD", "/data/changing", Want_Digest="adler32").headers["digest"].endswith(adler32(b"one"))
    )
    (site.root / "next").write_bytes(b"two")
    (site.root / "next").rename(path)
    assert (
        site.ask("HEAD", "/data/changing", Want_Digest="adler32").headers["digest"].endswith(adler32(b"two"))
    )


@pytest.mark.parametrize(
    "name", ["with blank", "ümläut-日本", "100%", "a#b?c", "a&b=c;d+e", "quote\"'<>", "%2e%2e", "-rf", "~"]
)
def test_any_name_comes_back_as_itself(site: Site, name: str) -> None:
    lfn = f"/names/{name}"
    put = site.ask("PUT", "/data" + quote(lfn), name.encode())
    assert put.status == 201, put.body
    assert (site.root / "names" / name).read_bytes() == name.encode()
    assert site.ask("GET", "/data" + quote(lfn)).body == name.encode()
    assert site.ask("DELETE", "/data" + quote(lfn)).status == 204


@pytest.mark.parametrize(
    "path",
    [
        "/data/../etc/passwd",
        "/data/..%2f..%2f..%2f..%2fetc/passwd",
        "/data/%2e%2e/%2e%2e/etc/passwd",
        "/data/x/%2E%2e/y",
        "/data/./small.txt",
        "/data/small.txt%00",
        "/data/a%0ab",
        "/data/%ff%fe",
        "/data/%ed%a0%80",
        "/data/" + "x" * 256,
        "/data/" + "y/" * 1500,
    ],
)
def test_names_that_cannot_be_are_refused(site: Site, path: str) -> None:
    for method in ("GET", "PUT", "DELETE", "PROPFIND", "MKCOL"):
        answer = site.ask(method, path, b"x" if method == "PUT" else None)
        assert answer.status == 400, (method, answer)
        assert b'"bad-lfn"' in answer.body and str(site.root).encode() not in answer.body


def test_a_link_that_leads_out_is_not_followed(site: Site, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_bytes(b"secret")
    (site.root / "out").symlink_to(secret)
    (site.root / "out-file").symlink_to(secret / "file")
    (site.root / "inside").symlink_to(site.root / "small.txt")
    for method, path in [
        ("GET", "/data/out/file"),
        ("GET", "/data/out-file"),
        ("HEAD", "/data/out-file"),
        ("PROPFIND", "/data/out"),
        ("PUT", "/data/out/new"),
        ("MKCOL", "/data/out/new"),
        ("DELETE", "/data/out/file"),
    ]:
        answer = site.ask(method, path, b"x" if method == "PUT" else None)
        assert answer.status == 403, (method, path, answer)
        assert b"secret/" not in answer.body and str(tmp_path).encode() not in answer.body
    moved = site.ask("MOVE", "/data/small.txt", Destination="/data/out/moved")
    assert moved.status == 403
    assert sorted(path.name for path in secret.iterdir()) == ["file"]
    assert site.ask("GET", "/data/inside").body == b"0123456789"
    for name in ("out", "out-file", "inside"):
        (site.root / name).unlink()


def test_a_file_swapped_for_a_link_after_it_was_served(site: Site, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_bytes(b"secret")
    (site.root / "swapped").write_bytes(b"public")
    assert site.ask("GET", "/data/swapped").body == b"public"
    (site.root / "swapped").unlink()
    (site.root / "swapped").symlink_to(tmp_path / "passwd")
    assert site.ask("GET", "/data/swapped").status == 403
    (site.root / "swapped").unlink()


def test_what_is_no_regular_file_is_not_opened(site: Site) -> None:
    os.mkfifo(site.root / "pipe")
    assert site.ask("GET", "/data/pipe").status == 404
    (site.root / "pipe").unlink()


def test_directories(site: Site) -> None:
    (site.root / "dir").mkdir(exist_ok=True)
    for path in ("/data", "/data/", "/data/dir", "/data/dir/"):
        assert site.ask("HEAD", path).status == 200
        answer = site.ask("GET", path)
        assert answer.status == 400 and b"PROPFIND" in answer.body


def test_errors_are_the_tree_as_json(site: Site) -> None:
    answer = site.ask("GET", "/data/not/there")
    assert answer.status == 404 and answer.headers["content-type"] == "application/json"
    assert b'"code": "no-such-file"' in answer.body and b"/not/there" in answer.body
    assert str(site.root).encode() not in answer.body
    odd = site.ask("PATCH", "/data/x")
    assert odd.status == 405 and "PROPFIND" in odd.headers["allow"]


def test_a_storage_that_fails_tells_the_client_nothing_of_itself(make_site: MakeSite) -> None:
    broken = make_site()
    broken.root.rmdir()
    answer = broken.ask("GET", "/data/x")
    assert answer.status in (404, 503)
    assert str(broken.root).encode() not in answer.body


def test_a_file_that_shrinks_breaks_the_connection_and_is_never_filled_up(site: Site) -> None:
    path = site.root / "shrinking"
    size = 64 * 1024 * 1024
    with path.open("wb") as file:
        file.truncate(size)
    with site.dial() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(site.head("GET", "/data/shrinking"))
        got = client.recv(65536)
        assert f"content-length: {size}".encode() in got
        os.truncate(path, 1024 * 1024)
        received = len(got)
        try:
            while data := client.recv(1 << 20):
                received += len(data)
        except ConnectionResetError:
            pass
    assert received < size
    path.unlink()


def test_a_client_that_leaves_is_noticed(site: Site) -> None:
    """The descriptor of a big file is given back soon after its reader is gone."""
    path = site.root / "left"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # more than can be read in vain
    with site.dial() as client:
        client.sendall(site.head("GET", "/data/left"))
        client.recv(1000)
        path.unlink()
        assert site.ask("GET", "/data/left").status == 404  # lets go of the cached descriptor
        assert _open_at(path)
    until(lambda: not _open_at(path))


def test_a_client_that_takes_nothing_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "NO_PROGRESS_S", 0.3)
    path = site.root / "stalled"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with site.dial() as client:
        client.sendall(site.head("GET", "/data/stalled"))
        client.recv(1000)
        path.unlink()
        until(lambda: not _open_at(path))


@pytest.mark.slow
def test_the_space_of_a_removed_file_becomes_free(site: Site) -> None:
    """No descriptor is kept on a file that the site has removed, though nobody asks for it again."""
    path = site.root / "removed"
    path.write_bytes(b"x")
    assert site.ask("GET", "/data/removed").body == b"x"
    assert _open_at(path)
    path.unlink()
    until(lambda: not _open_at(path))


def _open_at(path: Path) -> bool:
    """Whether this process (the door runs in it) holds ``path``, removed or not."""
    for held in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(held.readlink()).startswith(str(path)):
                return True
    return False


def test_many_clients_at_once(site: Site, content: bytes) -> None:
    barrier = threading.Barrier(12)

    def read(number: int) -> bool:
        barrier.wait()
        for turn in range(10):
            start = (number * 7919 + turn * 104729) % SIZE
            answer = site.ask("GET", "/data/big.bin", Range=f"bytes={start}-{start + 99_999}")
            if answer.body != content[start : start + 100_000]:
                return False
        return site.ask("GET", "/data/big.bin").body == content

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(read, range(12)))


@pytest.mark.slow
def test_curl_reads_resumes_and_takes_several_ranges(site: Site, content: bytes, tmp_path: Path) -> None:
    target = tmp_path / "got"
    auth = ["-H", f"Authorization: Bearer {site.token}"]
    curl = ["curl", "-sS", "--fail", *auth, f"{site.url}/data/big.bin"]
    subprocess.run([*curl, "-o", target], check=True)
    assert target.read_bytes() == content
    target.write_bytes(content[:300_000])
    subprocess.run([*curl, "-C", "-", "-o", target], check=True)
    assert target.read_bytes() == content
    out = subprocess.run([*curl, "-r", "0-9,100-109"], check=True, capture_output=True).stdout
    assert content[:10] in out and content[100:110] in out


def test_pipelined_and_kept_alive(site: Site) -> None:
    """Several requests on one connection, errors among them, are answered in order."""
    requests = [
        site.head("GET", "/data/small.txt", "Range: bytes=1-1"),
        site.head("GET", "/data/missing"),
        site.head("GET", "/data/small.txt", "Range: bytes=2-2", "Connection: close"),
    ]
    with site.dial() as client:
        client.sendall(b"".join(requests))
        got = b""
        while data := client.recv(65536):
            got += data
    assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"206", b"404", b"206"]
    assert got.endswith(b"\r\n\r\n2")
