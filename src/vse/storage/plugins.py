"""Which protocol section is spoken by which driver, and what each plugin accepts and generates.

The names and lists are DIRAC's (seed 003, "Available protocol plugins", "Default plugin options"; its
modules in ``Resources/Storage``). Pure: nothing of a driver is imported here.
"""

from __future__ import annotations

from typing import NamedTuple

from vse.config.settings import ProtocolSettings
from vse.errors import BadSettings

_SAME = (("root", "xroot"), ("roots", "xroots"), ("https", "davs"), ("http", "dav"))
"""Two spellings of one protocol."""


class Plugin(NamedTuple):
    """A driver by the name it has in the settings.

    ``driver``: the module of `vse.storage.drivers`; empty for a plugin that is refused, with the reason in
    ``refused``. ``protocols``: those it can be told to speak natively, the usual one first; empty means any,
    which Protocol must then name. ``accepts`` and ``generates``: the protocols of the URLs it takes as a
    source and can give; where empty, those of the rule (`accepted`, `generated`). ``needs_host``: the section
    must name a server, unless its protocol is ``file``. ``own_urls``: only the driver knows its URLs (of
    another form than `vse.storage.placement.url_of` makes).
    """

    driver: str
    protocols: tuple[str, ...]
    accepts: tuple[str, ...] = ()
    generates: tuple[str, ...] = ()
    needs_host: bool = True
    own_urls: bool = False
    refused: str = ""


_HTTP_FAMILY = ("http", "https", "dav", "davs")
_FOREIGN_TO_SRM = ("file", "root", "xroot", "http", "https", "davs", "gsiftp", "srm")
_GFAL = (
    "srm",
    "gsiftp",
    "root",
    "xroot",
    "roots",
    "davs",
    "https",
    "dav",
    "http",
    "dcap",
    "sftp",
    "ftp",
    "file",
)

_XROOT = Plugin("xroot", ("root", "xroot", "roots", "xroots"), accepts=("file", "root", "xroot"))
_HTTPS = Plugin("http", ("https", "davs"), ("file", *_HTTP_FAMILY), _HTTP_FAMILY)
_SRM = Plugin("gfal", ("srm",), _FOREIGN_TO_SRM, (*_FOREIGN_TO_SRM, "dcap", "gsidcap", "rfio"))

PLUGINS: dict[str, Plugin] = {
    "File": Plugin("file", ("file",), needs_host=False),
    "HTTP": Plugin("http", ("http", "dav", "https", "davs"), accepts=("file", *_HTTP_FAMILY)),
    "HTTPS": _HTTPS,
    "GFAL2_HTTPS": _HTTPS,
    "GFAL2_XROOT": _XROOT,
    "XROOT": _XROOT,
    "GFAL2_SRM2": _SRM,
    "SRM2": _SRM,
    "GFAL2_GSIFTP": Plugin("gfal", ("gsiftp",)),
    "S3": Plugin("s3", ("s3",), needs_host=False, own_urls=True),
    "VOLUMES": Plugin("volumes", ("volumes",), needs_host=False, own_urls=True),
    "MEMORY": Plugin("memory", ("mem",), needs_host=False, own_urls=True),
    "GFAL2": Plugin("gfal", _GFAL),
    "FSSPEC": Plugin("fsspec", (), needs_host=False, own_urls=True),
    "RFIO": Plugin(
        "",
        ("rfio",),
        refused="nothing that is maintained speaks rfio: describe the storage by root (GFAL2_XROOT) or https",
    ),
    "DIP": Plugin(
        "",
        ("dips", "dip"),
        refused="dips is spoken by DIRAC's own services only: describe the storage behind it by its protocol",
    ),
    "Proxy": Plugin(
        "",
        ("proxy",),
        refused="it needs DIRAC's StorageElementProxy: describe the storage behind it by its protocol",
    ),
}


def same(protocol: str) -> tuple[str, ...]:
    """Return all spellings of a protocol, the one given first."""
    family = next((names for names in _SAME if protocol in names), (protocol,))
    return (protocol, *(name for name in family if name != protocol))


def plugin_of(section: ProtocolSettings) -> Plugin:
    """Return the plugin of a section: by PluginName, else by the section's own name, else by Protocol.

    Raises `BadSettings` where none fits, naming those there are, or where the section lacks a server or a
    protocol. A plugin that is refused is returned too (see `refusal`).
    """
    by_name = {name.lower(): plugin for name, plugin in PLUGINS.items()}
    named = section.plugin_name or section.section
    plugin = by_name.get(named.lower())
    if plugin is None and not section.plugin_name:
        plugin = next((one for one in PLUGINS.values() if section.protocol in one.protocols), None)
    wanted = f"use the protocol section {section.section!r}"
    if plugin is None:
        todo = f"set PluginName to one of {', '.join(name for name, one in PLUGINS.items() if one.driver)}"
        raise BadSettings(wanted, f"there is no driver named {named!r}", todo)
    if section.protocol and plugin.protocols and section.protocol not in plugin.protocols:
        raise BadSettings(
            wanted,
            f"the driver {named!r} does not speak Protocol {section.protocol!r}",
            f"set Protocol to one of {', '.join(plugin.protocols)}",
        )
    if not section.protocol and not plugin.protocols:
        raise BadSettings(
            wanted, f"the driver {named!r} speaks many protocols", "name the one meant in Protocol"
        )
    if plugin.driver and plugin.needs_host and not section.host and section.protocol != "file":
        raise BadSettings(wanted, "it has no Host", "give the server's name")
    return plugin


def refusal(section: ProtocolSettings) -> str:
    """Return why no driver can serve a section; empty if one can."""
    try:
        return plugin_of(section).refused
    except BadSettings as error:
        return error.found


def protocol_of(section: ProtocolSettings) -> str:
    """Return the native protocol of a section; raises `BadSettings` as `plugin_of` does."""
    return section.protocol or plugin_of(section).protocols[0]


def accepted(section: ProtocolSettings) -> tuple[str, ...]:
    """Return the protocols whose URLs a section takes as the source of a copy.

    InputProtocols, else the plugin's own list, else for protocol X: files and X.
    """
    return section.input_protocols or plugin_of(section).accepts or ("file", *same(protocol_of(section)))


def generated(section: ProtocolSettings) -> tuple[str, ...]:
    """Return the protocols a section can give URLs of: OutputProtocols, else the plugin's list, else X."""
    return section.output_protocols or plugin_of(section).generates or same(protocol_of(section))
