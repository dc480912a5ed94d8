"""An HTTP server of files, whole or in ranges, each of whose answers may be spoilt in a named way."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar


class FileServer(ThreadingHTTPServer):
    """``files``: what it holds by path. Subclasses tell lies, in `lie_for`.

    A lie is ``gone`` (404), ``500``, ``damaged`` (another last byte), ``shorter`` (ten bytes less), ``dies``
    (ends in the middle) or ``stalls`` (falls silent there, until ``let_go`` is set or ``stall_s`` are over).
    While it is ``away`` it breaks every connection off. ``pause_s`` is the distance: what lies between the
    halves of an answer.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, files: dict[str, bytes], *, stall_s: float = 60.0, pause_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = files
        self.stall_s, self.pause_s, self.away = stall_s, pause_s, False
        self.let_go = threading.Event()
        self.sent_bytes: Counter[str] = Counter()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def lie_for(self, path: str, *, body: bool) -> str:
        """Return what is wrong with the next answer (``body``: to GET, not HEAD); empty for nothing."""
        return ""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        with suppress(ConnectionError):
            self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if self.server.away:
            self.close_connection = True
            return
        data = self.server.files.get(self.path)
        lie = self.server.lie_for(self.path, body=body)
        if data is None or lie in ("gone", "500"):
            self._head(500 if lie == "500" else 404, {"Content-Length": "0"})
        else:
            self._tell(_spoilt(data, lie), lie, body=body)

    def _tell(self, data: bytes, lie: str, *, body: bool) -> None:
        first, last = 0, len(data) - 1
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or last), last)
        piece = data[first : last + 1]
        head = {"Content-Length": str(len(piece)), "Accept-Ranges": "bytes"}
        if wanted:
            head["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self._head(206 if wanted else 200, head)
        if body:
            self._send(piece, lie)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, piece: bytes, lie: str) -> None:
        half = len(piece) // 2
        self._write(piece[:half])
        time.sleep(self.server.pause_s)
        if lie == "stalls":
            self.server.let_go.wait(self.server.stall_s)
        if lie in ("dies", "stalls") or self.server.away:
            self.close_connection = True
        else:
            self._write(piece[half:])

    def _write(self, piece: bytes) -> None:
        self.server.sent_bytes[self.path] += len(piece)
        self.wfile.write(piece)
        self.wfile.flush()


def _spoilt(data: bytes, lie: str) -> bytes:
    if lie == "damaged":
        return data[:-1] + bytes([data[-1] ^ 1])
    return data[:-10] if lie == "shorter" else data


Server = TypeVar("Server", bound=FileServer)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Let a server answer, and at the end let go of whoever it keeps waiting."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join()
