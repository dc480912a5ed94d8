"""Is every file of a dataset there, the same as when it was frozen, and readable?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from vse.app.datasets import Note
from vse.app.site import Site
from vse.catalogue.datasets import Finding
from vse.errors import (
    BadRequest,
    ChecksumMismatch,
    NoSuchEntry,
    NoSuchFile,
    NoSuchReplica,
    SizeMismatch,
    Unreadable,
    Unsupported,
    VseError,
)
from vse.model import Checksum, Dataset, DatasetFile, DatasetQuery, Lfn, Replica, ReplicaState, Selected
from vse.model.dataset import same_tree
from vse.staging.protection import stored_as
from vse.storage.element import StorageElement
from vse.transfer.abort import Abort
from vse.transfer.verification import Readers

_BATCH = 200


class State(StrEnum):
    """What was found of a file. The worst that holds is told."""

    OK = "ok"
    MISSING = "missing"  # no longer in the catalogue
    DIFFERS = "differs"  # the catalogue has another size or checksum than was frozen
    CORRUPT = "corrupt"  # the copy here has a wrong size or checksum, or cannot be read
    ELSEWHERE = "elsewhere"  # not staged here: nothing more can be said
    UNCHECKED = "unchecked"  # the storage did not answer


class Verdict(NamedTuple):
    """``entries``: those that were counted in the copy here; None where it was not opened."""

    file: DatasetFile
    state: State
    entries: int | None = None
    error: VseError | None = None

    def to_dict(self) -> dict[str, object]:
        return {
            "lfn": self.file.lfn,
            "member": self.file.member or None,
            "state": str(self.state),
            "entries": self.entries,
            "error": self.error.to_dict() if self.error else None,
        }


class Checks(NamedTuple):
    """What is looked at beside names and sizes: the bytes (``checksums``), and the trees (``contents``)."""

    checksums: bool = False
    contents: bool = True


class _Copy(NamedTuple):
    element: StorageElement
    stored: Lfn
    guid: bytes | None


def verify(
    site: Site, query: DatasetQuery, checks: Checks, count: Note = lambda _: None
) -> Iterator[Verdict]:
    """Yield what is found of each file, in the order of the dataset.

    Of a frozen dataset the files found corrupt are marked so, and those that are sound again no longer;
    entries not known before are noted. Killed in the middle, what was found until then is marked.
    """
    selection = site.selector.select(query)
    _, found = site.selector.resolve(query)
    dataset = found if isinstance(found, Dataset) else None
    positions = (place for place, _ in site.datasets.files(dataset)) if dataset else iter(())
    count_readers = min(site.settings.stager.slots, 2)
    with (
        Readers(count_readers, site.settings.stager.verify_timeout_s) as readers,
        ThreadPoolExecutor(count_readers, "vse-verify") as pool,
    ):
        while some := list(islice(selection.files, _BATCH)):
            copies, verdicts = _looked(site, some, dataset is not None)
            due = [place for place, verdict in enumerate(verdicts) if verdict is None]

            def deep(
                place: int, files: Sequence[Selected] = some, held: Sequence[_Copy | None] = copies
            ) -> Verdict:
                return _read(files[place], held[place], checks, readers)

            for place, verdict in zip(due, pool.map(deep, due), strict=True):
                verdicts[place] = verdict
            whole = [verdict for verdict in verdicts if verdict is not None]
            if dataset:
                site.datasets.mark(dataset, list(_findings(list(islice(positions, len(some))), whole)))
            count(len(some))
            yield from whole


def _findings(positions: Sequence[int], verdicts: Sequence[Verdict]) -> Iterator[Finding]:
    """Yield what is to be noted: where it is another than before."""
    for position, verdict in zip(positions, verdicts, strict=True):
        file = verdict.file
        if verdict.state not in (State.OK, State.CORRUPT):
            continue
        corrupt = verdict.state is State.CORRUPT
        entries = file.entries if file.entries is not None or corrupt else verdict.entries
        if (corrupt, entries) != (file.corrupt, file.entries):
            yield Finding(position, corrupt, entries)


def _looked(
    site: Site, files: Sequence[Selected], frozen: bool
) -> tuple[list[_Copy | None], list[Verdict | None]]:
    """Return each file's copy here, and a verdict where catalogue and storage say enough for one."""
    copies = [_copy_here(site, one) for one in files]
    verdicts = [_by_catalogue(one, frozen) for one in files]
    asked: dict[str, dict[str, bytes | None]] = {}
    for copy, verdict in zip(copies, verdicts, strict=True):
        if copy and verdict is None:
            asked.setdefault(copy.element.name, {})[copy.stored] = copy.guid
    answers = {}
    for name, guids in asked.items():
        with suppress(VseError):
            answers[name] = site.elements.get(name).stat([Lfn(lfn) for lfn in guids], guids)
    for place, (one, copy) in enumerate(zip(files, copies, strict=True)):
        if verdicts[place] is not None:
            continue
        if copy is None:
            verdicts[place] = Verdict(one.file, State.ELSEWHERE)
            continue
        answer = answers.get(copy.element.name)
        stored = answer.ok.get(copy.stored) if answer else None
        error = answer.failed.get(copy.stored) if answer else None
        if stored is not None:
            verdicts[place] = _by_size(one, copy, stored.size_bytes)
        elif isinstance(error, NoSuchFile):
            lost = NoSuchReplica(
                f"verify {one.file.label}", f"{copy.element.name} has lost it", "stage it again: vse stage"
            )
            verdicts[place] = Verdict(one.file, State.ELSEWHERE, error=lost)
        else:
            verdicts[place] = Verdict(one.file, State.UNCHECKED, error=error)
    return copies, verdicts


