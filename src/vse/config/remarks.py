"""Options that are read and have no effect: each is told, with its place and the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from vse.config.elements import ElementSettings, ProtocolSettings
from vse.config.inheritance import BASES, ELEMENTS
from vse.config.sections import Key, Tree

Place = Callable[[Key], str]


class Remark(NamedTuple):
    """Something in the settings that has no effect, and why.

    ``place`` is a file and line; ``element`` the storage element it is of, or empty.
    """

    place: str
    text: str
    element: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


ELEMENT_ONLY_IN_DIRAC = {
    "TotalCapacityTB": "the space is asked of the storage itself",
    "DiskCacheTB": "the space is asked of the storage itself",
    "UseProxy": "there is no StorageElementProxy here",
    "ChecksumAlgorithm": "the option is ChecksumType",
    "Description": "nothing shows it",
}
SECTION_ONLY_IN_DIRAC = {
    "SvcClass": "URLs are made without Castor's service class",
    "SVCClass": "URLs are made without Castor's service class",
    "ProtocolsList": "which protocols a section gives is said by OutputProtocols",
    "SpaceTokenDescription": "the option is SpaceToken",
    "WLCGTokenBasePath": "tokens are taken from TokenFile as they are",
    "Timeout": "how long a server may be silent is stager.no_progress_s",
}
"""Options that DIRAC or its older versions know and that cannot be honoured here, with the reason."""


class _Family(NamedTuple):
    options: tuple[str, ...]
    speakers: tuple[str, ...]
    """How the plugin's or the protocol's name begins, in lower case."""
    what: str
    never: tuple[str, ...] = ()
    """Plugins that have no use for them, whatever they speak."""


_FAMILIES = (
    _Family(
        (
            "bucket",
            "region",
            "secure_connection",
            "access_key_file",
            "secret_key_file",
            "aws_access_key_id",
            "aws_secret_access_key",
        ),
        ("s3",),
        "S3",
    ),
    _Family(("options",), ("fsspec",), "fsspec"),
    _Family(("volumes",), ("volumes",), "the driver VOLUMES"),
    _Family(("ws_url", "space_token"), ("srm", "gfal2_srm"), "SRM"),
    _Family(
        ("token_file",),
        ("http", "dav", "gfal2_https", "root", "xroot", "gfal2_xroot"),
        "HTTP and XRootD",
        ("gfal2",),
    ),
)


def take_out_foreign(tree: Tree, place: Place) -> list[Remark]:
    """Take the options that only DIRAC has out of elements and bases; return what to say of them."""
    remarks: list[Remark] = []

    def take(section: Tree, path: Key, foreign: Mapping[str, str]) -> None:
        for key in [key for key, value in section.items() if key in foreign and not isinstance(value, dict)]:
            remarks.append(_of(path, place((*path, key)), f"{key} is DIRAC's and not used: {foreign[key]}"))
            del section[key]

    for name in (BASES, ELEMENTS):
        for path, element in _inner(tree.get(name), (name,)):
            take(element, path, ELEMENT_ONLY_IN_DIRAC)
            for inner_path, section in _inner(element, path):
                take(section, inner_path, SECTION_ONLY_IN_DIRAC)
    return remarks


def keep_to_vo(tree: Tree, origins: dict[Key, str], place: Place) -> list[Remark]:
    """Close the elements whose VO does not name the experiment of this site (DIRAC: "not allowed for VO")."""
    site = tree.get("site")
    ours = site.get("vo", "") if isinstance(site, dict) else ""
    remarks: list[Remark] = []
    for path, element in _inner(tree.get(ELEMENTS), (ELEMENTS,)):
        allowed = element.get("VO", ())
        names = [one.strip() for one in allowed.split(",")] if isinstance(allowed, str) else allowed
        where = place((*path, "VO"))
        if names and not ours:
            remarks.append(
                _of(path, where, f"VO of {path[1]} is not used: site.vo does not say which is ours")
            )
        elif isinstance(names, (list, tuple)) and names and ours not in names:
            for operation in ("Read", "Write", "Check", "Remove"):
                element[f"{operation}Access"] = "Banned"
                origins[(*path, f"{operation}Access")] = f"{where}, site.vo {ours} is not in VO"
            remarks.append(
                _of(path, where, f"{path[1]} is closed to us: its VO does not name site.vo {ours}")
            )
    return remarks


def without_effect(element: ElementSettings, place: Place) -> Iterator[Remark]:
    """Yield the options of an element that its kind of storage or its drivers have no use for."""
    if not element.is_tape:
        for name in ("archive_timeout_s", "bring_online_timeout_s", "stage_protocols"):
            if name in element.model_fields_set and getattr(element, name):
                key = str(ElementSettings.model_fields[name].alias)
                text = f"{key} has no effect: {element.name} is no tape, its SEType is {element.se_type}"
                yield Remark(place((ELEMENTS, element.name, key)), text, element.name)
    for section in element.protocols:
        yield from _of_section(element.name, section, place)


def _of_section(element: str, section: ProtocolSettings, place: Place) -> Iterator[Remark]:
    names = [one.lower() for one in (section.plugin_name or section.section, section.protocol) if one]
    for family in _FAMILIES:
        if any(name.startswith(family.speakers) for name in names) and not set(names) & set(family.never):
            continue
        for option in family.options:
            if option in section.model_fields_set and getattr(section, option):
                key = str(ProtocolSettings.model_fields[option].alias)
                said = f"{key} has no effect with {section.plugin}, it is for {family.what}"
                yield Remark(place((ELEMENTS, element, section.section, key)), said, element)


def _of(path: Key, place: str, text: str) -> Remark:
    return Remark(place, text, path[1] if path[0] == ELEMENTS else "")


def _inner(section: Any, path: Key) -> Iterator[tuple[Key, Tree]]:
    for name, value in section.items() if isinstance(section, dict) else ():
        if isinstance(value, dict):
            yield (*path, name), value
