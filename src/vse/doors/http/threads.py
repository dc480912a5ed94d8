"""Blocking work beside the event loop: single calls, and iterators taken batch by batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

_POOL = ThreadPoolExecutor(max_workers=32, thread_name_prefix="door")


async def blocking(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``work`` in one of the door's threads. A cancelled caller does not stop the work."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, lambda: work(*args, **kwargs))


async def batches(source: Callable[[], Iterator[T]], size: int) -> AsyncGenerator[list[T], None]:
    """Yield what ``source()`` yields in lists of at most ``size``; nothing is read ahead.

    The iterator is made, advanced and closed by one thread of its own, so it may hold what is bound to
    a thread (a database cursor). It is closed when the batches are no longer asked for.
    """
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="door-stream")
    iterator: Iterator[T] | None = None
    try:
        iterator = await loop.run_in_executor(thread, source)
        while batch := await loop.run_in_executor(thread, _take, iterator, size):
            yield batch
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            thread.submit(close)
        thread.shutdown(wait=False)


def _take(iterator: Iterator[T], size: int) -> list[T]:
    return list(islice(iterator, size))
