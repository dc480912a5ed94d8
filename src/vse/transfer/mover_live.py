"""A move while it runs: how far it is, for others to see, and the way to end it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from vse.errors import Stalled, VseError
from vse.transfer.abort import Abort
from vse.transfer.lifecycle import Transfer
from vse.transfer.sources import Source

_LOOK_S = 0.2
"""How often a move that waits for its bandwidth looks whether it was ended."""


@dataclass(frozen=True, slots=True)
class Limits:
    """In seconds; ``total_s`` 0 is no limit."""

    no_progress_s: float = 60.0
    total_s: float = 0.0


class Unlucky(NamedTuple):
    """A source that was tried in vain."""

    source: Source
    error: VseError


@dataclass(slots=True)
class Live:
    """A move as others see it while it runs: how far it is, and the way to end it.

    Times are of the monotonic clock. ``touched_s`` is when the last bytes came, None while the move is
    not waiting for bytes. ``handed_out``: a slot has it, and will report; ``given_up``: its slot went to
    another thread, because it hangs. ``kept``: half of the file stays for the next attempt.
    """

    transfer: Transfer
    started_s: float
    bytes_done: int = 0
    source: Source | None = None
    touched_s: float | None = None
    handed_out: bool = False
    given_up: bool = False
    kept: bool = False
    whole: Abort = field(default_factory=Abort)
    reading: Abort = field(default_factory=Abort)

    def begin(self, source: Source | None, bytes_done: int = 0) -> None:
        """Turn to another source; the time without progress starts anew."""
        self.reading = Abort()
        self.source = source
        self.bytes_done = bytes_done
        self.touched_s = time.monotonic()
        self.whole.check()

    def note(self, bytes_done: int) -> None:
        self.bytes_done = bytes_done
        self.touched_s = time.monotonic()
        self.check()

    def pause(self, wait_s: float) -> None:
        """Wait for bandwidth, which is no lack of progress."""
        until_s = time.monotonic() + wait_s
        while (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_S))
            self.note(self.bytes_done)

    def read_through(self) -> None:
        """The bytes are here: what follows has time limits of its own."""
        self.touched_s = None
        self.check()

    def check(self) -> None:
        self.whole.check()
        self.reading.check()

    def end(self, reason: VseError) -> None:
        """End the whole move, from any thread."""
        self.whole.fire(reason)
        self.reading.fire(reason)

    def overdue(self, limits: Limits, now_s: float) -> None:
        """End what takes too long: the source being read, or the whole move."""
        touched_s, name = self.touched_s, self.transfer.lfn
        if touched_s is not None and now_s - touched_s > limits.no_progress_s:
            where = self.source.url if self.source else "its destination"
            self.reading.fire(
                Stalled(
                    f"read {name} from {where}",
                    f"no byte came for {limits.no_progress_s:g} s, after {self.bytes_done}"
                    f" of {self.transfer.size_bytes}",
                    "see whether the source answers others",
                )
            )
        if limits.total_s and now_s - self.started_s > limits.total_s:
            self.end(
                Stalled(
                    f"stage {name} in one go",
                    f"it took longer than the {limits.total_s:g} s that an attempt may take"
                    f" ({self.bytes_done} of {self.transfer.size_bytes} bytes were here)",
                    "raise stager.timeout_s, or see why the source is slow",
                )
            )
