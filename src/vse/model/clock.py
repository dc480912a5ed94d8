"""Time is an argument, so that a test can hold it still."""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]
"""Returns the time in Unix seconds (UTC); `time.time` in production."""
