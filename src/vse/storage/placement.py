"""Where a file is in a storage, and what its URL is there: by LFN or by GUID, and back again.

Pure. The rule of seed 003: a path finishes with the LFN, after the section's Path (or VOPath). AliEn's rule
(seed 000's link example): ``/NN/NNNNN/<guid>``. URLs are made as DIRAC makes them, of Protocol, Host, Port,
WSUrl and the path.
"""

from __future__ import annotations

import re
import uuid
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from vse.config.settings import ElementSettings, ProtocolSettings
from vse.errors import BadRequest
from vse.model import Lfn
from vse.storage.plugins import protocol_of, same

DEFAULT_PORTS = {
    "http": 80,
    "dav": 80,
    "https": 443,
    "davs": 443,
    "root": 1094,
    "xroot": 1094,
    "roots": 1094,
    "xroots": 1094,
    "srm": 8443,
    "gsiftp": 2811,
}
_ESCAPED = frozenset({"file", "http", "https", "dav", "davs", "s3"})
"""Protocols whose URLs are escaped. All others take a path as it is (XRootD would look for the escapes)."""
_SAFE = "/-._~!$&'()*+,;=:@"  # what a path may hold unescaped (RFC 3986 §3.3)
_GUID_PATH = re.compile(r"/(\d\d)/(\d{5})/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_GUID_DIRECTORY = re.compile(r"/|/\d\d|/\d\d/\d{5}")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(.*)", re.DOTALL)


# -- by LFN ------------------------------------------------------------------------------------------


def path_at(base: str, lfn: str) -> str:
    """Return where ``lfn`` is in a storage whose Path is ``base``; raise `BadRequest` if outside of it."""
    if not lfn.startswith("/") or ".." in lfn.split("/"):
        raise BadRequest(f"find the path of {lfn!r}", "it is no logical file name")
    return (base.rstrip("/") + lfn).rstrip("/") or "/"


def lfn_at(base: str, path: str) -> Lfn:
    """Return the LFN of a path: the inverse of `path_at`; raise `BadRequest` if outside of ``base``."""
    return Lfn.parse(_below(base, path))


def _below(base: str, path: str) -> str:
    """Return what of ``path`` follows ``base``; raise `BadRequest` if it lies outside."""
    above = base.rstrip("/")
    if ".." in path.split("/") or (path != above and not path.startswith(f"{above}/")):
        raise BadRequest(f"find the logical name of {path}", f"it lies outside of Path {base}")
    return path[len(above) :] or "/"


# -- by GUID -----------------------------------------------------------------------------------------


def guid_path(guid: bytes) -> str:
    """Return ``/NN/NNNNN/<guid>``: where AliEn keeps the content of a GUID (16 bytes).

    NN is the sum of the GUID's hexadecimal digits modulo 16; NNNNN a checksum in Fletcher's manner over the
    same digits (AliEn's ``GUID.pm``: ``GetCHash``, ``GetHash``; JAliEn's ``GUID.getCHash``, ``getHash``).
    """
    if len(guid) != 16:
        raise BadRequest("find the path of a GUID", f"it has {len(guid)} bytes instead of 16")
    total = running = 0
    for digit in guid.hex():
        total += int(digit, 16)
        running += total
    low, high = total & 0xFF, running & 0xFF
    return f"/{total % 16:02d}/{((high - low) % 255 << 8) + high % 255:05d}/{uuid.UUID(bytes=guid)}"


def guid_at(base: str, path: str) -> bytes:
    """Return the GUID of a path: the inverse of `guid_path` below ``base``.

    Raises `BadRequest` for a path that is none, or that does not belong to its GUID.
    """
    wanted = f"find the GUID of {path}"
    found = _GUID_PATH.fullmatch(_below(base, path))
    if found is None:
        raise BadRequest(wanted, f"below Path {base} it is not /NN/NNNNN/GUID")
    guid = uuid.UUID(found[3]).bytes
    if guid_path(guid) != found[0]:
        raise BadRequest(wanted, f"this GUID belongs to {guid_path(guid)}")
    return guid


# -- by the settings of a section --------------------------------------------------------------------


class Place(NamedTuple):
    """What a path stands for: an LFN, or a GUID whose LFN the catalogue knows; one of them is None."""

    lfn: Lfn | None
    guid: bytes | None


def place_of(section: ProtocolSettings, lfn: Lfn, guid: bytes | None = None) -> str:
    """Return the path of a file in the storage of a section.

    Where Placement is ``guid``, the catalogue's ``guid`` is needed; without it only ``/``, ``/NN`` and
    ``/NN/NNNNN`` can be named, the directories of the storage itself. Raises `BadRequest`.
    """
    if section.placement != "guid":
        return path_at(section.path, lfn)
    if guid is not None:
        return path_at(section.path, guid_path(guid))
    if _GUID_DIRECTORY.fullmatch(lfn):
        return path_at(section.path, lfn)
    raise BadRequest(
        f"find the path of {lfn}",
        "the storage element keeps files by GUID, and none is known for this name",
        "bring it there with vse cp, which gives it one",
    )


