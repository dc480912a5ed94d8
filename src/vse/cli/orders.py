"""Orders to a running command, by key or signal: p pauses or goes on, s stops with what there is."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = {signal.SIGUSR1: b"p", signal.SIGUSR2: b"s", signal.SIGTERM: b"s"}


class Orders:
    """Within the ``with`` block each key of ``orders`` calls its function, in a thread of its own.

    SIGUSR1 is as p, SIGUSR2 and SIGTERM are as s. Keys are read from a terminal in the foreground only,
    which is left as it was found. A signal only writes to a pipe, so it can come at any moment.
    """

    def __init__(self, orders: dict[str, Callable[[], object]]) -> None:
        self._orders = orders
        self._before: dict[int, Any] = {}
        self._terminal: Any = None
        self._read, self._write = os.pipe()
        self._thread = threading.Thread(target=self._listen, name="vse-orders", daemon=True)

    @property
    def has_keys(self) -> bool:
        """Whether keys are read."""
        return self._terminal is not None

    def __enter__(self) -> Self:
        if _is_foreground():
            self._terminal = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin, termios.TCSANOW)
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._hear)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if self._terminal is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._terminal)
        os.write(self._write, b"\0")
        self._thread.join()
        os.close(self._read)
        os.close(self._write)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        os.write(self._write, _SIGNALS[signal.Signals(number)])

    def _listen(self) -> None:
        sources = [self._read, *([sys.stdin.fileno()] if self._terminal is not None else [])]
        while True:
            for source in select.select(sources, [], [])[0]:
                key = os.read(source, 1)
                if key == b"\0" and source == self._read:
                    return
                if not key:
                    sources.remove(source)
                order = self._orders.get(key.decode(errors="replace").lower())
                if order is not None:
                    order()


def _is_foreground() -> bool:
    """Whether keys that are pressed are ours: a terminal, and this process in front of it."""
    try:
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # closed, or no file at all
        return False
