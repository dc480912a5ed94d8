"""Names with those that can be made: a virtual name is found before its file is there."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from vse.catalogue.port import Names
from vse.model import BulkResult, Entry, Lfn, Located
from vse.staging.filters import Filters, Template

_CHUNK = 500


class WithVirtual:
    """`vse.catalogue.port.Names`: real ones, and beside them what filters can make of them.

    A file that can be made has no size and no copies, and its ``target`` is what it would be made of. A
    `find` tells of such only where its glob asks for the names of a filter.
    """

    def __init__(self, names: Names, filters: Filters) -> None:
        self._names = names
        self._filters = filters

    def stat(self, lfns: Sequence[Lfn]) -> BulkResult[Entry]:
        result = self._names.stat(lfns)
        for lfn, made in self._possible(result.failed).items():
            del result.failed[lfn]
            result.ok[lfn] = made.entry
        return result

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        result = self._names.resolve(lfns)
        for lfn, made in self._possible(result.failed).items():
            del result.failed[lfn]
            result.ok[lfn] = made
        return result

    def list(self, directory: Lfn) -> Iterator[Entry]:
        return self._names.list(directory)

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        return self.widened(base, pattern, self._names.find(base, pattern))

    def widened(self, base: Lfn, pattern: str, real: Iterator[Located]) -> Iterator[Located]:
        """Yield ``real``, the answer to a find, and in its place what else can be made."""
        virtual = [
            self._made_below(base, template, glob) for template, glob in self._filters.patterns(pattern)
        ]
        if self._filters.parse(base) is not None:
            virtual.append(self._made_itself(base))
        return heapq.merge(real, *virtual, key=_order) if virtual else real

    def _possible(self, lfns: Iterable[str]) -> dict[Lfn, Located]:
        """Return those of some missing names that can be made."""
        asked = {Lfn(one): found for one in lfns if (found := self._filters.parse(Lfn(one))) is not None}
        sources = self._names.resolve([one.source for one in asked.values()]).ok if asked else {}
        return {
            lfn: _virtual(lfn, sources[one.source].entry)
            for lfn, one in asked.items()
            if one.source in sources
        }

    def _made_itself(self, lfn: Lfn) -> Iterator[Located]:
        if lfn in self._names.resolve([lfn]).failed:
            yield from self._possible([lfn]).values()

    def _made_below(self, base: Lfn, template: Template, glob: str) -> Iterator[Located]:
        sources = self._names.find(base, glob)
        while some := list(islice(sources, _CHUNK)):
            lfns = [one.entry.lfn for one in some]
            names = {
                lfn.parent.child(template.made_name(lfn.name)): one
                for lfn, one in zip(lfns, some, strict=True)
                if template.takes(lfn) and self._filters.parse(lfn) is None
            }
            there = self._names.resolve(list(names)).ok
            yield from (_virtual(lfn, source.entry) for lfn, source in names.items() if lfn not in there)


def _virtual(lfn: Lfn, source: Entry) -> Located:
    entry = source._replace(lfn=lfn, size_bytes=None, adler32=None, guid=None, target=source.lfn)
    return Located(entry, ())


def _order(file: Located) -> tuple[str, str]:
    lfn = file.entry.lfn
    return lfn.parent, lfn.name
