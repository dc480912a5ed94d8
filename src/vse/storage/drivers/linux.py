"""Three calls of Linux that Python does not have, each with what to do where they are missing."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_RENAME_NOREPLACE = 1
_KEEP_SIZE = 1
_AT_FDCWD = -100
_MISSING = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, *paths: Path) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), *map(str, paths[:1]))


def _renameat2(source: Path, target: Path) -> None:
    call = getattr(_libc, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _checked(call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE), target)


def rename_new(source: Path, target: Path) -> None:
    """Rename atomically; raise `FileExistsError` where ``target`` is taken, whatever it is.

    Where the file system or the C library cannot (NFS, musl), a file is published by a hard link,
    which is as atomic; a directory takes the place of an empty one made for it.
    """
    try:
        _renameat2(source, target)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        rename_new_by_link(source, target)


def rename_new_by_link(source: Path, target: Path) -> None:
    """Do what `rename_new` does with POSIX calls only."""
    if source.is_dir() and not source.is_symlink():
        target.mkdir()
        try:
            source.rename(target)
        except OSError:
            target.rmdir()
            raise
        return
    os.link(source, target, follow_symlinks=False)
    source.unlink()


def reserve(descriptor: int, size_bytes: int) -> bool:
    """Reserve disk space for an open file without growing it; False where that is not possible.

    `os.posix_fallocate` would write zeros to every block on such a file system.
    """
    call = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
    if call is None or size_bytes == 0:
        return size_bytes == 0
    try:
        _checked(call(descriptor, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size_bytes)))
    except OSError as error:
        if error.errno in _MISSING:
            return False
        raise
    return True


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
