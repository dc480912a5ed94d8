"""A door in a thread of the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from vse.doors.http.serve import HttpServer, Middleware


@contextmanager
def running_door(app: ASGIApp, middleware: Middleware | None = None) -> Iterator[str]:
    """Serve ``app`` on a free port of this machine; gives its URL."""
    server = HttpServer(app, middleware=middleware)
    thread = threading.Thread(target=server.run, name="door", daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive(), "the door did not stop within 10 s"
