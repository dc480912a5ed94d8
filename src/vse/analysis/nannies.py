"""The worker processes of a local cluster: opened side by side, looked after, and ended.

Each has a nanny of Dask's, which starts it anew when it dies. Dask itself opens all of them in one step
that ends when the slowest has; here nobody waits for another.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

START_S = 60.0
"""A worker process that has not joined after this long is killed, and another started in its place."""
TOGETHER_S = 1.0
"""So long after the first worker the others are waited for."""
REPLACE_EVERY_S = 1.0
"""So often workers are looked after."""
MOST_FAILURES = 3
"""So many starts may fail, and one a worker, before all is given up where none ever succeeded."""
END_S = 1.5
_POLL_S = 0.03
_ENDED = ("closed", "failed")


@dataclass(eq=False, slots=True)
class _Nanny:
    """One of Dask's nannies. ``seen_s``: when its worker was last seen up, or began to start."""

    dask: Any
    opening: asyncio.Task[Exception | None]
    seen_s: float

    @property
    def up(self) -> bool:
        process = self.dask.process
        return self._is("running") and process is not None and process.status.name == "running"

    @property
    def given_up(self) -> bool:
        return self.opening.done() and self.dask.status.name in _ENDED

    def _is(self, state: str) -> bool:
        return self.opening.done() and self.dask.status.name == state

    def kill(self) -> None:
        if self.dask.pid:
            with suppress(ProcessLookupError):
                os.kill(self.dask.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill its worker, at whatever stage that is, and let none come after it."""
        while not self.given_up:
            if self._is("running"):
                self.dask.close_gracefully()  # so that it opens no other
            self.kill()
            if self._is("closing_gracefully") and not self.dask.pid:
                await self.dask.close(timeout=END_S / 3)
            await asyncio.sleep(_POLL_S)


class Nannies:
    """``count`` workers of the `distributed.LocalCluster` ``cluster``, which has none of its own.

    All but `failure` belongs to the cluster's event loop. ``ready`` is called when the first workers are
    there, and when there is no hope for any: `failure` says why.
    """

    def __init__(self, cluster: Any, count: int, ready: Callable[[], None]) -> None:
        self.failure = ""
        self._cluster = cluster
        self._count = count
        self._ready = ready
        self._nannies: list[_Nanny] = []
        self._opened = self._failures = 0
        self._first_s: float | None = None
        self._begun_s = time.monotonic()
        self._keeping: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Start to open them, and return."""
        self._keeping = asyncio.create_task(self._keep())
        self._keeping.add_done_callback(self._kept)

    async def end(self) -> None:
        """Kill all of them, those that are just starting as well; takes at most `END_S`."""
        if self._keeping is not None:
            self._keeping.cancel()
        ends = [asyncio.create_task(nanny.end()) for nanny in self._nannies]
        if ends:
            _, late = await asyncio.wait(ends, timeout=END_S)
            for end in late:
                end.cancel()

    async def _keep(self) -> None:
        """Open them, tell when one is there, and open another where one gave up."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # inherited: Ctrl-C is not for workers
        while not self.failure and not self._are_enough():
            self._replace()
            await asyncio.sleep(_POLL_S)
        self._ready()
        while not self.failure:
            self._replace()
            await asyncio.sleep(REPLACE_EVERY_S)

    def _kept(self, keeping: asyncio.Task[None]) -> None:
        error = None if keeping.cancelled() else keeping.exception()
        if error is not None:
            self.failure = _reason(error)
        self._ready()

    def _are_enough(self) -> bool:
        up = sum(nanny.up for nanny in self._nannies)
        now_s = time.monotonic()
        if up and self._first_s is None:
            self._first_s = now_s
        return up == self._count or (self._first_s is not None and now_s - self._first_s > TOGETHER_S)

    def _replace(self) -> None:
        now_s = time.monotonic()
        for nanny in [one for one in self._nannies if one.given_up]:
            self._nannies.remove(nanny)
            self._failed(nanny.opening.result())
        for nanny in self._nannies:
            if nanny.up:
                nanny.seen_s = now_s
            elif now_s - nanny.seen_s > START_S:
                nanny.seen_s = now_s
                nanny.kill()
        if self._first_s is None and now_s - self._begun_s > START_S:
            self.failure = f"none of them came within {START_S:.0f} s"
        due = self._opened < self._count or now_s - self._begun_s > self._failures * REPLACE_EVERY_S
        while due and not self.failure and len(self._nannies) < self._count:
            self._open(now_s)

    def _failed(self, error: Exception | None) -> None:
        self._failures += 1
        if self._first_s is None and self._failures >= max(MOST_FAILURES, self._count):
            self.failure = _reason(error)

    def _open(self, now_s: float) -> None:
        from distributed import Nanny

        options = self._cluster.new_spec["options"]
        dask = Nanny(self._cluster.scheduler.address, name=self._opened, **options)
        self._opened += 1
        self._nannies.append(_Nanny(dask, asyncio.create_task(_opening(dask)), now_s))


async def _opening(dask: Any) -> Exception | None:
    """Wait until a nanny has its worker; return what hindered it."""
    try:
        await dask
    except Exception as error:
        return error
    return None


def _reason(error: BaseException | None) -> str:
    """The error that all others came from: Dask says thrice that it failed before it says of what."""
    while error is not None and (under := error.__cause__ or error.__context__) is not None:
        error = under
    text = " ".join(str(error or "").split()).rstrip(".")
    if error is None or "Nanny failed to start" in text:
        return "they ended while they started"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
