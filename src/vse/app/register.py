"""Take files into the catalogue: those a storage holds already, and those of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from vse.app.site import Site
from vse.errors import BadRequest, StorageFault, VseError
from vse.model import Adler32, BulkResult, Checksum, Contents, Identity, Lfn, NewFile
from vse.storage.contract import CHUNK_BYTES, StoredFile
from vse.storage.element import StorageElement
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

    With ``contents`` ROOT files are opened too and their entries counted. Each file that cannot be read
    is under ``failed`` and does not stop the others.
    """
    owner = Identity.of_process()
    result: BulkResult[Lfn] = BulkResult()
    found = _walk(element, base)
    while batch := list(islice(found, _BATCH)):
        new: list[NewFile] = []
        for stored in batch:
            note(stored)
            lfn = element.lfn_in(stored)
            try:
                new.append(_described(site, element, lfn, stored, owner, contents))
            except VseError as error:
                result.failed[lfn] = error
        registered = site.catalogue.register(new)
        result.merge(registered)
        _link(site, element, list(registered.ok.values()))
    return result


def store_files(
    site: Site,
    element: StorageElement,
    paths: list[Path],
    directory: Lfn,
    note: Callable[[int], None] = lambda _: None,
) -> BulkResult[Lfn]:
    """Copy files of this machine to ``element`` under ``directory``, verified, and register them."""
    owner = Identity.of_process()
    result: BulkResult[Lfn] = BulkResult()
    for path in paths:
        lfn = Lfn.parse(f"{directory}/{path.name}")
        try:
            new = _stored(site, element, path, lfn, owner, note)
            registered = site.catalogue.register([new])
        except VseError as error:
            result.failed[lfn] = error
            continue
        result.merge(registered)
        _link(site, element, list(registered.ok.values()))
    return result


def _walk(element: StorageElement, base: Lfn) -> Iterator[StoredFile]:
    """Yield every file below ``base``, in byte order of the names."""
    directories = [base]
    while directories:
        below: list[Lfn] = []
        for stored in sorted(element.list(directories.pop())):
            if stored.is_directory:
                below.append(element.lfn_in(stored))
            else:
                yield stored
        directories.extend(reversed(below))


def _described(
    site: Site, element: StorageElement, lfn: Lfn, stored: StoredFile, owner: Identity, contents: bool
) -> NewFile:
    checksum = element.checksum([lfn]).one(lfn)
    path = element.local_path(lfn)
    return NewFile(
        lfn=lfn,
        size_bytes=stored.size_bytes or 0,
        adler32=int(checksum.value, 16),
        se=element.name,
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
    with path.open("rb") as file, element.put(lfn, size_bytes, checksum) as upload:
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


def _link(site: Site, element: StorageElement, lfns: list[Lfn]) -> None:
    targets = {lfn: path for lfn in lfns if (path := element.local_path(lfn)) is not None}
    site.links.ensure(targets)
