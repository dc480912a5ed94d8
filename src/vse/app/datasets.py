"""Datasets at this site: which URL each file of one has, making and comparing them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import NamedTuple

from vse.app.seen import seen_selected
from vse.app.site import Site
from vse.catalogue.datasets import Frozen
from vse.catalogue.lookup import LookupReport
from vse.errors import BadRequest, VseError
from vse.model import (
    Dataset,
    DatasetFile,
    DatasetQuery,
    Identity,
    Lfn,
    Mode,
    NamedQuery,
    Replica,
    ReplicaState,
    Selected,
)
from vse.model.dataset import same_tree
from vse.model.query import dataset_name

Note = Callable[[int], None]
"""Is told of each further number of files that is done."""

_LFN = "{lfn}"


class Copy(NamedTuple):
    """A copy of a file by URL, and the storage element that has it (empty where a list told the URL)."""

    url: str
    se: str


class Placed(NamedTuple):
    """A file of a dataset as it is at this site (seed 002 §4.3.3.1).

    ``here``: the copy here, None where there is none: it is not staged. ``source``: where it comes from.
    ``local_url``: the URL it has here, or will have. ``url``: the one the query's mode asks for.
    """

    selected: Selected
    here: Copy | None
    source: Copy | None
    local_url: str | None
    url: str | None

    @property
    def file(self) -> DatasetFile:
        return self.selected.file

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form of `vse dataset show`."""
        file = self.file
        return {
            "lfn": file.lfn,
            "member": file.member or None,
            "tree": file.tree or None,
            "entries": file.entries,
            "size_bytes": file.size_bytes if file.size_bytes >= 0 else None,
            "checksum": str(file.checksum) if file.checksum else None,
            "staged": self.here is not None,
            "corrupt": file.corrupt,
            "known": self.selected.known,
            "source_url": self.source.url if self.source else None,
            "local_url": self.local_url,
            "url": self.url,
        }


class Placing:
    """Tells the URLs of files: by the settings and the catalogue, without asking a storage."""

    def __init__(self, site: Site, mode: Mode | None) -> None:
        self._elements = site.elements
        self._template = site.settings.datasets.local_url
        self._mode = mode
        self._is_here: dict[str, bool] = {}
        self._destination = ""
        with suppress(VseError):
            self._destination = site.destination.name

    def place(self, files: Iterable[Selected]) -> Iterator[Placed]:
        """Yield each file with its URLs; with Mode.LOCAL only those that have a copy here."""
        for selected in files:
            placed = self._place(selected)
            if self._mode is not Mode.LOCAL or placed.here:
                yield placed

    def _place(self, selected: Selected) -> Placed:
        here: Copy | None = None
        told = selected.file.source
        source = Copy(_with_member(told, selected.file.member), "") if told else None
        for replica in selected.located.replicas:
            if replica.state is not ReplicaState.AVAILABLE:
                continue
            if self.is_here(replica):
                here = here or self._copy(selected, replica)
            elif source is None or not source.se:
                source = self._copy(selected, replica) or source
        local_url = here.url if here else self._local_url(selected)
        modes = {
            Mode.REMOTE: source.url if source else None,
            Mode.CACHE: local_url,
            Mode.LOCAL: here.url if here else None,
        }
        either = here or source
        url = modes[self._mode] if self._mode else (either.url if either else None)
        return Placed(selected, here, source, local_url, url)

    def is_here(self, replica: Replica) -> bool:
        """Whether a copy is on this machine, or where staged files go to."""
        known = self._is_here.get(replica.se)
        if known is None:
            known = False
            if replica.se in self._elements:
                element = self._elements.get(replica.se)
                known = element.name == self._destination or element.local_path(replica.lfn) is not None
            self._is_here[replica.se] = known
        return known

    def _copy(self, selected: Selected, replica: Replica) -> Copy | None:
        url = replica.url
        if url is None and replica.se in self._elements:
            with suppress(VseError):
                guid = selected.located.entry.guid
                url = self._elements.get(replica.se).url(replica.lfn, guid=guid)
        return Copy(_with_member(url, selected.file.member), replica.se) if url else None

    def _local_url(self, selected: Selected) -> str | None:
        file = selected.file
        if self._template:
            return _with_member(self._template.replace(_LFN, file.lfn), file.member)
        if not self._destination:
            return None
        try:
            element = self._elements.get(self._destination)
            return _with_member(element.url(file.lfn, guid=selected.located.entry.guid), file.member)
        except VseError:
            return None


def _with_member(url: str, member: str) -> str:
    return f"{url}#{member}" if member else url


@dataclass(frozen=True, slots=True)
class Shown:
    """A dataset or query, and its files as they are here. ``report`` is whole after the last file."""

    query: DatasetQuery
    files: Iterator[Placed]
    report: LookupReport


def show(site: Site, query: DatasetQuery) -> Shown:
    """Return the files that a query means, with their URLs; see `vse.catalogue.selection`."""
    selection = site.selector.select(query)
    placing = Placing(site, selection.query.mode)
    return Shown(selection.query, placing.place(seen_selected(site, selection.files)), selection.report)


# -- making ------------------------------------------------------------------------------------------


def freeze(
    site: Site, name: str, query: DatasetQuery, *, note: str = "", count: Note = lambda _: None
) -> tuple[Frozen, LookupReport]:
    """Keep the files that ``query`` means now as the next version of ``name``, unless nothing has changed.

    Raises `BadRequest` where no file matches. A query with a mode keeps the files that the mode gives.
    """
    shown = show(site, query)
    files = _counted((placed.file for placed in shown.files), count)
    frozen = site.datasets.ensure_frozen(
        dataset_name(name),
        files,
        query=str(query),
        tree=shown.query.tree,
        owner=Identity.of_process().name,
        note=note,
    )
    return frozen, shown.report


