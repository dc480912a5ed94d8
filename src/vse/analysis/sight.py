"""What a worker is at: asked past its tasks, so that one whose script hangs can answer, too."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NamedTuple

_OURS = f"{Path(__file__).parent}/"
_READING = ("/uproot/", "/fsspec/", "/fsspec_xrootd/", "/XRootD/", "/aiohttp/")

_at: dict[int, tuple[int, float]] = {}


class Sight(NamedTuple):
    """A thread in the middle of a packet.

    ``packet``: its number; ``in_script_s``: how long the script has had its events; ``where``: the line of
    the script it is at, as ``file:line``; empty where it is not in the script, or where the script waits for
    a branch that is being read. ``stack``: the calls, the innermost last.
    """

    packet: int
    in_script_s: float
    where: str
    stack: str


def begin(packet: int) -> None:
    """The script gets the events of a packet, in this thread."""
    _at[threading.get_ident()] = packet, time.monotonic()


def end() -> None:
    """The script is done with them."""
    _at.pop(threading.get_ident(), None)


def look(path: str) -> list[Sight]:
    """Return what the script at ``path``, and what it calls, is at in each thread of this process."""
    now, frames = time.monotonic(), sys._current_frames()
    sights = []
    for thread, (packet, since_s) in list(_at.items()):
        calls = traceback.extract_stack(frames[thread]) if thread in frames else []
        ours = [number for number, call in enumerate(calls) if call.filename.startswith(_OURS)]
        theirs = calls[ours[-1] + 1 :] if ours else []
        own = [number for number, call in enumerate(theirs) if call.filename == path]
        line = own[-1] if own else 0
        reads = any(part in call.filename for call in theirs[line:] for part in _READING)
        where = f"{Path(theirs[line].filename).name}:{theirs[line].lineno}" if theirs and not reads else ""
        stack = "".join(traceback.format_list(theirs))
        sights.append(Sight(packet, now - since_s, where, stack))
    return sights
