"""The XRootD client library: loaded when first needed, set up once, and what its statuses mean.

The library keeps one connection a server for the whole process, however many drivers there are, and
drops it when it was idle for five minutes. Its settings are the process's, too: what is set here holds
for whoever uses the library beside VSE, and any ``XRD_...`` variable of the environment wins over it.
"""

from __future__ import annotations

import functools
import importlib
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from vse import errors

CONNECT_WINDOW_S = 10
_SETTINGS = {
    # One attempt to connect, of ten seconds; the library's own way is five attempts of two minutes.
    "ConnectionWindow": CONNECT_WINDOW_S,
    "ConnectionRetry": 1,
    # A server that failed is tried again after so many seconds; left alone, after half an hour.
    "StreamErrorWindow": 2,
    # How often the library looks whether a request has waited too long.
    "TimeoutResolution": 1,
    # A copy's pages carry no checksum of their own on the wire: 3-4 times faster. Every copy of VSE is
    # held against the checksum of the whole file, which proves more. The library's plain reads and
    # writes, which the drivers use, never had them; this is for third-party copies.
    "CpUsePgWrtRd": 0,
}


@functools.cache
def library() -> Any:
    """Return the module ``XRootD.client``; `Unsupported` where it is not installed."""
    try:
        client = importlib.import_module("XRootD.client")
        importlib.import_module("XRootD.client.flags")
    except ImportError as error:
        raise errors.Unsupported(
            "speak the root protocol",
            f"the XRootD client library cannot be loaded ({error})",
            "pip install 'virtual-storage-element[xrootd]'",
        ) from error
    for name, value in _SETTINGS.items():
        client.EnvPutInt(name, value)
    return client


def whole_s(seconds: float) -> int:
    """Return a time as the library takes it: whole seconds, 0 being none of ours."""
    return max(1, math.ceil(seconds))


class FileLocked(errors.SourceUnavailable):
    """Somebody else is writing the file just now."""


class _Meaning(NamedTuple):
    kind: type[errors.VseError]
    todo: str = ""


_CREDENTIALS = "check the credentials in the environment (X509_USER_PROXY, BEARER_TOKEN_FILE) and the rights"
_ROOM = "make room there, or send files to another storage element"
_ADDRESS = "check Host and Port of the storage element"

