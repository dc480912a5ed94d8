"""Ctrl-C at a moment of our own choosing.

Python raises `KeyboardInterrupt` between any two instructions of the main thread, also while it takes a
lock or puts things in order, which can leave a lock held for ever. Here the key only raises a flag; the
work is brought to its end, and `KeyboardInterrupt` is raised after it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class CtrlC:
    """Within the ``with`` block Ctrl-C sets `pressed` and calls ``wake``; at its end it is raised.

    ``wake`` runs as a signal handler: it may not take locks. A second Ctrl-C is raised at once. Does
    nothing outside of the main thread, and where SIGINT is ignored.
    """

    def __init__(self, wake: Callable[[], object] = lambda: None) -> None:
        self.pressed = False
        self._wake = wake
        self._before: Any = None

    def _press(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        signal.signal(number, self._before)
        self._wake()

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self.pressed and error is None:
            raise KeyboardInterrupt
