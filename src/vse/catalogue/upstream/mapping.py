"""Names of a catalogue elsewhere, and LFNs here: rules of the settings, and an upstream that follows them.

A driver speaks its own catalogue's names only: what `vse.catalogue.port.Upstream` calls an LFN is, to a
driver, the name as its catalogue writes it (Rucio's ``scope:name``), and storage elements are called as
there. `Mapped` stands in front of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from vse.catalogue.globs import matcher
from vse.catalogue.port import CopyMade, Registers, Upstream
from vse.config.name_templates import Template
from vse.config.upstreams import MappingRule
from vse.errors import BadLfn, NoSuchEntry, NotFound, Unsupported
from vse.model import BulkResult, Lfn, Located

RUCIO_RULES = (MappingRule(upstream="{scope}:{rest...}", lfn="/{scope}/{rest...}"),)
"""Where the settings of a rucio upstream give no rules."""
RUCIO_NOTHING = "vse:doctor-asks-for-no-file"


class Area(NamedTuple):
    """Part of a catalogue elsewhere: its names that are ``base`` or below it, and match ``pattern``.

    A ``base`` that ends in ':' holds all names that start with it, an empty one all there are.
    """

    base: str
    pattern: str


class NameRules:
    """The rules of one upstream, in their order; without rules, names are the same on both sides.

    One name stands for one LFN and the other way round: where two rules would give two names the same
    LFN, or one name two, only the pair that both directions agree on is of this site.
    """

    def __init__(self, rules: Sequence[MappingRule]) -> None:
        self._rules = [(Template(rule.upstream), Template(rule.lfn)) for rule in rules]

    def lfn_of(self, name: str) -> Lfn | None:
        """Return the LFN of an upstream's name; None where it is not of this site."""
        lfn = self._here(name)
        return lfn if lfn is not None and self._there(lfn) == name else None

    def name_of(self, lfn: Lfn) -> str | None:
        """Return the upstream's name of an LFN; None where it has none."""
        name = self._there(lfn)
        return name if name is not None and self._here(name) == lfn else None

    def areas(self, base: Lfn, pattern: str) -> list[Area]:
        """Return where the names of all LFNs below ``base`` are whose last part matches ``pattern``.

        There may be more in them; nothing that is asked for is outside of them.
        """
        if not self._rules:
            return [Area(base, pattern)]
        found: list[Area] = []
        for there, here in self._rules:
            known = here.read_directory(base)
            if known is not None:
                # Only where names end alike can the other side compare the last part.
                narrow = pattern if there.tail == here.tail and there.endless else "*"
                found.append(Area(there.fill_directory(known), narrow))
        if any(area.pattern == "*" for area in found):  # so that one that holds another holds all of it
            found = [Area(area.base, "*") for area in found]
        return [area for place, area in enumerate(found) if not _covered(area, place, found)]

    def _here(self, name: str) -> Lfn | None:
        if not self._rules:
            return _parsed(name)
        for there, here in self._rules:
            values = there.read(name)
            if values is not None:
                return _parsed(here.fill(values))
        return None

    def _there(self, lfn: Lfn) -> str | None:
        if not self._rules:
            return lfn
        for there, here in self._rules:
            values = here.read(lfn)
            if values is not None:
                return there.fill(values)
        return None


