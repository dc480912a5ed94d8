"""Having the answers of upstreams here before anybody needs them."""

from __future__ import annotations

from dataclasses import dataclass

from vse.app.site import Site
from vse.catalogue.belief import LookupReport
from vse.errors import BadRequest
from vse.model import Dataset, DatasetQuery


@dataclass(frozen=True, slots=True)
class Prefetched:
    """``files`` and ``size_bytes`` of the answer that is here now, and what asking for it took."""

    files: int
    size_bytes: int
    queries: int
    waited_s: float


def prefetch(site: Site, text: str, again: bool = False) -> Prefetched:
    """Ask upstreams for a directory (``/lhc/data``) or a dataset query, where their answer is due.

    ``again``: also where it is still believed. Raises the error of the first upstream that did not
    answer; what it told before is kept.
    """
    if not site.lookup.upstreams:
        todo = "describe one in vse.toml, see docs/connect-an-upstream.md"
        raise BadRequest(f"prefetch {text}", "this site has no upstream", todo)
    query, meant = site.selector.resolve(DatasetQuery.parse(text))
    reports: list[LookupReport] = []
    if not isinstance(meant, Dataset):
        for part in site.selector.parts(meant):
            reports.append(site.lookup.prefetch(part.base, part.pattern, again))
    selection = site.selector.select(query)
    files = size_bytes = 0
    for selected in selection.files:
        files += 1
        size_bytes += selected.located.entry.size_bytes or 0
    reports.append(selection.report)
    for error in selection.report.failed.values():
        raise error
    queries = sum(report.queries for report in reports)
    return Prefetched(files, size_bytes, queries, sum(report.waited_s for report in reports))
