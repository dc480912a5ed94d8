"""The drivers, and which protocol section is spoken by which (seed 003: PluginName)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vse.config.settings import ProtocolSettings
from vse.errors import BadSettings
from vse.storage.contract import Driver


class Plugin(NamedTuple):
    """A driver by the name it has in the settings.

    ``protocols`` are those it speaks, the usual one first; ``make`` builds it for a section, with the
    time in seconds that the other side may stay silent; ``needs_host``: the section must name a server.
    """

    protocols: tuple[str, ...]
    make: Callable[[ProtocolSettings, float], Driver]
    needs_host: bool = True


def _file(settings: ProtocolSettings, _no_progress_s: float) -> Driver:
    from vse.storage.drivers.file import FileDriver

    return FileDriver(settings)


def _http(settings: ProtocolSettings, no_progress_s: float) -> Driver:
    from vse.storage.drivers.http import HttpDriver

    return HttpDriver(settings, no_progress_s)


DRIVERS: dict[str, Plugin] = {
    "File": Plugin(("file",), _file, needs_host=False),
    "HTTP": Plugin(("http", "dav", "https", "davs"), _http),
    "HTTPS": Plugin(("https", "davs"), _http),
    "GFAL2_HTTPS": Plugin(("https", "davs"), _http),
}


def plugin_of(section: ProtocolSettings) -> Plugin:
    """Return the driver of a section: by PluginName, else by the section's own name, else by Protocol.

    Raises `BadSettings` where none fits, naming those there are, or where the section lacks a server.
    """
    by_name = {name.lower(): plugin for name, plugin in DRIVERS.items()}
    named = section.plugin_name or section.section
    plugin = by_name.get(named.lower())
    if plugin is None and not section.plugin_name:
        plugin = next((one for one in DRIVERS.values() if section.protocol in one.protocols), None)
    wanted = f"use the protocol section {section.section!r}"
    if plugin is None:
        todo = f"set PluginName to one of {', '.join(DRIVERS)}"
        raise BadSettings(wanted, f"there is no driver named {named!r}", todo)
    if section.protocol and section.protocol not in plugin.protocols:
        raise BadSettings(
            wanted,
            f"the driver {named!r} does not speak Protocol {section.protocol!r}",
            f"set Protocol to one of {', '.join(plugin.protocols)}",
        )
    if plugin.needs_host and not section.host:
        raise BadSettings(wanted, "it has no Host", "give the server's name")
    return plugin


def protocol_of(section: ProtocolSettings) -> str:
    """Return the protocol a section speaks; raises `BadSettings` as `plugin_of` does."""
    return section.protocol or plugin_of(section).protocols[0]


def build(section: ProtocolSettings, no_progress_s: float) -> Driver:
    """Build the driver of a section. Nothing is opened or connected yet."""
    plugin = plugin_of(section)
    return plugin.make(section.model_copy(update={"protocol": protocol_of(section)}), no_progress_s)
