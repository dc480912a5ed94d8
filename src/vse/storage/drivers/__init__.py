"""The drivers: which class serves which plugin's sections, built without connecting to anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import cast

from vse.config.settings import ProtocolSettings
from vse.errors import BadSettings
from vse.storage.contract import Driver
from vse.storage.drivers.limited import HostLimits, LimitedDriver
from vse.storage.drivers.retried import Patience, RetriedDriver, RetryPolicy
from vse.storage.plugins import PLUGINS, Plugin, plugin_of, protocol_of

__all__ = ["DRIVERS", "PLUGINS", "Plugin", "build", "plugin_of", "protocol_of", "steady"]

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
_LIMITS = HostLimits()


def build(section: ProtocolSettings, no_progress_s: float) -> Driver:
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
    if plugin.driver == "file":
        return cast("Callable[[ProtocolSettings], Driver]", made)(spoken)
    return cast("Callable[[ProtocolSettings, float], Driver]", made)(spoken, no_progress_s)


def steady(section: ProtocolSettings, no_progress_s: float) -> Driver:
    """Build the driver of a section for daily use: `build`'s, retried, and within its host's limit.

    What is on this machine needs neither. A slot is not held during the pauses between two attempts, and
    the last attempt begins early enough that who watches for progress hears the error, not silence.
    """
    driver = build(section, no_progress_s)
    if plugin_of(section).driver in _LOCAL or not section.host:
        return driver
    usual = RetryPolicy()
    policy = replace(usual, within_s=min(usual.within_s, no_progress_s / 8))
    slots = _LIMITS.of(driver.protocol, section.host, section.port)
    return RetriedDriver(LimitedDriver(driver, slots), Patience(policy))
