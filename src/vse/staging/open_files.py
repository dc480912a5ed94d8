"""Whether anybody on this machine has a file open: the kernel knows.

A write lease (fcntl(2), F_SETLEASE) is given on a file only while nobody else has it open or mapped,
whatever program that is and in whichever container. It is given back at once.
Who opens the file in between waits for that. The signal by which the kernel tells us that somebody waits is
set to one that does nothing; the usual one, SIGIO, would end this process.
"""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import suppress
from errno import EAGAIN
from pathlib import Path


def is_open(path: Path) -> bool | None:
    """Return whether another descriptor leads to a file; None where the kernel does not tell.

    It does on local file systems, for files of our own user (or any, for root).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        return True if error.errno == EAGAIN else None
    else:
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    finally:
        os.close(descriptor)
