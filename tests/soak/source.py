"""A source of files elsewhere: fails now and then, is away at times, lies about some files for good."""

from __future__ import annotations

import io
import random
import re
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import awkward as ak
import numpy as np
import uproot

PASSING = ("500", "dies", "stalls", "damaged", "shorter")
"""What a good file may meet in one answer."""
FOR_GOOD = ("gone", "damaged", "shorter", "unreadable")
"""What is wrong with a bad file in every answer."""
_STALL_S = 3.0


@cache
def root_file(seed: int) -> bytes:
    """Return a small ROOT file, the same bytes for the same seed."""
    out = io.BytesIO()
    numbers = np.random.default_rng(seed)
    with uproot.recreate(out) as file:
        file["events"] = ak.zip(
            {"pt": numbers.exponential(20.0, 2000), "eta": numbers.normal(0.0, 2.0, 2000)}
        )
        file.file.sink.flush()
        return out.getvalue()


class Source(ThreadingHTTPServer):
    """``files``: what it holds by path. ``lies``: what is wrong with some of them for good."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, chance: random.Random, failing: float, pause_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.lies: dict[str, str] = {}
        self.failing, self.pause_s = failing, pause_s
        self.away = False
        self.told: Counter[str] = Counter()
        self.over = threading.Event()
        self._chance, self._lock = chance, threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def mood(self, path: str) -> str:
        """Return what goes wrong this time; empty for nothing."""
        with self._lock:
            lie = self.lies.get(path, "")
            if not lie and self._chance.random() < self.failing:
                lie = self._chance.choice(PASSING)
            self.told[lie or "good"] += 1
            return lie

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that were killed."""

    def adler32(self, path: str) -> int:
        return zlib.adler32(self.files[path])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Source

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
        lie = self.server.mood(self.path) if body else self.server.lies.get(self.path, "")
        if data is None or lie in ("gone", "500"):
            self._head(500 if lie == "500" else 404, {"Content-Length": "0"})
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
        self.wfile.write(piece[:half])
        self.wfile.flush()
        time.sleep(self.server.pause_s)  # the distance: without it nothing is ever under way
        if lie == "stalls":
            self.server.over.wait(_STALL_S)
        if lie in ("dies", "stalls") or self.server.away:
            self.close_connection = True
            return
        self.wfile.write(piece[half:])


@contextmanager
def running_source(chance: random.Random, failing: float, pause_s: float = 0.1) -> Iterator[Source]:
    server = Source(chance, failing, pause_s)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
