"""The bytes of the XRootD protocol, held against the layouts of its specification."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.doors.xrootd import wire
from vse.doors.xrootd.wire import Call, Failure, Request, Stat
from vse.errors import (
    BadRequest,
    Denied,
    GivenUp,
    NoSuchEntry,
    SourceUnavailable,
    StorageFull,
    Unsupported,
    VseError,
    tree,
)

STREAM = b"\x01\x02"


def parsed(call: int, parameters: bytes = b"", body: bytes = b"") -> Request:
    header = struct.pack(">2sH16si", STREAM, call, parameters.ljust(16, b"\0"), len(body))
    request, length = wire.parse_header(header)
    assert length == len(body)
    return request._replace(body=body)


def test_only_the_handshake_of_this_protocol_begins_a_connection() -> None:
    assert wire.is_handshake(bytes.fromhex("0000000000000000000000000000000400 0007dc".replace(" ", "")))
    assert not wire.is_handshake(b"GET / HTTP/1.1\r\nHost")
    assert wire.handshake() == struct.pack(">HHiii", 0, 0, 8, 0x500, 0)


def test_an_open_tells_its_path_and_whether_it_writes() -> None:
    reading = parsed(Call.OPEN, struct.pack(">HH", 0, 0x0450), b"/vse/lhc/a b.root?tried=here&x=1")
    assert (reading.stream, reading.call, reading.path) == (STREAM, 3010, "/vse/lhc/a b.root")
    assert not reading.writes
    for flag in (0x0002, 0x0008, 0x0020, 0x0200, 0x8000):
        assert parsed(Call.OPEN, struct.pack(">HH", 0, flag), b"/a").writes, hex(flag)


def test_a_prepare_tells_what_it_is_for() -> None:
    assert parsed(Call.PREPARE, b"\x08", b"/a\n/b").preparing == "stage"
    assert parsed(Call.PREPARE, b"\x08", b"/a\n/b\n").lines == ["/a", "/b"]
    assert parsed(Call.PREPARE, b"\x01", b"17").preparing == "cancel"
    assert parsed(Call.PREPARE, b"\0\0\0\0\0\x01", b"/a").preparing == "evict"


def test_a_query_a_stat_and_a_listing_tell_their_kind() -> None:
    assert parsed(Call.QUERY, b"\0\x02", b"17\n/a").query == wire.Ask.PREPARE
    assert parsed(Call.STAT, b"\x01", b"/").of_file_system
    assert parsed(Call.DIRLIST, b"\0" * 15 + b"\x02", b"/").wants_details


@pytest.mark.parametrize("length", [-1, wire.MAX_BODY_BYTES + 1, 2**31 - 1])
def test_a_body_of_mad_length_is_refused(length: int) -> None:
    with pytest.raises(BadRequest, match="its body has"):
        wire.parse_header(struct.pack(">2sH16si", STREAM, 3010, b"", length))


@given(st.binary(max_size=200))
def test_any_body_has_a_path(body: bytes) -> None:
    path = parsed(Call.OPEN, b"", body).path
    assert "?" not in path and "\0" not in path


def test_answers_have_their_layouts() -> None:
    assert wire.protocol(STREAM) == STREAM + struct.pack(">HiiI", 0, 8, 0x500, 2)
    assert wire.wait(STREAM, 5) == STREAM + struct.pack(">Hii", 4005, 4, 5)
    url = "root://h:1//vse/a"
    assert wire.redirect(STREAM, url) == STREAM + struct.pack(">Hii", 4004, 4 + len(url), -1) + url.encode()
    assert wire.failure(STREAM, 3011, "no") == STREAM + struct.pack(">Hii", 4003, 7, 3011) + b"no\0"
    assert wire.text(STREAM, "hi") == STREAM + struct.pack(">Hi", 0, 3) + b"hi\0"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoSuchEntry("read /a"), Failure.NOT_FOUND),
        (Denied("read /a"), Failure.NOT_AUTHORIZED),
        (GivenUp("stage /a"), Failure.SERVER_ERROR),
        (StorageFull("stage /a"), Failure.NO_SPACE),
        (SourceUnavailable("stage /a"), Failure.IO_ERROR),
        (Unsupported("do /a"), Failure.UNSUPPORTED),
    ],
)
def test_errors_keep_their_meaning_and_text(error: VseError, code: int) -> None:
    assert wire.failure_of(STREAM, error) == wire.failure(STREAM, code, str(error))


def test_every_error_of_the_tree_can_be_told() -> None:
    for kind in tree():
        assert b"cannot do it" in wire.failure_of(STREAM, kind("do it"))


def test_a_stat_says_what_is_a_directory_and_what_is_not_here() -> None:
    assert str(Stat(12, 99.5)) == "0 12 16 99"
    assert str(Stat(12, 99.5, online=False)) == "0 12 24 99"
    assert str(Stat(0, 99.5, directory=True)) == "0 0 19 99"


def test_a_long_listing_comes_in_parts_that_make_one() -> None:
    names = [f"file-{number:06d}-{'x' * 100}" for number in range(20_000)]
    parts = list(wire.listing(STREAM, names, None))
    statuses = [struct.unpack(">H", part[2:4])[0] for part in parts]
    assert len(parts) > 1 and statuses == [4000] * (len(parts) - 1) + [0]
    assert b"".join(part[8:] for part in parts) == "\n".join(names).encode() + b"\0"


def test_a_listing_with_details_begins_as_clients_expect() -> None:
    (part,) = wire.listing(STREAM, ["a"], [Stat(1, 2.0)])
    assert part[8:] == b".\n0 0 0 0\na\n0 1 16 2\0"
    (empty,) = wire.listing(STREAM, [], None)
    assert empty[8:] == b""
