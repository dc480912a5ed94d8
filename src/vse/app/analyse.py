"""An analysis over a dataset's name: what is here starts at once, what is missing joins as it arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from vse.analysis.engine import AnalysisOptions, Feed, InputFile, OnProgress, analyse
from vse.analysis.output import find_fits, save
from vse.analysis.report import ReportContent, Table, write_report
from vse.analysis.result import AnalysisResult
from vse.analysis.script import Script
from vse.app.site import BackgroundStager, Site
from vse.catalogue.lookup import LookupReport
from vse.errors import NoSuchReplica, NothingToAnalyse, VseError
from vse.model import Contents, DatasetQuery, Identity, Lfn, Located, ReplicaState
from vse.staging.values import FileFailed, FileStaged, News


class Missing(StrEnum):
    """What to do with files of the dataset that are not here."""

    STAGE = "stage"
    SKIP = "skip"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A query and what it means at this site now: files that can be read here, and the others."""

    query: DatasetQuery
    here: tuple[InputFile, ...]
    missing: tuple[Located, ...]

    @property
    def total_bytes(self) -> int:
        return sum(file.size_bytes for file in self.here) + self.missing_bytes

    @property
    def missing_bytes(self) -> int:
        return sum(located.entry.size_bytes or 0 for located in self.missing)


def locate(site: Site, query: DatasetQuery) -> tuple[Dataset, LookupReport]:
    """Ask the catalogue (and upstreams, once) for the dataset, and look which files are really here.

    Also returns how the question was answered. Raises `NothingToAnalyse` where no file matches.
    """
    names, report = site.lookup.find_with_report(query.base, query.pattern)
    found = list(names)
    if not found:
        raise NothingToAnalyse(
            f"analyse {query}", "no file matches", f"look at the names there are: vse ls {query.base}"
        )
    here = _readable_here(site, query, found)
    missing = tuple(located for located in found if located.entry.lfn not in here)
    return Dataset(query, tuple(here.values()), missing), report


def analyse_dataset(
    site: Site,
    dataset: Dataset,
    script: Script,
    client: Any,
    options: AnalysisOptions,
    *,
    missing: Missing = Missing.STAGE,
    on_progress: OnProgress | None = None,
    on_news: Callable[[News], None] = lambda _: None,
) -> AnalysisResult:
    """Run ``script`` over the dataset on the workers of ``client``; see `vse.analysis.engine.analyse`.

    ``missing`` STAGE requests what is not here and analyses each file as it arrives; SKIP and files that
    cannot be staged are listed in the result. Raises `NoSuchReplica` for FAIL where a file is not here.
    """
    feed = Feed(dataset.here)
    if dataset.missing and missing is Missing.FAIL:
        raise NoSuchReplica(
            f"analyse {dataset.query}",
            f"{len(dataset.missing)} of its files are not here, the first is {dataset.missing[0].entry.lfn}",
            f"stage them: vse stage '{dataset.query}'",
        )
    with ExitStack() as stack:
        if dataset.missing and missing is Missing.STAGE:
            arrivals = _Arrivals(site, dataset, feed, on_news)
            stack.enter_context(arrivals)
        else:
            for located in dataset.missing:
                feed.fail(located.entry.lfn, "it is not at this site, and was not asked to be staged")
            feed.close()
        result = analyse(script, feed, client, options, on_progress)
    _note_access(site, result)
    return result


