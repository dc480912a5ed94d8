"""Which protocol of which storage element to use: pure, and the same answer in every run.

The rules are DIRAC's (seed 003, "Multi Protocol"): the sections of an element are taken in the order
of AccessProtocols (to read or look), WriteProtocols (to write or remove) or StageProtocols (to bring from
tape), those of the element itself before the site's; among equals a local one first; one whose Access is
local only at the element's own site. Whatever is not taken is told, with its reason. Pairs of elements are
in `vse.storage.pairs`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from vse.config.settings import DataManagement, ElementSettings, ProtocolSettings
from vse.errors import BadRequest, NoPlan
from vse.model import Replica, ReplicaState
from vse.storage.placement import path_at, path_below, path_in
from vse.storage.plugins import generated, plugin_of, protocol_of, refusal, same

Operation = Literal["read", "check", "write", "remove", "stage"]

_VERBS: dict[Operation, str] = {
    "read": "read from",
    "check": "look into",
    "write": "write to",
    "remove": "remove from",
    "stage": "bring files from tape at",
}
_TODO = "change the settings named here, or stage the file from elsewhere"
_PERMISSIONS: dict[Operation, str] = {"stage": "ReadAccess"}


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
    """Whether the settings permit an operation. What can be read may be looked at, and staged."""
    permissions: dict[Operation, bool] = {
        "read": element.read_access,
        "check": element.check_access or element.read_access,
        "write": element.write_access,
        "remove": element.remove_access,
        "stage": element.read_access,
    }
    return permissions[operation]


def plan(
    element: ElementSettings, preferences: DataManagement, operation: Operation, *, at_site: bool = True
) -> Plan:
    """Return the sections of one element that serve ``operation``.

    Sections of equal protocol keep the order they are written in, local ones first. Raises `NoPlan` with
    every reason.
    """
    ranked, rejected = ranked_sections(element, preferences, operation, at_site)
    if not ranked:
        raise no_plan(f"{_VERBS[operation]} the storage element {element.name}", rejected)
    return Plan(tuple(one.section for one in ranked), tuple(rejected))


def plan_url(
    element: ElementSettings,
    preferences: DataManagement,
    protocols: Collection[str],
    *,
    at_site: bool = True,
) -> Plan:
    """Return the sections of one element that can give a URL of one of ``protocols``.

    A section may give foreign ones (seed 003: OutputProtocols; SRM gives those of files at the site). In the
    order of AccessProtocols, local ones first among equals. Raises `NoPlan` with every reason.
    """
    order = element.access_protocols or preferences.access_protocols
    ranked: list[Ranked] = []
    rejected: list[Rejected] = []
    for place, section in enumerate(element.protocols):
        reason = _unusable(section, at_site)
        if not reason and not set(generated(section)) & set(protocols):
            reason = f"it gives URLs of {', '.join(generated(section))}, not of {', '.join(protocols)}"
        if reason:
            rejected.append(Rejected(element.name, section.section, reason))
        else:
            ranked.append(
                Ranked(_index(protocol_of(section), order), section.access != "local", place, section)
            )
    if not ranked:
        raise no_plan(f"give a URL of {' or '.join(protocols)} at {element.name}", rejected)
    return Plan(tuple(one.section for one in sorted(ranked, key=_key)), tuple(rejected))


def plan_read(
    replicas: Iterable[Replica],
    elements: Mapping[str, ElementSettings],
    preferences: DataManagement,
    *,
    elsewhere: Collection[str] = (),
) -> ReadPlan:
    """Return how the copies of one file can be read.

    Sections whose Access is local come first, then the order of preference, then that of the elements'
    names. ``elsewhere`` names the elements that are not at our site. A copy's own URL is read as it stands
    by a section it belongs to; where it is what the settings make of the LFN, by every section. With
    UseCatalogURL its path is asked of every section's server (DIRAC's ``updateURL``). Raises `NoPlan` with
    every reason.
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
        usable, refused = ranked_sections(element, preferences, "read", replica.se not in elsewhere)
        rejected.extend(one._replace(se=replica.se) for one in refused)
        usual = _is_usual(element, replica)
        for one in usable:
            reason = "" if usual else _not_of(element, one.section, replica.url)
            if reason:
                rejected.append(Rejected(replica.se, one.section.section, reason))
            else:
                key = (one.remote, one.preference, replica.se, one.place, replica.url or "")
                pair = Pair(replica._replace(url=None) if usual else replica, one.section)
                ranked.append((key, pair))
    if not ranked:
        names = sorted({replica.lfn for replica in distinct})
        raise no_plan(f"read {', '.join(names)}" if names else "read a file", rejected)
    ranked.sort(key=lambda one: one[0])
    return ReadPlan(tuple(pair for _, pair in ranked), tuple(rejected))


