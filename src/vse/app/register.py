"""Take files into the catalogue: those a storage holds already, and those of this machine."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import sqlalchemy as sa

from vse.app.places import real_place
from vse.app.read import adler32_at
from vse.app.site import Site
from vse.app.trash import make_way
from vse.db.tables import directories, files
from vse.errors import BadRequest, NoSuchEntry, StorageFault, VseError
from vse.model import Adler32, BulkResult, Checksum, Contents, Identity, Lfn, NewFile, Trashed
from vse.storage.contract import CHUNK_BYTES, StoredFile
from vse.storage.element import StorageElement
from vse.storage.placement import Place
from vse.transfer.abort import Abort

_BATCH = 1000


def register_stored(
    site: Site,
    element: StorageElement,
    base: Lfn,
    note: Callable[[StoredFile], None] = lambda _: None,
    *,
    contents: bool = True,
) -> BulkResult[Lfn]:
    """Register every file that ``element`` holds below ``base``, with its size and adler32.

    Where it stores by GUID, the names are those that the catalogue has for the GUIDs.

    With ``contents`` ROOT files are opened too and their entries counted. Each file that cannot be read
    is under ``failed`` and does not stop the others.
    """
    owner = Identity.of_process()
    names = site.names_for(owner)
    result: BulkResult[Lfn] = BulkResult()
    found = _walk(element, Lfn("/") if element.by_guid else base)
    while batch := list(islice(found, _BATCH)):
        new: list[NewFile] = []
        for stored, place in _named(site, element, batch):
            note(stored)
            lfn, guid = place
            if guid is not None and base != "/" and (lfn is None or not lfn.is_below(base)):
                continue
            try:
                if lfn is None:
                    raise _nameless(element, stored)
                new.append(_described(site, element, lfn, guid, stored, owner, contents))
            except VseError as error:
                result.failed[lfn or stored.path] = error
        registered = names.register(new)
        result.merge(registered)
        _link(site, element, new, registered)
    return result


def store_files(
    site: Site,
    element: StorageElement,
    paths: list[Path],
    directory: Lfn,
    note: Callable[[int], None] = lambda _: None,
    tell: Callable[[Trashed], None] = lambda _: None,
) -> BulkResult[Lfn]:
    """Copy files of this machine to ``element`` under ``directory``, verified, and register them.

    What the trash has at one of their places is removed for good first, and told of.
    """
    owner = Identity.of_process()
    names = site.names_for(owner)
    result: BulkResult[Lfn] = BulkResult()
    for path in paths:
        lfn = real_place(site, Lfn.parse(f"{directory}/{path.name}"))
        try:
            names.ensure_makable([lfn])
            if lfn not in site.catalogue.stat([lfn]).ok:
                for gone in make_way(site, [lfn], element):
                    tell(gone)
            new = _stored(site, element, path, lfn, owner, note)
            registered = names.register([new])
        except VseError as error:
            result.failed[lfn] = error
            continue
        result.merge(registered)
        _link(site, element, [new], registered)
    return result


def _named(
    site: Site, element: StorageElement, batch: Sequence[StoredFile]
) -> Iterator[tuple[StoredFile, Place]]:
    """Yield what each path stands for; where it is a GUID, with the LFN that the catalogue has for it."""
    places = [(stored, element.place_in(stored)) for stored in batch]
    guids = [place.guid for _, place in places if place.guid is not None]
    names: dict[bytes, Lfn] = {}
    if guids:
        query = (
            sa.select(files.c.guid, directories.c.path, files.c.name)
            .join(directories, directories.c.id == files.c.directory_id)
            .where(files.c.guid.in_(guids))
        )
        with site.database.read() as connection:
            names = {guid: Lfn(directory).child(name) for guid, directory, name in connection.execute(query)}
    for stored, place in places:
        yield stored, place if place.guid is None else Place(names.get(place.guid), place.guid)


def _nameless(element: StorageElement, stored: StoredFile) -> NoSuchEntry:
    return NoSuchEntry(
        f"register {stored.path} at {element.name}",
        "it is stored by GUID, and the catalogue has no name with this one",
        "copy it to a name: vse cp URL LFN",
    )


def _walk(element: StorageElement, base: Lfn) -> Iterator[StoredFile]:
    """Yield every file below ``base``, in byte order of the names."""
    directories = [base]
    while directories:
        below: list[Lfn] = []
        for stored in sorted(element.list(directories.pop())):
            if stored.is_directory:
                below.append(element.place_in(stored).lfn or base)
            else:
                yield stored
        directories.extend(reversed(below))


def _described(
    site: Site,
    element: StorageElement,
    lfn: Lfn,
    guid: bytes | None,
    stored: StoredFile,
    owner: Identity,
    contents: bool,
) -> NewFile:
    checksum = adler32_at(element, lfn, guid)
    path = element.local_path(lfn, guid)
    return NewFile(
        lfn=lfn,
        size_bytes=stored.size_bytes or 0,
        adler32=int(checksum.value, 16),
        se=element.name,
        guid=guid or uuid.uuid4().bytes,
        owner=owner.name,
        group=owner.groups[0],
        modified_s=stored.modified_s,
        contents=_contents(site, lfn, path) if path and contents else None,
    )


def _stored(
    site: Site, element: StorageElement, path: Path, lfn: Lfn, owner: Identity, note: Callable[[int], None]
) -> NewFile:
    if not path.is_file():
        raise BadRequest(f"register {path}", "it is not a file", "name files, not directories")
    size_bytes, checksum = _summed(path)
    known = site.catalogue.stat([lfn]).ok.get(lfn)
    guid = (known.guid if known else None) or uuid.uuid4().bytes
    with path.open("rb") as file, element.put(lfn, size_bytes, checksum, guid) as upload:
        while piece := file.read(CHUNK_BYTES):
            upload.write(piece)
            note(len(piece))
        partial = upload.partial_path()
        contents = _contents(site, lfn, partial) if partial else None
        upload.commit()
    return NewFile(
        lfn=lfn,
        size_bytes=size_bytes,
        adler32=int(checksum.value, 16),
        se=element.name,
        guid=guid,
        owner=owner.name,
        group=owner.groups[0],
        modified_s=path.stat().st_mtime,
        contents=contents,
    )


def _summed(path: Path) -> tuple[int, Checksum]:
    adler32 = Adler32()
    try:
        with path.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                adler32.update(piece)
    except OSError as error:
        raise StorageFault(f"read {path}", error.strerror or str(error)) from error
    return adler32.size_bytes, adler32.checksum


def _contents(site: Site, lfn: Lfn, path: Path) -> Contents | None:
    return site.verifier.check(lfn, path, "", Abort())


def _link(site: Site, element: StorageElement, new: Sequence[NewFile], registered: BulkResult[Lfn]) -> None:
    here = ((one.lfn, element.local_path(one.lfn, one.guid)) for one in new if one.lfn in registered.ok)
    site.links.ensure({lfn: path for lfn, path in here if path is not None})
