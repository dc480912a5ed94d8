"""A disk of a few megabytes, to fill up or to make read-only under a server. Needs root, or sudo without a
password."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(where: Path, size_bytes: int) -> Iterator[Path]:
    """Mount an empty file system of ``size_bytes`` at an existing directory; its owner owns the top."""
    owner = where.stat()
    options = f"size={size_bytes},mode=755,uid={owner.st_uid},gid={owner.st_gid}"
    _as_root("mount", "-t", "tmpfs", "-o", options, "vse-test", str(where))
    try:
        yield where
    finally:
        _as_root("umount", "--lazy", str(where))  # a server may be about to end only now


def make_read_only(where: Path) -> None:
    _as_root("mount", "-o", "remount,ro", str(where))


def _as_root(*command: str) -> None:
    asked = () if os.geteuid() == 0 else ("sudo", "-n")
    done = subprocess.run([*asked, *command], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{command[0]} failed (it needs root or sudo): {done.stderr}"
