"""Datasets from lists and to lists: names for URLs, URLs for names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from vse.app.datasets import Note, Placed, show
from vse.app.site import Site
from vse.catalogue.dataset_formats import ListedFile, OutFile, read_list, write_list
from vse.catalogue.datasets import Frozen, in_chunks
from vse.errors import BadLfn, BadRequest, NoSuchReplica, VseError
from vse.model import DatasetFile, DatasetQuery, Identity, Lfn
from vse.model.dataset import same_tree
from vse.model.query import dataset_name

_NAMES = ("lfn:", "alien:")


def take_in(
    site: Site,
    path: Path,
    name: str,
    *,
    kind: str = "",
    key: str = "",
    note: str = "",
    count: Note = lambda _: None,
) -> Frozen:
    """Keep the files of a list as the next version of the dataset ``name``, unless nothing has changed.

    The name of a file is told by the list, or by the storage element that a URL is in, or else is the path of
    its URL. What the list does not tell of a file is taken from the catalogue, where that knows it. Raises
    `BadRequest` that names the line of what cannot be understood; nothing is kept then.
    """
    name = dataset_name(name)
    listing = read_list(path, kind, key)

    def files() -> Iterator[DatasetFile]:
        for some in in_chunks(listing.files):
            count(len(some))
            yield from _completed(site, [_named(site, path, one) for one in some])

    return site.datasets.ensure_frozen(
        name,
        files(),
        query="",
        tree="",
        owner=Identity.of_process().name,
        note=note,
        usual_note=f"from {path.name}",
    )


def give_out(
    site: Site,
    query: DatasetQuery,
    kind: str,
    out: IO[str],
    *,
    names: bool = False,
    count: Note = lambda _: None,
) -> int:
    """Write the files of a dataset or query to ``out``; return how many.

    By the URLs of the query's mode (as they can be read now, where it has none), or by ``names``. Raises
    `NoSuchReplica` for a file that has no such URL.
    """
    shown = show(site, query)
    return write_list(kind, _title(query), _outgoing(shown.files, names, count), out)


def _title(query: DatasetQuery) -> str:
    return (
        str(query).partition(";")[0] if not str(query).startswith(("Find", "Data", "Sim", "/")) else "dataset"
    )


def _outgoing(files: Iterable[Placed], names: bool, count: Note) -> Iterator[OutFile]:
    for placed in files:
        count(1)
        file = placed.file
        url = file.label if names else placed.url
        if url is None:
            raise NoSuchReplica(
                f"export {file.label}",
                "no URL of it is known",
                "write names with --names, or only what is here with Mode=local",
            )
        size_bytes = file.size_bytes if file.size_bytes >= 0 else None
        yield OutFile(url, size_bytes, file.tree, file.entries, placed.to_dict())


def _completed(site: Site, files: list[DatasetFile]) -> Iterator[DatasetFile]:
    """Fill in what the list did not tell and our catalogue knows; nobody else is asked."""
    known = site.catalogue.resolve(list(dict.fromkeys(file.lfn for file in files))).ok
    for file in files:
        located = known.get(file.lfn)
        if located is None:
            yield file
            continue
        entry, contents = located.entry, None if file.member else located.contents
        same = contents is not None and (not file.tree or same_tree(file.tree, contents.tree))
        yield file._replace(
            size_bytes=file.size_bytes if file.size_bytes >= 0 else entry.size_bytes or 0,
            adler32=entry.adler32 if file.adler32 is None else file.adler32,
            tree=contents.tree if contents and same else file.tree,
            entries=contents.entries if contents and same and file.entries is None else file.entries,
        )


def _named(site: Site, path: Path, listed: ListedFile) -> DatasetFile:
    if not listed.urls:
        raise BadRequest(f"read the list {path}", "it has a file without any URL")
    lfn = _lfn_of(site, listed.urls)
    if lfn is None:
        raise BadRequest(
            f"read the list {path}",
            f"{listed.urls[0]!r} gives no name of the catalogue",
            "name it by its LFN",
        )
    source = next((url for url in reversed(listed.urls) if "://" in url and not url.startswith("lfn:")), None)
    return DatasetFile(
        lfn,
        -1 if listed.size_bytes is None else listed.size_bytes,
        listed.adler32,
        listed.tree,
        listed.entries,
        listed.corrupt,
        source,
        listed.member,
    )


def _lfn_of(site: Site, urls: Iterable[str]) -> Lfn | None:
    """Return the name that URLs give: the first that is one, or is in an element, or has a path."""
    for url in urls:
        if url.startswith(_NAMES):
            return _parsed(url)
    for url in urls:
        whole = f"file://{url}" if url.startswith("/") else url
        for element in site.elements:
            with suppress(VseError):
                return element.lfn_of(whole)
    for url in urls:
        found = _parsed(url if url.startswith("/") else unquote(urlsplit(url).path))
        if found is not None:
            return found
    return None


def _parsed(text: str) -> Lfn | None:
    try:
        return Lfn.parse(text)
    except BadLfn:
        return None
