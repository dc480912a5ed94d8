"""Which packets are in which partial result, and which partial results are whole. Pure.

A worker adds what its tasks give to the accumulator whose number the task carries. When it is time to
collect, the worker's next tasks carry a new number; once every task of the old one is answered, exactly
the packets that were answered as done are in that accumulator, and it can be collected. So no answer has
to say what was merged, and nothing that the client does not want can be in what it takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vse.analysis.packetizer import Packet


@dataclass(slots=True)
class Partial:
    """An accumulator of a worker.

    ``open_tasks``: sent and not answered yet. ``future``: what it holds, once it is asked for.
    """

    number: int
    worker: str
    sealed: bool = False
    open_tasks: int = 0
    packets: list[Packet] = field(default_factory=list)
    future: Any = None


class Partials:
    """All partial results that are not in the total yet."""

    def __init__(self) -> None:
        self._numbers = 0
        self._current: dict[str, Partial] = {}
        self._all: dict[int, Partial] = {}

    def __bool__(self) -> bool:
        return any(partial.packets for partial in self._all.values())

    @property
    def filled(self) -> list[Partial]:
        """Those that hold anything."""
        return [partial for partial in self._all.values() if partial.packets]

    def send(self, worker: str) -> int:
        """A task goes to ``worker``; return the number of the accumulator that it adds to."""
        partial = self._current.get(worker)
        if partial is None:
            self._numbers += 1
            partial = Partial(self._numbers, worker)
            self._current[worker] = self._all[partial.number] = partial
        partial.open_tasks += 1
        return partial.number

    def answered(self, number: int, done: list[Packet]) -> bool:
        """A task was answered; ``done`` of it is in the accumulator.

        False where that was given up meanwhile: what was done is as lost as what it held before.
        """
        partial = self._all.get(number)
        if partial is None:
            return False
        partial.open_tasks -= 1
        partial.packets += done
        self._forget_if_empty(partial)
        return True

    def seal(self) -> None:
        """Let no further task add to what there is now."""
        for partial in [one for one in self._current.values() if one.packets]:
            partial.sealed = True
            del self._current[partial.worker]

    def whole(self) -> list[Partial]:
        """Those that can be collected."""
        return [one for one in self._all.values() if one.sealed and not one.open_tasks and one.packets]

    def collected(self, numbers: list[int]) -> list[Packet]:
        """They are in the total now; return what was in them."""
        return [packet for number in numbers for packet in self._all.pop(number).packets]

    def lost(self, numbers: list[int]) -> list[Packet]:
        """They are gone; return what was in them."""
        partials = [self._all.pop(number) for number in numbers if number in self._all]
        for partial in partials:
            if self._current.get(partial.worker) is partial:
                del self._current[partial.worker]
        return [packet for partial in partials for packet in partial.packets]

    def worker_of(self, number: int) -> str:
        return self._all[number].worker if number in self._all else ""

    def of(self, worker: str) -> list[Partial]:
        return [partial for partial in self._all.values() if partial.worker == worker]

    def _forget_if_empty(self, partial: Partial) -> None:
        if partial.sealed and not partial.open_tasks and not partial.packets:
            del self._all[partial.number]
