"""``vse analyse``: an analysis over a dataset's name, in parallel."""

from __future__ import annotations

import errno
import shlex
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from vse.cli.context import Json, open_site
from vse.cli.output import directory_for, emit_json, err, out, warn_if_stale
from vse.model.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.status import Status

    from vse.analysis.engine import Control
    from vse.analysis.live import LivePage
    from vse.analysis.result import AnalysisResult, Progress
    from vse.analysis.script import Script
    from vse.app.analyse import Dataset, Missing
    from vse.app.site import Site
    from vse.model import DatasetQuery, Lfn

CHECKPOINT = "checkpoint"
MOST_REASONS = 20
MOST_PLACES = 3

_Script = Annotated[
    Path, typer.Argument(help="Python: process(events), process(rdf), or a coffea processor.")
]
_Queries = Annotated[
    list[str],
    typer.Argument(help="A dataset's name, a dataset query, or a path with a glob; several: NAME=QUERY."),
]
_Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="The directory for histograms, plots and report.", metavar="DIRECTORY"
    ),
]
_Local = Annotated[int, typer.Option(help="Worker processes; 0: one a processor.", min=0, metavar="N")]
_Cluster = Annotated[
    str,
    typer.Option(help="Workers elsewhere: your `vse vaf`, or a Dask scheduler.", metavar="vaf|tls://..."),
]
_Missing = Annotated[
    str,
    typer.Option(help="Files that are not here: stage them, skip them, or fail.", metavar="stage|skip|fail"),
]
_Strict = Annotated[bool, typer.Option("--strict", help="Anything missing or broken is an error.")]
_Live = Annotated[bool, typer.Option("--live", help="Show progress on a page in the browser.")]
_Resume = Annotated[
    Path | None, typer.Option(help="Go on from the checkpoint of a run that was interrupted.", metavar="FILE")
]
_StageOut = Annotated[
    str, typer.Option(help="Write the results to a storage element as well.", metavar="SE:LFN-DIRECTORY")
]


def add_to(app: typer.Typer) -> None:
    app.command("analyse", rich_help_panel="Data")(analyse)


@dataclass(frozen=True)
class _Target:
    """Where results are written to as well."""

    element: str
    directory: Lfn


@dataclass(frozen=True, kw_only=True)
class _Ask:
    """What the command line says."""

    queries: Mapping[str, DatasetQuery]
    script: Script
    output: Path
    local: int
    cluster: str
    missing: Missing
    strict: bool
    live: bool
    resume: Path | None
    target: _Target | None
    command: str

    @property
    def checkpoint(self) -> Path:
        return self.resume or self.output / CHECKPOINT

    @property
    def title(self) -> str:
        """The datasets, as they were asked for."""
        return ", ".join(f"{name}={query}" if name else str(query) for name, query in self.queries.items())


def analyse(
    context: typer.Context,
    script: _Script,
    query: _Queries,
    output: _Output = Path("results"),
    local: _Local = 0,
    cluster: _Cluster = "",
    missing: _Missing = "stage",
    strict: _Strict = False,
    live: _Live = False,
    resume: _Resume = None,
    stage_out: _StageOut = "",
    as_json: Json = False,
) -> None:
    """Run a script over every event of a dataset, or of several.

    What is here starts at once, what is missing is staged and joins as it arrives. A broken file or an
    event on which the script fails is reported, with its place, and the rest is complete. While it runs,
    p pauses it, s stops it with what there is (or signals: USR1, USR2).

    Examples:

      vse analyse dimuon.py 'Find;BasePath=/lhc/data;FileName=*.root' -o results
      vse analyse dimuon.py ttbar=/lhc/mc/ttbar/*.root dy=muons@2 --live
      vse analyse dimuon.py '/lhc/data/*.root' --missing skip --strict
      vse analyse dimuon.py muons --resume results/checkpoint
      vse analyse dimuon.py muons --stage-out TIER2:/lhc/user/a/anna/dimuon
    """
    with err.status("starting"):
        from vse.analysis.endings import ended_as_too_big
        from vse.analysis.script import load_script
        from vse.app.analyse import named_queries

        ask = _Ask(
            missing=_what_to_do(missing),
            resume=_to_go_on(resume),
            target=_target(stage_out),
            queries=named_queries(query),
            script=load_script(script),
            output=output,
            local=local,
            cluster=cluster,
            strict=strict,
            live=live,
            command=_again(script, query, cluster),
        )
    with open_site(context) as site:
        if ask.target:
            site.writable(ask.target.element)
        result, paths = _run(site, ask)
        _tell(result, paths, as_json)
        if not result.complete:
            _say_how_to_go_on(ask)
        if ask.target:
            _stage_out(site, paths, ask.target)
        if result.too_big:
            raise ended_as_too_big(result)


