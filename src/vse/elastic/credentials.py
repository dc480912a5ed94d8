"""Grid proxy and token of the user, for the workers (seed 002 §4.4.8.2).

They travel inside the mutual TLS between scheduler and worker, and are written in the job's own directory,
for its user only. They are in no command line, job script, or log; environment variables hold paths.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from vse.errors import Denied

_PROXY, _TOKEN = "X509_USER_PROXY", "BEARER_TOKEN_FILE"
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
    found = []
    proxy = Path(environment.get(_PROXY) or temporary / f"x509up_u{uid}")
    if proxy.is_file():
        content = _read_private(proxy)
        found.append(Credential(_PROXY, content, str(proxy), _proxy_expiry(content, proxy)))
    token = environment.get("BEARER_TOKEN", "").strip()
    if token:
        found.append(_token(token.encode(), "BEARER_TOKEN"))
    else:
        places = [environment.get(_TOKEN), f"{environment.get('XDG_RUNTIME_DIR', temporary)}/bt_u{uid}"]
        path = next((Path(one) for one in places if one and Path(one).is_file()), None)
        if path is not None:
            found.append(_token(_read_private(path).strip(), str(path)))
    for one in found:
        if one.expires_at is not None and one.expires_at <= now:
            late_s = now - one.expires_at
            todo = "make a new one, or remove it"
            raise Denied(f"ship {one.origin} to the workers", f"it expired {late_s:.0f} s ago", todo)
    return found


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
