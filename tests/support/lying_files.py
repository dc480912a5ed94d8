"""An HTTP server that serves files, and lies about them as it is told."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LyingServer(ThreadingHTTPServer):
    """``files``: what it holds. ``lies``: for a path one of those in `_Handler`; missing is honesty."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], lies: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.lies = lies
        self.asked: Counter[str] = Counter()
        self.let_go = threading.Event()
        self.sent_bytes: Counter[str] = Counter()

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LyingServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.server.asked[self.path] += 1
        data = self.server.files.get(self.path)
        lie = self.server.lies.get(self.path, "")
        if data is None or lie == "gone":
            self._plain(404)
            return
        if lie == "500" and body:
            self._plain(500)
            return
        if lie == "damaged":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if lie == "shorter":
            data = data[:-10]
        first, last = 0, len(data) - 1
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or last), last)
        piece = data[first : last + 1]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(len(piece)))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if not body:
            return
        if lie in ("dies", "stalls"):
            self.wfile.write(piece[: len(piece) // 2])
            self.wfile.flush()
            self.server.sent_bytes[self.path] += len(piece) // 2
            if lie == "stalls":
                self.server.let_go.wait(60)
            self.close_connection = True
            return
        self.server.sent_bytes[self.path] += len(piece)
        self.wfile.write(piece)

    def _plain(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def lying_server(files: dict[str, bytes], lies: dict[str, str]) -> Iterator[LyingServer]:
    server = LyingServer(files, lies)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.let_go.set()
        server.shutdown()
        server.server_close()
        thread.join()
