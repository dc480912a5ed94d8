"""Copies between any two places, verified and write-once; by the storages themselves where they can."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from vse.app.places import Place, real_place
from vse.app.read import adler32_at, stream_file
from vse.app.site import Site
from vse.app.trash import make_way
from vse.catalogue.port import NewReplica
from vse.errors import (
    AlreadyExists,
    BadRequest,
    ChecksumMismatch,
    NoPlan,
    NoSuchReplica,
    SizeMismatch,
    StorageError,
    StorageFault,
    Unsupported,
    VseError,
)
from vse.model import Adler32, Checksum, Contents, Identity, Lfn, Located, NewFile, Replica
from vse.storage.contract import CHUNK_BYTES, Note, Upload
from vse.storage.element import Copying, Operation, StorageElement
from vse.storage.pairs import Way
from vse.transfer.abort import Abort

FOUND = "it was there already, the same bytes"
MADE_WAY = "what the trash had of this name was removed for good"


class Copied(NamedTuple):
    """A copy that was made. ``way`` says by whom; ``remark`` what else there is to know."""

    source: str
    target: str
    size_bytes: int
    checksum: Checksum | None
    way: str
    remark: str = ""


class Origin(NamedTuple):
    """A file to be copied: its size, its checksum where it is known, and how to read it from the start."""

    shown: str
    name: str
    size_bytes: int
    checksum: Checksum | None
    pieces: Callable[[], Iterator[memoryview]]
    located: Located | None = None


def copy(site: Site, source: Place, target: Place, note: Callable[[int, int], None]) -> Copied:
    """Copy a file; ``note`` is told the bytes done and their total.

    A target that is a directory gets the file under its own name. Raises `AlreadyExists` for a name that is
    taken, whatever it holds. After an error nothing remains under the target's name.
    """
    origin = origin_of(site, source)
    note(0, origin.size_bytes)

    def done(count: int) -> None:
        note(count, origin.size_bytes)

    if target.lfn is not None:
        return _to_lfn(site, origin, _in_directory(site, target, origin), done)
    if target.path is not None:
        return _to_path(origin, target.path, done)
    return _to_url(site, origin, target.url, done)


# -- where from --------------------------------------------------------------------------------------


def origin_of(site: Site, source: Place) -> Origin:
    """Return what is known of a source. A file of this machine is read once for its checksum."""
    if source.lfn is not None:
        return _of_lfn(site, source.lfn, source.se)
    if source.path is not None:
        return _of_path(source.path)
    _refuse_banned(site, source.url, "read")
    driver, path = site.elements.driver_for(source.url)
    stored = driver.stat([path]).one(path)
    if stored.size_bytes is None:
        raise BadRequest(f"copy {source.url}", "it is a directory", "name a file")
    checksum = None
    if "adler32" in driver.capabilities.checksums:
        checksum = driver.checksum([path], "adler32").one(path)

    def pieces() -> Iterator[memoryview]:
        with driver.open(path) as reader:
            yield from reader.stream()

    return Origin(source.url, path.rpartition("/")[2], stored.size_bytes, checksum, pieces)


def _of_lfn(site: Site, lfn: Lfn, se: str) -> Origin:
    located = site.lookup.resolve([lfn]).one(lfn)
    shown: str = lfn
    if se:
        shown = f"{lfn}@{se}"
        copies = tuple(one for one in located.replicas if _is_at(site, one, se))
        if not copies:
            has = ", ".join(one.se for one in located.replicas) or "none"
            raise NoSuchReplica(f"copy {shown}", f"it has no copy there; it has: {has}")
        located = located._replace(replicas=copies)
    entry = located.entry
    return Origin(
        shown, lfn.name, entry.size_bytes or 0, entry.checksum, lambda: stream_file(site, located), located
    )


def _is_at(site: Site, replica: Replica, se: str) -> bool:
    return site.elements.name_of(replica.se) in site.names_in(se)


def _of_path(path: Path) -> Origin:
    if not path.is_file():
        found = "it is not a file" if path.exists() else "it is not there"
        raise BadRequest(f"copy {path}", found, "name a file of this machine, or an LFN")

    def pieces() -> Iterator[memoryview]:
        try:
            with path.open("rb") as file:
                while piece := file.read(CHUNK_BYTES):
                    yield memoryview(piece)
        except OSError as error:
            raise StorageFault(f"read {path}", error.strerror or str(error)) from error

    total = Adler32()
    for piece in pieces():
        total.update(piece)
    return Origin(str(path), path.name, total.size_bytes, total.checksum, pieces)


# -- where to ----------------------------------------------------------------------------------------


def _in_directory(site: Site, target: Place, origin: Origin) -> Place:
    """Return the target itself, or the file's own name below it where it is a directory."""
    assert target.lfn is not None  # noqa: S101  # the only caller has looked
    entry = site.lookup.stat([target.lfn]).ok.get(target.lfn)
    if entry is not None and entry.kind == "directory":
        return target._replace(lfn=entry.lfn.child(origin.name))
    return target._replace(lfn=real_place(site, target.lfn))


