"""The partial results that wait in a worker, and the tasks that collect them as a tree.

Sums travel pickled: a task that Dask runs twice, because a worker died, gets the same input both times.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from vse.analysis.ledger import Failure
from vse.analysis.merging import TooBig, Unmergeable, check_size, merge
from vse.analysis.pickling import dumps
from vse.analysis.script import ScriptSource, describe, load_source

_lock = threading.Lock()
_accumulators: dict[tuple[str, int], Any] = {}


class Where(NamedTuple):
    """An accumulator: the analysis, its number there, and how large it may become."""

    run: str
    number: int
    most_bytes: int


class PartialGone(LookupError):
    """The accumulator is not in this process: its worker died, or it was collected already."""


class Spoiled(Exception):
    """The outputs cannot be added or sent. Its argument is a `Failure`; ``too_big`` says which kind."""

    def __init__(self, failure: Failure, too_big: bool = False) -> None:
        super().__init__(failure, too_big)
        self.failure = failure
        self.too_big = too_big

    def __str__(self) -> str:
        """Short: Dask sends exceptions whose text is long with other arguments than they had."""
        return self.failure.message[:1000]


def accumulate(where: Where, output: Any, source: ScriptSource) -> None:
    """Add ``output`` to an accumulator. Raises `Spoiled`; nothing of this accumulator is of use then.

    The first output of each is pickled once to see that it can travel, which raises what pickle raises.
    """
    key = where.run, where.number
    with _lock:
        try:
            if key not in _accumulators:
                dumps(output)
                _accumulators[key] = None
            _accumulators[key] = total = merge(_accumulators[key], output)
            check_size(total, where.most_bytes)
        except (Unmergeable, MemoryError) as error:
            _accumulators.pop(key, None)
            raise spoiled(error, source) from error


def spoiled(error: BaseException, source: ScriptSource) -> Spoiled:
    if isinstance(error, TooBig):
        return Spoiled(Failure(str(error)), too_big=True)
    if isinstance(error, MemoryError):
        return Spoiled(Failure("there is no memory left on the worker to add it up"), too_big=True)
    return Spoiled(describe(error, source))


def take(run: str, number: int, source: ScriptSource) -> bytes:
    """Return an accumulator, pickled, and forget it."""
    with _lock:
        if (run, number) not in _accumulators:
            raise PartialGone(f"{run}, {number}")
        total = _accumulators.pop((run, number))
    try:
        load_source(source)  # classes of the modules beside it are pickled by their names
        return dumps(total)
    except Exception as error:
        raise spoiled(error, source) from error


def add_up(source: ScriptSource, most_bytes: int, parts: Sequence[bytes]) -> bytes:
    """Return the sum of pickled parts, pickled."""
    load_source(source)  # the classes of the script, which the parts may hold
    try:
        total: Any = None
        for part in parts:
            total = merge(total, pickle.loads(part))  # noqa: S301 - our own worker wrote it
        check_size(total, most_bytes)
        return dumps(total)
    except Exception as error:
        raise spoiled(error, source) from error


def forget(run: str) -> None:
    """Drop what is left of an analysis that ended before its end."""
    with _lock:
        for key in [key for key in _accumulators if key[0] == run]:
            del _accumulators[key]
