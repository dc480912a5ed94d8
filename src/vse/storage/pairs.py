"""How a file gets from one storage element to another: pure, and the same answer in every run.

The rules are DIRAC's (seed 003, "Multi Protocol", "Multi Protocol with FTS";
``negociateProtocolWithOtherSE`` and ``generateTransferURLsBetweenSEs``), with ordered lists in place of its
sets. A protocol is common where a section of the source generates it and one of the destination accepts it.
The common ones are tried in the order of ThirdPartyProtocols; for each, the section that speaks it natively
comes first; and only sections count that AccessProtocols let us read from, and WriteProtocols write to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from vse.config.settings import DataManagement, ElementSettings, ProtocolSettings
from vse.errors import NoPlan, VseError
from vse.storage.contract import Capabilities
from vse.storage.negotiation import Ranked, Rejected, no_plan, ranked_sections
from vse.storage.placement import endpoint
from vse.storage.plugins import accepted, generated, protocol_of, same

Ability = Capabilities | VseError
"""What the driver of a section can do, or why there is none."""
Abilities = Mapping[str, Ability]
"""The ability of each section of an element, by the section's name."""


class Way(StrEnum):
    """Who moves the bytes of a copy."""

    PULL = "third-party pull"
    PUSH = "third-party push"
    STREAMED = "streamed through this machine"


class Side(NamedTuple):
    """A storage element at one end of a copy. ``at_site``: whether we run at its site."""

    element: ElementSettings
    at_site: bool = True

    @property
    def name(self) -> str:
        return self.element.name


class SectionPair(NamedTuple):
    """The sections to copy by, and the protocol both know. Their URLs are their own native ones."""

    source: ProtocolSettings
    destination: ProtocolSettings
    protocol: str


class PairPlan(NamedTuple):
    """The pairs of sections that have a protocol in common, the best first; never empty."""

    pairs: tuple[SectionPair, ...]
    rejected: tuple[Rejected, ...]


class CopyPlan(NamedTuple):
    """How to copy. ``protocol`` is empty where bytes are streamed between sections without a common one."""

    source: ProtocolSettings
    destination: ProtocolSettings
    protocol: str
    way: Way
    rejected: tuple[Rejected, ...]


class _Ends(NamedTuple):
    """The sections that may be read from and written to, each in order, and why the rest may not."""

    sources: list[Ranked]
    destinations: list[Ranked]
    rejected: list[Rejected]


def plan_pairs(
    source: Side,
    destination: Side,
    preferences: DataManagement,
    *,
    protocols: Sequence[str] | None = None,
) -> PairPlan:
    """Return the pairs of sections by which ``source`` could be copied to ``destination`` directly.

    ``protocols`` takes the place of ThirdPartyProtocols. Raises `NoPlan` with the reason of every section
    and every pair.
    """
    ends = _ends(source, destination, preferences)
    pairs, rejected = _common(source, destination, ends, _order(preferences, protocols))
    if not pairs:
        raise _no_way(source, destination, [*ends.rejected, *rejected])
    return PairPlan(tuple(pairs), (*ends.rejected, *rejected))


def plan_urls(
    source: ElementSettings,
    destination: ElementSettings,
    preferences: DataManagement,
    *,
    protocols: Sequence[str] | None = None,
) -> PairPlan:
    """Return the pairs of sections for an external service such as FTS, which is at nobody's site.

    The URLs to hand it are the native ones of the first pair's sections. Raises `NoPlan` as `plan_pairs`.
    """
    return plan_pairs(Side(source, False), Side(destination, False), preferences, protocols=protocols)


def plan_copy(
    source: Side,
    destination: Side,
    preferences: DataManagement,
    source_can: Abilities,
    destination_can: Abilities,
    *,
    protocols: Sequence[str] | None = None,
) -> CopyPlan:
    """Return the best way to copy a file between two elements.

    A third-party copy where a driver can make one for a pair of `plan_pairs`, the first such pair: pulled by
    the destination, else pushed by the source. Else through this machine, from the section preferred for
    reading to the one preferred for writing. Raises `NoPlan` with every reason.
    """
    ends = _ends(source, destination, preferences)
    order = _order(preferences, protocols)
    pairs, rejected = _common(source, destination, ends, order)
    told = [*ends.rejected, *rejected]
    for pair in pairs:
        way, reason = _direct(pair, source_can, destination_can)
        if way is not None:
            return CopyPlan(pair.source, pair.destination, pair.protocol, way, tuple(told))
        told.append(_refused(source, destination, pair, reason))
    readable = _able(source, ends.sources, source_can, "", told)
    writable = _able(destination, ends.destinations, destination_can, "write", told)
    if readable is None or writable is None:
        raise _no_way(source, destination, told)
    protocol = next(iter(_shared(readable, writable, order)), "")
    return CopyPlan(readable, writable, protocol, Way.STREAMED, tuple(told))


