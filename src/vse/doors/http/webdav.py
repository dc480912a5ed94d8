"""PROPFIND answers (RFC 4918, RFC 4331) in the shape that the clients of the field read.

In a ``response`` the ``href`` comes first, in a ``propstat`` the ``prop``; every propstat has status 200,
because davix drops entries with another one, and Rucio takes them by position.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote
from xml.sax.saxutils import escape

from vse.doors.http.exchange import DATA_PREFIX
from vse.doors.http.ranges import http_date
from vse.model import Lfn, Space
from vse.storage.contract import StoredFile

HEAD = b'<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:" xmlns:LCGDM="LCGDM:">\n'
TAIL = b"</D:multistatus>\n"

_UNESCAPED = "/!$&'()*+,;=:@~"
_DIRECTORY_MODE, _FILE_MODE = 0o040755, 0o100644


def href_of(lfn: Lfn, *, directory: bool) -> str:
    """Return the URL path of ``lfn``; only what must be is escaped, as davix does not unescape it."""
    return quote(DATA_PREFIX + lfn.rstrip("/"), safe=_UNESCAPED) + ("/" if directory else "")


def responses(entries: Iterable[tuple[Lfn, StoredFile]], space: Space | None) -> bytes:
    """Return the ``response`` elements of entries; collections show ``space`` as their quota."""
    return "".join(_response(lfn, stored, space) for lfn, stored in entries).encode()


def _response(lfn: Lfn, stored: StoredFile, space: Space | None) -> str:
    directory = stored.is_directory
    modified = http_date(stored.modified_s or 0.0)
    return (
        f"<D:response><D:href>{escape(href_of(lfn, directory=directory))}</D:href><D:propstat><D:prop>"
        f"<D:displayname>{escape(lfn.name or '/')}</D:displayname>"
        f"<D:getlastmodified>{modified}</D:getlastmodified>"
        f"<D:creationdate>{modified}</D:creationdate>"
        f"{_quota(space) if directory else f'<D:getcontentlength>{stored.size_bytes}</D:getcontentlength>'}"
        f"<D:resourcetype>{'<D:collection/>' if directory else ''}</D:resourcetype>"
        f"<LCGDM:mode>{_DIRECTORY_MODE if directory else _FILE_MODE:07o}</LCGDM:mode>"
        "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\n"
    )


def _quota(space: Space | None) -> str:
    if space is None or space.free_bytes is None:
        return ""
    text = f"<D:quota-available-bytes>{space.free_bytes}</D:quota-available-bytes>"
    if space.total_bytes is not None:
        used = max(0, space.total_bytes - space.free_bytes)
        text += f"<D:quota-used-bytes>{used}</D:quota-used-bytes>"
    return text