def _what_to_do(missing: str) -> Missing:
    """Read ``--missing``."""
    from vse.app.analyse import Missing
    from vse.errors import BadRequest

    if missing not in list(Missing):
        raise BadRequest(f"use --missing {missing}", "it is stage, skip or fail")
    return Missing(missing)


def _to_go_on(checkpoint: Path | None) -> Path | None:
    """Read ``--resume``."""
    from vse.errors import BadRequest

    if checkpoint is not None and not checkpoint.is_file():
        raise BadRequest(
            f"go on from the checkpoint {checkpoint}", "there is no such file", "leave --resume out"
        )
    return checkpoint


def _again(script: Path, queries: list[str], cluster: str) -> str:
    """Return the command that asks for the same analysis."""
    elsewhere = ["--cluster", cluster] if cluster else []
    return shlex.join(["vse", "analyse", str(script), *queries, *elsewhere])


def _target(text: str) -> _Target | None:
    """Read ``--stage-out``: ``SE:/directory``."""
    from vse.errors import BadRequest
    from vse.model import Lfn

    if not text:
        return None
    element, colon, directory = text.partition(":")
    if not (element and colon and directory):
        raise BadRequest(
            f"stage out to {text}", "it has no directory", "write it as SE:/directory, an LFN of your own"
        )
    return _Target(element, Lfn.parse(directory))


def _run(site: Site, ask: _Ask) -> tuple[AnalysisResult, list[Path]]:
    """Analyse with a view of it; return the result and what was written of it, the report first."""
    from vse.analysis.engine import Control
    from vse.app.analyse import keep_results, locate_all
    from vse.errors import ScriptFailed, StorageFull, WorkersLost

    directory_for("keep the results", ask.output)
    control = Control()
    with ExitStack() as stack:
        starting = stack.enter_context(err.status("starting"))
        workers = stack.enter_context(_workers(site, ask, starting))
        datasets, reports = locate_all(site, ask.queries)
        for report in reports:
            warn_if_stale(report)
        page = stack.enter_context(_live_page(ask, control)) if ask.live else None
        try:
            client = workers.client
            starting.stop()
            result = _analyse(site, ask, datasets, client, control, page)
            paths = keep_results(site, result, ask.script, ask.output, command=ask.command)
        except BaseException as error:
            if page is not None:
                page.finish(None, str(error))
            if isinstance(error, KeyboardInterrupt | WorkersLost | ScriptFailed | OSError):
                _say_how_to_go_on(ask)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                todo = "make room there, or name another directory with -o"
                raise StorageFull(f"write to {ask.output}", str(error.strerror), todo) from error
            raise
        if page is not None:
            page.finish(result, f"The report is {paths[0]}.")
    return result, paths


def _say_how_to_go_on(ask: _Ask) -> None:
    if ask.checkpoint.is_file():
        command = (
            f"{ask.command} -o {shlex.quote(str(ask.output))} --resume {shlex.quote(str(ask.checkpoint))}"
        )
        err.print(f"What is done is kept. For the rest: {command}", markup=False)


def _workers(site: Site, ask: _Ask, starting: Status) -> Any:
    """Return a context manager: the workers, whose ``client`` is there once they are."""
    from vse.analysis.cluster import start_local
    from vse.app.vaf import ClusterWorkers

    if ask.cluster:
        starting.update(f"waiting for workers of {escape(ask.cluster)}")
        return ClusterWorkers(ask.cluster, site.settings.vaf)
    workers = start_local(ask.local or site.settings.analysis.workers)
    starting.update(f"starting {counted(workers.count, 'worker')}")
    return workers


def _live_page(ask: _Ask, control: Control) -> LivePage:
    from vse.analysis.live import LivePage

    orders = {"pause": control.pause, "resume": control.resume, "stop": control.stop}
    page = LivePage(ask.script.title.rstrip("."), ask.title, lambda order: orders[order]())
    err.print(f"Live: {page.url}", markup=False)
    return page