def keep_query(
    site: Site, name: str, query: DatasetQuery, *, note: str = "", replace: bool = False
) -> Dataset:
    """Give ``query`` the name, having looked that it can be asked and does not lead back to itself."""
    name = dataset_name(name)
    if isinstance(query, NamedQuery) and query.name == name:
        raise BadRequest(f"make the dataset {name}", "it would stand for itself")
    site.selector.resolve(query)
    owner = Identity.of_process().name
    return site.datasets.keep_query(
        name, query=str(query), tree=query.tree, owner=owner, note=note, replace=replace
    )


def _counted(files: Iterable[DatasetFile], count: Note) -> Iterator[DatasetFile]:
    for file in files:
        count(1)
        yield file


def remove(site: Site, query: DatasetQuery, *, every: bool = False) -> list[Dataset]:
    """Forget a dataset by query, one version of a frozen one, or ``every``; return what is gone.

    Raises `BadRequest` where it is not clear which version is meant. No file is touched.
    """
    wanted = f"remove the dataset {query}"
    if not isinstance(query, NamedQuery):
        raise BadRequest(wanted, "it is no name of a dataset", "files are removed with vse rm")
    gone = [site.datasets.get(query.name, query.version)]
    versions = site.datasets.versions(query.name)
    if query.version is None and len(versions) > 1:
        if not every:
            labels = ", ".join(one.label for one in versions)
            raise BadRequest(wanted, f"it has several versions: {labels}", "name one, or say --all")
        gone = versions
    for dataset in gone:
        site.datasets.remove(dataset)
    return gone


# -- comparing ---------------------------------------------------------------------------------------


class Difference(NamedTuple):
    """A file that only the later one has (``added``), only the earlier (``removed``), or both, differing
    (``changed``)."""

    kind: str
    before: DatasetFile | None
    after: DatasetFile | None

    def to_dict(self) -> dict[str, object]:
        sides = {"before": self.before, "after": self.after}
        file = self.before or self.after
        return {"kind": self.kind, "lfn": file.label if file else ""} | {
            side: None
            if one is None
            else {
                "size_bytes": one.size_bytes,
                "checksum": str(one.checksum) if one.checksum else None,
                "entries": one.entries,
            }
            for side, one in sides.items()
        }


def differences(site: Site, before: DatasetQuery, after: DatasetQuery) -> Iterator[Difference]:
    """Yield how two datasets or queries differ, by name; memory does not grow with their files."""
    return compare(_by_name(site, before), _by_name(site, after))


def own_query(site: Site, query: DatasetQuery) -> tuple[DatasetQuery, DatasetQuery]:
    """Return a frozen dataset and the query it was made by; `BadRequest` for what is no such thing."""
    wanted = f"compare {query} with its query"
    if not isinstance(query, NamedQuery):
        raise BadRequest(wanted, "it is a query itself", "name a frozen dataset, or two things to compare")
    dataset = site.datasets.get(query.name, query.version)
    if dataset.kind != "frozen" or not dataset.query:
        found = (
            "it is always what its query says" if dataset.kind == "query" else "it was imported from a list"
        )
        raise BadRequest(wanted, found, "name a second dataset or query to compare it with")
    return NamedQuery(name=dataset.name, version=dataset.version), DatasetQuery.parse(dataset.query)


def compare(before: Iterator[DatasetFile], after: Iterator[DatasetFile]) -> Iterator[Difference]:
    """Merge two lists, both in byte order of name and member."""
    old, new = next(before, None), next(after, None)
    while old or new:
        if new is None or (old is not None and _key(old) < _key(new)):
            yield Difference("removed", old, None)
            old = next(before, None)
        elif old is None or _key(new) < _key(old):
            yield Difference("added", None, new)
            new = next(after, None)
        else:
            if _differ(old, new):
                yield Difference("changed", old, new)
            old, new = next(before, None), next(after, None)


def _key(file: DatasetFile) -> tuple[bytes, bytes]:
    return file.lfn.encode(), file.member.encode()


def _differ(old: DatasetFile, new: DatasetFile) -> bool:
    """Whether what is known on both sides is not the same."""
    sizes = old.size_bytes >= 0 and new.size_bytes >= 0 and old.size_bytes != new.size_bytes
    sums = None not in (old.adler32, new.adler32) and old.adler32 != new.adler32
    counted = same_tree(old.tree, new.tree) and None not in (old.entries, new.entries)
    return sizes or sums or (counted and old.entries != new.entries)


def _by_name(site: Site, query: DatasetQuery) -> Iterator[DatasetFile]:
    _, found = site.selector.resolve(query)
    if isinstance(found, Dataset):
        yield from site.datasets.files_by_name(found)
        return
    yield from sorted_by_name(placed.file for placed in show(site, query).files)


def sorted_by_name(files: Iterable[DatasetFile]) -> Iterator[DatasetFile]:
    """Sort any number of files by name and member, on disk where they are many."""
    with closing(sqlite3.connect("")) as place:
        place.execute(
            "CREATE TABLE files (lfn, size, adler32, tree, entries, corrupt, source, member,"
            " PRIMARY KEY (lfn, member)) WITHOUT ROWID"
        )
        place.executemany("INSERT OR IGNORE INTO files VALUES (?,?,?,?,?,?,?,?)", files)
        for row in place.execute("SELECT * FROM files ORDER BY lfn, member"):
            file = DatasetFile(*row)
            yield file._replace(lfn=Lfn(file.lfn), corrupt=bool(file.corrupt))
