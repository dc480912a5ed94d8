"""``vse demo``: the main job from nothing, on this machine."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.analyse import tell_result
from vse.cli.output import directory_for, duration, err, out, size
from vse.errors import AlreadyExists
from vse.model.words import counted

if TYPE_CHECKING:
    from vse.demo.run import Demo, Pass

_MARK = ".vse-demo"
_SEED_TABLE = (763.0, 66.0)  # seed 002, Table 4.1: 12:43 with an empty cache, 1:06 with cached data


def add_to(app: typer.Typer) -> None:
    app.command("demo", rich_help_panel="Sites")(demo)


def demo(
    directory: Annotated[
        Path, typer.Option(help="Where; it is made if missing.", metavar="DIRECTORY")
    ] = Path("vse-demo"),
    data: Annotated[
        Path | None,
        typer.Option(
            help="Use these ROOT files with muons instead of generated ones.",
            exists=True,
            file_okay=False,
            metavar="DIRECTORY",
        ),
    ] = None,
    files: Annotated[int, typer.Option(help="Files to generate.", min=1, metavar="N")] = 40,
    events: Annotated[int, typer.Option(help="Events in each.", min=1, metavar="N")] = 40_000,
    latency_ms: Annotated[
        float, typer.Option(help="The remote catalogue's time for one query.", min=0, metavar="MS")
    ] = 100.0,
    bandwidth_mib_s: Annotated[
        float, typer.Option(help="The line's rate, for all transfers.", min=0.1, metavar="MIB/S")
    ] = 12.5,
    workers: Annotated[
        int, typer.Option(help="Worker processes; 0: one a processor.", min=0, metavar="N")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the generator.", metavar="N")] = 2014,
) -> None:
    """Make a remote site and a local one, stage a dataset between them, and find the peaks in it.

    Everything is real (HTTP, verification, a Dask cluster) but for the distance: one catalogue query
    takes 100 ms and the line carries 12.5 MiB/s, as at Torino in the seed's Table 4.1. Running it again
    starts the local site anew.

    Examples:

      vse demo

      vse demo --data ~/my-root-files --bandwidth-mib-s 100
    """
    from vse.demo.remote import WideAreaLink
    from vse.demo.run import Demo

    directory = directory.absolute()
    _prepare(directory)
    link = WideAreaLink(latency_ms / 1000, bandwidth_mib_s * 1024 * 1024)
    with Demo(directory, link, workers) as run:
        _make_sites(run, data, files, events, seed)
        cold = _one_pass(run, "cold")
        warm = _one_pass(run, "warm")
        tell_result(warm.result)
        paths = run.save(cold, warm)
    _table(run, cold, warm)
    for line in run.fit_lines(warm.result):
        out.print(line, markup=False)
    out.print("\n[bold]Look at[/bold]")
    for path in paths:
        out.print(f"  {_shown(path)}", markup=False)
    _next_steps(run)


def _prepare(directory: Path) -> None:
    """Start the local site anew; touch nothing that a demo did not make."""
    directory_for("run the demo", directory)
    if any(directory.iterdir()) and not (directory / _MARK).exists():
        raise AlreadyExists(
            f"run the demo in {directory}", "it holds something else", "name another with --directory"
        )
    (directory / _MARK).write_text("Made by 'vse demo'; may be removed as a whole.\n")
    for part in ("site", "results"):
        shutil.rmtree(directory / part, ignore_errors=True)


def _make_sites(run: Demo, data: Path | None, files: int, events: int, seed: int) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    out.print("[bold]1. A remote site[/bold]: files and a catalogue, behind HTTP in a process of its own")
    with Progress(
        TextColumn("{task.description:<10}"), BarColumn(bar_width=24), MofNCompleteColumn(), console=err
    ) as progress:
        task = progress.add_task(
            "generating" if data is None else "taking in", total=files if data is None else None
        )
        run.make_remote(data, files, events, seed, lambda: progress.advance(task))
    out.print(
        f"   {counted(run.remote_files, 'file')}, {size(run.remote_bytes)}. "
        "To be honest about the distance: a query\n"
        f"   of its catalogue takes {run.link.query_latency_s * 1000:.0f} ms, the line carries "
        f"{run.link.bandwidth_bytes_per_s / 2**20:.1f} MiB/s in all\n   (the case of Torino, seed Table 4.1)."
    )
    out.print("[bold]2. A local site[/bold]: catalogue, storage element, link tree, stager")
    run.make_local()
    out.print(f"   {_shown(run.site_directory)}", markup=False)


def _one_pass(run: Demo, name: str) -> Pass:
    from vse.cli.live import AnalysisView, StagingView, Views, summary_of_bytes

    if name == "cold":
        out.print("[bold]3. Find, stage and analyse[/bold], nothing is here")
        out.print(f"   {run.query}", markup=False)
    else:
        out.print("[bold]4. The same again[/bold], everything is here")
    run.wait_for_workers()
    dataset = run.begin()
    report = run.lookup_report
    files = counted(run.found_files, "file")
    if report.queries:
        out.print(
            f"   found {files}: the upstream catalogue was asked {_times(report.queries)} "
            f"({report.waited_s * 1000:.0f} ms);\n   file by file it would be {_times(run.found_files)}"
        )
    else:
        out.print(f"   found {files} in the local cache: the upstream was not asked")
    staging = StagingView(len(dataset.missing), dataset.missing_bytes) if dataset.missing else None
    analysing = AnalysisView(run.found_files)
    with Views(staging, analysing):
        one = run.finish(dataset, analysing.hear, staging.hear if staging else lambda _: None)
    if staging is not None:
        out.print(
            f"   staged {counted(len(dataset.missing), 'file')}, "
            f"{summary_of_bytes(one.staged_bytes, one.staging_s)};\n"
            "   each was verified (size, adler32, tree read) before its link appeared"
        )
    out.print(f"   {counted(one.result.entries_processed, 'event')} in {duration(one.wall_s)}")
    return one


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _table(run: Demo, cold: Pass, warm: Pass) -> None:
    from rich.table import Table

    drawn = Table(
        title="First and second time", title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    for heading in ("", "empty cache", "cached", "ratio"):
        drawn.add_column(heading, justify="left" if not heading else "right")
    drawn.add_row(
        "this demo",
        duration(cold.wall_s),
        duration(warm.wall_s),
        f"{cold.wall_s / max(warm.wall_s, 1e-9):.1f}",
    )
    first, second = _SEED_TABLE
    drawn.add_row("seed, Table 4.1 (Torino 2014)", duration(first), duration(second), f"{first / second:.0f}")
    out.print()
    out.print(drawn)
    line_s = cold.staged_bytes / run.link.bandwidth_bytes_per_s
    out.print(
        f"The line alone takes {duration(line_s)} for these {size(cold.staged_bytes)}: the first time took "
        f"{cold.wall_s / line_s:.2f} of that."
    )
    out.print(
        "[dim]The seed's first time was 12 times slower while its line was 4.5 times slower:\n"
        "it asked the catalogue file by file. Times here include catalogue and staging,\n"
        "not the workers' start.[/dim]"
    )


def _next_steps(run: Demo) -> None:
    from vse.demo.run import SCRIPT

    lfn = run.example_lfn
    out.print("\n[bold]Try next[/bold]")
    if shutil.which("vse") is None:
        out.print(f"  . {_shown(Path(sys.prefix) / 'bin' / 'activate')}", markup=False)
    out.print(f"  cd {_shown(run.site_directory)}", markup=False)
    for command in (
        f"vse ls -l {lfn.parent}",
        f"vse why {lfn}",
        f"python -c \"import uproot; print(uproot.open('vse{lfn}').classnames())\"",
        f"vse analyse {SCRIPT} '{run.query.base}/*.root' -o mine    # the script is yours to change",
        "vse status",
        f"vse --site ../{run.remote_directory.name} serve    # the remote site again, without the distance",
        "vse doctor    # in another terminal, while the remote site is there",
    ):
        out.print(f"  {command}", markup=False)


def _shown(path: Path) -> str:
    """Return ``path`` as one would type it: from here where it lies below, else whole."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