def placed(section: ProtocolSettings, path: str) -> Place:
    """Return what a path in the storage of a section stands for: the inverse of `place_of`."""
    if section.placement != "guid":
        return Place(lfn_at(section.path, path), None)
    below = _below(section.path, path)
    if _GUID_DIRECTORY.fullmatch(below):
        return Place(Lfn(below), None)
    return Place(None, guid_at(section.path, path))


def check_inside(section: ProtocolSettings, path: str) -> None:
    """Raise `BadRequest` for a path that is not of the element: outside of Path, or with ``..`` in it."""
    _below(section.path, path)


def at_vo(element: ElementSettings, vo: str) -> ElementSettings:
    """Return an element as one experiment sees it: each Path is the VOPath where that names ``vo``."""
    sections = tuple(one.model_copy(update={"path": one.for_vo(vo)}) for one in element.protocols)
    return element.model_copy(update={"protocols": sections})


# -- URLs --------------------------------------------------------------------------------------------


def url_of(section: ProtocolSettings, path: str) -> str:
    """Return the native URL of a path: ``Protocol://Host[:Port][WSUrl]path``, escaped as its protocol wants.

    A root URL has two slashes before the path, and the path as it is; only an SRM one has the WSUrl.
    """
    protocol = protocol_of(section)
    if protocol == "file":
        return f"file://{quote(path)}"
    return f"{protocol}://{_authority(section, protocol)}{_front(section, protocol)}{_shown(protocol, path)}"


def path_in(section: ProtocolSettings, url: str) -> str:
    """Return the path in a URL: the inverse of `url_of`.

    Raises `BadRequest` for a URL of another protocol, another server or another web service.
    """
    protocol = protocol_of(section)
    found = _URL.fullmatch(url)
    if found is None:
        raise _foreign(url, "it is no URL")
    scheme, authority, rest = found[1].lower(), found[2], found[3]
    if scheme not in same(protocol):
        raise _foreign(url, f"it is not of the protocol {protocol}")
    if protocol == "file":
        if authority not in ("", "localhost"):
            raise _foreign(url, "it names another machine")
    elif _server(authority, protocol, url) != (here := _here(section, protocol)):
        raise _foreign(url, f"it is of another server than {here[0]}:{here[1]}")
    front = _front(section, protocol)
    if protocol == "srm" and front and "?SFN=" in rest and not rest.startswith(front):
        raise _foreign(url, f"it is of another web service than {front}")
    path = rest.removeprefix(front)
    if protocol in _ESCAPED:
        if "?" in path or "#" in path:
            raise _foreign(url, "it holds a query or a fragment")
        path = unquote(path)
    return path if path.startswith("/") else f"/{path}"


def path_below(url: str) -> str:
    """Return the path in a URL of any section's server, for UseCatalogURL: what follows the server."""
    found = _URL.fullmatch(url)
    if found is None:
        raise _foreign(url, "it is no URL")
    scheme, rest = found[1].lower(), found[3]
    path = rest.partition("?SFN=")[2] or rest if scheme == "srm" else rest
    if scheme in _ESCAPED:
        path = unquote(urlsplit(path).path)
    return "/" + path.lstrip("/")


def endpoint(section: ProtocolSettings) -> tuple[str, int | None, str, str]:
    """Return what tells storages of one protocol apart: host, port, bucket and path of a section."""
    host, port = _here(section, protocol_of(section))
    return host, port, section.bucket, section.path.rstrip("/")


def origin_of(section: ProtocolSettings) -> str:
    """Return the origin of an HTTP section's server, ``https://host[:port]``: what a token is for."""
    host, port = _here(section, protocol_of(section))
    transport = "https" if protocol_of(section) in ("https", "davs") else "http"
    shown = f"[{host}]" if ":" in host else host
    return f"{transport}://{shown}" + ("" if port == DEFAULT_PORTS[transport] else f":{port}")


def _foreign(url: str, found: str) -> BadRequest:
    return BadRequest(f"find the path in {url!r}", found)


def _shown(protocol: str, path: str) -> str:
    return quote(path, safe=_SAFE) if protocol in _ESCAPED else path


def _front(section: ProtocolSettings, protocol: str) -> str:
    """Return what stands between server and path."""
    if protocol == "srm":
        return section.ws_url
    return "/" if protocol in (*same("root"), *same("roots")) else ""


def _authority(section: ProtocolSettings, protocol: str) -> str:
    host, _ = _here(section, protocol)
    shown = f"[{host}]" if ":" in host else host
    default = protocol in _ESCAPED and section.port == DEFAULT_PORTS.get(protocol)
    return shown if section.port is None or default else f"{shown}:{section.port}"


def _here(section: ProtocolSettings, protocol: str) -> tuple[str, int | None]:
    return section.host.lower().strip("[]"), section.port or DEFAULT_PORTS.get(protocol)


def _server(authority: str, protocol: str, url: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{authority}")
        return (parts.hostname or "").lower(), parts.port or DEFAULT_PORTS.get(protocol)
    except ValueError as error:
        raise _foreign(url, "it names no server") from error
