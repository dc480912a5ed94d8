"""Names that are being taken: with a server that would replace a file, threads of one process take turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_taking: dict[str, list[int]] = {}
_guard = threading.Lock()
_locks: dict[str, threading.Lock] = {}


@contextmanager
def one_at_a_time(url: str) -> Iterator[None]:
    """Hold ``url`` against other threads of this process that are about to take the same name."""
    with _guard:
        lock = _locks.setdefault(url, threading.Lock())
        count = _taking.setdefault(url, [0])
        count[0] += 1
    try:
        with lock:
            yield
    finally:
        with _guard:
            count[0] -= 1
            if not count[0]:
                del _locks[url], _taking[url]
