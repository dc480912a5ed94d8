"""The one place where permissions are enforced: a catalogue as one identity may see and change it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from vse.catalogue.permissions import may
from vse.catalogue.port import Catalogue, Names, NewReplica
from vse.catalogue.ways import Ways, denied, parent
from vse.errors import Denied, VseError
from vse.model import (
    Access,
    Audited,
    BulkResult,
    Details,
    Entry,
    Expired,
    Identity,
    Lfn,
    Located,
    NewAccess,
    NewFile,
    NewLink,
    ReplicaState,
    Trashed,
)
from vse.model.access import READ, WRITE

SUPERUSER = "root"
_FIRST_BATCH, _BATCH = 64, 4096
_Lfns = list[Lfn]  # inside the class, list is the method

T = TypeVar("T")
Check = Callable[[Ways, Lfn], str | None]


class Guarded:
    """`vse.catalogue.port.Catalogue` for ``identity``, as POSIX.1e would have it.

    Every directory on the way to a name must let it be entered (x), on the way it was named and on the
    real one. Listing and finding need read and x on the directory; making, removing and renaming names
    write and x on their directory (a sticky one keeps what others own); changing replicas write on the
    file; changing access its owner, and a new owner an administrator. What is made belongs to who makes
    it. ``administrators`` and root may do all, and see the catalogue as it is. `Denied` says which
    directory refuses what.

    ``names`` answers `stat`, `resolve`, `list` and `find` in place of the catalogue: a lookup cache over it.
    Bulk calls ask for each directory once, and streams hold no more than a batch.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        identity: Identity,
        administrators: Collection[str] = (),
        names: Names | None = None,
    ) -> None:
        self.identity = identity
        self.unbounded = identity.name == SUPERUSER or identity.name in administrators
        self._catalogue = catalogue
        self._names: Names = catalogue if names is None else names

    # -- reading ----------------------------------------------------------------------------------

    def stat(self, lfns: Sequence[Lfn]) -> BulkResult[Entry]:
        return self._reached(lfns, "describe", self._names.stat, lambda entry: entry.lfn)

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        return self._reached(lfns, "locate", self._names.resolve, lambda located: located.entry.lfn)

    def access(self, lfns: Sequence[Lfn]) -> BulkResult[Access]:
        return self._reached(lfns, "tell the access of", self._catalogue.access, lambda one: one.lfn)

    def details(self, lfns: Sequence[Lfn]) -> BulkResult[Details]:
        return self._reached(lfns, "tell the checksums of", self._catalogue.details, lambda one: one.lfn)

    def list(self, directory: Lfn) -> Iterator[Entry]:
        access = self._must_read(f"list {directory}", directory).at(directory)
        if access is not None and access.kind == "collection":
            return self._entries(self._catalogue.members(directory))
        return self._names.list(directory)

    def _entries(self, members: Iterator[Lfn]) -> Iterator[Entry]:
        """Yield those members that there are; at the end raise `Denied` for one that is refused."""
        refused: VseError | None = None
        while lfns := list(islice(members, _BATCH)):
            found = self.stat(lfns)
            yield from (found.ok[lfn] for lfn in lfns if lfn in found.ok)
            denials = (error for error in found.failed.values() if isinstance(error, Denied))
            refused = refused or next(denials, None)
        if refused is not None:
            raise refused

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """As the port says; at its end raises `Denied` where directories below could not be read."""
        found, refused = self.find_with_report(base, pattern)
        yield from found
        if refused:
            raise refused[0]

    def find_with_report(self, base: Lfn, pattern: str) -> tuple[Iterator[Located], _Refused]:
        """Return the files and a list that grows, while they are read, by a `Denied` for each directory
        of which files matched that may not be read. Raises `Denied` for ``base`` itself."""
        return self.readable(base, self._names.find(base, pattern))

    def readable(self, base: Lfn | None, found: Iterator[Located]) -> tuple[Iterator[Located], _Refused]:
        """As `find_with_report`, of the answer to any question about files below ``base``.

        ``base`` None: the files were not found by reading directories, so that these need only be entered.
        """
        refused: list[Denied] = []
        if self.unbounded:
            return found, refused
        if base is None:
            return self._readable(self._ways(()), Lfn("/"), True, found, refused), refused
        ways = self._must_read(f"find below {base}", base)
        access = ways.at(base)
        start = base if access is None else access.lfn
        collection = access is not None and access.kind == "collection"
        return self._readable(ways, start, collection, found, refused), refused

    def _readable(
        self, ways: Ways, base: Lfn, collection: bool, found: Iterator[Located], refused: _Refused
    ) -> Iterator[Located]:
        told: set[str] = set()
        most = _FIRST_BATCH
        while batch := list(islice(found, most)):
            most = min(_BATCH, most * 4)
            ways.learn({parent(located.entry.lfn) for located in batch})
            for located in batch:
                place = parent(located.entry.lfn)
                closed = ways.entering(place) if collection else None
                refusal = (place, closed) if closed else None
                if not collection and located.entry.lfn != base:
                    refusal = ways.reading(base, place)
                if refusal is None:
                    yield located
                elif refusal[0] not in told:
                    told.add(refusal[0])
                    refused.append(denied(f"find files in {refusal[0]}", refusal[1]))

    def members(self, collection: Lfn) -> Iterator[Lfn]:
        self._must_read(f"list the members of {collection}", collection)
        return self._catalogue.members(collection)

    def by_guid(self, guids: Sequence[bytes]) -> dict[bytes, tuple[Lfn, ...]]:
        """As the port says, of the names whose directories may be entered."""
        named = self._catalogue.by_guid(guids)
        if self.unbounded:
            return named
        ways = self._ways(parent(lfn) for lfns in named.values() for lfn in lfns)
        return {
            guid: tuple(lfn for lfn in lfns if ways.entering(parent(lfn)) is None)
            for guid, lfns in named.items()
        }

    def history(self, lfn: Lfn) -> Iterator[Audited]:
        self._must(f"tell the history of {lfn}", lfn, lambda ways, one: ways.entering(parent(one)))
        return self._catalogue.history(lfn)

    # -- files and their copies -------------------------------------------------------------------

    def register(self, files: Iterable[NewFile]) -> BulkResult[Lfn]:
        if self.unbounded:
            return self._catalogue.register(files)
        wanted = [*files]
        allowed, failed = self._sorted_out([file.lfn for file in wanted], "register", _changing)
        kept = set(allowed)
        result = self._catalogue.register([self._mine(file) for file in wanted if file.lfn in kept])
        result.failed.update(failed)
        return result

    def add_replicas(self, replicas: Iterable[NewReplica]) -> BulkResult[None]:
        wanted = [*replicas]
        allowed, failed = self.writable([one.lfn for one in wanted], "add a replica of")
        kept = set(allowed)
        result = self._catalogue.add_replicas([one for one in wanted if one.lfn in kept])
        result.failed.update(failed)
        return result

    def mark_replicas(
        self, lfns: Sequence[Lfn], se: str, state: ReplicaState | None = None, *, master: bool = False
    ) -> BulkResult[None]:
        allowed, failed = self.writable(lfns, "mark the replica of")
        return _with(self._catalogue.mark_replicas(allowed, se, state, master=master), failed)

    def remove_replicas(self, lfns: Sequence[Lfn], se: str) -> BulkResult[None]:
        allowed, failed = self.writable(lfns, "forget the replica of")
        return _with(self._catalogue.remove_replicas(allowed, se), failed)

    def note_access(self, lfns: Sequence[Lfn], se: str, when_s: float) -> None:
        allowed, _ = self.reachable(lfns, "read")
        self._catalogue.note_access(allowed, se, when_s)

    # -- names ------------------------------------------------------------------------------------

    def make_directories(self, lfns: Sequence[Lfn], owner: str, group: str) -> BulkResult[None]:
        allowed, failed = self._sorted_out(lfns, "make the directory", self._making)
        return _with(self._catalogue.make_directories(allowed, *self._owners(owner, group)), failed)

    def make_links(self, links: Iterable[NewLink]) -> BulkResult[None]:
        wanted = {link.lfn: link for link in links}
        allowed, failed = self._sorted_out(list(wanted), "make the link", _changing)
        made = [self._mine(wanted[lfn]) for lfn in allowed]
        return _with(self._catalogue.make_links(made), failed)

    def put_collection(self, collection: Lfn, members: Iterable[Lfn], owner: str, group: str) -> None:
        def check(ways: Ways, lfn: Lfn) -> str | None:
            ways.learn([lfn])
            access = ways.at(lfn)
            if access is None:
                return _changing(ways, lfn)
            return ways.entering(parent(lfn)) or may(self.identity, access, WRITE)

        self._must(f"change the collection {collection}", collection, check)
        self._catalogue.put_collection(collection, members, *self._owners(owner, group))

    def rename(self, source: Lfn, target: Lfn) -> None:
        wanted = f"rename {source} to {target}"
        self._must(wanted, source, self._taking([source]))
        self._must(wanted, target, _changing)
        self._catalogue.rename(source, target)

    def change_access(self, changes: Iterable[NewAccess]) -> BulkResult[None]:
        wanted = {new.lfn: new for new in changes}

        def check(ways: Ways, lfn: Lfn) -> str | None:
            access = ways.at(lfn)
            if access is None:
                return ways.entering(parent(lfn))
            closed = ways.entering(parent(lfn)) or ways.entering(parent(access.lfn))
            return closed or self._owning(access, wanted[lfn])

        allowed, failed = self._sorted_out(list(wanted), "change the access of", check, themselves=True)
        return _with(self._catalogue.change_access([wanted[lfn] for lfn in allowed]), failed)

    def _owning(self, access: Access, new: NewAccess) -> str | None:
        me = self.identity
        if me.name != access.owner:
            return f"{access.lfn} has mode {access.mode:04o} and owner {access.owner}, not {me.name}"
        if new.owner not in (None, access.owner):
            return f"only administrators give {access.lfn} another owner"
        if new.group is not None and new.group not in (access.group, *me.groups):
            return f"{me.name}, the owner of {access.lfn}, is not in the group {new.group}"
        return None

    # -- removing ---------------------------------------------------------------------------------

    def remove(self, lfns: Sequence[Lfn], *, forever: bool = False) -> BulkResult[None]:
        allowed, failed = self._sorted_out(lfns, "remove", self._taking(lfns))
        return _with(self._catalogue.remove(allowed, forever=forever), failed)

    def trash(self) -> Iterator[Trashed]:
        """Yield what ``identity`` removed; of administrators, all."""
        return (one for one in self._catalogue.trash() if self.unbounded or self._removed(one))

    def undelete(self, ids: Sequence[int]) -> BulkResult[Lfn]:
        if self.unbounded:
            return self._catalogue.undelete(ids)
        asked = dict.fromkeys(ids)
        mine = {one.id: one.lfn for one in self.trash() if one.id in asked}
        _, refused = self._sorted_out(list(mine.values()), "restore", _changing)
        failed = {str(which): refused[lfn] for which, lfn in mine.items() if lfn in refused}
        failed |= {str(one): self._not_mine(f"restore {one}") for one in asked if one not in mine}
        return _with(self._catalogue.undelete([one for one in mine if str(one) not in failed]), failed)

    def expired(self, now_s: float, ids: Sequence[int] | None = None) -> Iterator[Expired]:
        """As the port says; without ``ids`` only for administrators."""
        if not self.unbounded and ids is None:
            raise self._not_mine("empty the trash")
        return (
            one for one in self._catalogue.expired(now_s, ids) if self.unbounded or self._removed(one.trashed)
        )

    def forget_trash(self, ids: Sequence[int]) -> None:
        if not self.unbounded:
            others = set(ids) - {one.id for one in self.trash()}
            if others:
                raise self._not_mine(f"empty the trash of {', '.join(map(str, sorted(others)))}")
        self._catalogue.forget_trash(ids)

    def _removed(self, one: Trashed) -> bool:
        return one.removed_by == self.identity.name

    def _not_mine(self, wanted: str) -> Denied:
        return denied(wanted, f"{self.identity.name} did not remove it and is no administrator")

    # -- asking before --------------------------------------------------------------------------

    def ensure_makable(self, lfns: Sequence[Lfn]) -> None:
        """Raise `Denied` where a name could not be made: before its bytes are written to a storage."""
        self._none_refused(self._sorted_out(lfns, "make", _changing))

    def ensure_removable(self, lfns: Sequence[Lfn]) -> None:
        """Raise `Denied` where a name could not be removed or renamed: before its copies are."""
        self._none_refused(self._sorted_out(lfns, "remove", self._taking(lfns)))

    def ensure_writable(self, lfns: Sequence[Lfn]) -> None:
        """Raise `Denied` where the replicas of a file could not be changed."""
        self._none_refused(self.writable(lfns, "change the copies of"))

    def ensure_readable(self, lfns: Sequence[Lfn]) -> None:
        """Raise `Denied` where the bytes of a file could not be read."""
        self._none_refused(self.legible(lfns, "read"))

    def writable(self, lfns: Sequence[Lfn], verb: str) -> tuple[_Lfns, dict[str, VseError]]:
        """Return the names that may be written to, and `Denied` for the others: they cannot be ``verb``ed."""
        return self._allowing(lfns, verb, WRITE)

    def legible(self, lfns: Sequence[Lfn], verb: str) -> tuple[_Lfns, dict[str, VseError]]:
        """As `writable`, of files whose bytes may be read."""
        return self._allowing(lfns, verb, READ)

    def reachable(self, lfns: Sequence[Lfn], verb: str) -> tuple[_Lfns, dict[str, VseError]]:
        """As `writable`, of names whose directories may be entered."""
        return self._sorted_out(lfns, verb, lambda ways, one: ways.entering(parent(one)))

    def _none_refused(self, sorted_out: tuple[_Lfns, dict[str, VseError]]) -> None:
        for error in sorted_out[1].values():
            raise error

    # -- deciding ---------------------------------------------------------------------------------

    def _ways(self, directories: Iterable[str]) -> Ways:
        ways = Ways(self._catalogue, self.identity)
        ways.learn(directories)
        return ways

    def _sorted_out(
        self, lfns: Sequence[Lfn], verb: str, check: Check, *, themselves: bool = False
    ) -> tuple[_Lfns, dict[str, VseError]]:
        """Return the names that ``check`` lets pass, and why not for the others.

        ``themselves``: the check asks about the names, not only about their directories.
        """
        if self.unbounded:
            return list(lfns), {}
        ways = self._ways(lfns if themselves else map(parent, lfns))
        allowed: _Lfns = []
        failed: dict[str, VseError] = {}
        for lfn in lfns:
            why = check(ways, lfn)
            if why is None:
                allowed.append(lfn)
            else:
                failed[lfn] = denied(f"{verb} {lfn}", why)
        return allowed, failed

    def _must(self, wanted: str, lfn: Lfn, check: Check) -> None:
        _, failed = self._sorted_out([lfn], "", check)
        for error in failed.values():
            raise denied(wanted, error.found)

    def _must_read(self, wanted: str, name: Lfn) -> Ways:
        """Raise `Denied` unless a directory or collection may be read, and the way to it entered."""
        ways = Ways(self._catalogue, self.identity)
        if self.unbounded:
            return ways
        ways.learn([name])
        access = ways.at(name)
        why = ways.entering(parent(name))
        if why is None and access is not None:
            why = ways.entering(parent(access.lfn))
            if why is None and access.kind == "directory":
                refusal = ways.reading(access.lfn, access.lfn)
                why = refusal[1] if refusal else None
            elif why is None and access.kind == "collection":
                why = may(self.identity, access, READ)
        if why is not None:
            raise denied(wanted, why)
        return ways

    def _reached(
        self,
        lfns: Sequence[Lfn],
        verb: str,
        call: Callable[[Sequence[Lfn]], BulkResult[T]],
        real: Callable[[T], Lfn],
    ) -> BulkResult[T]:
        """Ask about those names whose directories may be entered, as named and as they really are."""
        if self.unbounded:
            return call(lfns)
        allowed, failed = self.reachable(lfns, verb)
        result = call(allowed)
        elsewhere = {lfn: led for lfn, one in result.ok.items() if (led := real(one)) != lfn}
        if elsewhere:
            ways = self._ways(map(parent, elsewhere.values()))
            for lfn, led in elsewhere.items():
                why = ways.entering(parent(led))
                if why is not None:
                    del result.ok[lfn]
                    failed[lfn] = denied(f"{verb} {lfn}", why)
        result.failed.update(failed)
        return result

    def _allowing(
        self, lfns: Sequence[Lfn], verb: str, permissions: int
    ) -> tuple[_Lfns, dict[str, VseError]]:
        def check(ways: Ways, lfn: Lfn) -> str | None:
            access = ways.at(lfn)
            if access is None:
                return ways.entering(parent(lfn))
            closed = ways.entering(parent(lfn)) or ways.entering(parent(access.lfn))
            return closed or may(self.identity, access, permissions)

        return self._sorted_out(lfns, verb, check, themselves=True)

    def _making(self, ways: Ways, lfn: Lfn) -> str | None:
        """A directory that is there already is made by nobody."""
        ways.learn([lfn])
        return ways.entering(parent(lfn)) if ways.at(lfn) else _changing(ways, lfn)

    def _taking(self, lfns: Sequence[Lfn]) -> Check:
        owners: dict[str, str] = {}
        if not self.unbounded:
            owners = {lfn: entry.owner for lfn, entry in self._catalogue.stat(lfns).ok.items()}

        def check(ways: Ways, lfn: Lfn) -> str | None:
            refusal = _changing(ways, lfn)
            return refusal or (ways.keeping(parent(lfn), owners[lfn]) if lfn in owners else None)

        return check

    def _owners(self, owner: str, group: str) -> tuple[str, str]:
        if self.unbounded:
            return owner, group
        me = self.identity
        return me.name, group if group in me.groups else next(iter(me.groups), me.name)

    def _mine(self, new: Any) -> Any:
        """Return a new file or link as one of the identity's own."""
        owner, group = self._owners(new.owner, new.group)
        same = (owner, group) == (new.owner, new.group)
        return new if same else replace(new, owner=owner, group=group)


_Refused = list[Denied]


def _changing(ways: Ways, lfn: Lfn) -> str | None:
    return ways.changing(parent(lfn))


def _with(result: BulkResult[T], failed: dict[str, VseError]) -> BulkResult[T]:
    result.failed.update(failed)
    return result
