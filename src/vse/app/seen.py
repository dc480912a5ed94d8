"""What the person who runs a command may see of the answer to a query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from vse.app.site import Site
from vse.errors import VseError
from vse.model import DatasetQuery, Identity, Located
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
