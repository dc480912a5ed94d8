"""Records of a branch made into names again; see `vse.catalogue.branch_records`."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from vse.catalogue.branch_records import VERSION, Record
from vse.catalogue.metadata import Metadata
from vse.catalogue.port import NewReplica
from vse.catalogue.sql import SqlCatalogue
from vse.errors import AlreadyExists, BadRequest, VseError
from vse.model import (
    AccessEntry,
    Checksum,
    Contents,
    Lfn,
    NewAccess,
    NewFile,
    NewLink,
    ReplicaState,
)
from vse.model.tags import TagDefinition, TagType

_ROOT = Lfn("/")
Fail = Callable[[str, VseError], None]


class BranchMaker:
    """Makes the names of records in ``catalogue``; ``fail`` is told of each that cannot be made.

    What is there already is left as it is, so that the same can be made again: a directory keeps owner and
    mode, whatever has an access list keeps that, a file gains copies. A link or collection that differs
    fails. ``files`` and ``others`` count what was made or is the same.
    """

    def __init__(self, catalogue: SqlCatalogue, metadata: Metadata, fail: Fail) -> None:
        self._catalogue = catalogue
        self._metadata = metadata
        self._fail = fail
        self._root_is_new = next(catalogue.list(_ROOT), None) is None
        self.files = self.others = 0

    def make(self, records: Sequence[Record]) -> None:
        """Make some records, which follow those before; raises `BadRequest` for what cannot be understood."""
        alike: dict[str, list[Record]] = {kind: [] for kind in _MAKERS}
        for one in records:
            kind = str(one.get("kind"))
            if kind not in alike:
                raise BadRequest("make a branch of the catalogue", f"there is no record of the kind {kind!r}")
            alike[kind].append(one)
        for kind, some in alike.items():
            try:
                if some:
                    _MAKERS[kind](self, some)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                found = f"a record of the kind {kind} is not as it should be ({error!r})"
                raise BadRequest("make a branch of the catalogue", found) from error

    # -- names ------------------------------------------------------------------------------------

    def _directories(self, records: Sequence[Record]) -> None:
        places = {Lfn.parse(one["lfn"]): one for one in records}
        there = self._catalogue.stat([*places]).ok
        if self._root_is_new:
            there.pop(_ROOT, None)
        made: dict[tuple[str, str], list[Lfn]] = defaultdict(list)
        for lfn, one in places.items():
            made[one["owner"], one["group"]].append(lfn)
        for (owner, group), lfns in made.items():
            self._count(self._catalogue.make_directories(lfns, owner, group).failed, lfns)
        now = self._catalogue.stat([lfn for lfn in places if lfn not in there]).ok
        wanted = {lfn: (one["owner"], one["group"], int(one["mode"], 8)) for lfn, one in places.items()}
        self._change(
            NewAccess(entry.lfn, *wanted[entry.lfn])
            for entry in now.values()
            if (entry.owner, entry.group, entry.mode) != wanted[entry.lfn]
        )

    def _files(self, records: Sequence[Record]) -> None:
        files = [_new_file(one) for one in records]
        registered = self._catalogue.register(files)
        copies = [
            _new_replica(file.lfn, copy)
            for file, one in zip(files, records, strict=True)
            for copy in one["replicas"]
            if file.lfn in registered.ok
        ]
        failed = {**registered.failed, **(self._catalogue.add_replicas(copies).failed if copies else {})}
        self.files += len(registered.ok)
        for name, error in failed.items():
            self._fail(name, error)

    def _links(self, records: Sequence[Record]) -> None:
        links = [NewLink(Lfn.parse(one["lfn"]), one["target"], one["owner"], one["group"]) for one in records]
        there = self._catalogue.stat([link.lfn for link in links]).ok
        new = [link for link in links if link.lfn not in there or there[link.lfn].target != link.target]
        self._count(self._catalogue.make_links(new).failed if new else {}, links)

    def _collections(self, records: Sequence[Record]) -> None:
        for one in records:
            lfn, members = Lfn.parse(one["lfn"]), [*map(Lfn.parse, one.get("members", ()))]
            try:
                if lfn in self._catalogue.stat([lfn]).ok:
                    if [*self._catalogue.members(lfn)] != members:
                        raise AlreadyExists(f"make the collection {lfn}", "one with other members is there")
                else:
                    self._catalogue.put_collection(lfn, members, one["owner"], one["group"])
                    self._change([NewAccess(lfn, mode=int(one["mode"], 8))])
            except VseError as error:
                self._fail(lfn, error)
            else:
                self.others += 1

    # -- what is set of them ------------------------------------------------------------------------

    def _access(self, records: Sequence[Record]) -> None:
        changes = [
            NewAccess(
                Lfn.parse(one["lfn"]),
                entries=_list(one["entries"]) or None,
                defaults=_list(one["defaults"]) or None,
            )
            for one in records
        ]
        held = self._catalogue.access([new.lfn for new in changes]).ok
        self._change(
            new
            for new in changes
            if new.lfn not in held or not (held[new.lfn].entries or held[new.lfn].defaults)
        )

    def _definitions(self, records: Sequence[Record]) -> None:
        for directory, some in groupby(records, key=lambda one: Lfn.parse(one["directory"])):
            tags = [
                TagDefinition(one["name"], TagType(one["type"]), directory, one.get("note", ""))
                for one in some
            ]
            try:
                self._metadata.define(directory, tags)
            except VseError as error:
                self._fail(directory, error)

    def _tags(self, records: Sequence[Record]) -> None:
        alike: dict[tuple[tuple[str, Any], ...], list[Lfn]] = defaultdict(list)
        for one in records:
            alike[tuple(sorted(one["values"].items()))].append(Lfn.parse(one["lfn"]))
        for values, lfns in alike.items():
            for name, error in self._metadata.set(lfns, dict(values)).failed.items():
                self._fail(name, error)

    def _change(self, changes: Iterable[NewAccess]) -> None:
        for name, error in self._catalogue.change_access(changes).failed.items():
            self._fail(name, error)

    def _count(self, failed: Mapping[str, VseError], made: Sequence[Any]) -> None:
        self.others += len(made) - len(failed)
        for name, error in failed.items():
            self._fail(name, error)

    def _begin(self, records: Sequence[Record]) -> None:
        for one in records:
            if one.get("version") != VERSION:
                found = f"it is of version {one.get('version')}, and {VERSION} is understood here"
                raise BadRequest("load the catalogue", found)

    def _end(self, _: Sequence[Record]) -> None:
        """That it is there and right has been looked at by who read the records."""


_MAKERS: dict[str, Callable[[BranchMaker, list[Record]], None]] = {
    "catalogue": BranchMaker._begin,
    "directory": BranchMaker._directories,
    "file": BranchMaker._files,
    "link": BranchMaker._links,
    "collection": BranchMaker._collections,
    "access": BranchMaker._access,
    "tag": BranchMaker._definitions,
    "tags": BranchMaker._tags,
    "end": BranchMaker._end,
}


def _new_file(one: Record) -> NewFile:
    guid, modified_s, entries = one.get("guid"), one.get("modified_s"), one.get("entries")
    return NewFile(
        Lfn.parse(one["lfn"]),
        int(one["size_bytes"]),
        guid=uuid.UUID(guid).bytes if guid else None,
        owner=one["owner"],
        group=one["group"],
        mode=int(one["mode"], 8),
        modified_s=None if modified_s is None else float(modified_s),
        contents=None if entries is None else Contents(one.get("tree") or "", int(entries)),
        checksums=tuple(map(Checksum.parse, one["checksums"])),
    )


def _new_replica(lfn: Lfn, one: Record) -> NewReplica:
    return NewReplica(
        lfn,
        one["se"],
        one["url"],
        ReplicaState(one["state"]),
        source=one.get("source"),
        master=bool(one.get("master")),
    )


def _list(entries: Iterable[str]) -> tuple[AccessEntry, ...]:
    return tuple(map(AccessEntry.parse, entries))