def _to_lfn(site: Site, origin: Origin, target: Place, note: Note) -> Copied:
    lfn = target.lfn
    assert lfn is not None  # noqa: S101
    if origin.located is None or not _same(origin, lfn):
        site.names_for(Identity.of_process()).ensure_makable([lfn])
    element = site.writable(target.se)
    _refuse_known(site, origin, lfn, element)
    gone = make_way(site, [lfn], element)
    guid = _guid(origin, lfn, element)
    stored = _by_storages(site, origin, lfn, element, guid, note)
    if stored.way == "":
        stored = _through_here(site, origin, lfn, element, guid, note)._replace(remark=stored.remark)
    owner = Identity.of_process()
    new = NewFile(
        lfn=lfn,
        size_bytes=origin.size_bytes,
        adler32=_number(stored.checksum),
        se=element.name,
        guid=guid,
        owner=owner.name,
        group=owner.groups[0],
        contents=stored.contents,
    )
    try:
        _register(site, origin, element, new)
    except VseError:
        if stored.way != FOUND:
            element.remove([lfn], {lfn: guid})
        raise
    remarks = [stored.remark, MADE_WAY if gone else ""]
    return Copied(
        origin.shown,
        f"{lfn}@{element.name}",
        origin.size_bytes,
        stored.checksum,
        stored.way,
        "; ".join(filter(None, remarks)),
    )


def _guid(origin: Origin, lfn: Lfn, element: StorageElement) -> bytes | None:
    """Return the GUID of a copy: the file's own, or a new one for a new file, or to store it by."""
    known = origin.located.entry.guid if origin.located is not None and _same(origin, lfn) else None
    if known is not None or (_same(origin, lfn) and not element.by_guid):
        return known
    return uuid.uuid4().bytes


class _Stored(NamedTuple):
    """A file that is at its storage now; ``way`` is empty where it is not, ``remark`` may say why."""

    checksum: Checksum | None
    contents: Contents | None
    way: str
    remark: str = ""


def _by_storages(
    site: Site, origin: Origin, lfn: Lfn, element: StorageElement, guid: bytes | None, note: Note
) -> _Stored:
    """Have the storages make the copy, where there is such a way."""
    nothing = _Stored(None, None, "")
    direct = _direct(site, origin, lfn, element, guid)
    if direct is None or origin.located is None:
        return nothing
    try:
        site.elements.copy_directly(direct, origin.size_bytes, origin.checksum, note)
    except (StorageError, Unsupported) as error:
        return nothing._replace(remark=f"the {direct.way} from {direct.source.se} failed: {error.found}")
    way = f"{direct.way} by {direct.protocol}, from {direct.source.se}"
    return _Stored(origin.checksum, origin.located.contents, way)


def _through_here(
    site: Site, origin: Origin, lfn: Lfn, element: StorageElement, guid: bytes | None, note: Note
) -> _Stored:
    contents = origin.located.contents if origin.located else None
    try:
        with element.put(lfn, origin.size_bytes, origin.checksum, guid) as upload:
            seen = _fill(upload, origin, note)
            if contents is None:
                contents = _contents(site, lfn, upload.partial_path())
            upload.commit()
    except AlreadyExists:
        _adopt(element, origin, lfn, guid)
        return _Stored(origin.checksum, contents, FOUND)
    if origin.checksum is None:
        _confirm(element, lfn, guid, seen)
    return _Stored(seen, contents, str(Way.STREAMED))


def _number(checksum: Checksum | None) -> int | None:
    return int(checksum.value, 16) if checksum and checksum.algorithm == "adler32" else None


def _same(origin: Origin, lfn: Lfn) -> bool:
    return origin.located is not None and origin.located.entry.lfn == lfn


def _refuse_known(site: Site, origin: Origin, lfn: Lfn, element: StorageElement) -> None:
    """Raise `AlreadyExists` where the catalogue has the target already."""
    wanted = f"copy {origin.shown} to {lfn}@{element.name}"
    known = site.lookup.resolve([lfn]).ok.get(lfn)
    if known is None:
        return
    if not _same(origin, lfn):
        raise AlreadyExists(
            wanted, "the catalogue has a file of this name", "files are write-once: remove it first"
        )
    if any(_is_at(site, one, element.name) for one in known.replicas):
        raise AlreadyExists(
            wanted, f"it has a copy at {element.name} already", "name another element: LFN@SE"
        )


