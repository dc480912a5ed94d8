"""Which fsspec file systems can give a file its name without ever replacing another, and how.

fsspec's own ``mv`` replaces what is there on most file systems. Those named here have something better;
on any other one nothing is written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vse.storage.drivers import linux

Publish = Callable[[Any, str, str], None]
"""``(file system, source, target)``: move a file; raise `FileExistsError` where the target is there."""

_MEMORY_LOCK = threading.Lock()


def _local(_: Any, source: str, target: str) -> None:
    linux.rename_new(Path(source), Path(target))


def _memory(system: Any, source: str, target: str) -> None:
    with _MEMORY_LOCK:
        if system.exists(target):
            raise FileExistsError(target)
        system.cp_file(source, target)
        system.rm_file(source)


def _sftp(system: Any, source: str, target: str) -> None:
    try:
        system.ftp.rename(source, target)  # the plain SFTP rename never replaces (version 3, section 6.5)
    except OSError:
        if system.exists(target):
            raise FileExistsError(target) from None
        raise


PUBLISHERS: dict[str, Publish] = {
    "file": _local,
    "local": _local,
    "memory": _memory,
    "sftp": _sftp,
    "ssh": _sftp,
}
"""By fsspec protocol."""
