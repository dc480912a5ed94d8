"""A clock that stands still until it is set."""

from __future__ import annotations


class Clock:
    """Tells ``now_s``, in seconds since 1970."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s
