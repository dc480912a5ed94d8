"""HTTP third-party copies (WLCG HTTP-TPC): a COPY whose answer tells how far it is, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import urllib3

from vse.errors import ServerFault, ShortRead, Stalled
from vse.storage.contract import Note
from vse.storage.drivers.http_session import HttpSession, mapped

_MAX_LINE_BYTES = 4096
_DONE = "stripe bytes transferred"


def third_party(session: HttpSession, url: str, wanted: str, headers: Mapping[str, str], note: Note) -> None:
    """Send COPY to the active server and follow it to its end.

    The status tells nothing: the last line does. What ``note`` raises, and any error, closes the
    connection, which is how a copy is cancelled.
    """
    asked = {**headers, "Credential": "none", "Overwrite": "F", "X-Number-Of-Streams": "1"}
    with session.answered("COPY", url, wanted, accept=(200, 201, 202), headers=asked) as response:
        moved_bytes, moved_s = -1, time.monotonic()
        for line in _lines(response, wanted):
            key, _, value = line.partition(":")
            if key.lower() == "success":
                return
            if key.lower() == "failure":
                raise ServerFault(wanted, f"the server says: {_printable(value)}")
            if key.lower() == _DONE and value.strip().isdecimal():
                if int(value) > moved_bytes:
                    moved_bytes, moved_s = int(value), time.monotonic()
                    note(moved_bytes)
                elif time.monotonic() - moved_s > session.no_progress_s:
                    raise Stalled(wanted, f"no byte moved for {session.no_progress_s:g} s")
    raise ShortRead(wanted, "the server closed without saying how the copy ended")


def _lines(response: urllib3.BaseHTTPResponse, wanted: str) -> Iterator[str]:
    """Yield the lines of an answer as they come."""
    pending = b""
    with mapped(wanted):
        for piece in response.stream(_MAX_LINE_BYTES, decode_content=False):
            *whole, pending = (pending + piece).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace").strip()
            if len(pending) > _MAX_LINE_BYTES:
                raise ServerFault(wanted, "the server's answer to COPY is no list of markers")
    if pending:
        yield pending.decode("utf-8", "replace").strip()


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text[:300]).strip()
