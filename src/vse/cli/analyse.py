"""``vse analyse``: an analysis over a dataset's name, in parallel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_json, err, out, warn_if_stale

if TYPE_CHECKING:
    from vse.analysis.result import AnalysisResult
    from vse.analysis.script import Script
    from vse.app.analyse import Missing
    from vse.app.site import Site
    from vse.model import DatasetQuery


def add_to(app: typer.Typer) -> None:
    app.command("analyse", rich_help_panel="Data")(analyse)


def analyse(
    context: typer.Context,
    script: Annotated[Path, typer.Argument(help="Python: process(events), or a coffea processor.")],
    query: Annotated[str, typer.Argument(help="A dataset's name, a dataset query, or a path with a glob.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The directory for histograms, plots and report.")
    ] = Path("results"),
    local: Annotated[int, typer.Option(help="Worker processes; 0: one a processor.", min=0)] = 0,
    missing: Annotated[
        str,
        typer.Option(
            help="Files that are not here: stage them, skip them, or fail.", metavar="stage|skip|fail"
        ),
    ] = "stage",
    strict: Annotated[bool, typer.Option("--strict", help="Anything missing or broken is an error.")] = False,
    as_json: Json = False,
) -> None:
    """Run a script over every event of a dataset.

    What is here starts at once, what is missing is staged and joins as it arrives. A broken file or an
    event on which the script fails is reported, with its place, and the rest is complete.

    Examples:

      vse analyse dimuon.py 'Find;BasePath=/lhc/data;FileName=*.root' -o results

      vse analyse dimuon.py '/lhc/data/*.root' --missing skip --strict

      vse analyse dimuon.py 'muons@2;Mode=local'
    """
    from vse.analysis.script import load_script
    from vse.app.analyse import Missing
    from vse.errors import BadRequest
    from vse.model import DatasetQuery

    if missing not in list(Missing):
        raise BadRequest(f"use --missing {missing}", "it is stage, skip or fail")
    dataset_query = DatasetQuery.parse(query)
    loaded = load_script(script)
    with open_site(context) as site:
        result, paths = _run(site, dataset_query, loaded, output, local, Missing(missing), strict)
    if as_json:
        emit_json({**result.to_dict(), "paths": [str(path) for path in paths]})
    else:
        tell_result(result)
        for path in paths:
            out.print(f"  {path}", markup=False)


def _run(
    site: Site,
    query: DatasetQuery,
    script: Script,
    output: Path,
    local: int,
    missing: Missing,
    strict: bool,
) -> tuple[AnalysisResult, list[Path]]:
    """Analyse with a view of it; return the result and what was written of it, the report first."""
    from vse.analysis.cluster import start_local
    from vse.analysis.engine import AnalysisOptions
    from vse.app.analyse import Missing, analyse_dataset, keep_results, locate
    from vse.cli.live import AnalysisView, StagingView, Views

    settings = site.settings.analysis
    with start_local(local or settings.workers) as workers:
        dataset, report = locate(site, query)
        warn_if_stale(report)
        options = AnalysisOptions(
            dataset=str(query),
            packet_target_s=settings.packet_target_s,
            max_failed_packets=settings.max_failed_packets,
            strict=strict,
        )
        to_stage = bool(dataset.missing) and missing is Missing.STAGE
        staging = StagingView(len(dataset.missing), dataset.missing_bytes) if to_stage else None
        analysing = AnalysisView(len(dataset.here) + (len(dataset.missing) if to_stage else 0))
        with Views(staging, analysing):
            result = analyse_dataset(
                site,
                dataset,
                script,
                workers.client,
                options,
                missing=missing,
                on_progress=analysing.hear,
                on_news=staging.hear if staging else lambda _: None,
            )
    return result, keep_results(site, result, script, output)


def tell_result(result: AnalysisResult) -> None:
    """Say what is in the result and, place by place, what is not."""
    from vse.cli.output import duration, size

    state = "[green]complete[/green]" if result.complete else "[yellow]incomplete[/yellow]"
    out.print(
        f"{result.entries_processed:,} events of {sum(f.entries_done > 0 for f in result.files)} files in "
        f"{duration(result.wall_s)} on {result.workers} workers ({result.rate / 1e3:,.0f} k events/s, "
        f"{size(result.read_bytes)} read): {state}"
    )
    for lfn, reason in (*result.broken, *result.missing):
        err.print(f"[yellow]left out[/yellow] {lfn}: ", end="")
        err.print(reason, markup=False)
    for item in result.failed:
        err.print(f"[yellow]left out[/yellow] {lfn_range(item.lfn, item.start, item.stop)}: ", end="")
        err.print(item.failure.message, markup=False)


def lfn_range(lfn: str, start: int, stop: int) -> str:
    """Return how a range of entries is named in messages."""
    return f"{lfn} entry {start}" if stop - start == 1 else f"{lfn} entries {start} to {stop - 1}"
