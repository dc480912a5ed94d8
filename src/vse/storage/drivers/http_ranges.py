"""Byte ranges (RFC 9110 §14): which to ask for, and reading a multipart/byteranges answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from email.message import Message

MAX_RANGES = 100
"""In one request: some servers send the whole file above a number of their own (200 in Apache)."""

Range = tuple[int, int]
"""``(offset, end)``, the end exclusive."""

_CONTENT_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)\s*", re.IGNORECASE)
_MAX_PREAMBLE_BYTES = 4096


class BadAnswer(ValueError):
    """An answer that is not what the specification says; the text says what is wrong with it."""


def joined(wanted: Sequence[Range]) -> list[Range]:
    """Return the least list of ranges that covers ``wanted``, in order; empty ones are left out."""
    result: list[Range] = []
    for start, end in sorted(wanted):
        if start == end:
            continue
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def header(ranges: Sequence[Range]) -> str:
    return "bytes=" + ",".join(f"{start}-{end - 1}" for start, end in ranges)


def content_range(text: str | None) -> tuple[Range, int | None]:
    """Read a Content-Range header: the range, and the size of the whole file where it is told."""
    match = _CONTENT_RANGE.fullmatch(text or "")
    if match is None:
        raise BadAnswer(f"its Content-Range is {text!r}")
    start, last = int(match[1]), int(match[2])
    size_bytes = None if match[3] == "*" else int(match[3])
    if last < start or (size_bytes is not None and last >= size_bytes):
        raise BadAnswer(f"its Content-Range {text!r} is impossible")
    return (start, last + 1), size_bytes


def boundary_of(content_type: str | None) -> bytes | None:
    """Return the boundary of a multipart/byteranges type; None where it is another type."""
    message = Message()
    message["Content-Type"] = content_type or "application/octet-stream"
    if message.get_content_type() != "multipart/byteranges":
        return None
    boundary = message.get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= 70:
        raise BadAnswer("it is multipart without a boundary")
    return boundary.encode("latin-1", "replace")


def parts(body: bytes, boundary: bytes) -> Iterator[tuple[Range, int | None, memoryview]]:
    """Yield the range, the file's size and the bytes of each part of a multipart/byteranges body.

    The length of a part is that of its Content-Range; the boundary must follow right behind it, so
    that bytes which look like a boundary cannot cut a part short.
    """
    delimiter = b"--" + boundary
    position = body.find(delimiter, 0, _MAX_PREAMBLE_BYTES)
    if position < 0:
        raise BadAnswer("it is multipart and starts with no boundary")
    position += len(delimiter)
    view = memoryview(body)
    while not body.startswith(b"--", position):
        head_end = body.find(b"\r\n\r\n", position)
        if head_end < 0:
            raise BadAnswer("it is multipart and ends within a part's headers")
        found, size_bytes = content_range(_field(body[position:head_end], b"content-range"))
        start = head_end + 4
        end = start + found[1] - found[0]
        if not body.startswith(b"\r\n" + delimiter, end):
            raise BadAnswer(f"its part of bytes {found[0]}-{found[1] - 1} has another length")
        yield found, size_bytes, view[start:end]
        position = end + 2 + len(delimiter)


def _field(head: bytes, name: bytes) -> str | None:
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().decode("latin-1")
    return None
