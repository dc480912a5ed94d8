"""The whole error tree. Everything VSE raises on purpose is a leaf of it.

::

    VseError
    |-- UsageError                       the caller can mend it
    |   |-- BadLfn                       a logical file name that cannot be one
    |   |-- BadQuery                     a dataset query that cannot be parsed
    |   |-- BadSettings                  vse.toml, VSE_* or a flag
    |   |-- BadScript                    an analysis script that cannot be loaded
    |   `-- BadRequest                   anything else that was asked wrongly
    |-- NotFound
    |   |-- NoSuchEntry                  no such name in the catalogue
    |   |-- LinkLoop                     links of the catalogue that lead around, or over too many hops
    |   |-- NoSuchReplica                the name is known, a copy is not
    |   |-- NoSuchElement                no such storage element in the settings
    |   |-- NoSuchFile                   a storage does not hold the path
    |   |-- NoSuchDataset                no dataset of that name or version
    |   `-- NoSuchSite                   no vse.toml where one was looked for
    |-- AlreadyExists                    write-once: the name is taken
    |-- NotEmpty                         a directory that still holds something
    |-- Denied                           the settings or the other side forbid it
    |-- Unsupported                      a capability that is not declared
    |-- NoPlan                           negotiation rejected every pair; says why for each
    |-- StorageError
    |   |-- SourceUnavailable            refused, unreachable, closed in mid-file     (retryable)
    |   |-- ServerFault                  the other side answered 5xx                  (retryable)
    |   |-- Stalled                      no progress, or over the time allowed        (retryable)
    |   |-- ShortRead                    fewer bytes than promised                    (retryable)
    |   |-- StorageFull                  no space for the file                        (retryable)
    |   `-- StorageFault                 the local storage failed (EIO, read-only...)
    |-- IntegrityError                   another source may hold a good copy
    |   |-- SizeMismatch                                                              (retryable)
    |   |-- ChecksumMismatch                                                          (retryable)
    |   `-- Unreadable                   the file's own format says it is broken      (retryable)
    |-- CatalogueError
    |   |-- UpstreamUnavailable          an upstream catalogue does not answer        (retryable)
    |   |-- UpstreamGarbage              it answers what cannot be understood         (retryable)
    |   `-- DatabaseBusy                 the database stayed locked                   (retryable)
    |-- StagingError
    |   |-- QuotaExceeded                a user, group or dataset has its share        (retryable)
    |   |-- GivenUp                      a file failed as often as the settings allow
    |   |-- OnTape                       its bytes are on their way from tape          (retryable)
    |   |-- FilterFailed                 a file could not be made out of the one that came
    |   |-- RequestIncomplete            a request ended with files missing
    |   `-- Interrupted                  stopped by the user; says how to go on
    `-- AnalysisError
        |-- NothingToAnalyse             the query matches no file that is here
        |-- ScriptFailed                 the user's code raised
        |-- WorkersLost                  no worker is left to go on
        |-- OutputTooBig                 the merged output does not fit into memory
        `-- ResultIncomplete             with --strict: some entries are missing

Every error says what was *wanted*, what was *found* and what to *do*; it has a stable ``code``, says
whether trying again can help (``retryable``), and has a place in one table each for exit codes,
HTTP statuses and errno.
"""

from __future__ import annotations

import errno as _errno
from typing import Any, ClassVar


