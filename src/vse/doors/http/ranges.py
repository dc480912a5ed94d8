"""Byte ranges and conditional requests (RFC 9110 §13, §14), as pure functions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import NamedTuple

from vse.errors import BadRequest

MAX_RANGES = 4096
"""As many as a request may hold. davix packs about 300 (measured), XRootD's vector reads at most 1,024."""

_SPEC = re.compile(r"(\d*)\s*-\s*(\d*)", re.ASCII)
_MAX_DIGITS = 19


class Span(NamedTuple):
    """The bytes ``start`` (with) to ``stop`` (without) of a file."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        return self.stop - self.start


def parse_ranges(value: str, size_bytes: int) -> list[Span] | None:
    """Return the spans that a Range header asks for, in its order, cut at the end of the file.

    None: the header is to be ignored (another unit, or not a valid one). An empty list: it is valid,
    but every range lies past the end (416). Raises `BadRequest` for more than `MAX_RANGES`.
    """
    unit, equals, listed = value.partition("=")
    if unit.strip().lower() != "bytes" or not equals:
        return None
    specs = [spec for spec in (part.strip() for part in listed.split(",")) if spec]
    if not specs:
        return None
    if len(specs) > MAX_RANGES:
        found = f"it asks for {len(specs)} ranges; at most {MAX_RANGES} are possible"
        raise BadRequest("serve the ranges", found, "split the request")
    spans = []
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        if match is None or not (match[1] or match[2]) or max(map(len, match.groups())) > _MAX_DIGITS:
            return None
        if match[1] and match[2] and int(match[2]) < int(match[1]):
            return None
        span = _span(match[1], match[2], size_bytes)
        if span is not None:
            spans.append(span)
    return spans


def _span(first: str, last: str, size_bytes: int) -> Span | None:
    if not first:
        wanted = min(int(last), size_bytes)
        return Span(size_bytes - wanted, size_bytes) if wanted else None
    start = int(first)
    if start >= size_bytes:
        return None
    return Span(start, min(int(last) + 1, size_bytes) if last else size_bytes)


def http_date(when_s: float) -> str:
    """Return a time (Unix seconds) as ``Sun, 06 Nov 1994 08:49:37 GMT``."""
    return format_datetime(datetime.fromtimestamp(int(when_s), UTC), usegmt=True)


def parse_http_date(text: str) -> int | None:
    """Return the Unix seconds of an HTTP date, or None where it is none."""
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


def is_not_modified(none_match: str | None, since: str | None, etag: str, modified_s: int) -> bool:
    """Whether 304 answers a GET with these If-None-Match and If-Modified-Since (the first one wins)."""
    if none_match is not None:
        tags = [tag.strip().removeprefix("W/") for tag in none_match.split(",")]
        return "*" in tags or etag in tags
    if since is None:
        return False
    since_s = parse_http_date(since)
    return since_s is not None and modified_s <= since_s


def range_applies(if_range: str | None, etag: str, modified_s: int) -> bool:
    """Whether the Range header counts: If-Range is not there, or names the file as it is now.

    A weak tag never does (RFC 9110 §13.1.5).
    """
    if if_range is None:
        return True
    if if_range.startswith(('"', "W/")):
        return if_range == etag
    return parse_http_date(if_range) == modified_s