def _direct(
    site: Site, origin: Origin, lfn: Lfn, element: StorageElement, guid: bytes | None
) -> Copying | None:
    """Return a way by which the storages copy the file themselves; None where there is none."""
    if origin.located is None:
        return None
    entry = origin.located.entry
    for replica in origin.located.replicas:
        if replica.url is not None or replica.se not in site.elements:
            continue
        with contextlib.suppress(NoPlan, BadRequest):
            found = site.elements.plan_copy(
                replica.se, element.name, entry.lfn, guid=entry.guid, target=lfn, target_guid=guid
            )
            if found.way is not Way.STREAMED:
                return found
    return None


def _fill(upload: Upload, origin: Origin, note: Note) -> Checksum:
    """Write all of a source, held against what is known of it; return the checksum of what went."""
    total = Adler32()
    for piece in origin.pieces():
        upload.write(piece)
        total.update(piece)
        note(total.size_bytes)
    _check(origin, total)
    return total.checksum


def _check(origin: Origin, total: Adler32) -> None:
    wanted = f"copy {origin.shown}"
    if total.size_bytes != origin.size_bytes:
        raise SizeMismatch(wanted, f"{total.size_bytes} bytes came, not {origin.size_bytes}")
    known = origin.checksum
    if known is not None and known.algorithm == "adler32" and known != total.checksum:
        raise ChecksumMismatch(
            wanted, f"its bytes have {total.checksum}, it should have {known}", "do not use them"
        )


def _contents(site: Site, lfn: Lfn, partial: Path | None) -> Contents | None:
    return site.verifier.check(lfn, partial, "", Abort()) if partial else None


def _confirm(element: StorageElement, lfn: Lfn, guid: bytes | None, seen: Checksum) -> None:
    """Compare what the storage has with what went there, where the source told no checksum before."""
    found = adler32_at(element, lfn, guid)
    if found != seen:
        element.remove([lfn], {lfn: guid})
        raise ChecksumMismatch(f"write {lfn} to {element.name}", f"the storage has {found}, {seen} was sent")


def _adopt(element: StorageElement, origin: Origin, lfn: Lfn, guid: bytes | None) -> None:
    """Take a file that is there but in no catalogue, if it is the same: a copy before was interrupted."""
    wanted = f"copy {origin.shown} to {lfn}@{element.name}"
    stored = element.stat([lfn], {lfn: guid}).one(lfn)
    same = stored.size_bytes == origin.size_bytes and origin.checksum is not None
    if same:
        same = adler32_at(element, lfn, guid) == origin.checksum
    if not same:
        raise AlreadyExists(
            wanted,
            "the storage has another file of this name, which the catalogue does not know",
            "look at it, then remove it there or choose another name",
        )


def _register(site: Site, origin: Origin, element: StorageElement, new: NewFile) -> None:
    """Tell the catalogue and the link tree of a copy."""
    lfn = new.lfn
    if origin.located is not None and _same(origin, lfn):
        nameless = element.by_guid and origin.located.entry.guid is None  # the copy's URL keeps its GUID
        url = element.registration_url(lfn, new.guid) if nameless else None
        site.catalogue.add_replicas([NewReplica(lfn, element.name, url, contents=new.contents)]).one(lfn)
    else:
        site.catalogue.register([new]).one(lfn)
    path = element.local_path(lfn, new.guid)
    if path is not None and not site.links.path(lfn).is_file():  # a link that leads to a good copy stays
        site.links.ensure({lfn: path})


def _to_url(site: Site, origin: Origin, url: str, note: Note) -> Copied:
    _refuse_banned(site, url, "write")
    driver, path = site.elements.driver_for(url)
    if path.endswith("/"):
        path += origin.name
    with driver.put(path, origin.size_bytes, origin.checksum) as upload:
        seen = _fill(upload, origin, note)
        upload.commit()
    remark = "it is not in the catalogue; take it in with: vse register --scan"
    return Copied(origin.shown, driver.url(path), origin.size_bytes, seen, str(Way.STREAMED), remark)


def _refuse_banned(site: Site, url: str, operation: Operation) -> None:
    """Raise `NoPlan` where the URL is of an element at which the settings forbid the operation."""
    for element in site.elements:
        with contextlib.suppress(BadRequest):
            element.place_at(url)
            element.plan(operation)


def _to_path(origin: Origin, path: Path, note: Note) -> Copied:
    target = path / origin.name if path.is_dir() else path
    if target.exists() or target.is_symlink():
        raise AlreadyExists(f"write {target}", "it is there", "name another place, or remove it first")
    partial = target.with_name(f".{target.name[:200]}.part-{os.getpid()}")
    total = Adler32()
    try:
        with partial.open("xb") as file:
            for piece in origin.pieces():
                file.write(piece)
                total.update(piece)
                note(total.size_bytes)
            _check(origin, total)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, target)
    except FileExistsError as error:
        raise AlreadyExists(f"write {target}", "it is there", "name another place") from error
    except OSError as error:
        raise StorageFault(f"write {target}", error.strerror or str(error)) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return Copied(origin.shown, str(target), origin.size_bytes, total.checksum, str(Way.STREAMED))