class VseError(Exception):
    """The root of the tree.

    ``wanted`` completes "cannot ..." (``"read /lhc/a.root"``), ``found`` says what stood in the way,
    ``todo`` is an instruction for the person who reads it (may be empty). Survives pickling, and a
    round trip through `to_dict` and `from_dict`.
    """

    code: ClassVar[str] = "vse"
    retryable: ClassVar[bool] = False

    def __init__(self, wanted: str, found: str = "", todo: str = "") -> None:
        super().__init__(wanted, found, todo)
        self.wanted = wanted
        self.found = found
        self.todo = todo

    def __str__(self) -> str:
        text = f"cannot {self.wanted}"
        if self.found:
            text += f": {self.found}"
        if self.todo:  # behind a picture of several lines, on a line of its own
            joint = "\n" if "\n" in self.found else ". "
            text += f"{joint}{self.todo[0].upper()}{self.todo[1:]}"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: ``{code, wanted, found, todo, retryable}``."""
        return {
            "code": self.code,
            "wanted": self.wanted,
            "found": self.found,
            "todo": self.todo,
            "retryable": self.retryable,
        }


class UsageError(VseError):
    code = "usage"


class BadLfn(UsageError):
    code = "bad-lfn"


class BadQuery(UsageError):
    code = "bad-query"


class BadSettings(UsageError):
    code = "bad-settings"


class BadScript(UsageError):
    code = "bad-script"


class BadRequest(UsageError):
    code = "bad-request"


class NotFound(VseError):
    code = "not-found"


class NoSuchEntry(NotFound):
    code = "no-such-entry"


class LinkLoop(NotFound):
    code = "link-loop"


class NoSuchReplica(NotFound):
    code = "no-such-replica"


class NoSuchElement(NotFound):
    code = "no-such-element"


class NoSuchFile(NotFound):
    code = "no-such-file"


class NoSuchDataset(NotFound):
    code = "no-such-dataset"


class NoSuchSite(NotFound):
    code = "no-such-site"


class AlreadyExists(VseError):
    code = "already-exists"


class NotEmpty(VseError):
    code = "not-empty"


class Denied(VseError):
    code = "denied"


class Unsupported(VseError):
    code = "unsupported"


class NoPlan(VseError):
    code = "no-plan"


class StorageError(VseError):
    code = "storage"


class SourceUnavailable(StorageError):
    code = "source-unavailable"
    retryable = True


class ServerFault(StorageError):
    code = "server-fault"
    retryable = True


class Stalled(StorageError):
    code = "stalled"
    retryable = True


class ShortRead(StorageError):
    code = "short-read"
    retryable = True


class StorageFull(StorageError):
    code = "storage-full"
    retryable = True


class StorageFault(StorageError):
    code = "storage-fault"


class IntegrityError(VseError):
    code = "integrity"


class SizeMismatch(IntegrityError):
    code = "size-mismatch"
    retryable = True


class ChecksumMismatch(IntegrityError):
    code = "checksum-mismatch"
    retryable = True


class Unreadable(IntegrityError):
    code = "unreadable"
    retryable = True


class CatalogueError(VseError):
    code = "catalogue"


class UpstreamUnavailable(CatalogueError):
    code = "upstream-unavailable"
    retryable = True
    retry_after_s: float | None = None
    """How long it wants to be left alone, where it said so."""


class UpstreamGarbage(CatalogueError):
    code = "upstream-garbage"
    retryable = True


class DatabaseBusy(CatalogueError):
    code = "database-busy"
    retryable = True


class StagingError(VseError):
    code = "staging"


class QuotaExceeded(StagingError):
    code = "quota-exceeded"
    retryable = True


class GivenUp(StagingError):
    code = "given-up"


class OnTape(StagingError):
    code = "on-tape"
    retryable = True


class FilterFailed(StagingError):
    code = "filter-failed"


class RequestIncomplete(StagingError):
    code = "request-incomplete"


class Interrupted(StagingError):
    code = "interrupted"


class AnalysisError(VseError):
    code = "analysis"


class NothingToAnalyse(AnalysisError):
    code = "nothing-to-analyse"


class ScriptFailed(AnalysisError):
    code = "script-failed"


class WorkersLost(AnalysisError):
    code = "workers-lost"


class OutputTooBig(AnalysisError):
    code = "output-too-big"


class ResultIncomplete(AnalysisError):
    code = "result-incomplete"


# The three tables. An error takes the nearest entry up its own branch of the tree.
EXIT_CODES: dict[type[VseError], int] = {
    VseError: 1,
    UsageError: 2,
    NotFound: 3,
    AlreadyExists: 4,
    NotEmpty: 4,
    Denied: 5,
    Unsupported: 6,
    NoPlan: 6,
    StorageError: 7,
    IntegrityError: 8,
    CatalogueError: 9,
    StagingError: 10,
    AnalysisError: 11,
    Interrupted: 130,
}

HTTP_STATUS: dict[type[VseError], int] = {
    VseError: 500,
    UsageError: 400,
    NotFound: 404,
    AlreadyExists: 409,
    NotEmpty: 409,
    Denied: 403,
    Unsupported: 501,
    NoPlan: 409,
    StorageError: 500,
    SourceUnavailable: 503,
    ServerFault: 502,
    Stalled: 504,
    StorageFull: 507,
    QuotaExceeded: 507,
    OnTape: 503,
    IntegrityError: 400,
    CatalogueError: 503,
}

ERRNO: dict[type[VseError], int] = {
    VseError: _errno.EIO,
    UsageError: _errno.EINVAL,
    NotFound: _errno.ENOENT,
    LinkLoop: _errno.ELOOP,
    AlreadyExists: _errno.EEXIST,
    NotEmpty: _errno.ENOTEMPTY,
    Denied: _errno.EACCES,
    Unsupported: _errno.EOPNOTSUPP,
    Stalled: _errno.ETIMEDOUT,
    StorageFull: _errno.ENOSPC,
    QuotaExceeded: _errno.EDQUOT,
    DatabaseBusy: _errno.EAGAIN,
}


def _nearest(table: dict[type[VseError], int], error: type[VseError]) -> int:
    return next(table[base] for base in error.__mro__ if base in table)


def exit_code(error: VseError) -> int:
    """Return the process exit code for ``error`` (1 to 255)."""
    return _nearest(EXIT_CODES, type(error))


def http_status(error: VseError) -> int:
    """Return the HTTP status that tells ``error`` to a client."""
    return _nearest(HTTP_STATUS, type(error))


def errno_of(error: VseError) -> int:
    """Return the errno that tells ``error`` to a POSIX caller."""
    return _nearest(ERRNO, type(error))


def tree() -> list[type[VseError]]:
    """Return every class of the tree, parents before children.

    A room may refine a leaf for its own use; to everybody else that error is the leaf.
    """
    found: list[type[VseError]] = [VseError]
    for parent in found:
        found.extend(child for child in parent.__subclasses__() if child.__module__ == __name__)
    return found


def cannot_read(wanted: str, error: OSError) -> VseError:
    """Return what tells that a file which somebody named cannot be read.

    `BadRequest` where another name, or other rights, would help; `StorageFault` where the storage failed.
    """
    found = error.strerror or str(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError | PermissionError):
        return BadRequest(wanted, found, "name a file of this machine that you may read")
    return StorageFault(wanted, found)


def from_dict(data: dict[str, Any]) -> VseError:
    """Rebuild an error from `VseError.to_dict`; an unknown code becomes a plain `VseError`."""
    by_code = {error.code: error for error in tree()}
    kind = by_code.get(str(data.get("code")), VseError)
    return kind(*(str(data.get(key, "")) for key in ("wanted", "found", "todo")))
