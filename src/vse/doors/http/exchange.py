"""One request and its answer: what every handler of the door works with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.types import Message, Receive, Scope, Send

from vse.errors import BadLfn, VseError
from vse.model import Lfn

Headers = Iterable[tuple[bytes, bytes]]

DATA_PREFIX = "/data"


class Refused(Exception):
    """An error together with the HTTP status and headers that tell it, where the tables do not."""

    def __init__(self, status: int, error: VseError, headers: Headers = ()) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error
        self.headers = tuple(headers)


class Disconnected(Exception):
    """The client went away; there is nobody left to answer."""


class Exchange:
    """A request's scope, and an ASGI channel that remembers how far the answer has come.

    ``headers`` has lower-case names; of a header sent twice, the last one counts.
    """

    __slots__ = ("_receive", "_send", "body_asked", "headers", "method", "path", "scope", "started")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["raw_path"].decode("ascii", "replace")
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.started = False
        self.body_asked = False
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        self.body_asked = True
        return await self._receive()

    async def send(self, message: Message) -> None:
        self.started = True
        await self._send(message)

    def header(self, name: str) -> str | None:
        """Return the value of a header (``name`` in lower case)."""
        value = self.headers.get(name.encode("ascii"))
        return None if value is None else value.decode("latin-1").strip()

    @property
    def peer(self) -> str:
        """The address of the client, without its port."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    def lfn(self) -> Lfn:
        """Return the LFN that a path under ``/data`` names; raises `BadLfn`."""
        return lfn_of(self.path)

    async def start(self, status: int, headers: Headers) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def body(self, data: bytes | bytearray, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def answer(self, status: int, headers: Headers = (), data: bytes = b"") -> None:
        """Send a whole answer; its length is added."""
        length = () if status in (204, 304) else ((b"content-length", b"%d" % len(data)),)
        await self.start(status, (*headers, *length))
        await self.body(data, more=False)

    async def refuse(self, status: int, error: VseError, headers: Headers = ()) -> None:
        """Tell an error as JSON. Closes where the client may or may not send a body it announced.

        A client that waits for '100 Continue' and gets a final status may go on either way (RFC 9110
        §10.1.1), so the bytes that follow on this connection could not be told apart.
        """
        unread = b"expect" in self.headers and not self.body_asked
        closing = ((b"connection", b"close"),) if unread else ()
        kind = (b"content-type", b"application/json")
        await self.answer(status, (kind, *headers, *closing), json.dumps(error.to_dict()).encode())

    async def drop_body(self, limit_bytes: int) -> None:
        """Read a request's body and forget it; refuse one of more than ``limit_bytes``."""
        await self.read_body(limit_bytes)

    async def read_body(self, limit_bytes: int) -> bytes:
        """Return the whole body of the request; refuses one of more than ``limit_bytes`` with 413."""
        data = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            data += message.get("body", b"")
            if len(data) > limit_bytes:
                too_long = VseError("read the request", f"its body has more than {limit_bytes} bytes")
                raise Refused(413, too_long, [(b"connection", b"close")])
            if not message.get("more_body", False):
                return bytes(data)


@lru_cache(maxsize=4096)
def lfn_of(escaped_path: str) -> Lfn:
    """Return the LFN of an escaped URL path under ``/data``: the one place where they are unescaped."""
    raw = unquote_to_bytes(escaped_path.removeprefix(DATA_PREFIX))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadLfn("use the path of the URL as a logical file name", "it is not UTF-8") from None
    return Lfn.parse(text or "/")


def is_data(escaped_path: str) -> bool:
    """Whether a URL path lies in the tree of files."""
    return escaped_path == DATA_PREFIX or escaped_path.startswith(DATA_PREFIX + "/")


def scope_host(scope: Scope) -> str:
    """Return the scheme and authority by which the client reached the door: ``http://host:port``."""
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    if not host:
        server: Any = scope.get("server") or ("localhost", 80)
        host = f"{server[0]}:{server[1]}"
    return f"{scope.get('scheme', 'http')}://{host}"
