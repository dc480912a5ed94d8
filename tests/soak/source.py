"""A source of files elsewhere: fails now and then, is away at times, lies about some files for good."""

from __future__ import annotations

import io
import random
import threading
import zlib
from collections import Counter
from contextlib import AbstractContextManager
from functools import cache

import awkward as ak
import numpy as np
import uproot

from support.file_server import FileServer, serving

PASSING = ("500", "dies", "stalls", "damaged", "shorter")
"""What a good file may meet in one answer."""
FOR_GOOD = ("gone", "damaged", "shorter", "unreadable")
"""What is wrong with a bad file in every answer."""
_STALL_S = 3.0


@cache
def root_file(seed: int) -> bytes:
    """Return a small ROOT file, the same bytes for the same seed."""
    out = io.BytesIO()
    numbers = np.random.default_rng(seed)
    with uproot.recreate(out) as file:
        file["events"] = ak.zip(
            {"pt": numbers.exponential(20.0, 2000), "eta": numbers.normal(0.0, 2.0, 2000)}
        )
        file.file.sink.flush()
        return out.getvalue()


class Source(FileServer):
    """``lies``: what is wrong with some of its files for good. ``told``: how often each lie was."""

    def __init__(self, chance: random.Random, failing: float, pause_s: float) -> None:
        super().__init__({}, stall_s=_STALL_S, pause_s=pause_s)
        self.lies: dict[str, str] = {}
        self.failing = failing
        self.told: Counter[str] = Counter()
        self._chance, self._lock = chance, threading.Lock()

    def lie_for(self, path: str, *, body: bool) -> str:
        lie = self.lies.get(path, "")
        if not body:
            return lie
        with self._lock:
            if not lie and self._chance.random() < self.failing:
                lie = self._chance.choice(PASSING)
            self.told[lie or "good"] += 1
            return lie

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that were killed."""

    def adler32(self, path: str) -> int:
        return zlib.adler32(self.files[path])


def running_source(
    chance: random.Random, failing: float, pause_s: float = 0.1
) -> AbstractContextManager[Source]:
    return serving(Source(chance, failing, pause_s))
