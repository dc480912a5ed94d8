"""What space reports say: pure functions from their JSON to `Space`.

WLCG's storage resource reporting (SRR), read as DIRAC does (its WLCGAccountingJson plugin): the share of
the given name, else the one whose first path is the longest prefix of the element's; and the plain
``{"Total": bytes, "Free": bytes}`` (seed 003, "Space occupancy").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vse.errors import ServerFault
from vse.model import Space

_TODO = "tell the site that writes the report"


def capped(total_bytes: int | None, free_bytes: int | None) -> Space:
    """Return a space that can be: nothing below zero, and no more free than there is in all."""
    total = None if total_bytes is None else max(0, total_bytes)
    free = None if free_bytes is None else max(0, free_bytes)
    return Space(total, free if total is None or free is None else min(free, total))


def plain(text: str | bytes, wanted: str) -> Space:
    """Read ``{"Total": bytes, "Free": bytes}``; raises `ServerFault` where it is not that."""
    report = _object(text, wanted)
    return capped(_number(report, "Total", wanted), _number(report, "Free", wanted))


def wlcg(text: str | bytes, share: str, path: str, wanted: str) -> Space:
    """Read an SRR report: of the share named ``share``, else of the one that ``path`` lies in.

    Total is ``totalsize``; free ``freesize``, where it is told, else total less ``usedsize``. Raises
    `ServerFault` where the report is none, or tells of no share that is meant.
    """
    service = _object(text, wanted).get("storageservice")
    shares = service.get("storageshares") if isinstance(service, dict) else None
    if not isinstance(shares, list) or not all(isinstance(one, dict) for one in shares):
        raise ServerFault(wanted, "the report has no storageservice.storageshares", _TODO)
    chosen = _share(shares, share, path)
    if chosen is None:
        names = ", ".join(str(one.get("name")) for one in shares) or "none"
        found = f"no share is named {share!r} or holds {path}; there are {names}"
        raise ServerFault(wanted, found, "set SpaceReservation to the name of one")
    total = _number(chosen, "totalsize", wanted)
    if "freesize" in chosen:
        return capped(total, _number(chosen, "freesize", wanted))
    return capped(total, total - _number(chosen, "usedsize", wanted))


def _share(shares: list[dict[str, Any]], name: str, path: str) -> dict[str, Any] | None:
    named = [one for one in shares if name and one.get("name") == name]
    if named:
        return named[0]
    depths = [(_depth(one, path), one) for one in shares]
    best = max(depths, key=lambda one: one[0], default=(-1, None))
    return best[1] if best[0] >= 0 else None


def _depth(share: Mapping[str, Any], path: str) -> int:
    """How many parts of ``path`` the share's first path covers; -1 where it does not hold it."""
    paths = share.get("path")
    if not isinstance(paths, list) or not paths or not isinstance(paths[0], str):
        return -1
    above = [part for part in paths[0].split("/") if part]
    parts = [part for part in path.split("/") if part]
    return len(above) if parts[: len(above)] == above else -1


def _object(text: str | bytes, wanted: str) -> dict[str, Any]:
    try:
        report = json.loads(text)
    except ValueError as error:
        raise ServerFault(wanted, f"the report is no JSON ({error})", _TODO) from error
    if not isinstance(report, dict):
        raise ServerFault(wanted, "the report is no JSON object", _TODO)
    return report


def _number(report: Mapping[str, Any], key: str, wanted: str) -> int:
    value = report.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124  # NaN
        raise ServerFault(wanted, f"the report says {key} = {value!r}, which is no number of bytes", _TODO)
    if abs(value) > _MOST_BYTES:
        raise ServerFault(wanted, f"the report says {key} = {value!r}, more than any storage has", _TODO)
    return int(value)


_MOST_BYTES = 10**21
"""A thousand exabytes: what is above is a mistake."""
