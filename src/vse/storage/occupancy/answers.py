"""How full a storage is, answered at once: from memory, or within a bounded time, or as unknown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from vse.errors import Stalled, VseError
from vse.model import Clock, Space
from vse.storage.occupancy.plugins import Element, measure

UNKNOWN = Space(None, None)


class Occupancy(NamedTuple):
    """The last answer of an element. ``measured_s`` is None where there has been none; ``error`` is why
    a newer one could not be had."""

    space: Space = UNKNOWN
    measured_s: float | None = None
    error: VseError | None = None


class _Entry:
    """What is known of one element. At most one thread measures it at a time."""

    def __init__(self) -> None:
        self.last = Occupancy()
        self.asked_s: float | None = None
        self.done = threading.Event()
        self.busy = False


class Occupancies:
    """Answers kept for ``fresh_s``; asked anew in the background, for which a caller waits ``wait_s``.

    A server that does not answer in time yields the last answer, or `UNKNOWN`; it is not asked a second
    time while it is being asked. Safe to share between threads. ``clock`` is monotonic.
    """

    def __init__(
        self,
        vo: str = "",
        *,
        fresh_s: float = 300.0,
        wait_s: float = 2.0,
        clock: Clock = time.monotonic,
        ask: Callable[[Element, str], Space] = measure,
    ) -> None:
        self._vo = vo
        self._fresh_s = fresh_s
        self._wait_s = wait_s
        self._clock = clock
        self._ask = ask
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def of(self, element: Element) -> Occupancy:
        """Return how full an element is, as well as can be told within ``wait_s``. Never raises."""
        entry = self._begin(element)
        if not entry.done.wait(self._wait_s):
            late = Stalled(f"learn the space of {element.name}", f"no answer came within {self._wait_s:g} s")
            return entry.last._replace(error=late)
        return entry.last

    def space_of(self, element: Element) -> Space:
        """Return only the space of `of`."""
        return self.of(element).space

    def _begin(self, element: Element) -> _Entry:
        """Return the element's entry, being measured where it is not fresh."""
        with self._lock:
            entry = self._entries.setdefault(element.name, _Entry())
            now_s = self._clock()
            fresh = entry.asked_s is not None and now_s - entry.asked_s < self._fresh_s
            if fresh or entry.busy:
                return entry
            entry.busy = True
            entry.done.clear()
        name = f"vse-occupancy-{element.name}"
        threading.Thread(target=self._measure, args=(element, entry), name=name, daemon=True).start()
        return entry

    def _measure(self, element: Element, entry: _Entry) -> None:
        error: VseError | None = None
        space: Space | None = None
        try:
            space = self._ask(element, self._vo)
        except VseError as failure:
            error = failure
        finally:
            with self._lock:
                now_s = self._clock()
                entry.asked_s = now_s
                if space is not None:
                    entry.last = Occupancy(space, now_s)
                else:
                    entry.last = entry.last._replace(error=error)
                entry.busy = False
                entry.done.set()


_SHARED = Occupancies()


def occupancy_of(element: Element) -> Space:
    """Return how full an element is, as the process as a whole knows it; see `Occupancies`."""
    return _SHARED.space_of(element)