def _ends(source: Side, destination: Side, preferences: DataManagement) -> _Ends:
    """Return what may be read and written; `NoPlan` where both elements are one and the same place.

    DIRAC's ``isSameSE``: a copy of a file onto itself would destroy it.
    """
    wanted = f"copy from {source.name} to {destination.name}"
    if source.name == destination.name:
        raise NoPlan(wanted, "it is the same storage element", "name two different ones")
    sources, refused = ranked_sections(source.element, preferences, "read", source.at_site)
    destinations, also_refused = ranked_sections(
        destination.element, preferences, "write", destination.at_site
    )
    for one in sources:
        for other in destinations:
            if _same_place(one.section, other.section):
                found = (
                    f"{source.name} by {one.section.section} and {destination.name} by "
                    f"{other.section.section} are the same place"
                )
                raise NoPlan(wanted, found, "a copy would lie on top of itself: name another element")
    return _Ends(sources, destinations, refused + also_refused)


def _same_place(one: ProtocolSettings, other: ProtocolSettings) -> bool:
    if one.placement != other.placement or protocol_of(other) not in same(protocol_of(one)):
        return False
    named = one.host if protocol_of(one) != "file" else one.path
    return bool(named) and endpoint(one) == endpoint(other)


def _order(preferences: DataManagement, protocols: Sequence[str] | None) -> Sequence[str]:
    return preferences.third_party_protocols if protocols is None else protocols


def _shared(source: ProtocolSettings, destination: ProtocolSettings, order: Sequence[str]) -> list[str]:
    """Return the protocols two sections have in common, in order."""
    gives, takes = generated(source), accepted(destination)
    return [protocol for protocol in order if protocol in gives and protocol in takes]


def _common(
    source: Side, destination: Side, ends: _Ends, order: Sequence[str]
) -> tuple[list[SectionPair], list[Rejected]]:
    """Return the pairs of sections with a common protocol, in order and each once, and why not the others."""
    best: dict[tuple[int, int], tuple[tuple[object, ...], SectionPair]] = {}
    rejected: list[Rejected] = []
    for one in ends.sources:
        for other in ends.destinations:
            shared = _shared(one.section, other.section, order)
            if not shared:
                pair = SectionPair(one.section, other.section, "")
                rejected.append(_refused(source, destination, pair, _no_common(pair, order)))
            for protocol in shared:
                key = (order.index(protocol), _rank(one, protocol, order), _rank(other, protocol, order))
                held = best.get((one.place, other.place))
                if held is None or key < held[0]:
                    found = SectionPair(one.section, other.section, protocol)
                    best[one.place, other.place] = (key, found)
    return [pair for _, pair in sorted(best.values(), key=lambda one: one[0])], rejected


def _rank(one: Ranked, protocol: str, order: Sequence[str]) -> tuple[bool, int, int, bool, int]:
    """Return the rank of a section for a protocol: native first, then as DIRAC sorts, then as written."""
    native = protocol_of(one.section)
    place = order.index(native) if native in order else len(order)
    return protocol not in same(native), place, one.preference, one.remote, one.place


def _direct(pair: SectionPair, source_can: Abilities, destination_can: Abilities) -> tuple[Way | None, str]:
    """Return the third-party way of a pair, or why there is none."""
    source, destination = pair.source.section, pair.destination.section
    source_is, destination_is = protocol_of(pair.source), protocol_of(pair.destination)
    pulling, pushing = destination_can.get(destination), source_can.get(source)
    reasons = []
    if not isinstance(pulling, Capabilities):
        reasons.append(_missing(destination, pulling))
    elif source_is in pulling.pull:
        return Way.PULL, ""
    else:
        reasons.append(f"{destination} cannot pull from {source_is}")
    if not isinstance(pushing, Capabilities):
        reasons.append(_missing(source, pushing))
    elif destination_is in pushing.push:
        return Way.PUSH, ""
    else:
        reasons.append(f"{source} cannot push to {destination_is}")
    return None, ", and ".join(reasons)


def _able(
    side: Side, ranked: Sequence[Ranked], can: Abilities, what: str, told: list[Rejected]
) -> ProtocolSettings | None:
    """Return the first section whose driver is there (and can write, if asked); tell why of those before."""
    for one in ranked:
        ability = can.get(one.section.section)
        if not isinstance(ability, Capabilities):
            told.append(Rejected(side.name, one.section.section, _missing(one.section.section, ability)))
        elif what == "write" and not ability.write:
            told.append(Rejected(side.name, one.section.section, "its driver cannot write"))
        else:
            return one.section
    return None


def _missing(section: str, ability: VseError | None) -> str:
    return f"there is no driver for {section}" + (f": {ability.found}" if ability else "")


def _no_common(pair: SectionPair, order: Sequence[str]) -> str:
    return (
        f"no protocol of {', '.join(order) or 'an empty list'} is both among those that "
        f"{pair.source.section} gives ({', '.join(dict.fromkeys(generated(pair.source)))}) and those that "
        f"{pair.destination.section} takes ({', '.join(dict.fromkeys(accepted(pair.destination)))})"
    )


def _refused(source: Side, destination: Side, pair: SectionPair, reason: str) -> Rejected:
    elements = f"{source.name} to {destination.name}"
    return Rejected(elements, f"{pair.source.section} to {pair.destination.section}", reason)


def _no_way(source: Side, destination: Side, rejected: Sequence[Rejected]) -> NoPlan:
    error = no_plan(f"copy from {source.name} to {destination.name}", rejected)
    return NoPlan(
        error.wanted, error.found, "change the settings named here, or copy by way of another element"
    )
