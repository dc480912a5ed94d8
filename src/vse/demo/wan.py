"""A wide area between a door and its clients: catalogue queries that take long, and a shared line.

So that the cold case on one machine is honest. The default of the demonstration is the case of seed 002
§4.3: 100 ms a query.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CATALOGUE = "/api/v1/catalogue"
_DATA = "/data"
_PIECE_S = 0.005
_MIN_PIECE_BYTES, _MAX_PIECE_BYTES = 16 * 1024, 1024 * 1024
_BURST_S = 0.02
_TIMER_S = 0.001

Sleep = Callable[[float], Awaitable[None]]


class Line:
    """A line of ``bytes_per_s``: who wants to send gets the next free place on it, first come first served.

    Each sender has one piece waiting at a time, so senders take turns. Up to `_BURST_S` of unused time
    is kept, which makes up for timers that wake late; the rate over a longer time is exact.
    """

    def __init__(self, bytes_per_s: float, clock: Callable[[], float], sleep: Sleep) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._free_at_s = float("-inf")
        piece_bytes = int(bytes_per_s * _PIECE_S)
        self.piece_bytes = min(max(piece_bytes, _MIN_PIECE_BYTES), _MAX_PIECE_BYTES)

    async def take(self, size_bytes: int) -> None:
        """Wait until ``size_bytes`` have passed the line."""
        now_s = self._clock()
        begin_s = max(self._free_at_s, now_s - _BURST_S)
        self._free_at_s = begin_s + size_bytes / self._bytes_per_s
        wait_s = self._free_at_s - now_s
        if wait_s > _TIMER_S:
            await self._sleep(wait_s)


class WideArea:
    """ASGI middleware: ``query_latency_s`` before each catalogue request, one line for all file bodies.

    Both ways share the line. 0 is no latency, or no limit.
    """

    def __init__(
        self,
        app: ASGIApp,
        query_latency_s: float = 0.1,
        bandwidth_bytes_per_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._app = app
        self._latency_s = query_latency_s
        self._sleep = sleep
        self._line = Line(bandwidth_bytes_per_s, clock, sleep) if bandwidth_bytes_per_s > 0 else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "") if scope["type"] == "http" else ""
        if self._latency_s > 0 and _is_below(path, _CATALOGUE):
            await self._sleep(self._latency_s)
        if self._line is not None and _is_below(path, _DATA):
            receive, send = _paced(self._line, receive, send)
        await self._app(scope, receive, send)


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


def _paced(line: Line, receive: Receive, send: Send) -> tuple[Receive, Send]:
    async def receive_paced() -> Message:
        message = await receive()
        if message["type"] == "http.request" and message.get("body"):
            await line.take(len(message["body"]))
        return message

    async def send_paced(message: Message) -> None:
        body = message.get("body", b"")
        if message["type"] != "http.response.body" or not body:
            await send(message)
            return
        view, more = memoryview(body), message.get("more_body", False)
        for start in range(0, len(view), line.piece_bytes):
            piece = view[start : start + line.piece_bytes]
            await line.take(len(piece))
            last = start + len(piece) == len(view)
            await send({**message, "body": bytes(piece), "more_body": more or not last})

    return receive_paced, send_paced
