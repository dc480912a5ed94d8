"""The drivers: which class serves which plugin's sections, built without connecting to anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from vse.config.settings import ProtocolSettings
from vse.errors import BadSettings
from vse.storage.contract import Driver
from vse.storage.drivers.limited import HostLimits, LimitedDriver
from vse.storage.drivers.retried import Patience, RetriedDriver, RetryPolicy
from vse.storage.plugins import PLUGINS, Plugin, plugin_of, protocol_of

__all__ = ["DRIVERS", "PLUGINS", "Plugin", "Terms", "build", "plugin_of", "protocol_of", "steady"]

DRIVERS: dict[str, str] = {
    "file": "FileDriver",
    "http": "HttpDriver",
    "xroot": "XrootDriver",
    "s3": "S3Driver",
    "gfal": "GfalDriver",
    "fsspec": "FsspecDriver",
    "memory": "MemoryDriver",
    "volumes": "VolumesDriver",
}
"""The class of each module here. One is made of a protocol section and the seconds that the other side may
stay silent (`FileDriver` of the section alone)."""


_LOCAL = frozenset({"file", "volumes", "memory"})
_NO_TOKENS: Mapping[str, Path] = MappingProxyType({})


class Terms(NamedTuple):
    """What a driver goes by beside its section, from other parts of the settings.

    ``no_progress_s``: how long a server may stay silent. ``limits``: how many calls it gets at once.
    ``tokens``: the token file of each HTTP server there is, by origin (``https://host:port``), for copies
    between two of them. ``bring_online_s``: BringOnlineTimeout, how long a tape system may take.
    """

    no_progress_s: float = 60.0
    limits: HostLimits = HostLimits()
    tokens: Mapping[str, Path] = _NO_TOKENS
    bring_online_s: int | None = None


def build(section: ProtocolSettings, no_progress_s: float, terms: Terms | None = None) -> Driver:
    """Build the driver of a section. Nothing is opened or connected yet.

    Raises `BadSettings` for a section that no driver serves, or whose driver needs what is not installed.
    """
    plugin = plugin_of(section)
    wanted = f"use the protocol section {section.section!r}"
    if not plugin.driver:
        raise BadSettings(wanted, plugin.refused)
    try:
        made = getattr(import_module(f"{__name__}.{plugin.driver}"), DRIVERS[plugin.driver])
    except ImportError as error:
        raise BadSettings(
            wanted,
            f"its driver {plugin.driver!r} needs {error.name or error}, which is not installed",
            "install it, or take another protocol",
        ) from error
    spoken = section.model_copy(update={"protocol": protocol_of(section)})
    given: dict[str, Any] = {}
    if plugin.driver == "http" and terms is not None:
        given["other_tokens"] = terms.tokens
    elif plugin.driver == "gfal" and terms is not None and terms.bring_online_s is not None:
        given["bring_online_s"] = terms.bring_online_s
    silence = () if plugin.driver == "file" else (no_progress_s,)
    driver: Driver = made(spoken, *silence, **given)
    return driver


def steady(section: ProtocolSettings, terms: Terms) -> Driver:
    """Build the driver of a section for daily use: `build`'s, retried, and within its host's limit.

    What is on this machine needs neither. A slot is not held during the pauses between two attempts, and
    the last attempt begins early enough that who watches for progress hears the error, not silence.
    """
    driver = build(section, terms.no_progress_s, terms)
    if plugin_of(section).driver in _LOCAL or not section.host:
        return driver
    usual = RetryPolicy()
    policy = replace(usual, within_s=min(usual.within_s, terms.no_progress_s / 8))
    slots = terms.limits.of(driver.protocol, section.host, section.port)
    return RetriedDriver(LimitedDriver(driver, slots), Patience(policy))
