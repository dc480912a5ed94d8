"""Running the door: a socket of its own, uvicorn on it, and an end within two seconds."""

from __future__ import annotations

import errno
import gc
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from vse.errors import BadSettings

Middleware = Callable[[ASGIApp], ASGIApp]

_GRACE_S = 1
_BACKLOG = 2048


class HttpServer:
    """One application on one listening socket, which listens from when this is made.

    ``port`` 0 takes any free one; `url` has the real one. Raises `BadSettings` where the address
    cannot be used.
    """

    def __init__(
        self, app: ASGIApp, host: str = "127.0.0.1", port: int = 0, middleware: Middleware | None = None
    ) -> None:
        self._socket = _bound(host, port)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            middleware(app) if middleware else app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="critical",  # the door logs by itself
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_GRACE_S,
            backlog=_BACKLOG,
        )
        self._server = uvicorn.Server(config)

    def run(self, ready: Callable[[str], None] | None = None) -> None:
        """Serve until `stop`, SIGTERM or SIGINT (in the main thread), then return.

        ``ready`` is called with the URL. Transfers that still run get one
        second to end; they are broken off after it.
        """
        gc.freeze()  # what is here stays: looking through it for cycles was a third of a bulk answer's time
        try:
            with self._signals():
                if ready is not None:
                    ready(self.url)
                self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Ask `run` to end; safe from any thread and from a signal handler."""
        self._server.should_exit = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let a signal end the server and nothing else.

        uvicorn raises the signal again when it is done, which would end the process before its caller
        has put its house in order.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _bound(host: str, port: int) -> socket.socket:
    wanted = f"open the HTTP door at {host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BadSettings(wanted, error.strerror or str(error), "correct doors.http.host") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)  # from now on clients wait in the queue instead of being refused
    except OSError as error:
        bound.close()
        found = error.strerror or str(error)
        todo = "choose another doors.http.host"
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            todo = "choose another doors.http.port, or 0 for any free one"
        raise BadSettings(wanted, found, todo) from error
    return bound