class Ranked(NamedTuple):
    """A usable section with its rank: place in the preferences, whether remote, place in the settings."""

    preference: int
    remote: bool
    place: int
    section: ProtocolSettings


def _key(one: Ranked) -> tuple[int, bool, int]:
    return one.preference, one.remote, one.place


def ranked_sections(
    element: ElementSettings, preferences: DataManagement, operation: Operation, at_site: bool
) -> tuple[list[Ranked], list[Rejected]]:
    """Return the sections of an element that serve an operation, in order, and why the rest does not."""
    option, order = preferred(element, preferences, operation)
    if not allowed(element, operation):
        permission = _PERMISSIONS.get(operation, f"{operation.capitalize()}Access")
        return [], [Rejected(element.name, "", f"{permission} is off in the settings")]
    if not element.protocols:
        return [], [Rejected(element.name, "", "it has no protocol section")]
    usable: list[Ranked] = []
    rejected: list[Rejected] = []
    for place, section in enumerate(element.protocols):
        reason = _unusable(section, at_site)
        if not reason and protocol_of(section) not in order:
            reason = f"the protocol {protocol_of(section)} is not among {option} ({', '.join(order)})"
        if reason:
            rejected.append(Rejected(element.name, section.section, reason))
        else:
            preference = order.index(protocol_of(section))
            usable.append(Ranked(preference, section.access != "local", place, section))
    return sorted(usable, key=_key), rejected


def preferred(
    element: ElementSettings, preferences: DataManagement, operation: Operation
) -> tuple[str, tuple[str, ...]]:
    """Return the option whose order holds for an operation, and that order.

    For staging the element's StageProtocols, else its AccessProtocols, else the site's: as in DIRAC.
    """
    access = element.access_protocols or preferences.access_protocols
    if operation == "stage":
        stage = element.stage_protocols
        if not stage and not element.access_protocols:
            stage = preferences.stage_protocols
        return ("StageProtocols", stage) if stage else ("AccessProtocols", access)
    if operation in ("read", "check"):
        return "AccessProtocols", access
    return "WriteProtocols", element.write_protocols or preferences.write_protocols


def no_plan(wanted: str, rejected: Sequence[Rejected], todo: str = _TODO) -> NoPlan:
    """Return the error that tells every reason."""
    return NoPlan(wanted, "; ".join(map(str, rejected)) or "no copy of it is known", todo)


def _unusable(section: ProtocolSettings, at_site: bool) -> str:
    """Return why a section cannot be used for anything; empty if it can."""
    reason = refusal(section)
    if not reason and section.access == "local" and not at_site:
        return "its Access is local, and we are not at its site"
    return reason


def _index(protocol: str, order: Sequence[str]) -> int:
    return order.index(protocol) if protocol in order else len(order)


def _is_usual(element: ElementSettings, replica: Replica) -> bool:
    """Whether a copy's own URL is none, or just what one of the sections makes of its LFN."""
    if replica.url is None:
        return True
    for section in element.protocols:
        if refusal(section) or section.placement == "guid" or plugin_of(section).own_urls:
            continue
        try:
            if path_in(section, replica.url) == path_at(section.path, replica.lfn):
                return True
        except BadRequest:
            continue
    return False


def _not_of(element: ElementSettings, section: ProtocolSettings, url: str | None) -> str:
    """Return why a copy's own URL cannot be read by a section; empty if it can, or if it has none."""
    if url is None:
        return ""
    if plugin_of(section).own_urls:  # the driver is asked, where the plan is followed
        known = url.partition("://")[0].lower() in same(protocol_of(section))
        return "" if known else f"the copy's URL {url!r} is not of the protocol {protocol_of(section)}"
    try:
        path = path_below(url) if element.use_catalog_url else path_in(section, url)
    except BadRequest as error:
        return f"the copy's URL {url!r} is not of this section: {error.found}"
    if not path.startswith(f"{section.path.rstrip('/')}/") or ".." in path.split("/"):
        return f"the copy's URL {url} lies outside of Path {section.path}"
    return ""
