"""An analysis over a dataset's name: what is here starts at once, what is missing joins as it arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Any

from vse.analysis.engine import AnalysisOptions, Control, Feed, InputFile, OnProgress, analyse
from vse.analysis.output import find_fits, save
from vse.analysis.report import ReportContent, Table, write_report
from vse.analysis.result import AnalysisResult
from vse.analysis.script import Script
from vse.app.inputs import Dataset, inputs_of, locate, locate_all, named_queries, readable_here
from vse.app.places import Place
from vse.app.seen import legible
from vse.app.site import BackgroundStager, Site
from vse.app.stage_out import names_for, stage_out
from vse.errors import NoSuchReplica, VseError
from vse.model import Identity, Lfn, Located
from vse.staging.values import FileFailed, FileStaged, News, Request

__all__ = [
    "Dataset",
    "Missing",
    "analyse_dataset",
    "keep_results",
    "locate",
    "locate_all",
    "named_queries",
    "stage_out_results",
]


class Missing(StrEnum):
    """What to do with files of the dataset that are not here."""

    STAGE = "stage"
    SKIP = "skip"
    FAIL = "fail"


def analyse_dataset(
    site: Site,
    dataset: Dataset | Sequence[Dataset],
    script: Script,
    client: Any,
    options: AnalysisOptions,
    *,
    missing: Missing = Missing.STAGE,
    on_progress: OnProgress | None = None,
    on_news: Callable[[News], None] = lambda _: None,
    control: Control | None = None,
    checkpoint: Path | None = None,
) -> AnalysisResult:
    """Run ``script`` over the dataset on the workers of ``client``; see `vse.analysis.engine.analyse`.

    Of several datasets, each with a name, the outputs are kept apart. ``missing`` STAGE requests what is
    not here and analyses each file as it arrives; SKIP and files that cannot be staged are listed in the
    result. Raises `NoSuchReplica` for FAIL where a file is not here.
    """
    datasets = [dataset] if isinstance(dataset, Dataset) else list(dataset)
    feed = Feed()
    for one in datasets:
        _feed(one, missing, feed)
    with ExitStack() as stack:
        selected = list({lfn: None for one in datasets for lfn in one.selected})
        stack.enter_context(site.accesses.reading(dict.fromkeys(site.pool.names, selected)))
        if missing is Missing.STAGE and any(one.missing for one in datasets):
            stack.enter_context(_Arrivals(site, datasets, feed, on_news))
        else:
            feed.close()
        result = analyse(script, feed, client, options, on_progress, control=control, checkpoint=checkpoint)
    _note_access(site, datasets, result)
    return result


def _feed(dataset: Dataset, missing: Missing, feed: Feed) -> None:
    """Put what is here, and tell what will not come."""
    if dataset.missing and missing is Missing.FAIL:
        raise NoSuchReplica(
            f"analyse {dataset.query}",
            f"{len(dataset.missing)} of its files are not here, the first is {dataset.missing[0].entry.lfn}",
            f"stage them: vse stage '{dataset.query}'",
        )
    for file in dataset.own(dataset.here):
        feed.put(file)
    for lfn, reason in dataset.left_out:
        feed.fail(dataset.label(lfn), reason)
    if missing is Missing.SKIP:
        for located in dataset.missing:
            lfn = dataset.label(located.entry.lfn)
            feed.fail(lfn, "it is not at this site, and was not asked to be staged")


def keep_results(
    site: Site,
    result: AnalysisResult,
    script: Script,
    directory: Path,
    *,
    command: str = "",
    tables: Sequence[Table] = (),
    timings: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write histograms, plots, ``result.json`` and the report; return the paths, the report first.

    The checkpoint of a complete result is removed once all of it is there.
    """
    written = save(result, directory, script)
    content = ReportContent(
        title=script.title.rstrip("."),
        site=site.settings.site.name,
        result=result,
        command=command,
        plots=[path for path in written if path.suffix == ".png"],
        fits=find_fits(result.output),
        tables=tables,
        timings=dict(timings or {}),
        notes=notes,
    )
    report = write_report(directory / "report.html", content)
    if result.checkpoint is not None and result.complete:
        result.checkpoint.unlink(missing_ok=True)
    return [report, *written]