def _analyse(
    site: Site, ask: _Ask, datasets: list[Dataset], client: Any, control: Control, page: LivePage | None
) -> AnalysisResult:
    from vse.analysis.engine import AnalysisOptions
    from vse.app.analyse import Missing, analyse_dataset
    from vse.cli.live import AnalysisView, StagingView, Views
    from vse.cli.orders import Orders

    settings = site.settings.analysis
    options = AnalysisOptions(
        dataset=ask.title,
        packet_target_s=settings.packet_target_s,
        max_failed_packets=settings.max_failed_packets,
        stall_s=settings.stall_s,
        hang_s=settings.hang_s,
        max_output_bytes=settings.max_output_bytes,
        strict=ask.strict,
    )
    if ask.cluster:
        options = replace(options, no_workers_s=site.settings.vaf.wait_s)
    here = sum(len(one.here) for one in datasets)
    away = sum(len(one.missing) for one in datasets) if ask.missing is Missing.STAGE else 0
    staging = StagingView(away, sum(one.missing_bytes for one in datasets)) if away else None
    paused = False

    def turn() -> None:
        control.resume() if paused else control.pause()

    def hear(news: Progress) -> None:
        nonlocal paused
        paused = news.paused
        analysing.hear(news)
        if page is not None:
            page.hear(news)

    _make_way(ask)
    with Orders({"p": turn, "s": control.stop}) as orders:
        keys = "p pauses or goes on, s stops with what there is" if orders.has_keys else ""
        analysing = AnalysisView(here + away, keys=keys)
        with Views(staging, analysing):
            return analyse_dataset(
                site,
                datasets,
                ask.script,
                client,
                options,
                missing=ask.missing,
                on_progress=hear,
                on_news=staging.hear if staging else lambda _: None,
                control=control,
                checkpoint=ask.checkpoint,
            )


def _make_way(ask: _Ask) -> None:
    """What an earlier run left to go on from is not wanted now."""
    if ask.resume is None and ask.checkpoint.is_file():
        err.print(f"Beginning anew; the checkpoint {ask.checkpoint} is removed.", markup=False)
        ask.checkpoint.unlink()


def _stage_out(site: Site, paths: list[Path], target: _Target) -> None:
    from vse.app.analyse import stage_out_results
    from vse.errors import RequestIncomplete
    from vse.staging.values import RequestState

    element = target.element
    requests = stage_out_results(site, paths, element, target.directory)
    failed = [one for one in requests if one.state is RequestState.FAILED]
    for one in failed:
        for item in site.staging.items(one.id):
            err.print(f"failed {item.lfn}: {item.error}", markup=False)
    if failed:
        found = f"{len(failed)} of {len(requests)} did not get there"
        todo = f"the results are on this machine as well; try again: vse stage-out FILES --to {element}"
        raise RequestIncomplete(f"stage out the results to {element}", found, todo)
    there = f"{counted(len(requests), 'file')} {'is' if len(requests) == 1 else 'are'}"
    err.print(f"{there} at {element}, in {target.directory}.", markup=False)


def _tell(result: AnalysisResult, paths: list[Path], as_json: bool) -> None:
    if as_json:
        emit_json({**result.to_dict(), "paths": [str(path) for path in paths]})
        return
    tell_result(result)
    _tell_how(result)
    for path in paths:
        out.print(f"  {path}", markup=False)


def tell_result(result: AnalysisResult) -> None:
    """Say what is in the result and, place by place, what is not."""
    from vse.analysis.report import left_out
    from vse.analysis.report_effort import short_name
    from vse.cli.output import duration, size

    state = "[green]complete[/green]" if result.complete else "[yellow]incomplete[/yellow]"
    out.print(
        f"{counted(result.entries_processed, 'event')} of "
        f"{counted(sum(f.entries_done > 0 for f in result.files), 'file')} in {duration(result.wall_s)} on "
        f"{counted(result.workers, 'worker')} ({result.rate / 1e3:,.0f} k events/s, "
        f"{size(result.read_bytes)} read): {state}"
    )
    for worker, reason in result.drained:
        err.print(f"[yellow]drained[/yellow] {short_name(worker)}: ", end="")
        err.print(reason, markup=False)
    reasons = left_out(result)
    for one in reasons[:MOST_REASONS]:
        more = len(one.places) - MOST_PLACES
        places = one.places[:MOST_PLACES] + ([f"and {more:,} more"] if more > 0 else [])
        err.print("[yellow]left out[/yellow] ", end="")
        err.print(f"{one.amount}: {one.reason}\n         {'; '.join(places)}", markup=False)
    if len(reasons) > MOST_REASONS:
        more_reasons = counted(len(reasons) - MOST_REASONS, "more reason")
        err.print(f"and {more_reasons}, all of them in result.json")


def _tell_how(result: AnalysisResult) -> None:
    """Say what was read from where, and how well it went."""
    from vse.cli.output import duration, size

    if result.entries_resumed:
        out.print(f"{result.entries_resumed:,} of them came from the checkpoint")
    for origin in result.origins:
        how = "over the network" if origin.remote else "on local disks"
        out.print(
            f"  {size(origin.read_bytes)} of {counted(origin.files, 'file')} from {origin.place}, {how}",
            markup=False,
        )
    if result.efficiency is not None:
        out.print(f"  efficiency {result.efficiency:.0%} (ideal time over measured time)")
    if len(result.slowest) > 1:
        slow = result.slowest[0]
        out.print(f"  slowest file {slow.lfn}, {duration(slow.wall_s)}", markup=False)