# What a server answers with (XProtocol.hh, kXR_...), then what the library finds (XrdClStatus.hh).
MEANINGS: dict[int, _Meaning] = {
    3000: _Meaning(errors.BadRequest),  # ArgInvalid
    3001: _Meaning(errors.BadRequest),  # ArgMissing
    3002: _Meaning(errors.BadRequest),  # ArgTooLong
    3003: _Meaning(FileLocked),  # FileLocked
    3004: _Meaning(errors.SourceUnavailable),  # FileNotOpen
    3005: _Meaning(errors.ServerFault),  # FSError; see _TOLD
    3006: _Meaning(errors.BadRequest),  # InvalidRequest
    3007: _Meaning(errors.ServerFault),  # IOError
    3008: _Meaning(errors.SourceUnavailable),  # NoMemory
    3009: _Meaning(errors.StorageFull, _ROOM),  # NoSpace
    3010: _Meaning(errors.Denied, _CREDENTIALS),  # NotAuthorized
    3011: _Meaning(errors.NoSuchFile),  # NotFound
    3012: _Meaning(errors.ServerFault),  # ServerError
    3013: _Meaning(errors.Unsupported),  # Unsupported
    3014: _Meaning(errors.SourceUnavailable),  # noserver
    3015: _Meaning(errors.BadRequest),  # NotFile
    3016: _Meaning(errors.BadRequest),  # isDirectory
    3017: _Meaning(errors.SourceUnavailable),  # Cancelled
    3018: _Meaning(errors.AlreadyExists),  # ItExists
    3019: _Meaning(errors.ChecksumMismatch),  # ChkSumErr
    3020: _Meaning(errors.SourceUnavailable),  # inProgress
    3021: _Meaning(errors.StorageFull, _ROOM),  # overQuota
    3022: _Meaning(errors.Denied, _CREDENTIALS),  # SigVerErr
    3023: _Meaning(errors.Denied, _CREDENTIALS),  # DecryptErr
    3024: _Meaning(errors.SourceUnavailable),  # Overloaded
    3025: _Meaning(errors.Denied),  # fsReadOnly
    3026: _Meaning(errors.BadRequest),  # BadPayload
    3027: _Meaning(errors.NoSuchFile),  # AttrNotFound
    3028: _Meaning(errors.Denied, "the server wants TLS: use the protocol roots"),  # TLSRequired
    3029: _Meaning(errors.NoSuchFile),  # noReplicas
    3030: _Meaning(errors.Denied, _CREDENTIALS),  # AuthFailed
    3031: _Meaning(errors.Unsupported),  # Impossible
    3032: _Meaning(errors.AlreadyExists),  # Conflict
    3033: _Meaning(errors.ServerFault),  # TooManyErrs
    3034: _Meaning(errors.Stalled),  # ReqTimedOut
    3: _Meaning(errors.SourceUnavailable),  # errInvalidOp: the file's connection is gone
    9: _Meaning(errors.BadRequest),  # errInvalidArgs
    13: _Meaning(errors.Unsupported),  # errNotSupported
    14: _Meaning(errors.ServerFault),  # errDataError
    15: _Meaning(errors.Unsupported),  # errNotImplemented
    101: _Meaning(errors.SourceUnavailable, _ADDRESS),  # errInvalidAddr
    102: _Meaning(errors.SourceUnavailable),  # errSocketError
    103: _Meaning(errors.Stalled),  # errSocketTimeout
    104: _Meaning(errors.SourceUnavailable),  # errSocketDisconnected
    107: _Meaning(errors.SourceUnavailable),  # errStreamDisconnect
    108: _Meaning(errors.SourceUnavailable, _ADDRESS),  # errConnectionError
    109: _Meaning(errors.SourceUnavailable),  # errInvalidSession
    110: _Meaning(errors.SourceUnavailable),  # errTlsError
    201: _Meaning(errors.ServerFault),  # errInvalidMessage
    202: _Meaning(errors.SourceUnavailable),  # errHandShakeFailed
    203: _Meaning(errors.Denied, _CREDENTIALS),  # errLoginFailed
    204: _Meaning(errors.Denied, _CREDENTIALS),  # errAuthFailed
    205: _Meaning(errors.Unsupported),  # errQueryNotSupported
    206: _Meaning(errors.Stalled),  # errOperationExpired
    207: _Meaning(errors.SourceUnavailable),  # errOperationInterrupted
    208: _Meaning(errors.Stalled),  # errThresholdExceeded
    301: _Meaning(errors.SourceUnavailable),  # errNoMoreFreeSIDs
    302: _Meaning(errors.ServerFault),  # errInvalidRedirectURL
    303: _Meaning(errors.ServerFault),  # errInvalidResponse
    304: _Meaning(errors.NoSuchFile),  # errNotFound
    305: _Meaning(errors.ChecksumMismatch),  # errCheckSumError
    306: _Meaning(errors.SourceUnavailable),  # errRedirectLimit
}

# XRootD 5.5 answers these with FSError: only the words tell them apart.
_TOLD: dict[str, type[errors.VseError]] = {
    "directory not empty": errors.NotEmpty,
    "not a directory": errors.NoSuchFile,
    "file name too long": errors.BadRequest,
    "read-only file system": errors.Denied,
    "marked read/only": errors.Denied,
    "no space left": errors.StorageFull,
    "disk quota exceeded": errors.StorageFull,
}

_ERROR_RESPONSE = 400
_FS_ERROR = 3005
_PREFIX = re.compile(r"^\[(ERROR|FATAL)\] ?(Server responded with an error: ?)?(\[\d+\])? ?")


def error_of(status: Any, wanted: str) -> errors.VseError:
    """Return the error that an ``XRootDStatus`` tells of, with the server's own words."""
    code = status.errno if status.code == _ERROR_RESPONSE else status.code
    said = _PREFIX.sub("", str(status.message)).strip()
    meaning = MEANINGS.get(code, _Meaning(errors.ServerFault))
    if code == _FS_ERROR:
        told = next((kind for words, kind in _TOLD.items() if words in said.lower()), None)
        meaning = meaning if told is None else _Meaning(told)
    who = "the server says" if status.code == _ERROR_RESPONSE else "the XRootD client says"
    shown = "".join(char if char.isprintable() else " " for char in said[:300]).rstrip(" ;")
    return meaning.kind(wanted, f"{who} {code}: {shown}", meaning.todo)


def checked(answer: tuple[Any, Any], wanted: str) -> Any:
    """Return the response in a call's ``(status, response)``, or raise what the status tells."""
    status, response = answer
    if not status.ok:
        raise error_of(status, wanted)
    return response


def asked(wanted: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Make a call on an open file; where its connection is gone the library raises `ValueError`."""
    try:
        return call(*arguments, **named)
    except ValueError as error:
        raise errors.SourceUnavailable(wanted, "the connection to the server was lost") from error
