"""Which workers are there, and what the silent ones are at; all of it in the client's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from vse.analysis.runs import Event
from vse.analysis.sight import Sight, look

GONE = "gone"
PAUSED = "paused"
"""Dask's word for a worker that begins nothing more, as its memory is nearly full."""
ANSWER_S = 10.0
"""A worker that is asked what it is at, and is sound, answers within this."""
MOST_ASKED = 32
"""So many workers at a time are asked."""
LOOKING_SHARE = 20
"""Looking takes at most one part in so many of the time."""
_LISTEN_S = 10.0
_MARK_EVERY_S = 0.01


def unreachable() -> tuple[type[Exception], ...]:
    """Return what calls of a client raise where the scheduler, or the worker they are for, is gone.

    Lost connections are `OSError`, and so are answers that take too long.
    """
    from concurrent.futures import CancelledError

    from distributed.client import ClosedClientError
    from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

    return OSError, CancelledError, ClosedClientError, KilledWorker, NoValidWorkerError, NoWorkerError


async def workers_of(client: Any) -> dict[str, dict[str, Any]]:
    """Return what the scheduler knows of each worker, by its address. Raises what `unreachable` says."""
    scheduler = client.scheduler
    if scheduler is None:
        raise ConnectionError("the client is closed")
    return dict((await scheduler.identity(n_workers=-1))["workers"])


class Seen(NamedTuple):
    """A worker that was looked at. ``status``: Dask's, or `GONE`; ``sights`` None: it does not answer."""

    status: str
    sights: list[Sight] | None = None


class Attendance:
    """Tells of workers as ``joined`` and ``left``."""

    def __init__(self, client: Any, tell: Callable[[Event], None]) -> None:
        self._client = client
        self._tell = tell
        self._listens = asyncio.Event()
        self._left: set[str] = set()

    async def begin(self) -> None:
        """Tell who is there, and from now on who comes and goes: nobody falls in between.

        The list of workers and the news reach the client on different ways. The list is asked for once
        news are known to be heard, and who left since then is struck off it.
        """
        topic = str(self._client.id)
        with suppress(*unreachable()):  # a scheduler that is gone is noticed by whoever waits for workers
            self._client.subscribe_topic("all", self._hear)
            self._client.subscribe_topic(topic, self._mark)
            async with asyncio.timeout(_LISTEN_S):
                while not self._listens.is_set():
                    await self._client.scheduler.log_event(topic=topic, msg={"action": "vse-listens"})
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._listens.wait(), _MARK_EVERY_S)
                known = await workers_of(self._client)
            for worker in known:
                if worker not in self._left:
                    self._tell(Event("joined", worker))
            self._client.unsubscribe_topic(topic)

    def _mark(self, _: object) -> None:
        self._listens.set()

    def _hear(self, event: tuple[float, Any]) -> None:
        message = event[1]
        action, worker = message.get("action"), message.get("worker", "")
        if action == "add-worker":
            self._left.discard(worker)
            self._tell(Event("joined", worker))
        elif action == "remove-worker":
            self._left.add(worker)
            self._tell(Event("left", worker))


def pause_s(took_s: float, seen: Collection[Seen], every_s: float) -> float:
    """Return how long to wait after a look at workers that took ``took_s``, at least ``every_s``.

    To wait for one that does not answer, as it ends just now, costs nothing, and is not made up for: those
    that hang would not be looked at meanwhile.
    """
    all_answered = all(one.sights is not None for one in seen)
    return max(every_s, LOOKING_SHARE * took_s) if seen and all_answered else every_s


async def look_at(client: Any, workers: Sequence[str], script: str) -> dict[str, Seen]:
    """Return what is to be seen of these workers; empty where the scheduler does not answer."""
    try:
        async with asyncio.timeout(ANSWER_S):
            known = await workers_of(client)
    except unreachable():
        return {}
    here = [worker for worker in workers if worker in known][:MOST_ASKED]
    seen = {worker: Seen(GONE) for worker in workers if worker not in known}
    sights = await asyncio.gather(*(_sights_of(client, worker, script) for worker in here))
    return seen | {
        worker: Seen(str(known[worker]["status"]), some) for worker, some in zip(here, sights, strict=True)
    }


async def _sights_of(client: Any, worker: str, script: str) -> list[Sight] | None:
    with suppress(*unreachable()):
        async with asyncio.timeout(ANSWER_S):
            told = await client.run(look, script, workers=[worker], on_error="ignore")
            return list(told[worker]) if worker in told else None
    return None
