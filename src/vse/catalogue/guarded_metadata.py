"""Tags as one identity may see and change them: `vse.catalogue.metadata` behind `vse.catalogue.guarded`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TypeVar

from vse.catalogue.guarded import Guarded
from vse.catalogue.metadata import Metadata
from vse.errors import VseError
from vse.model import BulkResult, Lfn, Located
from vse.model.expression import Expression
from vse.model.tags import Tag, TagDefinition, TagType, TagValue

_BATCH = 4096
T = TypeVar("T")


class GuardedMetadata:
    """The tags of ``metadata`` for the identity of ``names``; what it does not say raises as `Metadata` does.

    Changing tags or schemas needs write on the files or directories they belong to, and is audited as the
    identity's; showing them what describing the names needs; finding by them what finding needs.
    """

    def __init__(self, metadata: Metadata, names: Guarded) -> None:
        self._metadata = metadata.acting(names.identity.name)
        self._names = names

    def schema(self, directory: Lfn) -> tuple[TagDefinition, ...]:
        self._none_refused(self._names.reachable([directory], "show the tags of"))
        return self._metadata.schema(directory)

    def define(self, directory: Lfn, definitions: Iterable[TagDefinition]) -> None:
        self._none_refused(self._names.writable([directory], "define tags for"))
        self._metadata.define(directory, definitions)

    def undefine(self, directory: Lfn, tags: Sequence[str]) -> None:
        self._none_refused(self._names.writable([directory], "change the tags of"))
        self._metadata.undefine(directory, tags)

    def set(self, lfns: Sequence[Lfn], values: Mapping[str, TagValue | datetime]) -> BulkResult[None]:
        allowed, failed = self._names.writable(lfns, "tag")
        return _with(self._metadata.set(allowed, values), failed)

    def unset(self, lfns: Sequence[Lfn], tags: Sequence[str]) -> BulkResult[None]:
        allowed, failed = self._names.writable(lfns, "untag")
        return _with(self._metadata.unset(allowed, tags), failed)

    def show(self, lfns: Sequence[Lfn]) -> BulkResult[tuple[Tag, ...]]:
        allowed, failed = self._names.reachable(lfns, "show the tags of")
        return _with(self._metadata.show(allowed), failed)

    def find(self, base: Lfn, pattern: str, condition: str | Expression) -> Iterator[Located]:
        """As `Metadata.find`; at its end raises `Denied` where directories below could not be read."""
        found, refused = self._names.readable(base, self._metadata.find(base, pattern, condition))
        yield from found
        if refused:
            raise refused[0]

    def among(self, files: Iterable[Located], condition: str) -> Iterator[Located]:
        """As `Metadata.among`, of those ``files`` that the identity may describe."""
        return self._metadata.among(self._described(iter(files)), condition)

    def _described(self, files: Iterator[Located]) -> Iterator[Located]:
        if self._names.unbounded:
            yield from files
            return
        while batch := list(islice(files, _BATCH)):
            seen = set(self._names.reachable([located.entry.lfn for located in batch], "describe")[0])
            yield from (located for located in batch if located.entry.lfn in seen)

    def _none_refused(self, allowed: tuple[Sequence[Lfn], Mapping[str, VseError]]) -> None:
        for error in allowed[1].values():
            raise error

    def types(self, base: Lfn) -> dict[str, TagType]:
        return self._metadata.types(base)


def _with(result: BulkResult[T], failed: Mapping[str, VseError]) -> BulkResult[T]:
    result.failed.update(failed)
    return result
