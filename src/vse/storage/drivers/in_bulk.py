"""From one item to many: the loop that every driver's bulk calls share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from vse.errors import VseError
from vse.model import BulkResult

T = TypeVar("T")


def each(items: Iterable[str], ask: Callable[[str], T], *, at_once: int = 1) -> BulkResult[T]:
    """Call ``ask`` for every item, ``at_once`` of them in parallel; one that raises fails alone."""
    distinct = list(dict.fromkeys(items))
    result: BulkResult[T] = BulkResult()

    def attempt(item: str) -> T | VseError:
        try:
            return ask(item)
        except VseError as error:
            return error

    workers = min(at_once, len(distinct))
    if workers <= 1:
        answers = [attempt(item) for item in distinct]
    else:
        with ThreadPoolExecutor(workers, thread_name_prefix="vse-bulk") as pool:
            answers = list(pool.map(attempt, distinct))
    for item, answer in zip(distinct, answers, strict=True):
        if isinstance(answer, VseError):
            result.failed[item] = answer
        else:
            result.ok[item] = answer
    return result
