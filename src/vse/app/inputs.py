"""What a query gives an analysis to read here: by its mode, and file by file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from vse.analysis.engine import InputFile
from vse.app.datasets import Placed, Placing
from vse.app.site import Site
from vse.catalogue.lookup import LookupReport
from vse.errors import BadRequest, NothingToAnalyse
from vse.model import Contents, DatasetQuery, Lfn, Located, Mode, ReplicaState, Selected
from vse.model.dataset import same_tree
from vse.staging.protection import stored_as

_NAMED = re.compile(r"([A-Za-z_][\w.-]*)\s*=\s*(\S.*)", re.DOTALL)
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.@-]*")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A query and what it means at this site now: files that can be read, and those that may be staged.

    ``selected``: what is meant of each file (several members of one archive). ``left_out``: files that
    will not be read, and why. ``name``: among several, under which its output is kept; ``shared``: files
    that are in one before it as well, and are named with it.
    """

    query: DatasetQuery
    here: tuple[InputFile, ...]
    missing: tuple[Located, ...]
    selected: Mapping[Lfn, Sequence[Selected]] = field(default_factory=dict)
    left_out: tuple[tuple[str, str], ...] = ()
    name: str = ""
    shared: frozenset[str] = frozenset()

    def label(self, lfn: str) -> str:
        """Return how a file is named in the result."""
        return f"{lfn} [{self.name}]" if lfn in self.shared else lfn

    def own(self, files: Iterable[InputFile]) -> list[InputFile]:
        """Return files as those of this dataset."""
        return [replace(file, lfn=self.label(file.lfn), dataset=self.name) for file in files]

    @property
    def total_bytes(self) -> int:
        return sum(file.size_bytes for file in self.here) + self.missing_bytes

    @property
    def missing_bytes(self) -> int:
        return sum(located.entry.size_bytes or 0 for located in self.missing)


def named_queries(texts: Sequence[str]) -> dict[str, DatasetQuery]:
    """Read ``[NAME=]QUERY ...``: one alone needs no name, of several a dataset's name is its own.

    Raises `BadRequest` where a name is wanting or comes twice, and `BadQuery`.
    """
    found: dict[str, DatasetQuery] = {}
    for text in texts:
        given = _NAMED.fullmatch(text.strip())
        name, question = (given[1], given[2]) if given else ("", text)
        query = DatasetQuery.parse(question)
        if not name and len(texts) > 1:
            name = question.strip() if _PLAIN_NAME.fullmatch(question.strip()) else ""
        if len(texts) > 1 and (not name or name in found):
            wanted = f"analyse {len(texts)} datasets"
            reason = f"two are called {name}" if name else f"{question} has no name"
            raise BadRequest(wanted, reason, f"write it as NAME={question}")
        found[name] = query
    return found


def locate_all(site: Site, queries: Mapping[str, DatasetQuery]) -> tuple[list[Dataset], list[LookupReport]]:
    """`locate` each query; what is found keeps its name, which may be empty where there is one only."""
    found, reports = [], []
    seen: set[str] = set()
    for name, query in queries.items():
        dataset, report = locate(site, query)
        labels = {one.file.label for some in dataset.selected.values() for one in some}
        found.append(replace(dataset, name=name, shared=frozenset(labels & seen)))
        reports.append(report)
        seen |= labels
    return found, reports


def locate(site: Site, query: DatasetQuery) -> tuple[Dataset, LookupReport]:
    """Ask the catalogue (and upstreams, once) for the dataset, and look which files are really here.

    By the query's mode: all files, those that are not here to be staged; only those with a copy here
    (local); each at its remote URL (remote); each at the URL that it has here or will have (cache). Also
    returns how the question was answered. Raises `NothingToAnalyse` where no file matches.
    """
    selection = site.selector.select(query)
    found = list(selection.files)
    if not found:
        raise NothingToAnalyse(
            f"analyse {query}", "no file matches", "look at what there is: vse ls, vse dataset list"
        )
    corrupt = tuple(
        (one.file.label, "it is marked corrupt in the dataset") for one in found if one.file.corrupt
    )
    sound = [one for one in found if not one.file.corrupt]
    selected: dict[Lfn, list[Selected]] = {}
    for one in sound:
        selected.setdefault(one.file.lfn, []).append(one)
    mode = selection.query.mode
    if mode in (Mode.REMOTE, Mode.CACHE):
        placed = list(Placing(site, mode).place(sound))
        here = [_at_url(one) for one in placed if one.url]
        gone = [(one.file.label, f"no URL for Mode={mode} is known") for one in placed if not one.url]
        return Dataset(selection.query, tuple(here), (), selected, (*corrupt, *gone)), selection.report
    located = {lfn: one[0].located for lfn, one in selected.items()}
    readable = readable_here(site, selected, located.values())
    missing = tuple(one for lfn, one in located.items() if lfn not in readable and mode is not Mode.LOCAL)
    files = tuple(file for some in readable.values() for file in some)
    return Dataset(selection.query, files, missing, selected, corrupt), selection.report


def readable_here(
    site: Site, selected: Mapping[Lfn, Sequence[Selected]], found: Iterable[Located]
) -> dict[Lfn, list[InputFile]]:
    """Return the files with a copy that can be opened on this machine and has the right size."""
    here: dict[Lfn, list[InputFile]] = {}
    by_element: dict[str, dict[Lfn, tuple[Located, bytes | None]]] = {}
    for located in found:
        for replica in located.replicas:
            if replica.state == ReplicaState.AVAILABLE and replica.se in site.elements:
                element = site.elements.get(replica.se)
                with suppress(BadRequest):  # its URL is of another place
                    stored, guid = stored_as(element, replica, located.entry.guid)
                    by_element.setdefault(element.name, {})[stored] = located, guid
    for name, files in by_element.items():
        element = site.elements.get(name)
        first = next(iter(files))
        if element.local_path(first, files[first][1]) is None:
            continue
        sizes = element.stat(list(files), {stored: guid for stored, (_, guid) in files.items()})
        for stored, (located, guid) in files.items():
            entry = located.entry
            path = element.local_path(stored, guid)
            if path is not None and stored in sizes.ok and sizes.ok[stored].size_bytes == entry.size_bytes:
                size_bytes = entry.size_bytes or 0
                here[entry.lfn] = inputs_of(
                    selected[entry.lfn], str(path), size_bytes, located.contents, name
                )
    return dict(sorted(here.items()))


def inputs_of(
    selected: Sequence[Selected], path: str, size_bytes: int, contents: Contents | None, source: str
) -> list[InputFile]:
    """Return what is to be read of one file that is at ``path``: the whole, or members of an archive."""
    return [_input(one, path, size_bytes, contents, source) for one in selected]


def _input(
    selected: Selected, path: str, size_bytes: int, contents: Contents | None, source: str
) -> InputFile:
    file, asked = selected.file, selected.tree
    if file.member:
        return InputFile(file.label, f"zip://{file.member}::{path}", asked, None, size_bytes, source)
    known = contents is not None and (not asked or same_tree(asked, contents.tree))
    tree = asked or (contents.tree if contents else "")
    entries = contents.entries if contents and known and contents.tree else None
    return InputFile(file.lfn, path, tree, entries, size_bytes, source)


def _at_url(placed: Placed) -> InputFile:
    url = placed.url or ""
    copy = next((one for one in (placed.here, placed.source) if one and one.url == url), None)
    file = placed.file
    if file.member:
        url = url.removesuffix(f"#{file.member}")
    size_bytes = max(0, file.size_bytes)
    return _input(placed.selected, url, size_bytes, placed.selected.located.contents, copy.se if copy else "")
