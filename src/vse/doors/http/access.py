"""Who may do what at the door. Nothing is open that is not named here."""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from vse.config.settings import HttpDoorSettings
from vse.doors.http.exchange import Refused
from vse.errors import BadSettings, Denied, StorageFault

_CHALLENGE = ((b"www-authenticate", b'Bearer realm="vse"'),)


class Need(StrEnum):
    """What a request must be allowed to do."""

    NOTHING = "nothing"
    READ = "read"
    WRITE = "write"
    FIGURES = "figures"
    """The site's token, even where reading needs none."""


@dataclass(frozen=True, slots=True)
class DoorAccess:
    """The rules of one door. ``token`` empty means that no token is right."""

    read: Literal["token", "anonymous"] = "token"
    write: Literal["none", "token"] = "none"
    token: str = field(default="", repr=False)

    @classmethod
    def from_settings(cls, settings: HttpDoorSettings) -> Self:
        """Build the rules, making the token file where it is missing."""
        needs_token = settings.read == "token" or settings.write == "token"
        token = ensure_token(settings.token_file) if needs_token else ""
        return cls(settings.read, settings.write, token)

    def check(self, need: Need, authorization: bytes | None) -> None:
        """Raise `Refused` (401 without a token, 403 with a wrong one or where nobody may) or return."""
        if need is Need.NOTHING or (need is Need.READ and self.read == "anonymous"):
            return
        if need is Need.WRITE and self.write == "none":
            raise Refused(403, Denied("write through this door", "it is read-only"))
        if not authorization:
            todo = "send the token of the site as 'Authorization: Bearer TOKEN'"
            raise Refused(401, Denied("use this door", "no token was sent", todo), _CHALLENGE)
        scheme, _, sent = authorization.strip().partition(b" ")
        wanted = self.token.encode()
        right = hmac.compare_digest(sent.strip(), wanted)
        if scheme.lower() != b"bearer" or not wanted or not right:
            raise Refused(403, Denied("use this door", "the token is not the one of this site"))


def ensure_token(path: Path) -> str:
    """Return the token in the file ``path``; make one, readable by its owner only, where it is missing.

    Two processes that start together end up with the same token. Raises `BadSettings` where others may
    read the file or it holds no token, `StorageFault` where it cannot be made or read.
    """
    wanted = f"use the token file {path}"
    try:
        if not path.exists():
            _make_token(path)
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            token = file.read(4096).decode("ascii", "replace").strip()
    except OSError as error:
        raise StorageFault(wanted, error.strerror or str(error)) from error
    if mode & 0o077:
        raise BadSettings(wanted, f"others may read it (mode {mode:04o})", f"run: chmod 600 '{path}'")
    if not token:
        raise BadSettings(wanted, "it is empty", "remove it; a new one is then made")
    return token


def _make_token(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(made, path)  # never replaces: the first process wins, the other reads its token
    except FileExistsError:
        pass
    finally:
        made.unlink(missing_ok=True)
