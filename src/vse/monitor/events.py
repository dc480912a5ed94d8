"""Events of a service: one line of JSON for each change, as `vse.monitor.log` writes it.

Every line has ``event`` (a name with dots), ``timestamp``, ``level``, and the ids of what it is about. What
is told goes through `safe`: URLs lose their passwords, and their queries, where tokens are carried.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import structlog

from vse.errors import VseError

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
_SIGNED = re.compile(
    r"(?i)([?&;](?:authz|access_token|token|password|key|[^=&;\s]*signature|x-amz-[a-z-]+)=)[^&;\s]+"
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]+")


def safe(text: str) -> str:
    """Return ``text`` without the passwords and tokens that URLs and headers in it hold."""
    return _BEARER.sub(r"\1***", _SIGNED.sub(r"\1***", _CREDENTIALS.sub("***@", text)))


class Events:
    """Where the events of one service go; ``enabled`` may change while it runs."""

    def __init__(self, *, enabled: bool = True, **about: object) -> None:
        """``about`` stands in every line."""
        self.enabled = enabled
        self._log: Any = structlog.get_logger().bind(**about)

    def tell(self, event: str, error: VseError | None = None, /, **values: object) -> None:
        """Tell that something changed; with an error, as a warning."""
        if not self.enabled:
            return
        told = {key: _plain(value) for key, value in values.items() if value is not None}
        if error is None:
            self._log.info(event, **told)
        else:
            self._log.warning(event, **told, error=_plain(error.to_dict()))


def _plain(value: object) -> object:
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value if isinstance(value, int | float | bool) or value is None else safe(str(value))
