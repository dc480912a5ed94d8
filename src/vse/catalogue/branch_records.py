"""A branch of the catalogue as records: all its names with what is beside them, in an order to make them in.

Each record is a JSON object with a ``kind``; docs/formats.md describes them. What is read of a branch is
not one snapshot: names that are added or removed meanwhile may be in it or not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import IO, Any

from vse.catalogue.metadata import Metadata
from vse.catalogue.sql import SqlCatalogue
from vse.db.prepared import chunks
from vse.errors import NoSuchEntry
from vse.model import Access, Details, Entry, Lfn, Located

VERSION = 1
_BATCH = 2000
_IN_MEMORY_BYTES = 8 * 1024 * 1024
Record = dict[str, Any]


class Branch:
    """What is at and below ``base``. What only upstreams told is left out: they tell it again."""

    def __init__(self, catalogue: SqlCatalogue, metadata: Metadata, base: Lfn) -> None:
        self._catalogue = catalogue
        self._metadata = metadata
        self._base = catalogue.stat([base]).one(base)

    def records(self) -> Iterator[Record]:
        """Yield names, each below its directory, then what is set of them; ``end`` is the last.

        Memory does not grow with their number; a collection is one record.
        """
        yield {"kind": "catalogue", "version": VERSION, "base": self._base.lfn}
        count = 0
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, "w+", encoding="utf-8") as later:
            for entries in chunks(self._entries(), _BATCH):
                for record in self._names(entries, later):
                    count += 1
                    yield record
            later.seek(0)
            for record in self._definitions():
                count += 1
                yield record
            for line in later:
                count += 1
                yield json.loads(line)
        yield {"kind": "end", "records": count}

    def _entries(self) -> Iterator[Entry]:
        """Yield every name, a directory before what it holds."""
        yield self._base
        if self._base.kind != "directory":
            return
        open_directories = [self._catalogue.list(self._base.lfn)]
        while open_directories:
            entry = next(open_directories[-1], None)
            if entry is None:
                open_directories.pop()
                continue
            yield entry
            if entry.kind == "directory":
                with suppress(NoSuchEntry):  # removed since it was listed
                    open_directories.append(self._catalogue.list(entry.lfn))

    def _names(self, entries: Sequence[Entry], later: IO[str]) -> Iterator[Record]:
        files = [entry.lfn for entry in entries if entry.kind == "file"]
        own = {located.entry.lfn: located for located, fresh in self._catalogue.known(files) if fresh is None}
        details = self._catalogue.details([*own]).ok
        for entry in entries:
            if entry.kind == "file":
                if entry.lfn in own:
                    yield _file(own[entry.lfn], details.get(entry.lfn))
            else:
                yield self._other(entry)
        named = [entry for entry in entries if entry.kind != "file" or entry.lfn in own]
        for record in self._beside(named):
            later.write(json.dumps(record, ensure_ascii=False) + "\n")

    def _other(self, entry: Entry) -> Record:
        record = {"kind": entry.kind, "lfn": entry.lfn, "owner": entry.owner, "group": entry.group}
        if entry.kind == "link":
            return record | {"target": entry.target}
        record["mode"] = f"{entry.mode:04o}"
        if entry.kind == "collection":
            with suppress(NoSuchEntry):
                return record | {"members": [*self._catalogue.members(entry.lfn)]}
        return record

    def _beside(self, entries: Iterable[Entry]) -> Iterator[Record]:
        lfns = [entry.lfn for entry in entries if entry.kind != "link"]
        for access in self._catalogue.access(lfns).ok.values():
            if access.entries or access.defaults:
                yield _access(access)
        tagged = [entry.lfn for entry in entries if entry.kind in ("file", "directory")]
        for lfn, tags in self._metadata.show(tagged).ok.items():
            values = {tag.name: tag.value for tag in tags if tag.origin == lfn}
            if values:
                yield {"kind": "tags", "lfn": lfn, "values": values}

    def _definitions(self) -> Iterator[Record]:
        if self._base.kind != "directory":
            return
        for one in self._metadata.definitions(self._base.lfn):
            record = {"kind": "tag", "directory": one.directory, "name": one.name, "type": str(one.type)}
            yield record | ({"note": one.note} if one.note else {})


def _file(located: Located, details: Details | None) -> Record:
    entry, inside = located.entry, located.contents
    origins = {one.se: one for one in details.origins} if details else {}
    record: Record = {
        "kind": "file",
        "lfn": entry.lfn,
        "size_bytes": entry.size_bytes,
        "checksums": [str(one) for one in details.checksums] if details else [],
        "guid": None if entry.uuid is None else str(entry.uuid),
        "owner": entry.owner,
        "group": entry.group,
        "mode": f"{entry.mode:04o}",
        "modified_s": entry.modified_s,
        "replicas": [],
    }
    if inside is not None:
        record |= {"tree": inside.tree, "entries": inside.entries}
    for one in located.replicas:
        if one.origin:
            continue
        copy: Record = {"se": one.se, "url": one.url, "state": str(one.state)}
        if one.se in origins:
            copy |= {"source": origins[one.se].source, "master": origins[one.se].master}
        record["replicas"].append(copy)
    return record


def _access(access: Access) -> Record:
    lists = {"entries": access.entries, "defaults": access.defaults}
    return {"kind": "access", "lfn": access.lfn} | {key: [*map(str, one)] for key, one in lists.items()}
