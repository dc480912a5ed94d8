"""Removing, renaming, making directories, comparing checksums: what concerns catalogue, storages and links.

A storage is changed before the catalogue, so that a kill between the two leaves a name whose copy is
gone (the same command goes on from there), never a file that nobody knows.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from vse.app.places import Place, real_place
from vse.app.site import Site
from vse.catalogue.port import NewReplica
from vse.errors import (
    AlreadyExists,
    BadRequest,
    Denied,
    NoPlan,
    NoSuchFile,
    NoSuchReplica,
    Unsupported,
    VseError,
)
from vse.model import Adler32, BulkResult, Checksum, Identity, Lfn, Located, Replica, ReplicaState
from vse.staging.protection import stored_as
from vse.storage.element import StorageElement


class Removal(NamedTuple):
    """What goes: a copy (``se``), or a name (``se`` empty), at its end or an empty directory."""

    lfn: Lfn
    se: str
    size_bytes: int | None
    stored: Lfn
    guid: bytes | None

    def __str__(self) -> str:
        return f"{self.lfn}@{self.se}" if self.se else self.lfn


# -- removing ----------------------------------------------------------------------------------------


def into_trash(site: Site, forever: bool) -> bool:
    """Whether names go to the trash, with their copies left where they are until it is emptied."""
    return site.settings.catalogue.trash_s > 0 and not forever


def plan_removal(
    site: Site, place: Place, *, last_copy: bool = False, forever: bool = False
) -> list[Removal]:
    """Return all that `remove` would do for one place, having looked whether it may.

    A whole name goes to the trash where the site keeps one, unless ``forever``; its copies then stay.

    Raises `Denied` for the only copy of a file unless ``last_copy``, and for names that an upstream
    catalogue tells of; `NoPlan` where a storage element lets nothing be removed.
    """
    lfn = place.lfn
    if lfn is None:
        raise BadRequest(f"remove {place}", "it is no name of the catalogue", "name an LFN, or LFN@SE")
    names = site.names_for(Identity.of_process())
    entry = names.stat([lfn]).one(lfn)
    lfn = entry.lfn
    if not place.se:
        names.ensure_removable([lfn])
    if entry.kind != "file":
        return [_no_file(lfn, entry.kind, place.se)]
    located = names.resolve([lfn]).one(lfn)
    _refuse_upstreams(site, located, f"remove {place}")
    if not place.se:
        if into_trash(site, forever):
            return [Removal(lfn, "", located.entry.size_bytes, lfn, None)]
        copies = [_copy(site, located, replica) for replica in located.replicas]
        return [*copies, Removal(lfn, "", located.entry.size_bytes, lfn, None)]
    here = [one for one in located.replicas if site.elements.name_of(one.se) in site.names_in(place.se)]
    if not here:
        has = ", ".join(one.se for one in located.replicas) or "none"
        raise NoSuchReplica(f"remove {place}", f"it has no copy there; it has: {has}")
    names.ensure_writable([lfn])
    others = [one for one in located.replicas if one not in here and one.state is ReplicaState.AVAILABLE]
    if not others and not last_copy:
        raise Denied(
            f"remove {place}",
            "it is the last copy of the file",
            f"copy it elsewhere first, remove the name with it (vse rm {lfn}), or say --last-copy",
        )
    return [_copy(site, located, replica) for replica in here]


def _no_file(lfn: Lfn, kind: str, se: str) -> Removal:
    if se:
        raise BadRequest(f"remove {lfn}@{se}", f"it is a {kind}", "name files, or a whole name by its LFN")
    return Removal(lfn, "", None, lfn, None)


def _refuse_upstreams(site: Site, located: Located, wanted: str) -> None:
    lfn = located.entry.lfn
    origins = sorted({one.origin for one in located.replicas if one.origin})
    told = any(fresh_until_s is not None for _, fresh_until_s in site.catalogue.known([lfn]))
    if origins or told:
        name = ", ".join(origins) or "an upstream catalogue"
        raise Denied(wanted, f"the name belongs to {name}, which tells of it", "ask there")


def _copy(site: Site, located: Located, replica: Replica) -> Removal:
    """Return how a copy is removed; raise where its element is not known or forbids it."""
    element = site.elements.get(replica.se)
    element.plan("remove")
    if not element.can("remove"):
        raise Unsupported(f"remove {replica.lfn}@{replica.se}", "no driver of it can remove")
    stored, guid = stored_as(element, replica, located.entry.guid)
    return Removal(replica.lfn, replica.se, located.entry.size_bytes, stored, guid)


def remove(
    site: Site,
    removals: Sequence[Removal],
    note: Callable[[Removal], None] = lambda _: None,
    *,
    forever: bool = False,
) -> None:
    """Carry removals out, in their order. A copy that is gone already is only forgotten."""
    names = site.names_for(Identity.of_process())
    for one in removals:
        if one.se:
            element = site.elements.get(one.se)
            with contextlib.suppress(NoSuchFile):
                element.remove([one.stored], {one.stored: one.guid}).one(one.stored)
            site.catalogue.acting(names.identity.name).remove_replicas([one.lfn], one.se).one(one.lfn)
            relink(site, one.lfn)
        else:
            names.remove([one.lfn], forever=forever).one(one.lfn)
            site.links.drop([one.lfn])
        note(one)


def relink(site: Site, lfn: Lfn) -> None:
    """Make the link of a file lead to a copy on this machine, or nowhere if there is none."""
    located = site.catalogue.resolve([lfn]).ok.get(lfn)
    for replica in located.replicas if located else ():
        path = local_path(site, replica, located.entry.guid) if located else None
        if path is not None:
            site.links.ensure({lfn: path})
            return
    site.links.drop([lfn])


def local_path(site: Site, replica: Replica, guid: bytes | None) -> Path | None:
    """Return where a copy can be opened on this machine now; None where it cannot."""
    if replica.se not in site.elements or replica.state is not ReplicaState.AVAILABLE:
        return None
    element = site.elements.get(replica.se)
    try:
        path = element.local_path(*stored_as(element, replica, guid))
    except VseError:
        return None
    return path if path is not None and path.is_file() else None


# -- renaming ----------------------------------------------------------------------------------------


class Moved(NamedTuple):
    """A name that was changed; ``elements`` are those whose files were renamed, ``kept`` those that could
    not, so that the catalogue holds the URL of the copy there."""

    source: Lfn
    target: Lfn
    elements: tuple[str, ...]
    kept: tuple[str, ...]


def move(site: Site, source: Lfn, target: Lfn) -> Moved:
    """Rename a file or a directory, in the catalogue, the link tree, and on storages that store by LFN.

    A target that is a directory gets the name below it. Raises `AlreadyExists` for one that is taken, and
    `Unsupported` for a directory of which a storage cannot rename its part; nothing is changed then.
    """
    names = site.names_for(Identity.of_process())
    entry = names.stat([source]).one(source)
    source, target = entry.lfn, real_place(site, target)
    held = names.access([target]).ok.get(target)
    if held is not None and held.kind == "directory":
        target = held.lfn.child(source.name)
    taken = names.stat([target]).ok.get(target)
    names.ensure_removable([source])
    names.ensure_makable([target])
    if taken is not None:
        raise AlreadyExists(
            f"rename {source} to {target}", f"{target} is there already", "choose another name"
        )
    if target.is_below(source):
        raise BadRequest(f"rename {source} to {target}", "a directory cannot be moved into itself")
    below = list(site.catalogue.find(source, "*")) if entry.kind in ("file", "directory") else []
    for located in below:
        _refuse_upstreams(site, located, f"rename {source}")
    derived = sorted({one.se for located in below for one in located.replicas if one.url is None})
    whole = entry.kind == "directory"
    kept = _unable(site, source, derived, below, whole)
    renamed = [se for se in derived if se not in kept]
    pinned = _pinned(site, source, target, below, kept)
    _rename_files(site, renamed, source, target)
    try:
        names.rename(source, target)
    except VseError:
        _rename_files(site, renamed, target, source)
        raise
    site.catalogue.add_replicas(pinned)
    site.links.drop([located.entry.lfn for located in below])
    for located in below:
        relink(site, _moved(located.entry.lfn, source, target))
    return Moved(source, target, tuple(renamed), tuple(kept))


def _moved(lfn: Lfn, source: Lfn, target: Lfn) -> Lfn:
    return Lfn(target + lfn[len(source) :])


def _unable(
    site: Site, source: Lfn, derived: Sequence[str], below: Sequence[Located], whole: bool
) -> list[str]:
    """Return the elements that cannot rename their copy of a file; raise where it is a directory."""
    unable: list[str] = []
    for se in derived:
        element = site.elements.get(se)
        if not _renames(element):
            unable.append(se)
        elif whole and any(one.se == se and one.url for located in below for one in located.replicas):
            raise Unsupported(f"rename the directory {source}", f"{se} has copies below it under other names")
    if whole and unable:
        raise Unsupported(
            f"rename the directory {source}",
            f"{', '.join(unable)} cannot rename what it holds of it",
            "move its files one by one",
        )
    return unable


def _renames(element: StorageElement) -> bool:
    try:
        sections = element.plan("write").sections
    except NoPlan:
        return False
    abilities = element.abilities()
    able = [abilities[section.section] for section in sections]
    return any(not isinstance(one, VseError) and one.rename for one in able)


def _pinned(
    site: Site, source: Lfn, target: Lfn, below: Sequence[Located], kept: Sequence[str]
) -> list[NewReplica]:
    """Return the copies that keep their old place, with the URL by which they are found from now on."""
    return [
        NewReplica(
            _moved(located.entry.lfn, source, target),
            one.se,
            site.elements.get(one.se).registration_url(located.entry.lfn, located.entry.guid),
            one.state,
        )
        for located in below
        for one in located.replicas
        if one.se in kept and one.url is None
    ]


def _rename_files(site: Site, names: Sequence[str], source: Lfn, target: Lfn) -> None:
    """Rename on each storage; where one refuses, those before it are renamed back.

    What has the new name already was renamed by a run that was killed.
    """
    done: list[str] = []
    for se in names:
        element = site.elements.get(se)
        try:
            element.rename(source, target)
        except VseError as error:
            if isinstance(error, NoSuchFile) and target in element.stat([target]).ok:
                continue
            for before in reversed(done):
                site.elements.get(before).rename(target, source)
            raise
        done.append(se)


# -- directories and checksums -----------------------------------------------------------------------


def make_directories(site: Site, places: Sequence[Place]) -> BulkResult[None]:
    """Make directories of the catalogue; with ``se``, on that storage as well."""
    owner = Identity.of_process()
    names = site.names_for(owner)
    result: BulkResult[None] = BulkResult()
    for place in places:
        lfn = place.lfn
        try:
            if lfn is None:
                raise BadRequest(
                    f"make the directory {place}", "it is no name of the catalogue", f"mkdir {place}"
                )
            lfn = real_place(site, lfn)
            if place.se:
                names.ensure_makable([lfn])
                site.elements.get(place.se).make_directory(lfn)
            names.make_directories([lfn], owner.name, owner.groups[0]).one(lfn)
        except VseError as error:
            result.failed[str(place)] = error
        else:
            result.ok[str(place)] = None
    return result


class Sums(NamedTuple):
    """The checksums of one copy: as its storage says, and of the bytes as they are read; or why not.

    ``told`` is of the element's ChecksumType; ``alike`` is computed in the same manner, where it can be.
    """

    se: str
    told: Checksum | VseError | None
    computed: Checksum | VseError
    alike: Checksum | None = None


class Compared(NamedTuple):
    """The checksum of a file in the catalogue, and of each copy."""

    lfn: Lfn
    catalogue: Checksum | None
    copies: tuple[Sums, ...]

    @property
    def differ(self) -> bool:
        """Whether two of all those that are known are not the same."""
        every = (one for copy in self.copies for one in (copy.told, copy.computed, copy.alike))
        known = {one for one in (self.catalogue, *every) if isinstance(one, Checksum)}
        return len(known) > len({one.algorithm for one in known})


def checksums(site: Site, lfn: Lfn, note: Callable[[int], None] = lambda _: None) -> Compared:
    """Compare the checksums of a file: in the catalogue, as each storage tells it, and computed here."""
    located = site.lookup.resolve([lfn]).one(lfn)
    if not located.replicas:
        raise NoSuchReplica(f"compute the checksum of {lfn}", "the catalogue knows no copy of it")
    copies = tuple(_sums(site, located, replica, note) for replica in located.replicas)
    return Compared(lfn, located.entry.checksum, copies)


def _sums(site: Site, located: Located, replica: Replica, note: Callable[[int], None]) -> Sums:
    told: Checksum | VseError | None
    try:
        element = site.elements.get(replica.se)
        stored, guid = stored_as(element, replica, located.entry.guid)
        told = element.checksum([stored], element.settings.checksum_type, {stored: guid}).one(stored)
    except (Unsupported, NoPlan):
        told = None
    except VseError as error:
        told = error
    algorithm = told.algorithm if isinstance(told, Checksum) else ""
    digest = hashlib.new(algorithm, usedforsecurity=False) if algorithm in ("md5", "sha256") else None
    total = Adler32()
    try:
        source = site.elements.plan_read([replica], located.entry.guid).sources[0]
        with site.elements.open(source) as reader:
            for piece in reader.stream():
                total.update(piece)
                if digest:
                    digest.update(piece)
                note(len(piece))
    except VseError as error:
        return Sums(replica.se, told, error)
    alike = Checksum(algorithm, digest.hexdigest()) if digest else None
    return Sums(replica.se, told, total.checksum, alike)
