"""The XRootD protocol as far as a redirector needs it: bytes to values and back, and nothing else.

Numbers and layouts are those of the protocol specification, version 5 (XProtocol.hh); everything is
big-endian. A client begins with a handshake of 20 bytes and then sends requests: a header of 24 bytes (its
last four the length of the body) and the body. An answer is a header of 8 bytes and its body.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Literal, NamedTuple

from vse.errors import (
    BadRequest,
    Denied,
    IntegrityError,
    NotFound,
    StorageError,
    StorageFull,
    Unsupported,
    UsageError,
    VseError,
)

HANDSHAKE_BYTES = 20
HEADER_BYTES = 24
MAX_BODY_BYTES = 4 << 20
"""More than any list of names a client sends; a longer body ends the connection."""
VERSION = 0x500
_IS_MANAGER = 0x2
_HANDSHAKE = struct.Struct(">iiiii")
_HEADER = struct.Struct(">2sH16si")
_REPLY = struct.Struct(">2sHi")
_CHUNK_BYTES = 1 << 20


class Call(IntEnum):
    """What a client can ask for (kXR_...)."""

    AUTH = 3000
    QUERY = 3001
    CHMOD = 3002
    CLOSE = 3003
    DIRLIST = 3004
    PROTOCOL = 3006
    LOGIN = 3007
    MKDIR = 3008
    MV = 3009
    OPEN = 3010
    PING = 3011
    CHKPOINT = 3012
    RM = 3014
    RMDIR = 3015
    STAT = 3017
    SET = 3018
    FATTR = 3020
    PREPARE = 3021
    ENDSESS = 3023
    LOCATE = 3027
    TRUNCATE = 3028


CHANGING = frozenset({Call.CHMOD, Call.MKDIR, Call.MV, Call.CHKPOINT, Call.RM, Call.RMDIR, Call.TRUNCATE})
"""What would change something: never through this door."""


class Status(IntEnum):
    """How an answer begins."""

    OK = 0
    OKSOFAR = 4000
    ERROR = 4003
    REDIRECT = 4004
    WAIT = 4005


class Failure(IntEnum):
    """Codes of errors."""

    ARG_INVALID = 3000
    IO_ERROR = 3007
    NO_SPACE = 3009
    NOT_AUTHORIZED = 3010
    NOT_FOUND = 3011
    SERVER_ERROR = 3012
    UNSUPPORTED = 3013
    CHECKSUM = 3019
    READ_ONLY = 3025


class Ask(IntEnum):
    """Kinds of query."""

    PREPARE = 2
    CHECKSUM = 3
    CONFIG = 7


_FAILURES: dict[type[VseError], Failure] = {
    VseError: Failure.SERVER_ERROR,
    UsageError: Failure.ARG_INVALID,
    NotFound: Failure.NOT_FOUND,
    Denied: Failure.NOT_AUTHORIZED,
    Unsupported: Failure.UNSUPPORTED,
    StorageError: Failure.IO_ERROR,
    StorageFull: Failure.NO_SPACE,
    IntegrityError: Failure.CHECKSUM,
}

_WRITING = 0x0002 | 0x0008 | 0x0020 | 0x0200 | 0x8000  # delete, new, update, append, write-only
_CANCEL, _EVICT, _DETAILS, _FILE_SYSTEM = 0x01, 0x01, 0x02, 0x01


# -- requests ------------------------------------------------------------------------------------


class Request(NamedTuple):
    """One request: the client's number for it, what is asked, the 16 bytes of parameters, the body."""

    stream: bytes
    call: int
    parameters: bytes
    body: bytes = b""

    @property
    def path(self) -> str:
        """The body as a path, without what stands behind a question mark."""
        return self._text.partition("?")[0]

    @property
    def lines(self) -> list[str]:
        return [line for line in self._text.split("\n") if line]

    @property
    def _text(self) -> str:
        # what is no UTF-8 becomes surrogates, which no logical file name may hold
        return self.body.partition(b"\0")[0].decode("utf-8", "surrogateescape")

    @property
    def writes(self) -> bool:
        """Whether an OPEN wants to change the file."""
        return bool(_number(self.parameters, 2) & _WRITING)

    @property
    def of_file_system(self) -> bool:
        """Whether a STAT is of the space rather than of a name."""
        return bool(self.parameters[0] & _FILE_SYSTEM)

    @property
    def wants_details(self) -> bool:
        """Whether a DIRLIST wants a stat of each name."""
        return bool(self.parameters[15] & _DETAILS)

    @property
    def query(self) -> int:
        """The kind of a QUERY; see `Ask`."""
        return _number(self.parameters, 0)

    @property
    def preparing(self) -> Literal["stage", "cancel", "evict"]:
        """What a PREPARE is for."""
        if self.parameters[0] & _CANCEL:
            return "cancel"
        return "evict" if _number(self.parameters, 4) & _EVICT else "stage"


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "big")


