"""An analysis over a dataset's name: what is here starts at once, what is missing joins as it arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Any

from vse.analysis.engine import AnalysisOptions, Feed, InputFile, OnProgress, analyse
from vse.analysis.output import find_fits, save
from vse.analysis.report import ReportContent, Table, write_report
from vse.analysis.result import AnalysisResult
from vse.analysis.script import Script
from vse.app.inputs import Dataset, inputs_of, locate, readable_here
from vse.app.site import BackgroundStager, Site
from vse.errors import NoSuchReplica, VseError
from vse.model import Identity, Lfn
from vse.staging.values import FileFailed, FileStaged, News

__all__ = ["Dataset", "Missing", "analyse_dataset", "keep_results", "locate"]


class Missing(StrEnum):
    """What to do with files of the dataset that are not here."""

    STAGE = "stage"
    SKIP = "skip"
    FAIL = "fail"


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
    for lfn, reason in dataset.left_out:
        feed.fail(lfn, reason)
    with ExitStack() as stack:
        stack.enter_context(site.accesses.reading({name: list(dataset.selected) for name in site.pool.names}))
        if dataset.missing and missing is Missing.STAGE:
            arrivals = _Arrivals(site, dataset, feed, on_news)
            stack.enter_context(arrivals)
        else:
            for located in dataset.missing:
                feed.fail(located.entry.lfn, "it is not at this site, and was not asked to be staged")
            feed.close()
        result = analyse(script, feed, client, options, on_progress)
    _note_access(site, dataset, result)
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
        self._selected = dataset.selected
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
                self._put(
                    inputs_of(
                        self._selected[news.lfn],
                        str(news.path),
                        news.size_bytes,
                        news.contents,
                        self._source,
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

    def _put(self, files: Iterable[InputFile]) -> None:
        for file in files:
            self._feed.put(file)

    def _account_for_the_rest(self, reason: VseError | str) -> None:
        left = sorted(self._waiting)
        located = self._site.catalogue.resolve(left)
        here = readable_here(self._site, self._selected, located.ok.values())
        broken = {
            item.lfn: item.error
            for status in self._site.progress.status(self._site.staging.get([self._request_id]))
            for item in status.broken
        }
        for lfn in left:
            if lfn in here:
                self._put(here[lfn])
            else:
                self._feed.fail(lfn, broken.get(lfn, reason))


def _note_access(site: Site, dataset: Dataset, result: AnalysisResult) -> None:
    members = {one.file.label: lfn for lfn, some in dataset.selected.items() for one in some}
    read: dict[str, list[Lfn]] = {}
    for file in result.files:
        if file.entries_done and file.source:
            read.setdefault(file.source, []).append(members.get(file.lfn, Lfn(file.lfn)))
    for se, lfns in read.items():
        site.accesses.note(se, lfns)
