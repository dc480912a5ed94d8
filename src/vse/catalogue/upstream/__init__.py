"""Catalogues elsewhere, behind `vse.catalogue.port.Upstream`: one module a kind."""

from __future__ import annotations

from collections.abc import Callable

from vse.catalogue.port import Upstream
from vse.catalogue.upstream.vse import VseUpstream
from vse.config.settings import UpstreamSettings
from vse.errors import BadSettings


def _vse(settings: UpstreamSettings) -> Upstream:
    return VseUpstream(settings.name, settings.url, settings.token_file, settings.timeout_s)


_KINDS: dict[str, Callable[[UpstreamSettings], Upstream]] = {"vse": _vse}


def build(settings: UpstreamSettings) -> Upstream:
    """Return the client for an ``[upstreams.NAME]`` section. Nothing is connected yet."""
    kind = _KINDS.get(settings.type)
    if kind is None:
        known = ", ".join(sorted(_KINDS))
        wanted = f"use the upstream catalogue {settings.name!r}"
        raise BadSettings(wanted, f"its type is {settings.type!r}", f"known types are {known}")
    return kind(settings)


__all__ = ["VseUpstream", "build"]
