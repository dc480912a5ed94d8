"""Which protocol of which storage element to use: pure, and the same answer in every run.

The rules are DIRAC's (seed 003, "Multi Protocol"): the sections of an element are taken in the order
of AccessProtocols (to read or look) or WriteProtocols (to write or remove), those of the element
itself before the site's; one whose Access is local only at the element's own site. Whatever is not
taken is told, with its reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from vse.config.settings import DataManagement, ElementSettings, ProtocolSettings
from vse.errors import BadSettings, NoPlan
from vse.model import Replica, ReplicaState
from vse.storage.drivers import plugin_of, protocol_of

Operation = Literal["read", "check", "write", "remove"]

_VERBS: dict[Operation, str] = {
    "read": "read from",
    "check": "look into",
    "write": "write to",
    "remove": "remove from",
}
_PORTS = {"http": 80, "dav": 80, "https": 443, "davs": 443}


class Rejected(NamedTuple):
    """What was not taken, and why. ``section`` is empty where the whole element is meant."""

    se: str
    section: str
    reason: str

    def __str__(self) -> str:
        place = f"{self.se} by {self.section}" if self.section else self.se
        return f"{place}: {self.reason}"


class Plan(NamedTuple):
    """The protocol sections to use for an operation, the best first; never empty."""

    sections: tuple[ProtocolSettings, ...]
    rejected: tuple[Rejected, ...]


class Pair(NamedTuple):
    """A copy that can be read, and the section to read it by."""

    replica: Replica
    section: ProtocolSettings


class ReadPlan(NamedTuple):
    """The copies to read from, the best first; never empty."""

    pairs: tuple[Pair, ...]
    rejected: tuple[Rejected, ...]


def allowed(element: ElementSettings, operation: Operation) -> bool:
    """Whether the settings of an element permit an operation. What can be read may be looked at."""
    permissions: dict[Operation, bool] = {
        "read": element.read_access,
        "check": element.check_access or element.read_access,
        "write": element.write_access,
        "remove": element.remove_access,
    }
    return permissions[operation]


def plan(
    element: ElementSettings, preferences: DataManagement, operation: Operation, *, at_site: bool = True
) -> Plan:
    """Return the sections of one element that serve ``operation``.

    Sections of equal protocol keep the order they are written in. Raises `NoPlan` with every reason.
    """
    ranked, rejected = _ranked(element, preferences, operation, at_site)
    if not ranked:
        raise _no_plan(f"{_VERBS[operation]} the storage element {element.name}", rejected)
    return Plan(tuple(section for _, section in ranked), tuple(rejected))


def plan_read(
    replicas: Iterable[Replica],
    elements: Mapping[str, ElementSettings],
    preferences: DataManagement,
    *,
    elsewhere: Collection[str] = (),
) -> ReadPlan:
    """Return how the copies of one file can be read.

    Sections whose Access is local come first, then the order of preference, then that of the elements'
    names. ``elsewhere`` names the elements that are not at our site. Raises `NoPlan` with every reason.
    """
    ranked: list[tuple[tuple[object, ...], Pair]] = []
    rejected: list[Rejected] = []
    distinct = sorted(set(replicas), key=lambda one: (one.se, one.url or "", one.state, one.lfn))
    for replica in distinct:
        element = elements.get(replica.se)
        if element is None:
            rejected.append(Rejected(replica.se, "", "no storage element of this name is in the settings"))
            continue
        if replica.state is not ReplicaState.AVAILABLE:
            rejected.append(Rejected(replica.se, "", f"the copy is {replica.state.value}"))
            continue
        usable, refused = _ranked(element, preferences, "read", replica.se not in elsewhere)
        rejected.extend(refused)
        for rank, section in usable:
            reason = _not_of(section, replica.url)
            if reason:
                rejected.append(Rejected(replica.se, section.section, reason))
            else:
                key = (section.access != "local", rank[0], replica.se, rank[1], replica.url or "")
                ranked.append((key, Pair(replica, section)))
    if not ranked:
        names = sorted({replica.lfn for replica in distinct})
        raise _no_plan(f"read {', '.join(names)}" if names else "read a file", rejected)
    ranked.sort(key=lambda one: one[0])
    return ReadPlan(tuple(pair for _, pair in ranked), tuple(rejected))


def _ranked(
    element: ElementSettings, preferences: DataManagement, operation: Operation, at_site: bool
) -> tuple[list[tuple[tuple[int, int], ProtocolSettings]], list[Rejected]]:
    """Return ``((place in the preferences, place in the settings), section)`` in order, and the rest."""
    option, order = _preferred(element, preferences, operation)
    if not allowed(element, operation):
        reason = f"{operation.capitalize()}Access is off in the settings"
        return [], [Rejected(element.name, "", reason)]
    if not element.protocols:
        return [], [Rejected(element.name, "", "it has no protocol section")]
    usable: list[tuple[tuple[int, int], ProtocolSettings]] = []
    rejected: list[Rejected] = []
    for place, section in enumerate(element.protocols):
        reason = _refusal(section, option, order, at_site)
        if reason:
            rejected.append(Rejected(element.name, section.section, reason))
        else:
            usable.append(((order.index(protocol_of(section)), place), section))
    usable.sort(key=lambda one: one[0])
    return usable, rejected


def _preferred(
    element: ElementSettings, preferences: DataManagement, operation: Operation
) -> tuple[str, tuple[str, ...]]:
    if operation in ("read", "check"):
        return "AccessProtocols", element.access_protocols or preferences.access_protocols
    return "WriteProtocols", element.write_protocols or preferences.write_protocols


def _refusal(section: ProtocolSettings, option: str, order: Sequence[str], at_site: bool) -> str:
    """Return why a section cannot be used; empty if it can."""
    try:
        plugin_of(section)
    except BadSettings as error:
        return error.found
    if section.access == "local" and not at_site:
        return "its Access is local, and we are not at its site"
    protocol = protocol_of(section)
    if protocol not in order:
        return f"the protocol {protocol} is not among {option} ({', '.join(order)})"
    return ""


def _not_of(section: ProtocolSettings, url: str | None) -> str:
    """Return why a copy's own URL cannot be read by a section; empty if it can, or if it has none."""
    if url is None:
        return ""
    protocol = protocol_of(section)
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return f"the copy's URL {url!r} is none"
    if parts.scheme != protocol:
        return f"the copy's URL {url} is not of the protocol {protocol}"
    if protocol != "file":
        here = (section.host.lower().strip("[]"), section.port or _PORTS.get(protocol))
        if ((parts.hostname or "").lower(), port) != here:
            return f"the copy's URL {url} is of another server than {here[0]}:{here[1]}"
    base, path = section.path.rstrip("/"), unquote(parts.path)
    if not path.startswith(f"{base}/") or ".." in path.split("/"):
        return f"the copy's URL {url} lies outside of Path {section.path}"
    return ""


def _no_plan(wanted: str, rejected: Sequence[Rejected]) -> NoPlan:
    found = "; ".join(map(str, rejected)) or "no copy of it is known"
    return NoPlan(wanted, found, "change the settings named here, or stage the file from elsewhere")
