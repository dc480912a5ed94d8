"""Who holds a lease: a name for this process that no other process has, ever.

A process that was killed leaves its leases behind. On the same host the next one can see that the
owner is gone, and takes over at once; leases of other hosts (or other containers) have to run out.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_numbers = itertools.count(1)
_ended: set[str] = set()


def _here() -> tuple[str, str]:
    """The boot of this machine and the space that process ids are counted in."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return boot, os.readlink("/proc/self/ns/pid").removeprefix("pid:[").removesuffix("]")  # noqa: PTH115


def _start_ticks(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None where there is none (or a zombie).

    Raises `OSError` where that cannot be seen: no more files can be opened, or others' processes are hidden.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        _ensure_none(pid)
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name before may hold blanks and brackets
    return None if state in ("Z", "X") else fields[18]


def _ensure_none(pid: int) -> None:
    """Raise `OSError` where there is such a process after all: where /proc hides those of other users."""
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        raise OSError(errno.EAGAIN, "it is hidden, or has just begun")


def _has_ended(pid: int, start_ticks: str) -> bool:
    try:
        return _start_ticks(pid) != start_ticks
    except OSError:
        return False  # who cannot be seen is not known to be gone


def new_owner() -> str:
    """Return ``boot id/pid namespace/pid/start time/number``: a new name for a part of this process."""
    return name_of(os.getpid())


def name_of(pid: int) -> str:
    """Likewise for another process of this machine, that lives."""
    boot, namespace = _here()
    return f"{boot}/{namespace}/{pid}/{_start_ticks(pid)}/{next(_numbers)}"


def ended(owner: str) -> None:
    """A part of this process has ended, and with it whatever it could not give back."""
    _ended.add(owner)


def began(owner: str) -> None:
    """It works again."""
    _ended.discard(owner)


def judged(owners: Iterable[str]) -> list[str]:
    """Return those of ``owners`` of which this process can tell whether they live: its own machine's."""
    return [owner for owner in owners if tuple(owner.split("/")[:2]) == _here()]


def dead(owners: Iterable[str]) -> list[str]:
    """Return those of ``owners`` that are known to be gone. One that cannot be judged is not."""
    here = _here()
    gone = []
    for owner in owners:
        parts = owner.split("/")
        if owner in _ended or (
            len(parts) == 5
            and (parts[0], parts[1]) == here
            and parts[2].isdigit()
            and _has_ended(int(parts[2]), parts[3])
        ):
            gone.append(owner)
    return gone
