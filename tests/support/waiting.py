"""Waiting for what happens beside a test: with a deadline, and saying what did not happen."""

from __future__ import annotations

import inspect
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def until(
    holds: Callable[[], Answer],
    within_s: float = 90.0,
    *,
    what: str = "",
    told: Callable[[], Any] | None = None,
    process: subprocess.Popen[Any] | None = None,
) -> Answer:
    """Wait until a condition gives something true, and return that.

    ``what`` is what is waited for (left out: the condition as it is written), ``told`` is asked at the end
    for what helps to see why it did not happen, such as a log. It is not waited for longer than a
    ``process`` lives without which it cannot happen.
    """
    end_s = time.monotonic() + within_s
    while True:
        ended = process.poll() if process is not None else None
        if answer := holds():
            return answer
        if ended is not None or time.monotonic() > end_s:
            break
        time.sleep(0.02)
    limit = f"not within {within_s:g} s" if ended is None else f"the process ended with {ended} before"
    more = f"\n{told()}" if told is not None else ""
    raise AssertionError(f"{limit}: {what or _as_written(holds)}; the last answer was {answer!r}{more}")


def _as_written(holds: Callable[[], Any]) -> str:
    name = getattr(holds, "__name__", repr(holds))
    return inspect.getsource(holds).strip() if name == "<lambda>" else str(name)