def keep_results(
    site: Site,
    result: AnalysisResult,
    script: Script,
    directory: Path,
    *,
    tables: Sequence[Table] = (),
    timings: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write histograms, plots, ``result.json`` and the report; return the paths, the report first."""
    written = save(result, directory, script)
    content = ReportContent(
        title=script.title.rstrip("."),
        site=site.settings.site.name,
        result=result,
        plots=[path for path in written if path.suffix == ".png"],
        fits=find_fits(result.output),
        tables=tables,
        timings=dict(timings or {}),
        notes=notes,
    )
    return [write_report(directory / "report.html", content), *written]


class _Arrivals:
    """Stages the missing files of a dataset and feeds each to the analysis when it is here."""

    def __init__(self, site: Site, dataset: Dataset, feed: Feed, on_news: Callable[[News], None]) -> None:
        self._site = site
        self._query = dataset.query
        self._feed = feed
        self._on_news = on_news
        self._waiting = {located.entry.lfn for located in dataset.missing}
        self._source = site.destination.name
        request = site.staging.request(dataset.query, Identity.of_process().name, self._source)
        self._request_id = request.id
        self._stager = BackgroundStager(site, [request.id], self._hear)
        self._stack = ExitStack()

    def __enter__(self) -> None:
        self._stack.enter_context(self._stager)
        self._closer = threading.Thread(target=self._finish, name="vse-arrivals", daemon=True)
        self._closer.start()

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._closer.join()

    def _hear(self, news: News) -> None:
        if news.lfn in self._waiting:
            if isinstance(news, FileStaged) and news.path is not None:
                self._waiting.discard(news.lfn)
                self._feed.put(
                    _input(
                        self._query, news.lfn, str(news.path), news.size_bytes, news.contents, self._source
                    )
                )
            elif isinstance(news, FileFailed) and news.final:
                self._waiting.discard(news.lfn)
                self._feed.fail(news.lfn, news.error)
        self._on_news(news)

    def _finish(self) -> None:
        """When the request has ended: account for files that came by another process, then close."""
        reason: VseError | str = "it was not staged"
        try:
            self._stager.join()
        except VseError as error:
            reason = error
        finally:
            try:
                self._account_for_the_rest(reason)
            finally:
                self._feed.close()

    def _account_for_the_rest(self, reason: VseError | str) -> None:
        left = sorted(self._waiting)
        located = self._site.catalogue.resolve(left)
        here = _readable_here(self._site, self._query, located.ok.values())
        broken = {
            item.lfn: item.error
            for status in self._site.progress.status(self._site.staging.get([self._request_id]))
            for item in status.broken
        }
        for lfn in left:
            if lfn in here:
                self._feed.put(here[lfn])
            else:
                self._feed.fail(lfn, broken.get(lfn, reason))


def _readable_here(site: Site, query: DatasetQuery, found: Iterable[Located]) -> dict[Lfn, InputFile]:
    """Return the files with a copy that can be opened on this machine and has the right size."""
    here: dict[Lfn, InputFile] = {}
    by_element: dict[str, list[Located]] = {}
    for located in found:
        for replica in located.replicas:
            if replica.state == ReplicaState.AVAILABLE and replica.se in site.elements:
                by_element.setdefault(replica.se, []).append(located)
    for name, files in by_element.items():
        element = site.elements.get(name)
        if element.local_path(files[0].entry.lfn) is None:
            continue
        stored = element.stat([located.entry.lfn for located in files])
        for located in files:
            entry = located.entry
            path = element.local_path(entry.lfn)
            right = entry.lfn in stored.ok and stored.ok[entry.lfn].size_bytes == entry.size_bytes
            if path is not None and right:
                size_bytes = entry.size_bytes or 0
                here[entry.lfn] = _input(query, entry.lfn, str(path), size_bytes, located.contents, name)
    return dict(sorted(here.items()))


def _input(
    query: DatasetQuery, lfn: Lfn, url: str, size_bytes: int, contents: Contents | None, source: str
) -> InputFile:
    known = contents is not None and (not query.tree or query.tree == contents.tree)
    tree = query.tree or (contents.tree if contents else "")
    entries = contents.entries if contents and known and contents.tree else None
    return InputFile(lfn, url, tree, entries, size_bytes, source)


def _note_access(site: Site, result: AnalysisResult) -> None:
    read: dict[str, list[Lfn]] = {}
    for file in result.files:
        if file.entries_done:
            read.setdefault(file.source, []).append(Lfn(file.lfn))
    for se, lfns in read.items():
        site.catalogue.note_access(lfns, se, site.clock())
