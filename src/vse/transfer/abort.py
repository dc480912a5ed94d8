"""Ends a move from outside: while it blocks in a read, or between two pieces."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from vse.errors import VseError


class Abort:
    """Fired at most once, from any thread; the moving thread meets it at its next `check`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: VseError | None = None
        self._closers: list[Callable[[], object]] = []

    @property
    def reason(self) -> VseError | None:
        return self._reason

    def fire(self, reason: VseError) -> None:
        """Give the reason, and call what unblocks the mover. A later reason does not replace the first."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            closers = list(self._closers)
        for closer in closers:
            with contextlib.suppress(Exception):  # it may be closed, or closing, already
                closer()

    def check(self) -> None:
        """Raise the reason, if there is one."""
        if self._reason is not None:
            raise self._reason

    @contextlib.contextmanager
    def calls(self, closer: Callable[[], object]) -> Iterator[None]:
        """While the block runs, `fire` calls ``closer`` to unblock it."""
        with self._lock:
            if self._reason is None:
                self._closers.append(closer)
        try:
            self.check()
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._closers.remove(closer)