def is_handshake(data: bytes) -> bool:
    """Whether these 20 bytes begin a connection of this protocol."""
    return _HANDSHAKE.unpack(data) == (0, 0, 0, 4, 2012)


def parse_header(data: bytes) -> tuple[Request, int]:
    """Return a request without its body, and the body's length in bytes; `BadRequest` for a mad one."""
    stream, call, parameters, length = _HEADER.unpack(data)
    if not 0 <= length <= MAX_BODY_BYTES:
        raise BadRequest("read a request of an xrootd client", f"it says that its body has {length} bytes")
    return Request(stream, call, parameters), length


# -- answers -------------------------------------------------------------------------------------


def handshake() -> bytes:
    """Answer a handshake: a manager of protocol version 5."""
    return _REPLY.pack(b"\0\0", Status.OK, 8) + struct.pack(">ii", VERSION, 0)


def reply(stream: bytes, body: bytes = b"", status: Status = Status.OK) -> bytes:
    return _REPLY.pack(stream, status, len(body)) + body


def protocol(stream: bytes) -> bytes:
    """Say which version is spoken, and that this is a redirector without TLS."""
    return reply(stream, struct.pack(">iI", VERSION, _IS_MANAGER))


def redirect(stream: bytes, url: str) -> bytes:
    """Send the client to a whole URL, as every client of version 5 takes it."""
    return reply(stream, struct.pack(">i", -1) + url.encode(), Status.REDIRECT)


def wait(stream: bytes, seconds: int) -> bytes:
    """Have the client ask again in so many seconds."""
    return reply(stream, struct.pack(">i", seconds), Status.WAIT)


def failure(stream: bytes, code: int, text: str) -> bytes:
    return reply(stream, struct.pack(">i", code) + text.encode("utf-8", "replace") + b"\0", Status.ERROR)


def failure_of(stream: bytes, error: VseError) -> bytes:
    """Answer with an error of ours: the nearest code, and its whole text."""
    code = next(_FAILURES[kind] for kind in type(error).__mro__ if kind in _FAILURES)
    return failure(stream, code, str(error))


def text(stream: bytes, body: str) -> bytes:
    return reply(stream, body.encode("utf-8", "replace") + b"\0")


class Stat(NamedTuple):
    """What a client is told of a name. ``online``: its bytes are here."""

    size_bytes: int
    modified_s: float
    directory: bool = False
    online: bool = True

    def __str__(self) -> str:
        flags = 16 | (1 | 2 if self.directory else 0) | (0 if self.online else 8)
        return f"0 {self.size_bytes} {flags} {int(self.modified_s)}"


def listing(stream: bytes, names: Sequence[str], stats: Sequence[Stat] | None) -> Iterator[bytes]:
    """Yield the answer to a DIRLIST, in parts of about 1 MiB; ``stats`` where details were asked for."""
    lines: Iterable[str] = names
    if stats is not None:
        details = (f"{name}\n{stat}" for name, stat in zip(names, stats, strict=True))
        lines = (".\n0 0 0 0", *details)
    body = "\n".join(lines).encode("utf-8", "replace")
    parts = [body[start : start + _CHUNK_BYTES] for start in range(0, len(body), _CHUNK_BYTES)] or [b""]
    for part in parts[:-1]:
        yield reply(stream, part, Status.OKSOFAR)
    yield reply(stream, parts[-1] + b"\0" if body else b"")
