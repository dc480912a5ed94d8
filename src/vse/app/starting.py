"""Starting a service whose settings are wrong at that moment: it waits, paused, until they are right.

A service that runs is paused by a bad vse.toml; one that is started then (after a kill, or with its machine)
does the same. If it ended, whoever starts services again would give up after a few times, and it would stay
away when the file is mended.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vse.errors import BadSettings, NoSuchElement, StorageFault, VseError
from vse.monitor.events import Events

_LOOK_S = 1.0
"""How often the settings are looked at."""
_SETTINGS_AGAIN_S = 5.0
"""How often they are tried although they look the same: what they name may be mended as well."""
_AGAIN_MAX_S = 30.0
_PASSING = (BadSettings, NoSuchElement, StorageFault)
"""What somebody mends while the service waits; a server of the database that is away is a `StorageFault`."""
T = TypeVar("T")


def when_right(
    build: Callable[[], T], path: Path, stop: threading.Event, events: Events, look_s: float = _LOOK_S
) -> T | None:
    """Return what ``build`` returns, as soon as it can; None where ``stop`` was set before.

    It is tried again when the settings at ``path`` have changed, and after a pause of one second that grows
    to five, or to thirty where the database or a storage is away. Other errors are raised.
    """
    told, pause_s = "", _LOOK_S
    while not stop.is_set():
        seen = signature(path)
        try:
            built = build()
        except VseError as error:
            if not (error.retryable or isinstance(error, _PASSING)):
                raise
            if str(error) != told:
                told = str(error)
                events.tell("service.paused", error, settings=str(path))
                notify(f"READY=1\nSTATUS=paused: {error}")
            again_s = time.monotonic() + min(pause_s, _again_max_s(error))
            pause_s = min(_AGAIN_MAX_S, pause_s * 2)
        else:
            if told:
                notify("STATUS=working")
            return built
        while signature(path) == seen and time.monotonic() < again_s and not stop.wait(look_s):
            pass
    return None


def _again_max_s(error: VseError) -> float:
    return _SETTINGS_AGAIN_S if isinstance(error, BadSettings | NoSuchElement) else _AGAIN_MAX_S


def signature(path: Path) -> tuple[int, int, int] | None:
    """Return what changes with a file; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def notify(state: str) -> None:
    """Tell systemd, where it started us (``Type=notify``)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(state.encode()[:4000], "\0" + address[1:] if address[0] == "@" else address)
