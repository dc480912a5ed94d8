"""Collects partial results: a tree of sums on the workers, and at most two fetched by the client."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from vse.analysis.attendance import unreachable
from vse.analysis.ledger import Failure
from vse.analysis.partials import Partial
from vse.analysis.script import ScriptSource
from vse.analysis.worker_partials import PartialGone, Spoiled, add_up, take

FAN_IN = 8
MOST_FETCHED = 2
COLLECTING_SHARE = 20
"""Collecting takes at most one part in so many of the time, where workers live long."""
SOON = 1_000_000
"""The priority of these tasks: before any packet."""


def pause_s(took_s: float, life_s: float) -> float:
    """Return how long to wait between two collections that take ``took_s`` each.

    ``life_s``: how long workers live, in the mean. What one has not handed over is lost with it, so the
    shorter they live the more is spent on collecting: the interval of J. W. Young, CACM 17 (1974) 530.
    """
    return min(COLLECTING_SHARE * took_s, math.sqrt(2 * took_s * life_s)) if took_s else 0.0


class Harvest(NamedTuple):
    """What became of a collection.

    ``parts``: pickled sums that together hold what was asked for, less ``lost``: the numbers of partials
    that died with their workers. Where ``parts`` is None nothing came, and all but the lost can be asked
    for again. ``spoiled``: it can never be collected. ``took_s``: adding up and fetching, without the time
    in which workers ended their packets first.
    """

    numbers: list[int]
    parts: list[bytes] | None
    lost: list[int]
    spoiled: Spoiled | None = None
    took_s: float = 0.0


class Harvester:
    """Collects for one analysis. `ask` and `collect` are called in turns."""

    def __init__(self, client: Any, run: str, source: ScriptSource, most_bytes: int) -> None:
        self._client = client
        self._run = run
        self._source = source
        self._most_bytes = most_bytes
        self._count = 0
        self._sums: list[Any] = []

    def _submit(self, function: Any, *args: Any, **where: Any) -> Any:
        self._count += 1
        key = f"{self._run}-{function.__name__}-{self._count}"
        return self._client.submit(function, *args, key=key, pure=False, priority=SOON, **where)

    def ask(self, partials: Sequence[Partial]) -> None:
        """Ask workers for what they hold.

        From when this returns, a collection tells what became of it, also where its worker goes before the
        collection begins. Called in the thread that owns ``partials``.
        """
        for partial in partials:
            if partial.future is None:
                place = {"workers": [partial.worker], "allow_other_workers": True}
                partial.future = self._submit(take, self._run, partial.number, self._source, **place)

    async def collect(self, partials: Sequence[Partial], limit_s: float, as_tree: bool = True) -> Harvest:
        """Add up and fetch what was asked for; runs in the client's event loop.

        Ends after ``limit_s`` whatever happens: what was not handed over until then is lost. ``as_tree``
        False: one by one, where the tree found no place. What is no fault of the cluster is raised.
        """
        numbers = [partial.number for partial in partials]
        with_their_workers: tuple[type[Exception], ...] = (*unreachable(), PartialGone)
        spoiled = None
        try:
            async with asyncio.timeout(limit_s):
                try:
                    parts, took_s = await self._fetch(partials, as_tree)
                    return Harvest(numbers, parts, [], took_s=took_s)
                except with_their_workers:
                    # where a worker died, Dask has just tried to take anew what it held
                    for partial in partials:
                        await partial.future.exception()
        except TimeoutError:
            pass
        except Spoiled as error:
            spoiled = error
        except MemoryError:
            spoiled = Spoiled(Failure("there is no memory left to fetch it"), too_big=True)
        lost = [one.number for one in partials if one.future.status != "finished"]
        return Harvest(numbers, None, [] if spoiled else lost, spoiled)

    async def _fetch(self, partials: Sequence[Partial], as_tree: bool) -> tuple[list[bytes], float]:
        """Return the sums, and in which time, once all workers had handed over, they came."""
        sums = [partial.future for partial in partials]
        self._sums = []
        while as_tree and len(sums) > MOST_FETCHED:
            sums = [
                self._submit(add_up, self._source, self._most_bytes, sums[first : first + FAN_IN])
                for first in range(0, len(sums), FAN_IN)
            ]
            self._sums += sums
        for partial in partials:
            await partial.future.exception()
        begun = time.monotonic()
        return [await one for one in sums], time.monotonic() - begun

    async def give_up(self, asked: list[Any]) -> None:
        """Stop waiting for these partial results, and for all sums: who should give them does not answer."""
        with suppress(*unreachable()):
            await self._client.cancel([*asked, *self._sums])
