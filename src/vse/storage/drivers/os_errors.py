"""The one table from errno to the error tree."""

from __future__ import annotations

import errno

from vse import errors

KINDS: dict[int, type[errors.VseError]] = {
    errno.ENOENT: errors.NoSuchFile,
    errno.ENOTDIR: errors.NoSuchFile,
    errno.EEXIST: errors.AlreadyExists,
    errno.ENOTEMPTY: errors.NotEmpty,
    errno.EACCES: errors.Denied,
    errno.EPERM: errors.Denied,
    errno.ENOSPC: errors.StorageFull,
    errno.EDQUOT: errors.StorageFull,
    errno.EFBIG: errors.StorageFull,
    errno.EISDIR: errors.BadRequest,
    errno.EINVAL: errors.BadRequest,
    errno.ENAMETOOLONG: errors.BadRequest,
    errno.ELOOP: errors.BadRequest,
    errno.EXDEV: errors.BadRequest,
    errno.EMLINK: errors.BadRequest,
    errno.ESTALE: errors.SourceUnavailable,
    errno.EHOSTDOWN: errors.SourceUnavailable,
    errno.ETIMEDOUT: errors.Stalled,
}

_TODO: dict[type[errors.VseError], str] = {
    errors.StorageFull: "make room there, or send files to another storage element",
    errors.Denied: "let the user that runs VSE in, by owner, group or mode of the directories",
    errors.StorageFault: "look at the disk and the system's log",
}


def mapped(wanted: str, error: OSError) -> errors.VseError:
    """Return the error of the tree that says what the operating system said."""
    kind = KINDS.get(error.errno or 0, errors.StorageFault)
    return kind(wanted, error.strerror or str(error), _TODO.get(kind, ""))