def _by_catalogue(one: Selected, frozen: bool) -> Verdict | None:
    file, entry = one.file, one.located.entry
    if not one.known:
        error = NoSuchEntry(f"verify {file.label}", "it is not in the catalogue")
        return Verdict(file, State.MISSING, error=error)
    if not frozen:
        return None
    if file.size_bytes >= 0 and entry.size_bytes != file.size_bytes:
        found = f"the catalogue has it with {entry.size_bytes} bytes, the dataset with {file.size_bytes}"
        return Verdict(file, State.DIFFERS, error=SizeMismatch(f"verify {file.label}", found))
    if None not in (file.adler32, entry.adler32) and file.adler32 != entry.adler32:
        found = f"the catalogue has it with {entry.checksum}, the dataset with {file.checksum}"
        return Verdict(file, State.DIFFERS, error=ChecksumMismatch(f"verify {file.label}", found))
    return None


def _copy_here(site: Site, one: Selected) -> _Copy | None:
    """Return the first copy that can be opened on this machine, else one where staged files go to."""
    found: list[tuple[bool, _Copy]] = []
    for replica in one.located.replicas:
        copy = _at(site, replica, one.located.entry.guid)
        if copy is not None:
            local = copy.element.local_path(copy.stored, copy.guid) is not None
            if local or copy.element.name == site.destination.name:
                found.append((not local, copy))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _at(site: Site, replica: Replica, guid: bytes | None) -> _Copy | None:
    # A suspect copy is what is to be looked at; a lost one is not.
    if replica.se not in site.elements or replica.state is ReplicaState.LOST:
        return None
    element = site.elements.get(replica.se)
    try:
        return _Copy(element, *stored_as(element, replica, guid))
    except BadRequest:
        return None


def _by_size(one: Selected, copy: _Copy, size_bytes: int | None) -> Verdict | None:
    wanted = one.file.size_bytes if one.file.size_bytes >= 0 else one.located.entry.size_bytes
    if size_bytes == wanted:
        return None
    found = f"the copy at {copy.element.name} has {size_bytes} bytes, not {wanted}"
    return _corrupt(one.file, SizeMismatch(f"verify {one.file.label}", found))


def _corrupt(file: DatasetFile, error: VseError) -> Verdict:
    return Verdict(file, State.CORRUPT, error=error)


def _read(one: Selected, copy: _Copy | None, checks: Checks, readers: Readers) -> Verdict:
    """Look at the bytes of a copy that has the right size."""
    assert copy is not None  # noqa: S101  # `_looked` gave a verdict on all others
    file = one.file
    wanted = file.checksum or one.located.entry.checksum
    try:
        if checks.checksums and wanted is not None:
            _compare(file, copy, wanted)
        path = copy.element.local_path(copy.stored, copy.guid)
        if not checks.contents or path is None or file.member:
            return Verdict(file, State.OK)
        return _opened(file, one.tree, path, readers)
    except (ChecksumMismatch, Unreadable) as error:
        return _corrupt(file, error)
    except VseError as error:
        return Verdict(file, State.UNCHECKED, error=error)


def _compare(file: DatasetFile, copy: _Copy, wanted: Checksum) -> None:
    with suppress(Unsupported):
        guids: dict[str, bytes | None] = {copy.stored: copy.guid}
        told = copy.element.checksum([copy.stored], wanted.algorithm, guids).one(copy.stored)
        if told != wanted:
            found = f"the copy at {copy.element.name} has {told}, not {wanted}"
            raise ChecksumMismatch(f"verify {file.label}", found, "do not use it; stage it again")


def _opened(file: DatasetFile, tree: str, path: Path, readers: Readers) -> Verdict:
    contents = readers.check(file.lfn, path, tree, Abort())
    if contents is None or not contents.tree:
        return Verdict(file, State.OK)
    same = not file.tree or same_tree(file.tree, contents.tree)
    if same and file.entries is not None and contents.entries != file.entries:
        found = f"{contents.tree} has {contents.entries} entries, not {file.entries}"
        return Verdict(file, State.CORRUPT, contents.entries, Unreadable(f"verify {file.label}", found))
    return Verdict(file, State.OK, contents.entries if same else None)
