"""``vse vaf``: your own analysis facility, with the words of seed 002 §4.4.8.3 and their short names."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vse.cli.context import Context, Json, settings_path
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, err, out, table
from vse.model.words import counted

if TYPE_CHECKING:
    from vse.app.vaf import Facility

app = Commands(
    help="Your analysis facility: a scheduler of your own, workers on a batch system.",
)
_Many = Annotated[int, typer.Argument(help="How many workers in all.", min=0)]


def facility(context: typer.Context) -> Facility:
    """Return the user's facility, with the settings of the site."""
    from vse.app.vaf import Facility
    from vse.config.load import load, parse_flags

    asked: Context = context.obj
    loaded = load(settings_path(context), os.environ, parse_flags(asked.flags))
    return Facility.of(loaded.settings.vaf)


@app.command()
def start(context: typer.Context) -> None:
    """Start the scheduler in the background; after a crash it goes on with the same wish.

    Example:

      vse vaf start
    """
    status = facility(context).start()
    out.print(f"Up at {status['address']}, workers on {status['batch']}. Ask for some: vse vaf request N")


@app.command()
def stop(context: typer.Context) -> None:
    """Give all workers back and end the scheduler.

    Example:

      vse vaf stop
    """
    facility(context).stop()
    out.print("Stopped.")


@app.command()
def status(context: typer.Context, as_json: Json = False) -> None:
    """Show the scheduler, the workers and the jobs, and why a job waits.

    Example:

      vse vaf status
    """
    told = facility(context).status()
    if as_json:
        emit_json(told)
        return
    out.print(
        f"{counted(told['workers'], 'worker')} of {told['wish']} at {told['address']} on {told['batch']}"
    )
    jobs = [
        (name, "working" if job["joined"] else "starting" if job["running"] else "waiting", job["reason"])
        for name, job in told["jobs"].items()
    ]
    if jobs:
        table(("job", "state", "why"), jobs)
    if told["drained"]:
        err.print(f"No more are asked for: {told['drained']}. Logs: {told['logs']}/jobs", markup=False)
    elif told["remark"]:
        err.print(told["remark"], markup=False)


@app.command()
def request(context: typer.Context, count: _Many) -> None:
    """Ask for COUNT workers in all; fewer than there are gives some back.

    Example:

      vse vaf request 20
    """
    told = facility(context).request(count)
    there = counted(told["workers"], "is", "are")
    out.print(f"{counted(told['wish'], 'worker')} asked for, {there} there.")


@app.command("count")
def count_workers(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Print the number and end.")] = False,
    every: Annotated[
        float, typer.Option(help="Seconds between two lines.", min=0.1, metavar="SECONDS")
    ] = 5.0,
) -> None:
    """Show how many workers there are, again and again until Ctrl-C.

    Examples:

      vse vaf count

      vse vaf count --once
    """
    mine = facility(context)
    if once:
        out.print(str(mine.status()["workers"]))
        return
    out.print(f"Updating every {every:g} seconds. Press Ctrl-C to stop monitoring...")
    try:
        while True:
            out.print(f"[{time.strftime('%Y%m%d-%H%M%S')}] {mine.status()['workers']}", markup=False)
            time.sleep(every)
    except KeyboardInterrupt:
        return


@app.command()
def wait(
    context: typer.Context,
    count: _Many,
    timeout: Annotated[
        float | None,
        typer.Option(help="Give up after so many seconds, and say why.", min=0, metavar="SECONDS"),
    ] = None,
) -> None:
    """Wait until there are COUNT workers; what they wait for is told meanwhile.

    Example:

      vse vaf wait 5 --timeout 600
    """
    with err.status("looking") as shown:

        def tell(waiting: str) -> None:
            if err.is_terminal:
                shown.update(escape(waiting))
            else:
                err.print(waiting, markup=False)

        there = facility(context).wait(count, timeout, tell)
    out.print(f"{counted(there, 'worker is', 'workers are')} there.")


@app.command()
def enter(
    context: typer.Context,
    command: Annotated[list[str] | None, typer.Argument(help="A command instead of your shell.")] = None,
) -> None:
    """Open a shell in which the site's and your environment scripts are loaded.

    Examples:

      vse vaf enter

      vse vaf enter -- root -l MyAnalysis.C
    """
    facility(context).enter(command or [])


def _as(*words: str) -> None:
    """Run ``vse vaf WORDS`` with the arguments of the short name."""
    from vse.cli.main import run

    sys.argv[1:1] = ["vaf", *words]
    run()


def vafctl() -> None:
    """``vafctl start|stop|status``"""
    _as()


def vafreq() -> None:
    """``vafreq N``"""
    _as("request")


def vafcount() -> None:
    """``vafcount``"""
    _as("count")


def vafwait() -> None:
    """``vafwait N``"""
    _as("wait")


def vaf_enter() -> None:
    """``vaf-enter``"""
    _as("enter")
