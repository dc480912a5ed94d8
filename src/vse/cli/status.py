"""``vse status``: what was asked for, and how far it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import duration, emit_json, emit_lines, err, moment, out, size, size_of, table
from vse.cli.stager import show_troubles
from vse.model.words import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vse.app.site import Site
    from vse.staging.eta import Estimate
    from vse.staging.values import RequestStatus

_WATCHED = 20
_COLOURS = {"done": "green", "failed": "red", "refused": "red", "held": "yellow", "cancelled": "yellow"}


def add_to(app: typer.Typer) -> None:
    app.command("status", rich_help_panel="Data")(status)


def status(
    context: typer.Context,
    request: Annotated[
        int | None, typer.Argument(help="A request's number; all of them if left out.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it, until all has ended.")] = False,
    every_s: Annotated[
        float, typer.Option("--every", min=0.1, help="Seconds between two looks.", metavar="SECONDS")
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Show requests: files here, bytes, rate, when the rest should come, and why a file failed.

    The time is told with its error bars: four times in five it is between the two. With --watch the open
    requests are shown until they have ended (Ctrl-C ends it earlier); with --json as well, one line a look.

    Examples:

      vse status

      vse status 3 --json

      vse status --watch
    """
    with open_site(context) as site:
        if watch:
            _watch(site, request, every_s, as_json)
            return
        if request is not None:
            (one,) = site.progress.status(site.staging.get([request]))
            if as_json:
                emit_json(as_dict(one))
            else:
                _show(one)
            return
        all_of_them = site.progress.status(site.staging.list())
        if as_json:
            emit_lines(map(as_dict, all_of_them))
            return
        rows = [_row(one) for one in all_of_them]
        headings = ("request", "state", "files", "bytes", "asked", "by", "dataset", "expected")
        table(headings, rows, (0, 2, 3))
        if not rows:
            err.print("No requests yet. Ask for a dataset: vse stage --help", markup=False)
        _show_upstreams(site)
        show_troubles(site)


def _watch(site: Site, request: int | None, every_s: float, as_json: bool) -> None:
    """Show requests as they are until none is open: those that were open at first, and new ones."""
    from rich.live import Live

    seen: set[int] = set()

    def look() -> list[RequestStatus]:
        if request is not None:
            found = site.staging.get([request])
        else:
            seen.update(one.id for one in site.staging.list(open_only=True, limit=_WATCHED))
            found = site.staging.get(sorted(seen)[-_WATCHED:])
        return site.progress.status(found)

    now = look()
    with contextlib.suppress(KeyboardInterrupt), ExitStack() as shown:
        live = None
        if out.is_terminal and not as_json:
            live = shown.enter_context(Live(drawn(now), console=out, auto_refresh=False))
        while True:
            if as_json:
                emit_lines(map(as_dict, now))
            elif live is not None:
                live.update(drawn(now), refresh=True)
            elif now:
                emit_rows(now)
            else:
                err.print("No open requests.")
            if all(one.request.is_over for one in now):
                return
            time.sleep(every_s)
            now = look()


def emit_rows(statuses: Sequence[RequestStatus]) -> None:
    """Print one line a request, for a pipe."""
    table((), [_row(one) for one in statuses])


def drawn(statuses: Sequence[RequestStatus]) -> RenderableType:
    """Return requests for a terminal: a bar, the rate, and when each should be here; two lines each."""
    from rich.console import Group
    from rich.text import Text

    lines = [line for one in statuses for line in _lines(one)]
    return Group(*lines) if lines else Text("No open requests.")


def _lines(one: RequestStatus) -> Iterator[RenderableType]:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from vse.staging.values import ItemState

    request, failed = one.request, one.files[ItemState.FAILED]
    head = Text(f"{request.id:>5}  ", no_wrap=True, overflow="ellipsis")
    head.append(str(request.state), _COLOURS.get(str(request.state), ""))
    if failed:
        head.append(f", {counted(failed, 'file')} failed", "red")
    yield head.append(f"  {request.owner}  {request.query}")
    here = min(one.here_bytes, one.total_bytes)
    bar = ProgressBar(max(one.total_bytes, 1), here, 10, complete_style="blue", finished_style="green")
    moves = one.rate_bytes_s is not None and one.running
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(
        "   ",
        bar,
        f"{one.here_files}/{counted(one.total_files, 'file')}",
        size_of(one.here_bytes, one.total_bytes),
        f"{size(one.rate_bytes_s)}/s" if moves else "",
        "" if one.eta is None and one.note else _when(one),
    )
    yield grid
    if one.note:
        note = Table.grid()
        note.add_row(" " * 5, Text(one.note, "yellow"))
        yield note


def _when(status: RequestStatus) -> str:
    if status.request.finished_s is not None:
        return f"took {duration(status.request.finished_s - status.request.created_s)}"
    if status.eta is None:
        return status.note
    eta = status.eta
    return f"{duration(eta.likely_s)} ({duration(eta.low_s)} to {duration(eta.high_s)})"


def _show_upstreams(site: Site) -> None:
    """Say how upstreams fare, beside the answer."""
    if not site.settings.upstreams:
        return
    from vse.app.figures import upstream_summary

    for state in site.lookup.states():
        summary = upstream_summary(state, site.clock())
        if summary and state.name in site.settings.upstreams:
            err.print(f"upstream {state.name}: {summary}", markup=False)


def as_dict(status: RequestStatus) -> dict[str, Any]:
    """Return a request as `--json` shows it everywhere."""
    from vse.staging.told import status_to_json

    return status_to_json(status)


def _row(status: RequestStatus) -> tuple[str, ...]:
    request = status.request
    return (
        str(request.id),
        str(request.state),
        f"{status.here_files}/{status.total_files}",
        size(status.total_bytes),
        moment(request.created_s),
        request.owner,
        request.query,
        _when(status),
    )


def _show(status: RequestStatus) -> None:
    request = status.request
    out.print(f"[bold]request {request.id}[/bold]  {request.state}  ", end="")
    out.print(request.query, markup=False)
    out.print(f"  asked    {moment(request.created_s)} by {request.owner}, to {request.destination}")
    parts = ", ".join(f"{count} {state}" for state, count in status.files.items() if count)
    out.print(f"  files    {parts or 'none'}; {size(status.here_bytes)} of {size(status.total_bytes)} here")
    if status.running:
        rate = f" at {size(status.rate_bytes_s)}/s" if status.rate_bytes_s else ""
        out.print(f"  moving   {counted(status.running, 'file')}{rate}")
    if status.eta is not None:
        out.print(f"  expected {expected(status.eta)}")
    if status.note:
        out.print(f"  [yellow]note[/yellow]     {status.note}")
    if request.finished_s is not None:
        took_s = request.finished_s - request.created_s
        out.print(f"  ended    {moment(request.finished_s)}, after {duration(took_s)}")
    for broken in status.broken:
        out.print(f"  [red]failed[/red]   {broken.lfn}")
        out.print(f"           {broken.error}", markup=False)


def expected(estimate: Estimate) -> str:
    """Return when something should have come, with its error bars."""
    return (
        f"in {duration(estimate.likely_s)} "
        f"(four times in five between {duration(estimate.low_s)} and {duration(estimate.high_s)})"
    )
