"""Grid proxy and token of the user, for the workers (seed 002 §4.4.8.2).

They travel inside the mutual TLS between scheduler and worker, and are written in the job's own directory,
for its user only. They are in no command line, job script, or log; environment variables hold paths.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from vse.errors import Denied

_PROXY, _TOKEN = "X509_USER_PROXY", "BEARER_TOKEN_FILE"
RENEW_S, RENEW_MIN_S = 60.0, 1.0
"""Workers ask for renewed ones so often, or as often as this where the old ones are about to expire."""
LOOKS_BEFORE_END = 8
"""In what is left of their time, about so many looks."""
_FILES = {_PROXY: "proxy.pem", _TOKEN: "token"}


@dataclass(frozen=True, slots=True)
class Credential:
    """``variable`` is what programs look at for its path; ``expires_at`` in Unix seconds, where known."""

    variable: str
    content: bytes = field(repr=False)
    origin: str = ""
    expires_at: float | None = None


def find(
    environment: Mapping[str, str],
    uid: int,
    now: float,
    temporary: Path = Path("/tmp"),  # noqa: S108 - where grid tools put them
) -> list[Credential]:
    """Return what the user has: a proxy where X509_USER_PROXY or the convention says, and a token where the
    WLCG's bearer token discovery looks (BEARER_TOKEN, BEARER_TOKEN_FILE, XDG_RUNTIME_DIR, /tmp).

    A file that others may read, or that has expired, is refused with `Denied`: it would only fail later.
    """
    found, refused = look(environment, uid, now, temporary)
    if refused:
        raise refused[0]
    return found


def look(
    environment: Mapping[str, str],
    uid: int,
    now: float,
    temporary: Path = Path("/tmp"),  # noqa: S108 - where grid tools put them
) -> tuple[list[Credential], list[Denied]]:
    """Return what the user has, as `find` does, and apart from it what of it cannot be used, and why."""
    found, refused = [], []
    for read in (_the_proxy, _the_token):
        try:
            one = read(environment, uid, temporary)
            if one is not None:
                _refuse_expired(one, now)
                found.append(one)
        except Denied as error:
            refused.append(error)
    return found, refused


def renew_after_s(found: Sequence[Credential], now: float) -> float:
    """Return when to look for renewed ones again: in a minute, or sooner where these expire soon."""
    left_s = [one.expires_at - now for one in found if one.expires_at is not None]
    return max(RENEW_MIN_S, min([RENEW_S, *(one / LOOKS_BEFORE_END for one in left_s)]))


def write(credentials: Mapping[str, bytes], directory: Path) -> dict[str, str]:
    """Write each for its owner only, replacing in one step; return the variables that lead to them."""
    variables = {}
    for variable, content in credentials.items():
        if variable not in _FILES:
            continue
        path = directory / _FILES[variable]
        new = path.with_suffix(".new")
        with suppress(FileNotFoundError):
            new.unlink()
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        new.rename(path)
        variables[variable] = str(path)
    return variables


def _the_proxy(environment: Mapping[str, str], uid: int, temporary: Path) -> Credential | None:
    path = Path(environment.get(_PROXY) or temporary / f"x509up_u{uid}")
    if not path.is_file():
        return None
    content = _read_private(path)
    return Credential(_PROXY, content, str(path), _proxy_expiry(content, path))


def _the_token(environment: Mapping[str, str], uid: int, temporary: Path) -> Credential | None:
    token = environment.get("BEARER_TOKEN", "").strip()
    if token:
        return _token(token.encode(), "BEARER_TOKEN")
    places = [environment.get(_TOKEN), f"{environment.get('XDG_RUNTIME_DIR', temporary)}/bt_u{uid}"]
    path = next((Path(one) for one in places if one and Path(one).is_file()), None)
    return None if path is None else _token(_read_private(path).strip(), str(path))


def _refuse_expired(one: Credential, now: float) -> None:
    if one.expires_at is not None and one.expires_at <= now:
        found = f"it expired {now - one.expires_at:.0f} s ago"
        raise Denied(f"ship {one.origin} to the workers", found, "make a new one, or remove it")


def _read_private(path: Path) -> bytes:
    status = path.stat()
    if status.st_mode & 0o077:
        found = f"others may read it (mode {status.st_mode & 0o777:o})"
        raise Denied(f"ship {path} to the workers", found, f"close it: chmod 600 {path}")
    return path.read_bytes()


def _proxy_expiry(content: bytes, path: Path) -> float:
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise Denied(f"ship {path} to the workers", "it holds no certificate", "make a new proxy") from error
    return min(one.not_valid_after_utc.timestamp() for one in certificates)


def _token(content: bytes, origin: str) -> Credential:
    """A token may be opaque: its expiry is read where it is a JWT."""
    import base64
    import json

    expires_at = None
    with suppress(Exception):
        middle = content.split(b".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + b"=" * (-len(middle) % 4)))
        expires_at = float(claims["exp"])
    return Credential(_TOKEN, content, origin, expires_at)