def stage_out_results(site: Site, paths: Sequence[Path], element: str, directory: str) -> list[Request]:
    """Bring what an analysis wrote to a storage element, below an LFN; return the requests, ended.

    They are moved as any other file: tried again, verified, and in the catalogue when they are there.
    """
    named = names_for(site, [Place(path=path) for path in paths], f"{directory.rstrip('/')}/")
    ids = [one.id for one in stage_out(site, named, element)]
    site.stager().run(threading.Event(), ids)
    return site.staging.get(ids)


class _Arrivals:
    """Stages the missing files of datasets and feeds each to the analysis when it is here."""

    def __init__(
        self, site: Site, datasets: Sequence[Dataset], feed: Feed, on_news: Callable[[News], None]
    ) -> None:
        self._site = site
        self._datasets = datasets
        self._feed = feed
        self._on_news = on_news
        self._waiting: dict[Lfn, list[Dataset]] = {}
        for dataset in datasets:
            for located in dataset.missing:
                self._waiting.setdefault(located.entry.lfn, []).append(dataset)
        self._source = site.destination.name
        self._me = Identity.of_process()
        self._request_ids = [
            site.staging.request(dataset.query, self._me.name, self._source, files=files).id
            for dataset in datasets
            if (files := self._readable(dataset))
        ]
        self._stager = BackgroundStager(site, self._request_ids, self._hear)
        self._stack = ExitStack()

    def _readable(self, dataset: Dataset) -> list[Located]:
        """Return the missing files that may be read by who runs this; the others fail at once."""
        files, failed = legible(self._site.lookup_for(self._me), dataset.missing)
        for lfn, error in failed.items():
            self._feed.fail(dataset.label(lfn), error)
            self._waiting.pop(lfn, None)
        return files

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
                path, source = str(news.path), self._source
                for dataset in self._waiting.pop(news.lfn):
                    selected = dataset.selected[news.lfn]
                    self._put(dataset, inputs_of(selected, path, news.size_bytes, news.contents, source))
            elif isinstance(news, FileFailed) and news.final:
                for dataset in self._waiting.pop(news.lfn):
                    self._feed.fail(dataset.label(news.lfn), news.error)
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

    def _put(self, dataset: Dataset, files: list[InputFile]) -> None:
        for file in dataset.own(files):
            self._feed.put(file)

    def _account_for_the_rest(self, reason: VseError | str) -> None:
        left = sorted(self._waiting)
        located = self._site.catalogue.resolve(left)
        broken = {
            item.lfn: item.error
            for status in self._site.progress.status(self._site.staging.get(self._request_ids))
            for item in status.broken
        }
        for dataset in self._datasets:
            waiting = [lfn for lfn in left if any(one is dataset for one in self._waiting[lfn])]
            found = [located.ok[lfn] for lfn in waiting if lfn in located.ok]
            here = readable_here(self._site, dataset.selected, found)
            for lfn in waiting:
                if lfn in here:
                    self._put(dataset, here[lfn])
                else:
                    self._feed.fail(dataset.label(lfn), broken.get(lfn, reason))


def _note_access(site: Site, datasets: Sequence[Dataset], result: AnalysisResult) -> None:
    members = {
        dataset.label(one.file.label): lfn
        for dataset in datasets
        for lfn, some in dataset.selected.items()
        for one in some
    }
    read: dict[str, list[Lfn]] = {}
    for file in result.files:
        if file.entries_done and file.source:
            read.setdefault(file.source, []).append(members.get(file.lfn, Lfn(file.lfn)))
    for se, lfns in read.items():
        site.accesses.note(se, lfns)
