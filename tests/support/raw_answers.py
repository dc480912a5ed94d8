"""A raw socket server that answers each request with the bytes it is given, true or not."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from vse.config.settings import ProtocolSettings
from vse.storage.drivers.http import HttpDriver

STALL = b"<stall>"
"""Ends an answer by keeping the connection open, silent."""
RESET = b"<reset>"
"""Ends an answer by breaking the connection off."""

Answer = bytes | Callable[[bytes], bytes]


class LyingServer:
    """``answers`` maps a method to what it gets: the whole answer, or a function of the request's head.

    The connection is closed after each answer. ``heads`` are the heads of all requests so far.
    """

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.heads: list[bytes] = []
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def section(self, **changes: object) -> ProtocolSettings:
        return ProtocolSettings(**{"Section": "HTTP", "Host": "127.0.0.1", "Port": self.port} | changes)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            self.heads.append(head)
            answer = self.answers[head.split(b" ", 1)[0].decode()]
            answer = answer(head) if callable(answer) else answer
            connection.sendall(answer.removesuffix(STALL).removesuffix(RESET))
            if answer.endswith(STALL):
                self._over.wait(30)
            elif answer.endswith(RESET):
                linger = (1).to_bytes(4, "little") + bytes(4)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            else:
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(5)
                while connection.recv(65536):
                    pass

    def close(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._socket.close()
        for thread in self._threads:  # the first is the one that starts the others
            thread.join(10)


def answer(status: str, body: bytes = b"", length: int | None = None, **headers: str) -> bytes:
    """Return an answer; ``length`` is its Content-Length where it lies."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


@contextmanager
def lying(no_progress_s: float = 5.0, **answers: Answer) -> Iterator[tuple[HttpDriver, LyingServer]]:
    """Give a driver and the server it is connected to."""
    server = LyingServer(answers)
    driver = HttpDriver(server.section(), no_progress_s)
    try:
        yield driver, server
    finally:
        driver.close()
        server.close()
