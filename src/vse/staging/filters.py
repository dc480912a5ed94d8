"""Files that can be made of others on their way in (seed 002 §4.3.5.6).

"You would stage 'virtual' file names to trigger the appropriate filtering": ``AliAOD.FILTER_X.root`` is made
by the filter X of the settings out of ``AliAOD.root`` beside it. The names here are pure text; what runs a
filter is in `vse.staging.filters_running`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from vse.catalogue.port import Catalogue, Names
from vse.config.filters import FilterSettings
from vse.errors import AlreadyExists, BadSettings, VseError
from vse.model import BulkResult, Lfn, Located, NewFile, ReplicaState
from vse.transfer.lifecycle import Transfer
from vse.transfer.making import Made, Making
from vse.transfer.verification import Verifier

_FIELD = re.compile(r"\\\{(stem|suffix|filter)\\\}")


class Virtual(NamedTuple):
    """What a virtual name stands for: ``source`` through the filter of this name."""

    filter: str
    source: Lfn


class Origin(NamedTuple):
    """The filter that makes a file, and the file it makes it of."""

    filter: str
    source: Located


class Template:
    """The names that one filter makes, and back. A name may be a glob: ``*.FILTER_X.root`` is ``*.root``."""

    def __init__(self, name: str, settings: FilterSettings) -> None:
        parts = {"stem": "(?P<stem>.+)", "suffix": r"(?P<suffix>\.[^.]*)", "filter": re.escape(name)}
        self._pattern = re.compile(_FIELD.sub(lambda one: parts[one[1]], re.escape(settings.template)))
        self._template = settings.template
        self._name = name
        self._match = settings.match

    def source_name(self, made: str) -> str | None:
        """Return the last part of the name of what ``made`` is made of; None where another name is."""
        found = self._pattern.fullmatch(made)
        return None if found is None else found["stem"] + found["suffix"]

    def made_name(self, source: str) -> str:
        stem, _, suffix = source.rpartition(".")
        return self._template.format(stem=stem, suffix=f".{suffix}", filter=self._name)

    def takes(self, source: Lfn) -> bool:
        return "." in source.name[1:] and fnmatchcase(source, self._match)


@dataclass(frozen=True, slots=True)
class Registered:
    """What is to be told to the catalogue of a made file."""

    lfn: Lfn
    destination: str
    made: Made


class Filters:
    """The filters of a site. ``names`` knows the real files; ``scratch`` is where files are made."""

    def __init__(
        self, settings: Mapping[str, FilterSettings], names: Names, verifier: Verifier, scratch: Path
    ) -> None:
        self._settings = dict(settings)
        self._templates = {name: Template(name, one) for name, one in settings.items()}
        self._names = names
        self._verifier = verifier
        self._scratch = scratch

    def __bool__(self) -> bool:
        return bool(self._settings)

    def parse(self, lfn: Lfn) -> Virtual | None:
        """Return what a name stands for; None for one that no filter makes."""
        for name, template in self._templates.items():
            source_name = template.source_name(lfn.name)
            if source_name is not None:
                source = lfn.parent.child(source_name)
                if template.takes(source):
                    return Virtual(name, source)
        return None

    def patterns(self, glob: str) -> list[tuple[Template, str]]:
        """Return the filters whose names a glob asks for, each with the glob of what it makes them of."""
        found = ((one, one.source_name(glob)) for one in self._templates.values())
        return [(template, source) for template, source in found if source is not None]

    def origins(self, files: Sequence[Located]) -> dict[Lfn, Origin]:
        """Return those that have no copy and can be made, with what they are made of."""
        virtual = {
            file.entry.lfn: found
            for file in files
            if not any(one.state is ReplicaState.AVAILABLE for one in file.replicas)
            and (found := self.parse(file.entry.lfn)) is not None
        }
        sources = self._names.resolve(list({one.source for one in virtual.values()})).ok if virtual else {}
        return {
            lfn: Origin(one.filter, sources[one.source])
            for lfn, one in virtual.items()
            if one.source in sources
        }

    def resolve(self, names: Names, transfers: Sequence[Transfer]) -> BulkResult[Located]:
        """Return what is to be read for each transfer, under the transfer's name."""
        asked: dict[Lfn, Lfn] = {}
        result: BulkResult[Located] = BulkResult()
        for one in transfers:
            try:
                asked[one.lfn] = self._source(one) if one.filter else one.lfn
            except VseError as error:
                result.failed[one.lfn] = error
        found = names.resolve(list(dict.fromkeys(asked.values())))
        for lfn, source in asked.items():
            if source in found.ok:
                result.ok[lfn] = found.ok[source]
            else:
                result.failed[lfn] = found.failed[source]
        return result

    def _source(self, transfer: Transfer) -> Lfn:
        template = self._templates.get(transfer.filter or "")
        name = template.source_name(transfer.lfn.name) if template else None
        if name is None:
            raise BadSettings(
                f"make {transfer.lfn}",
                f"the settings have no filter {transfer.filter!r} that makes a file of this name",
                f"write it in vse.toml, in [filters.{transfer.filter}]",
            )
        return transfer.lfn.parent.child(name)

    def making(self, transfer: Transfer, source: Located) -> Making | None:
        """Return how the file of a transfer is made; None for one that just comes."""
        if transfer.filter is None:
            return None
        from vse.staging.filters_running import Sieve

        settings = self._settings[transfer.filter]
        return Sieve(transfer.filter, settings, transfer, source.entry, self._verifier, self._scratch)

    def register(self, catalogue: Catalogue, made: Sequence[Registered]) -> dict[str, VseError]:
        """Make the names of made files known; return the errors.

        A name that is known and has no copy left is given up for the new file: what a filter makes of the
        same file twice need not be the same bytes.
        """
        new = {one.lfn: _new_file(one) for one in made}
        if not new:
            return {}
        failed = dict(catalogue.register(new.values()).failed)
        taken = [Lfn(lfn) for lfn, error in failed.items() if isinstance(error, AlreadyExists)]
        empty = [lfn for lfn, file in catalogue.resolve(taken).ok.items() if not file.replicas]
        if empty:
            gone = catalogue.remove([Lfn(one) for one in empty], forever=True).ok
            failed = {lfn: error for lfn, error in failed.items() if lfn not in gone}
            failed |= catalogue.register(new[Lfn(one)] for one in gone).failed
        return failed


def _new_file(one: Registered) -> NewFile:
    entry, made = one.made.source, one.made
    return NewFile(
        one.lfn,
        made.size_bytes,
        int(made.checksum.value, 16),
        owner=entry.owner,
        group=entry.group,
        mode=entry.mode,
        contents=made.contents,
    )
