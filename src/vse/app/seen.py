"""What the person who runs a command may see of the answer to a query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from vse.app.site import Site
from vse.catalogue.guarded import Guarded
from vse.errors import Denied, VseError
from vse.model import DatasetQuery, Identity, Lfn, Located
from vse.model.dataset import Selected
from vse.model.query import FindQuery

_BATCH = 1000


def seen_files(site: Site, query: DatasetQuery, files: Iterator[Located]) -> Iterator[Located]:
    """Yield those that may be seen; at the end raise `Denied` where some of ``files`` may not."""
    base = query.base if isinstance(query, FindQuery) else None
    found, refused = site.lookup_for(Identity.of_process()).readable(base, files)
    yield from found
    if refused:
        raise refused[0]


def seen_selected(site: Site, files: Iterator[Selected]) -> Iterator[Selected]:
    """As `seen_files`, of files whose directories need only be entered."""
    names = site.lookup_for(Identity.of_process())
    if names.unbounded:
        yield from files
        return
    refused: VseError | None = None
    while some := list(islice(files, _BATCH)):
        allowed, failed = names.reachable([one.located.entry.lfn for one in some], "find")
        kept = set(allowed)
        yield from (one for one in some if one.located.entry.lfn in kept)
        refused = refused or next(iter(failed.values()), None)
    if refused is not None:
        raise refused


def stageable(site: Site, query: DatasetQuery) -> tuple[Iterator[Located], list[Denied]]:
    """Return the files of a query that may be found and whose bytes may be read, for a service to move.

    The list grows, while they are read, by why others are left out: one error for each directory that may not
    be listed, or that holds files which may not be read.
    """
    return readable_by(site, Identity.of_process(), query, site.selector.find(query))


def readable_by(
    site: Site, who: Identity, query: DatasetQuery, files: Iterator[Located]
) -> tuple[Iterator[Located], list[Denied]]:
    """As `stageable`, of the answer to a query and for somebody who need not be here."""
    names = site.lookup_for(who)
    found, left_out = names.readable(query.base if isinstance(query, FindQuery) else None, files)
    return (found if names.unbounded else _legible(names, found, left_out)), left_out


def _legible(names: Guarded, found: Iterator[Located], left_out: list[Denied]) -> Iterator[Located]:
    told: set[Lfn] = set()
    while some := list(islice(found, _BATCH)):
        allowed, failed = legible(names, some)
        yield from allowed
        for lfn, error in failed.items():
            if lfn.parent not in told and isinstance(error, Denied):
                told.add(lfn.parent)
                left_out.append(error)


def legible(names: Guarded, files: Sequence[Located]) -> tuple[list[Located], dict[Lfn, VseError]]:
    """Return those of ``files`` whose bytes may be read, and why not of the others.

    A file that is still to be made of another is as that one.
    """
    read = {one.entry.lfn: Lfn(one.entry.target or one.entry.lfn) for one in files}
    _, failed = names.legible(list(dict.fromkeys(read.values())), "stage")
    allowed = [one for one in files if read[one.entry.lfn] not in failed]
    return allowed, {lfn: failed[source] for lfn, source in read.items() if source in failed}


def ensure_findable(site: Site, query: DatasetQuery) -> None:
    """Raise `Denied` where the base of a find may not be read: before a service answers it for somebody."""
    if isinstance(query, FindQuery):
        names = site.names_for(Identity.of_process())
        if not names.unbounded:
            names.find_with_report(query.base, "*")


def readable(site: Site, files: Iterable[Located]) -> list[Located]:
    """Return ``files``, whose bytes are to be read; raises `Denied` where those of one may not be."""
    found = [*files]
    site.lookup_for(Identity.of_process()).ensure_readable([file.entry.lfn for file in found])
    return found
