"""Down a directory tree by descriptors, so that no symbolic link is ever followed on the way."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vse.errors import AlreadyExists, NoSuchFile, StorageFault, StorageFull, VseError
from vse.linktree.plan import FOREIGN

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

Making = Callable[[str], None]
"""Called with a directory's LFN before it is made."""


@contextmanager
def directory(root: Path, lfn: str, making: Making | None = None) -> Iterator[int]:
    """Open the directory ``lfn`` below ``root`` without following links; make what is missing.

    Where ``making`` is None nothing is made, and a missing part raises `NoSuchFile`. Raises
    `AlreadyExists` where something that is no directory stands in the way.
    """
    with mapped(f"open the link tree {root}"):
        handle = os.open(root, _DIRECTORY)
    try:
        path = ""
        for part in lfn.strip("/").split("/") if lfn != "/" else ():
            path += "/" + part
            below = _step(handle, part, path, making)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _step(handle: int, part: str, path: str, making: Making | None) -> int:
    wanted = f"use the directory {path} of the link tree"
    for _ in range(2):
        try:
            return os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
        except FileNotFoundError:
            if making is None:
                raise NoSuchFile(wanted, "it is not there") from None
            making(path)
            with mapped(wanted), suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=handle)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise in_the_way(path, _kind(handle, part)) from error
            raise _translated(wanted, error) from error
    raise NoSuchFile(wanted, "it vanishes as soon as it is made", "see what else works there")


def found_at(handle: int, name: str) -> object:
    """Return the target of the link ``name``, None where nothing is, `FOREIGN` for anything else."""
    try:
        return os.readlink(name, dir_fd=handle)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:
            return FOREIGN
        raise _translated(f"look at the link {name!r}", error) from error


def in_the_way(path: str, kind: str) -> AlreadyExists:
    return AlreadyExists(
        f"make the link for {path}",
        f"{kind} is in the way that the link tree did not make",
        "move it elsewhere, then run 'vse stage' for the file again",
    )


def _kind(handle: int, part: str) -> str:
    return "a file" if found_at(handle, part) is FOREIGN else "a symbolic link"


@contextmanager
def mapped(wanted: str) -> Iterator[None]:
    """Turn the system's errors into those of the tree; `FileExistsError` passes."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise _translated(wanted, error) from error


def _translated(wanted: str, error: OSError) -> VseError:
    text = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(wanted, text, "make room on the file system of the link tree")
    return StorageFault(wanted, text, "look at the directory of the link tree")
