"""``vse stage``: bring a dataset here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_json, err, out
from vse.model.words import counted

if TYPE_CHECKING:
    from vse.app.stage import StagingJob
    from vse.staging.values import RequestStatus


To = Annotated[str, typer.Option(help="The storage element; default: stager.destination.", metavar="SE")]
Priority = Annotated[int, typer.Option(min=1, max=9, help="1 comes first, 9 last.", metavar="N")]
Pin = Annotated[str, typer.Option(help="Keep the files at least so long, such as 12h or 7d.", metavar="TIME")]
Note = Annotated[str, typer.Option(help="What it is for; kept with the request.", metavar="TEXT")]


def add_to(app: typer.Typer) -> None:
    app.command("stage", rich_help_panel="Data")(stage)


def stage(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="A dataset's name, a dataset query, or a path with a glob.")],
    to: To = "",
    priority: Priority = 5,
    pin: Pin = "",
    note: Note = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Move the files now, or leave them to a stager.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Bring every file of a dataset here that you may read, verified, each with its link.

    What is here is not moved again; what somebody else asked for is moved once. Stopped (Ctrl-C) or
    killed, it goes on from where it was when the same command is given again.

    Examples:

      vse stage 'Find;BasePath=/lhc/data;FileName=*.root'

      vse stage '/lhc/data/2026/*.root' --no-wait

      vse stage muons@2 --priority 2 --pin 7d --to DISK --note 'summer school'
    """
    from vse.app.requests import conditions
    from vse.app.stage import end_of, stage_dataset
    from vse.cli import status
    from vse.cli.live import StagingView, Views
    from vse.cli.spans import span_s
    from vse.model import DatasetQuery, FindQuery, Identity, Lfn

    dataset = DatasetQuery.parse(query)
    with open_site(context) as site:
        asked = conditions(site, Identity.of_process(), priority, span_s(pin), note)
        started = time.monotonic()
        job = stage_dataset(site, dataset, to, asked)
        held = job.is_held
        if wait and not job.over and not held:
            view = StagingView(job.waiting_files, job.waiting_bytes)
            with Views(view):
                job.run(view.hear)
        for error in job.link().failed.values():
            err.print("[yellow]no link[/yellow]", end=" ")
            err.print(str(error), markup=False)
        final = job.status()
        if as_json:
            emit_json(status.as_dict(final))
        elif wait and not held:
            base = site.links.path(dataset.base if isinstance(dataset, FindQuery) else Lfn("/"))
            _say_what_came(job, final, time.monotonic() - started, base)
        else:
            _say_what_waits(job, final, held)
        for left_out in job.left_out:
            err.print(f"left out: {left_out}", markup=False)
        end_of(final, wait and not held)
        for left_out in job.left_out:
            raise left_out


def _say_what_came(job: StagingJob, final: RequestStatus, took_s: float, links: Path) -> None:
    from vse.cli.live import summary_of_bytes

    for broken in final.broken:
        err.print(f"[red]failed[/red] {broken.lfn}: ", end="")
        err.print(str(broken.error), markup=False)
    out.print(
        f"{final.here_files} of {counted(final.total_files, 'file is', 'files are')} here; moved "
        f"{summary_of_bytes(job.moved_bytes, took_s)}. Links: {links}"
    )


def _say_what_waits(job: StagingJob, final: RequestStatus, held: bool) -> None:
    request, files = (
        final.request.id,
        f"{counted(job.waiting_files, 'file')} to come, {final.here_files} here",
    )
    if held:
        said = f"Request {request} waits for approval: {files}. Look with: vse request show {request}"
    else:
        said = f"Request {request}: {files}. Look with: vse status {request}"
    out.print(said)
