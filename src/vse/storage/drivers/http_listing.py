"""PROPFIND (RFC 4918 §9.1): what a server says of a path and of what is in it."""

from __future__ import annotations

import xml.parsers.expat
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

QUESTION = b"""<?xml version="1.0" encoding="utf-8"?>
<D:propfind xmlns:D="DAV:"><D:prop><D:resourcetype/><D:getcontentlength/><D:getlastmodified/>\
<D:quota-available-bytes/><D:quota-used-bytes/></D:prop></D:propfind>"""

_TEXTS = (
    "href",
    "status",
    "getcontentlength",
    "getlastmodified",
    "quota-available-bytes",
    "quota-used-bytes",
)
_MAX_TEXT_CHARACTERS = 16384


class BadListing(ValueError):
    """An answer that is no multistatus; the text says what is wrong with it."""


class Described(NamedTuple):
    """One response of a multistatus. ``path`` is unescaped and ends in no slash (the root is '/')."""

    path: str
    is_directory: bool
    size_bytes: int | None
    modified_s: float | None
    available_bytes: int | None
    used_bytes: int | None


class _Multistatus:
    """Gathers responses as the XML comes in; keeps one response in memory at a time."""

    def __init__(self, raw_names: bool) -> None:
        self._raw_names = raw_names
        self.ready: list[Described] = []
        self.complete = False
        self._text: list[str] = []
        self._wanted_text = False
        self._characters = 0
        self._response: dict[str, str] = {}
        self._propstat: dict[str, str] = {}
        self._in_propstat = False
        parser = xml.parsers.expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        parser.StartDoctypeDeclHandler = self._doctype
        self.feed: Callable[[bytes, bool], object] = parser.Parse

    def _doctype(self, *_: object) -> None:
        # Without a document type there are no entities that could be expanded.
        raise BadListing("it holds a document type declaration")

    def _start(self, tag: str, _attributes: dict[str, str]) -> None:
        name = tag.removeprefix("DAV: ")
        if name == "response":
            self._response = {}
        elif name == "propstat":
            self._in_propstat, self._propstat = True, {}
        elif name == "collection":
            self._propstat["collection"] = ""
        self._wanted_text = name in _TEXTS
        self._text, self._characters = [], 0

    def _data(self, text: str) -> None:
        if self._wanted_text:
            self._characters += len(text)
            if self._characters > _MAX_TEXT_CHARACTERS:
                raise BadListing("it holds an impossibly long name")
            self._text.append(text)

    def _end(self, tag: str) -> None:
        name = tag.removeprefix("DAV: ")
        if name in _TEXTS:
            (self._propstat if self._in_propstat else self._response)[name] = "".join(self._text).strip(
                "\r\n\t"
            )
        elif name == "propstat":
            self._in_propstat = False
            if _good(self._propstat.pop("status", "")):
                self._response.update(self._propstat)
        elif name == "response":
            if "href" in self._response and _good(self._response.get("status", "")):
                self.ready.append(_described(self._response, self._raw_names))
        elif name == "multistatus":
            self.complete = True
        self._wanted_text = False


def described(pieces: Iterable[bytes], *, raw_names: bool = False) -> Iterator[Described]:
    """Yield each response of a multistatus as its bytes come in; raise `BadListing` for anything else."""
    answer = _Multistatus(raw_names)
    try:
        for piece in pieces:
            answer.feed(piece, False)
            yield from answer.ready
            answer.ready.clear()
        answer.feed(b"", True)
    except xml.parsers.expat.ExpatError as error:
        raise BadListing(f"its XML is broken ({error})") from error
    if not answer.complete:
        raise BadListing("it is no multistatus")


def _good(status: str) -> bool:
    """Whether a status line such as ``HTTP/1.1 200 OK`` tells of success; so does none at all."""
    words = status.split()
    return len(words) < 2 or words[1].startswith("2")


def _described(found: dict[str, str], raw_names: bool) -> Described:
    path = found["href"] if raw_names else unquote(urlsplit(found["href"].strip()).path)
    return Described(
        path.rstrip("/") or "/",
        "collection" in found,
        _number(found.get("getcontentlength")),
        seconds(found.get("getlastmodified")),
        _number(found.get("quota-available-bytes")),
        _number(found.get("quota-used-bytes")),
    )


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdecimal() else None


def seconds(text: str | None) -> float | None:
    """Read a time as servers write it (RFC 1123 or ISO 8601), in Unix seconds; None if unreadable."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            when = read(text or "")
        except ValueError:
            continue
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return None