class Mapped:
    """`vse.catalogue.port.Upstream` (and `Registers`) in LFNs, over a driver that speaks its own names.

    ``elements`` gives the names of storage elements there and here; those not in it keep theirs.
    ``nothing`` is a name that the driver's catalogue can read and does not have.
    """

    def __init__(
        self,
        driver: Upstream,
        rules: Sequence[MappingRule],
        elements: Mapping[str, str],
        nothing: str = "/vse-doctor-asks-for-no-file",
    ) -> None:
        self.name = driver.name
        self.driver = driver
        self._rules = NameRules(rules)
        self._elements = dict(elements)
        self._nothing = Lfn(nothing)
        self._there = {here: there for there, here in reversed([*elements.items()])}

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """As `Upstream.find`, ordered as the driver orders; names that no rule matches are left out."""
        matches = matcher(pattern)
        for area in self._rules.areas(base, pattern):
            for located in self.driver.find(Lfn(area.base), area.pattern):
                lfn = self._rules.lfn_of(located.entry.lfn)
                if lfn is not None and lfn.is_below(base) and matches(lfn.name):
                    yield self._located(located, lfn)

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """As `Upstream.resolve`; the driver is not asked about names that it cannot have."""
        result: BulkResult[Located] = BulkResult()
        names: dict[str, Lfn] = {}
        for lfn in lfns:
            name = self._rules.name_of(lfn)
            if name is None:
                result.failed[lfn] = self._unknown(lfn)
            else:
                names[name] = lfn
        answer = self.driver.resolve([Lfn(name) for name in names]) if names else BulkResult()
        for name, located in answer.ok.items():
            # What was not asked for is handed on as it is: the caller checks and refuses it.
            lfn = names.get(name) or Lfn(name)
            result.ok[lfn] = self._located(located, lfn)
        for name, error in answer.failed.items():
            lfn = names.get(name) or Lfn(name)
            result.failed[lfn] = self._unknown(lfn) if isinstance(error, NoSuchEntry) else error
        return result

    def register_replicas(self, copies: Sequence[CopyMade]) -> BulkResult[None]:
        """As `Registers.register_replicas`; raises `Unsupported` where the driver cannot."""
        if not isinstance(self.driver, Registers):
            found = "catalogues of its type are only read"
            todo = f"set upstreams.{self.name}.register_replicas = false"
            raise Unsupported(f"register replicas at the upstream {self.name!r}", found, todo)
        result: BulkResult[None] = BulkResult()
        named: dict[str, Lfn] = {}
        there: list[CopyMade] = []
        for copy in copies:
            name = self._rules.name_of(copy.lfn)
            if name is None:
                result.failed[copy.lfn] = self._unknown(copy.lfn)
                continue
            named[name] = copy.lfn
            there.append(replace(copy, lfn=Lfn(name), se=self._there.get(copy.se, copy.se)))
        answer = self.driver.register_replicas(there) if there else BulkResult[None]()
        result.ok.update((named[name], None) for name in answer.ok)
        result.failed.update((named[name], error) for name, error in answer.failed.items())
        return result

    def version(self) -> str:
        """Return what changes with all that the driver would answer; empty where it cannot tell."""
        version = getattr(self.driver, "version", None)
        return "" if version is None else str(version())

    def covers(self, lfn: Lfn) -> bool:
        """Whether the other catalogue can have a name for ``lfn``."""
        return self._rules.name_of(lfn) is not None

    def probe(self) -> None:
        """Ask the other catalogue for a name that it does not have; raise what it raises."""
        for error in self.driver.resolve([self._nothing]).failed.values():
            if not isinstance(error, NotFound):
                raise error

    def close(self) -> None:
        """Drop the driver's connections, where it has any."""
        close = getattr(self.driver, "close", None)
        if close is not None:
            close()

    def _located(self, located: Located, lfn: Lfn) -> Located:
        replicas = tuple(
            replica._replace(lfn=lfn, se=self._elements.get(replica.se, replica.se))
            for replica in located.replicas
        )
        return located._replace(
            entry=located.entry._replace(lfn=lfn),
            replicas=tuple(sorted(replicas, key=lambda replica: replica.se)),
        )

    def _unknown(self, lfn: Lfn) -> NoSuchEntry:
        return NoSuchEntry(f"find {lfn} at the upstream {self.name!r}", "there is no such file")


def _parsed(text: str) -> Lfn | None:
    try:
        lfn = Lfn.parse(text)
    except BadLfn:
        return None
    return lfn if lfn == text else None


def _covered(area: Area, place: int, areas: Sequence[Area]) -> bool:
    """Whether another of ``areas`` holds all of this one; of two equal ones the first is kept."""
    return any(
        _holds(other, area) and (number < place or not _holds(area, other))
        for number, other in enumerate(areas)
        if number != place
    )


def _holds(outer: Area, inner: Area) -> bool:
    start = outer.base if outer.base.endswith((":", "/")) or not outer.base else f"{outer.base}/"
    return inner.base == outer.base or inner.base.startswith(start)
