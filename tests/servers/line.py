"""A line to a server that can be slow, fall silent, or break off in mid-transfer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_PIECE_BYTES = 16 * 1024
BURST_S = 0.2


class Line:
    """Relays every connection to ``port`` of this machine's server.

    ``bytes_per_s`` is the speed of each direction, of all connections together; what a busy machine was
    late by is caught up with, within ``BURST_S``. Once ``left_bytes`` have been
    carried, in both directions of all connections together, the line is broken: every connection is
    closed, and no new one is accepted. With ``silent`` it carries nothing more but stays open.
    """

    def __init__(self, port: int) -> None:
        self.bytes_per_s: float | None = None
        self.left_bytes: float = float("inf")
        self.silent = False
        self.carried_bytes = 0
        self._server_port = port
        self._through_s = [time.monotonic()] * 2
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        # What lies in the buffers of this machine is no line: keep them small.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE_BYTES)
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                here, _ = self._socket.accept()
                there = socket.create_connection(("127.0.0.1", self._server_port), 5)
            except OSError:
                return
            there.settimeout(None)
            for one in (here, there):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE_BYTES)
            with self._lock:
                self._open |= {here, there}
            for way, pair in enumerate(((here, there), (there, here))):
                threading.Thread(target=self._carry, args=(*pair, way), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, way: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE_BYTES):
                with self._lock:
                    self.left_bytes -= len(data)
                    self.carried_bytes += len(data)
                    broken = self.left_bytes < 0
                if broken and self.silent:
                    self._over.wait()
                if broken:
                    self.break_off()
                    return
                if self.bytes_per_s:
                    time.sleep(self._wait_s(way, len(data) / self.bytes_per_s))
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _wait_s(self, way: int, needs_s: float) -> float:
        """Return how long to wait until a piece is through that the line ``needs_s`` for."""
        with self._lock:
            now_s = time.monotonic()
            self._through_s[way] = max(self._through_s[way], now_s - BURST_S) + needs_s
            return max(0.0, self._through_s[way] - now_s)

    def break_off(self) -> None:
        """Close everything, as a machine that loses its power."""
        self._over.set()
        with self._lock:
            connections, self._open = self._open, set()
        for one in (self._socket, *connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def line_to(port: int) -> Iterator[Line]:
    line = Line(port)
    try:
        yield line
    finally:
        line.break_off()
