"""Collects partial results: a tree of sums on the workers, and at most two fetched by the client."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from typing import Any, NamedTuple

from vse.analysis.partials import Partial
from vse.analysis.script import ScriptSource
from vse.analysis.worker_partials import Spoiled, add_up, take

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
    """Collects for one analysis. `collect` runs in the client's event loop."""

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

    async def collect(self, partials: list[Partial], as_tree: bool = True) -> Harvest:
        """Add up and fetch. ``as_tree`` False: one by one, where the tree found no place."""
        numbers = [partial.number for partial in partials]
        for partial in partials:
            if partial.future is None:
                place = {"workers": [partial.worker], "allow_other_workers": True}
                partial.future = self._submit(take, self._run, partial.number, self._source, **place)
        sums = [partial.future for partial in partials]
        self._sums = []
        while as_tree and len(sums) > MOST_FETCHED:
            sums = [
                self._submit(add_up, self._source, self._most_bytes, sums[first : first + FAN_IN])
                for first in range(0, len(sums), FAN_IN)
            ]
            self._sums += sums
        try:
            for partial in partials:
                await partial.future.exception()
            begun = time.monotonic()
            parts = [await one for one in sums]
            return Harvest(numbers, parts, [], took_s=time.monotonic() - begun)
        except Spoiled as error:
            return Harvest(numbers, None, [], error)
        except (Exception, asyncio.CancelledError):
            lost = [partial.number for partial in partials if not await _is_there(partial.future)]
            return Harvest(numbers, None, lost)

    async def give_up(self, asked: list[Any]) -> None:
        """Stop waiting for these partial results, and for all sums: who should give them does not answer."""
        with suppress(Exception):
            await self._client.cancel([*asked, *self._sums])


async def _is_there(future: Any) -> bool:
    """Whether a worker still holds what ``take`` gave; where it died, Dask has just tried to take it anew."""
    with suppress(Exception, asyncio.CancelledError):
        await future.exception()
    return bool(future.status == "finished")
