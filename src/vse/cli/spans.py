"""Spans of time as people write them: ``90``, ``30m``, ``12h``, ``7d``, ``2w``."""

from __future__ import annotations

import re

from vse.errors import BadRequest

_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")


def span_s(text: str) -> float | None:
    """Return the seconds of a span; None for an empty text. Raises `BadRequest` for anything else."""
    if not text.strip():
        return None
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise BadRequest(
            f"understand the time {text!r}", "it is no span of time", "write it as 90s, 30m, 12h, 7d or 2w"
        )
    return float(match[1]) * _UNITS_S[match[2]]
