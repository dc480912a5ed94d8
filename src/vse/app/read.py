"""Read a file from its best copy, and from the next one where that breaks off."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from vse.app.site import Site
from vse.errors import (
    AlreadyExists,
    ChecksumMismatch,
    NoPlan,
    NoSuchReplica,
    SizeMismatch,
    StorageFault,
    Unsupported,
    VseError,
)
from vse.model import Adler32, Checksum, Lfn, Located
from vse.storage.element import StorageElement


def stream_file(site: Site, located: Located) -> Iterator[memoryview]:
    """Yield the bytes of a file in order; go on with the next copy where one fails in the middle.

    Ends by comparing size and checksum with the catalogue: raises `SizeMismatch` or `ChecksumMismatch`
    after the last piece where they differ, `NoPlan` where no copy can be read, or the last copy's error.
    """
    lfn, size_bytes = located.entry.lfn, located.entry.size_bytes or 0
    if not located.replicas:
        raise NoSuchReplica(f"read {lfn}", "the catalogue knows no copy of it")
    sources = site.elements.plan_read(located.replicas, located.entry.guid).sources
    done = Adler32()
    last: VseError | None = None
    for source in sources:
        try:
            with site.elements.open(source) as reader:
                if reader.size_bytes != size_bytes:
                    raise SizeMismatch(
                        f"read {source.url}",
                        f"it has {reader.size_bytes} bytes, the catalogue says {size_bytes}",
                    )
                for piece in reader.stream(done.size_bytes):
                    done.update(piece)
                    yield piece
        except VseError as error:
            last = error
            continue
        _confirm(located, done)
        if not site.database.read_only:
            site.accesses.note(source.se, [lfn])
        return
    if last is not None:
        raise last


def fetch(
    site: Site, located: Located, target: Path, note: Callable[[int], None], force: bool = False
) -> None:
    """Copy a file to ``target`` on this machine: verified, then visible under its name in one step.

    Raises `AlreadyExists` for a name that is taken, unless ``force`` replaces it.
    """
    if target.exists() and not force:
        raise AlreadyExists(
            f"write {target}", "it is there", "name another place, or replace it with --force"
        )
    partial = target.with_name(f".{target.name}.part-{os.getpid()}")
    try:
        with partial.open("xb") as file:
            for piece in stream_file(site, located):
                file.write(piece)
                note(len(piece))
            file.flush()
            os.fsync(file.fileno())
        if force:
            partial.replace(target)
        else:
            os.link(partial, target)
    except FileExistsError as error:
        raise AlreadyExists(f"write {target}", "it is there", "replace it with --force") from error
    except OSError as error:
        raise StorageFault(f"write {target}", error.strerror or str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def adler32_at(element: StorageElement, lfn: Lfn, guid: bytes | None) -> Checksum:
    """Return the adler32 of a file: as its storage tells it (ChecksumType), else of its bytes."""
    if element.settings.checksum_type == "adler32":
        with suppress(Unsupported, NoPlan):
            return element.checksum([lfn], guids={lfn: guid}).one(lfn)
    total = Adler32()
    with element.open(lfn, guid) as reader:
        for piece in reader.stream():
            total.update(piece)
    return total.checksum


def _confirm(located: Located, done: Adler32) -> None:
    lfn: Lfn = located.entry.lfn
    if done.size_bytes != located.entry.size_bytes:
        raise SizeMismatch(f"read {lfn}", f"{done.size_bytes} bytes came, not {located.entry.size_bytes}")
    wanted = located.entry.checksum
    if wanted is not None and wanted != done.checksum:
        raise ChecksumMismatch(
            f"read {lfn}", f"its bytes have {done.checksum}, the catalogue says {wanted}", "do not use them"
        )
