"""What a server says is not believed: each lie is one error of the tree, and never wrong bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from support.raw_answers import RESET, STALL, Answer, answer, lying
from support.waiting import until
from vse import errors
from vse.model import Checksum
from vse.testing.drivers import fetch, pattern

DATA = pattern(200_000)
HEAD = answer("200 OK", length=len(DATA))
PART = {"Content_Type": "multipart/byteranges; boundary=B"}


@pytest.mark.parametrize(
    ("get", "kind"),
    [
        (answer("200 OK", DATA[:150_000], len(DATA)), errors.ShortRead),
        (answer("200 OK", DATA[:150_000], len(DATA)) + RESET, errors.SourceUnavailable),
        (answer("200 OK", DATA[:150_000]), errors.SizeMismatch),
        (answer("200 OK", DATA + b"more"), errors.SizeMismatch),
        (b"HTTP/1.1 200 OK\r\n\r\n" + DATA[:150_000], errors.ShortRead),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", errors.ShortRead),
        (answer("200 OK", DATA[:1000], len(DATA)) + STALL, errors.Stalled),
        (STALL, errors.Stalled),
        (RESET, errors.SourceUnavailable),
        (b"", errors.SourceUnavailable),
        (b"what is this?\r\n\r\n", errors.SourceUnavailable),
        (answer("206 Partial", DATA[:100], Content_Range="bytes 0-99/200000"), errors.ServerFault),
        (answer("206 Partial", DATA, Content_Range="bytes 0-199999/300000"), errors.SizeMismatch),
        (answer("500 Oops"), errors.ServerFault),
        (answer("503 Busy"), errors.SourceUnavailable),
        (answer("429 Slow down"), errors.SourceUnavailable),
        (answer("504 Late"), errors.Stalled),
        (answer("404 Gone"), errors.NoSuchFile),
        (answer("401 Who"), errors.Denied),
        (answer("403 No"), errors.Denied),
        (answer("302 There", Location="/a.bin"), errors.SourceUnavailable),
    ],
)
def test_a_lie_in_a_stream(get: bytes, kind: type[errors.VseError]) -> None:
    patience_s = 0.3 if kind is errors.Stalled else 10.0
    with lying(patience_s, HEAD=HEAD, GET=get) as (driver, _), pytest.raises(errors.VseError) as caught:
        fetch(driver, "/a.bin")
    assert type(caught.value) is kind, repr(caught.value)
    assert "127.0.0.1" in caught.value.wanted
    assert caught.value.found


@pytest.mark.parametrize(
    ("get", "kind"),
    [
        (answer("206 P", DATA[5:15], Content_Range="bytes 5-14/200000"), None),
        (answer("200 OK", DATA), None),
        (answer("206 P", DATA[6:16], Content_Range="bytes 6-15/200000"), errors.ServerFault),
        (answer("206 P", DATA[5:12], Content_Range="bytes 5-11/200000"), errors.ServerFault),
        (answer("206 P", DATA[5:12], 10, Content_Range="bytes 5-14/200000"), errors.ShortRead),
        (answer("206 P", DATA[5:15], Content_Range="bytes 5-14/99"), errors.SizeMismatch),
        (answer("206 P", DATA[5:15], Content_Range="bytes oops"), errors.ServerFault),
        (answer("206 P", DATA[5:15]), errors.ServerFault),
        (answer("200 OK", DATA[:10]), errors.SizeMismatch),
        (answer("416 No", Content_Range="bytes */3"), errors.SizeMismatch),
    ],
)
def test_a_lie_in_a_range(get: bytes, kind: type[errors.VseError] | None) -> None:
    with lying(HEAD=HEAD, GET=get) as (driver, _), driver.open("/a.bin") as reader:
        if kind is None:
            assert reader.pread(5, 10) == DATA[5:15]
        else:
            with pytest.raises(kind):
                reader.pread(5, 10)


def _part(start: int, end: int, said: str = "", data: bytes | None = None) -> bytes:
    head = (
        f"\r\n--B\r\nContent-Type: a/b\r\nContent-Range: {said or f'bytes {start}-{end - 1}/200000'}\r\n\r\n"
    )
    return head.encode() + (DATA[start:end] if data is None else data)


def _honest_singly(head: bytes) -> bytes:
    """Answer single ranges rightly, and a request for many with its first range only."""
    first = head.lower().split(b"range: bytes=")[1].split(b"\r\n")[0].split(b",")[0].decode()
    start, last = map(int, first.split("-"))
    return answer("206 P", DATA[start : last + 1], Content_Range=f"bytes {first}/200000")


def _many(body: bytes) -> Callable[[bytes], bytes]:
    def get(head: bytes) -> bytes:
        ranges = head.lower().split(b"range: bytes=")[1].split(b"\r\n")[0]
        return answer("206 P", body, **PART) if b"," in ranges else _honest_singly(head)

    return get


END = b"\r\n--B--\r\n"


@pytest.mark.parametrize(
    "get",
    [
        _honest_singly,
        answer("200 OK", DATA),
        _many(_part(100, 200) + _part(0, 10) + END),
        _many(b"preamble" + _part(0, 200) + END),
        _many(_part(0, 10) + END),
        _many(_part(0, 10) + _part(500, 600) + END),
    ],
    ids=["one range only", "whole file", "other order", "one part for all", "one is missing", "not asked"],
)
def test_many_ranges_from_servers_that_do_them_their_own_way(get: Answer) -> None:
    with lying(HEAD=HEAD, GET=get) as (driver, server), driver.open("/a.bin") as reader:
        for _ in range(2):
            assert reader.pread_many([(0, 10), (100, 100)]) == [DATA[:10], DATA[100:200]]
        many = [head for head in server.heads if b"," in head.partition(b"ange: ")[2].partition(b"\r\n")[0]]
        assert len(many) <= 2


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"no boundary at all", errors.ServerFault),
        (_part(0, 10) + _part(100, 200)[:-50], errors.ServerFault),
        (_part(0, 10, data=DATA[:9]) + _part(100, 200) + END, errors.ServerFault),
        (_part(0, 10, said="bytes 9-0/200000") + END, errors.ServerFault),
        (_part(0, 10, said="bytes 0-9/5000000") + _part(100, 200) + END, errors.SizeMismatch),
        (b"\r\n--B\r\nContent-Type: a/b\r\n\r\n" + DATA[:10] + END, errors.ServerFault),
        (_part(0, 10) + b"\r\n--B\r\nContent-Ra", errors.ServerFault),
    ],
)
def test_wrong_multipart(body: bytes, kind: type[errors.VseError]) -> None:
    with (
        lying(HEAD=HEAD, GET=_many(body)) as (driver, _),
        driver.open("/a.bin") as reader,
        pytest.raises(kind),
    ):
        reader.pread_many([(0, 10), (100, 100)])


def test_bytes_that_look_like_a_boundary_cut_nothing_short() -> None:
    data = b"12\r\n--B\r\nContent-Range: bytes 0-1/20\r\n\r\n--B--" + bytes(1000)
    body = _part(0, 100, data=data[:100]) + _part(200, 300, data=data[200:300]) + END
    with lying(HEAD=HEAD, GET=answer("206 P", body, **PART)) as (driver, _), driver.open("/a") as reader:
        assert reader.pread_many([(0, 100), (200, 100)]) == [data[:100], data[200:300]]


def test_closing_a_reader_ends_a_read_that_stalls() -> None:
    get = answer("200 OK", DATA[:1000], len(DATA)) + STALL
    with lying(30.0, HEAD=HEAD, GET=get) as (driver, server), driver.open("/a.bin") as reader:
        caught: list[BaseException] = []

        def read() -> None:
            try:
                for _ in reader.stream():
                    pass
            except errors.VseError as error:
                caught.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        until(lambda: reader._answers)
        started_s = time.monotonic()
        reader.close()
        thread.join(10)
        assert caught
        assert time.monotonic() - started_s < 5
        assert server.heads


@pytest.mark.parametrize(
    ("put", "kind"),
    [
        (answer("409 Taken"), errors.AlreadyExists),
        (answer("412 Taken"), errors.AlreadyExists),
        (answer("507 Full"), errors.StorageFull),
        (answer("403 No"), errors.Denied),
        (answer("405 No"), errors.Unsupported),
        (answer("500 Oops"), errors.ServerFault),
        (RESET, errors.SourceUnavailable),
        (answer("204 Replaced"), errors.AlreadyExists),
    ],
)
def test_an_early_refusal_of_a_put_is_seen_before_the_body(put: bytes, kind: type[errors.VseError]) -> None:
    with lying(HEAD=answer("404 None"), PUT=put) as (driver, server):
        with pytest.raises(kind):
            driver.put("/a.bin", 10**9)
        assert len(server.heads) == 2


def test_a_refusal_in_the_middle_of_a_put() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\n" + answer("507 Full", b"the disk is full")
    with (
        lying(HEAD=answer("404 None"), PUT=early) as (driver, _),
        pytest.raises(errors.StorageFull, match="the disk is full"),
        driver.put("/a.bin", 10**9) as upload,
    ):
        for _ in range(1000):
            upload.write(DATA)


@pytest.mark.parametrize("size_bytes", [10, 10**9])
def test_a_server_that_stalls_in_a_put(size_bytes: int) -> None:
    put = b"HTTP/1.1 100 Continue\r\n\r\n" + STALL
    piece = DATA[: min(size_bytes, len(DATA))]
    with (
        lying(0.3, HEAD=answer("404 None"), PUT=put) as (driver, _),
        pytest.raises(errors.Stalled) as caught,
        driver.put("/a.bin", size_bytes) as upload,
    ):
        for _ in range(size_bytes // len(piece)):
            upload.write(piece)
        upload.commit()
    assert ("not known" in caught.value.found) == (size_bytes == 10)


def test_a_directory_that_is_told_by_a_redirect() -> None:
    def propfind(head: bytes) -> bytes:
        return _listing(f"/d/{DIRECTORY}") if b"/d/ " in head else answer("301 M", Location="/d/")

    with lying(HEAD=answer("301 M", Location="/d/"), PROPFIND=propfind) as (driver, _):
        assert driver.stat(["/d"]).one("/d").is_directory
        with pytest.raises(errors.BadRequest, match="directory"):
            driver.open("/d")
        assert list(driver.list("/d")) == []


def test_a_server_that_keeps_less_than_was_sent() -> None:
    heads = iter([answer("404 None"), answer("200 OK", length=5)])
    with lying(HEAD=lambda _: next(heads), PUT=answer("201 Created"), DELETE=answer("204 Gone")) as (
        driver,
        server,
    ):
        with pytest.raises(errors.SizeMismatch), driver.put("/a.bin", 0) as upload:
            upload.commit()
        assert server.heads[-1].startswith(b"DELETE /a.bin ")


def test_a_server_that_goes_away_after_it_took_the_file() -> None:
    heads = iter([answer("404 None"), answer("503 Busy")])
    with lying(HEAD=lambda _: next(heads), PUT=answer("201 Created")) as (driver, server):
        with (
            pytest.raises(errors.SourceUnavailable, match="the server took the file") as caught,
            driver.put("/a.bin", 0) as upload,
        ):
            upload.commit()
        assert "Look whether it is there" in str(caught.value)
        assert len(server.heads) == 3


def test_what_was_known_of_the_file_is_told_to_the_server() -> None:
    with lying(HEAD=answer("404 None"), PUT=answer("201 Created")) as (driver, server):
        with pytest.raises(errors.ServerFault, match="before it had the file"):
            driver.put("/a.bin", 3, Checksum.parse("adler32:24d0127"))
        told = server.heads[1].lower()
    assert b"digest: adler32=024d0127" in told
    assert b"if-none-match: *" in told
    assert b"expect: 100-continue" in told


@pytest.mark.parametrize(
    ("said", "found"),
    [("adler32=40001", "00040001"), ("md5=x, ADLER32=024D0127", "024d0127"), ("adler=1", "00000001")],
)
def test_checksums_are_values_not_strings(said: str, found: str) -> None:
    with lying(HEAD=answer("200 OK", Digest=said)) as (driver, server):
        assert driver.checksum(["/a"], "adler32").one("/a") == Checksum("adler32", found)
        assert b"want-digest: adler32" in server.heads[0].lower()


@pytest.mark.parametrize(
    ("said", "kind"), [("adler32=oops", errors.ServerFault), ("md5=x", errors.Unsupported)]
)
def test_checksums_that_are_none(said: str, kind: type[errors.VseError]) -> None:
    with lying(HEAD=answer("200 OK", Digest=said)) as (driver, _):
        assert type(driver.checksum(["/a"], "adler32").failed["/a"]) is kind


def _listing(*entries: str) -> bytes:
    good = "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    body = "".join(f"<D:response><D:href>{entry}{good}" for entry in entries)
    return answer("207 M", f'<D:multistatus xmlns:D="DAV:">{body}</D:multistatus>'.encode())


DIRECTORY = "</D:href><D:propstat><D:prop><D:resourcetype><D:collection/></D:resourcetype></D:prop>"
FILE = "</D:href><D:propstat><D:prop><D:getcontentlength>7</D:getcontentlength></D:prop>"
BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><D:multistatus xmlns:D="DAV:">&b;</D:multistatus>'
)


@pytest.mark.parametrize(
    "listing",
    [
        answer("207 M", BOMB),
        answer("207 M", b"<html><body>Index of /d</body></html>"),
        answer("207 M", b"{}"),
        answer("207 M", b""),
        _listing(f"/d/{DIRECTORY}", f"/other/a.bin{FILE}"),
        _listing(f"/d/{DIRECTORY}", f"/d/a/b.bin{FILE}"),
        _listing(f"/d/{DIRECTORY}", f"/d/..{FILE}"),
        _listing(f"/d/{DIRECTORY}", f"/d/{'x' * 20000}{FILE}"),
        _listing(f"/d/{DIRECTORY}", f"/d/a.bin{FILE}").replace(b"</D:multistatus>", b""),
    ],
)
def test_a_listing_that_is_none(listing: bytes) -> None:
    with lying(PROPFIND=listing) as (driver, _), pytest.raises(errors.StorageError):
        list(driver.list("/d"))


def test_a_listing_that_breaks_off_is_no_shorter_listing() -> None:
    whole = _listing(f"/d/{DIRECTORY}", *(f"/d/{number}{FILE}" for number in range(100)))
    with lying(PROPFIND=whole[:-5000]) as (driver, _), pytest.raises(errors.ShortRead):
        list(driver.list("/d"))


def test_hrefs_of_every_kind() -> None:
    listing = _listing(
        f"http://proxy.invalid/d{DIRECTORY}", f"/d/a%20%23%25.bin{FILE}", f"https://x/d/&#252;&amp;{FILE}"
    )
    with lying(PROPFIND=listing) as (driver, _):
        assert [(one.path, one.size_bytes) for one in driver.list("/d")] == [("/d/a #%.bin", 7), ("/d/ü&", 7)]


def test_a_server_without_webdav() -> None:
    refused = answer("405 No")
    with lying(HEAD=answer("200 OK", length=0), PROPFIND=refused, DELETE=answer("204 Gone")) as (driver, _):
        assert driver.stat(["/empty"]).one("/empty").size_bytes == 0
        assert driver.remove(["/empty"]).ok == {"/empty": None}
        with pytest.raises(errors.Unsupported):
            list(driver.list("/d"))


def test_space_that_is_not_told() -> None:
    told = _listing(f"/d/{DIRECTORY}")
    with lying(PROPFIND=told) as (driver, _), pytest.raises(errors.Unsupported, match="not tell it"):
        driver.space("/d")


def test_no_server_at_all() -> None:
    with lying(HEAD=HEAD) as (driver, server):
        server.close()
        with pytest.raises(errors.SourceUnavailable, match=r"127\.0\.0\.1"):
            driver.stat(["/a.bin"]).one("/a.bin")


def test_what_a_server_says_is_shown_without_control_characters() -> None:
    said = answer("503 Busy", b"come \x1b[31mback\x00 later\nsecret second line", Content_Type="text/plain")
    with lying(HEAD=HEAD, GET=said) as (driver, _), pytest.raises(errors.SourceUnavailable) as caught:
        fetch(driver, "/a.bin")
    assert "back" in str(caught.value)
    assert str(caught.value).isprintable()
    assert "second" not in str(caught.value)


def test_another_vse_says_which_error_it_was() -> None:
    for status, said, kind, match in (
        ("409 C", b'{"code": "not-empty", "found": "it holds things"}', errors.NotEmpty, "it holds things"),
        ("507 F", b'{"code": "no-such-file", "found": ["not", "text"]}', errors.StorageFull, "507"),
        ("503 F", b"[not json", errors.SourceUnavailable, "503"),
    ):
        get = answer(status, said, Content_Type="application/json")
        with lying(GET=get, HEAD=HEAD) as (driver, _), pytest.raises(kind, match=match):
            fetch(driver, "/a.bin")


def test_redirects_are_followed_and_the_token_stays_home(tmp_path: object) -> None:
    with lying(HEAD=HEAD, GET=answer("200 OK", DATA)) as (_, there):
        moved = answer("307 There", Location=f"http://127.0.0.1:{there.port}/pool/a.bin?key=1")
        with lying(HEAD=moved, GET=moved) as (_, here):
            from pathlib import Path

            from vse.storage.drivers.http import HttpDriver

            token = Path(str(tmp_path)) / "token"
            token.write_text("secret")
            driver = HttpDriver(here.section(TokenFile=str(token)), 5.0)
            assert fetch(driver, "/a.bin") == DATA
            driver.close()
            assert all(b"Authorization: Bearer secret" in head for head in here.heads)
            assert all(b"uthorization" not in head for head in there.heads)
            assert there.heads[-1].startswith(b"GET /pool/a.bin?key=1 ")


def test_a_put_goes_where_it_is_sent() -> None:
    last = b"HTTP/1.1 100 Continue\r\n\r\n"
    with lying(PUT=lambda _: last + STALL) as (_, there):
        moved = answer("307 There", Location=f"http://127.0.0.1:{there.port}/pool/a.bin")
        with lying(HEAD=answer("404 None"), PUT=moved) as (driver, _):
            with driver.put("/a.bin", 10) as upload:
                upload.write(b"12345")
            assert there.heads[0].startswith(b"PUT /pool/a.bin ")
