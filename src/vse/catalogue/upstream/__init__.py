"""Catalogues elsewhere, behind `vse.catalogue.port.Upstream`: one module a kind, made only if asked for."""

from __future__ import annotations

from collections.abc import Callable

from vse.catalogue.port import Upstream
from vse.catalogue.upstream.mapping import RUCIO_NOTHING, RUCIO_RULES, Mapped
from vse.config.settings import UpstreamSettings
from vse.errors import BadSettings


def _vse(settings: UpstreamSettings) -> Upstream:
    from vse.catalogue.upstream.vse import VseUpstream

    return VseUpstream(settings.name, settings.url, settings.token_file, settings.timeout_s)


def _rucio(settings: UpstreamSettings) -> Upstream:
    from vse.catalogue.upstream.rucio import RucioUpstream

    return RucioUpstream(settings)


def _dirac(settings: UpstreamSettings) -> Upstream:
    from vse.catalogue.upstream.dirac import DiracUpstream

    return DiracUpstream(settings)


def _alien(settings: UpstreamSettings) -> Upstream:
    from vse.catalogue.upstream.alien import AlienUpstream

    return AlienUpstream(settings)


def _dump(settings: UpstreamSettings) -> Upstream:
    from vse.catalogue.upstream.dump import DumpUpstream

    return DumpUpstream(settings)


_KINDS: dict[str, Callable[[UpstreamSettings], Upstream]] = {
    "vse": _vse,
    "rucio": _rucio,
    "dirac": _dirac,
    "alien": _alien,
    "dump": _dump,
}


def build(settings: UpstreamSettings) -> Mapped:
    """Return the client for an ``[upstreams.NAME]`` section, in LFNs. Nothing is connected yet."""
    kind = _KINDS.get(settings.type)
    if kind is None:
        known = ", ".join(sorted(_KINDS))
        wanted = f"use the upstream catalogue {settings.name!r}"
        raise BadSettings(wanted, f"its type is {settings.type!r}", f"known types are {known}")
    if settings.type == "rucio":
        return Mapped(kind(settings), settings.map or RUCIO_RULES, settings.elements, RUCIO_NOTHING)
    return Mapped(kind(settings), settings.map, settings.elements)


__all__ = ["Mapped", "build"]
