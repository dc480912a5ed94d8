"""GET and HEAD of files: the fast path of the door.

Measured reasons for a response of our own instead of the framework's: one descriptor for many requests,
reads on the loop where the pages are in memory, and multi-range answers as clients of the field read
them. A body that cannot be sent whole breaks off; it is never filled up.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence

from vse.doors.http.digests import Digests, wants_adler32
from vse.doors.http.exchange import Disconnected, Exchange, Refused
from vse.doors.http.files import OpenFile, OpenFiles
from vse.doors.http.ranges import Span, is_not_modified, parse_ranges, range_applies
from vse.doors.http.threads import blocking
from vse.errors import BadRequest, Stalled

PIECE_BYTES = 128 * 1024
"""How much is read and sent at a time."""
NO_PROGRESS_S = 300.0
"""A client that takes not even one piece in so long is cut off."""

_TYPE = (b"content-type", b"application/octet-stream")


async def send_file(exchange: Exchange, files: OpenFiles, digests: Digests) -> None:
    """Answer a GET or HEAD of a file."""
    file = await files.open(exchange.lfn())
    try:
        headers = list(file.headers)
        if b"want-digest" in exchange.headers and wants_adler32(exchange.header("want-digest")):
            checksum = await digests.adler32(file)
            headers.append((b"digest", f"adler32={checksum.value}".encode()))
        if _is_not_modified(exchange, file):
            await exchange.answer(304, headers)
            return
        await _send_found(exchange, file, headers, _spans(exchange, file))
    finally:
        file.release()


def _is_not_modified(exchange: Exchange, file: OpenFile) -> bool:
    if b"if-none-match" not in exchange.headers and b"if-modified-since" not in exchange.headers:
        return False
    none_match, since = exchange.header("if-none-match"), exchange.header("if-modified-since")
    return is_not_modified(none_match, since, file.etag, file.modified_s)


def _spans(exchange: Exchange, file: OpenFile) -> list[Span] | None:
    """Return the spans to send, or None for the whole file."""
    wanted = exchange.header("range")
    if not wanted or exchange.method != "GET":
        return None
    if not range_applies(exchange.header("if-range"), file.etag, file.modified_s):
        return None
    return parse_ranges(wanted, file.size_bytes)


async def _send_found(
    exchange: Exchange, file: OpenFile, headers: list[tuple[bytes, bytes]], spans: list[Span] | None
) -> None:
    if spans is None:
        length = (b"content-length", b"%d" % file.size_bytes)
        await exchange.start(200, [_TYPE, length, *headers])
        if exchange.method == "HEAD":
            await exchange.body(b"", more=False)
        else:
            await _send_spans(exchange, file, [(b"", Span(0, file.size_bytes))], b"")
    elif not spans:
        past_end = BadRequest("serve the range", f"the file has {file.size_bytes} bytes")
        raise Refused(416, past_end, [(b"content-range", b"bytes */%d" % file.size_bytes)])
    elif len(spans) == 1:
        span = spans[0]
        length = (b"content-length", b"%d" % span.size_bytes)
        await exchange.start(206, [_TYPE, length, (b"content-range", _content_range(span, file)), *headers])
        await _send_spans(exchange, file, [(b"", span)], b"")
    else:
        await _send_multipart(exchange, file, headers, spans)


async def _send_multipart(
    exchange: Exchange, file: OpenFile, headers: list[tuple[bytes, bytes]], spans: Sequence[Span]
) -> None:
    boundary = secrets.token_hex(16).encode()
    parts = [
        (
            # davix reads a part only where Content-Range is its last header (measured).
            b"\r\n--%b\r\nContent-Type: application/octet-stream\r\nContent-Range: %b\r\n\r\n"
            % (boundary, _content_range(span, file)),
            span,
        )
        for span in spans
    ]
    end = b"\r\n--%b--\r\n" % boundary
    size_bytes = sum(len(head) + span.size_bytes for head, span in parts) + len(end)
    kind = (b"content-type", b"multipart/byteranges; boundary=" + boundary)
    await exchange.start(206, [kind, (b"content-length", b"%d" % size_bytes), *headers])
    await _send_spans(exchange, file, parts, end)


def _content_range(span: Span, file: OpenFile) -> bytes:
    return b"bytes %d-%d/%d" % (span.start, span.stop - 1, file.size_bytes)


Part = tuple[bytes, Span]
Group = tuple[list[Part], bytes]


async def _send_spans(exchange: Exchange, file: OpenFile, parts: Sequence[Part], end: bytes) -> None:
    """Send each part's head and bytes, then ``end``; one message where it is little."""
    whole = sum(len(head) + span.size_bytes for head, span in parts) + len(end)
    if whole <= PIECE_BYTES:
        await exchange.body(await _read(file, parts, end), more=False)
        return
    async with _watched(exchange) as gone, asyncio.timeout(NO_PROGRESS_S) as patience:
        for group, tail in _grouped(parts, end):
            patience.reschedule(asyncio.get_running_loop().time() + NO_PROGRESS_S)
            data = await _read(file, group, tail)
            if gone.done():
                raise Disconnected
            await exchange.body(data, more=True)
        await exchange.body(b"", more=False)


def _grouped(parts: Sequence[Part], end: bytes) -> Iterator[Group]:
    """Cut and gather parts so that each group has at most `PIECE_BYTES` of the file."""
    group: list[Part] = []
    size_bytes = 0
    for head, span in parts:
        for start in range(span.start, span.stop, PIECE_BYTES):
            piece = Span(start, min(start + PIECE_BYTES, span.stop))
            if group and size_bytes + piece.size_bytes > PIECE_BYTES:
                yield group, b""
                group, size_bytes = [], 0
            group.append((head if start == span.start else b"", piece))
            size_bytes += piece.size_bytes
    yield group, end


async def _read(file: OpenFile, parts: Sequence[Part], end: bytes) -> bytes | bytearray:
    """Return the bytes of a group: at once where they are in memory, else by a thread."""
    if len(parts) == 1 and not parts[0][0] and not end:
        span = parts[0][1]
        data = file.cached(span.start, span.size_bytes)
        return data if data is not None else await blocking(file.read_ahead, span.start, span.size_bytes)
    chunks: list[bytes | bytearray] = []
    for head, span in parts:
        piece = file.cached(span.start, span.size_bytes)
        if piece is None:
            return await blocking(_gather, file, parts, end)
        chunks += (head, piece)
    return b"".join((*chunks, end))


def _gather(file: OpenFile, parts: Sequence[Part], end: bytes) -> bytes:
    file.expect([span for _, span in parts])
    chunks: list[bytes] = []
    for head, span in parts:
        chunks += (head, file.read(span.start, span.size_bytes))
    return b"".join((*chunks, end))


@contextlib.asynccontextmanager
async def _watched(exchange: Exchange) -> AsyncIterator[asyncio.Task[None]]:
    """A task that ends when the client is gone; without it a file would be read for nobody."""

    async def until_gone() -> None:
        while (await exchange.receive())["type"] != "http.disconnect":
            pass

    task = asyncio.create_task(until_gone())
    try:
        yield task
    except TimeoutError:
        found = f"the client took nothing for {NO_PROGRESS_S:.0f} s"
        raise Stalled("send a file", found) from None
    finally:
        task.cancel()
