"""``vse status``: what was asked for, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import duration, emit_json, emit_lines, err, moment, out, size, table
from vse.cli.stager import show_troubles

if TYPE_CHECKING:
    from vse.app.site import Site
    from vse.staging.eta import Estimate
    from vse.staging.values import RequestStatus


def add_to(app: typer.Typer) -> None:
    app.command("status", rich_help_panel="Data")(status)


def status(
    context: typer.Context,
    request: Annotated[
        int | None, typer.Argument(help="A request's number; all of them if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show requests: files here, bytes, rate, when the rest should come, and why a file failed.

    Examples:

      vse status

      vse status 3 --json
    """
    with open_site(context) as site:
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
        table(("request", "state", "files", "bytes", "asked", "by", "dataset"), rows, (0, 2, 3))
        if not rows:
            err.print("No requests yet. Ask for a dataset: vse stage --help", markup=False)
        _show_upstreams(site)
        show_troubles(site)


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
    request = status.request
    return {
        "request": request.id,
        "query": request.query,
        "destination": request.destination,
        "owner": request.owner,
        "state": str(request.state),
        "created_s": request.created_s,
        "finished_s": request.finished_s,
        "files": {str(state): count for state, count in status.files.items()},
        "total_bytes": status.total_bytes,
        "here_bytes": status.here_bytes,
        "running": status.running,
        "rate_bytes_s": status.rate_bytes_s,
        "eta": estimate_as_dict(status.eta),
        "broken": [{"lfn": broken.lfn, "error": broken.error.to_dict()} for broken in status.broken],
    }


def estimate_as_dict(estimate: Estimate | None) -> dict[str, float] | None:
    """Return when something should have come, as `--json` shows it everywhere."""
    return None if estimate is None else dict(estimate._asdict())


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
        out.print(f"  moving   {status.running} files{rate}")
    if status.eta is not None:
        out.print(f"  expected {expected(status.eta)}")
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
        f"(between {duration(estimate.low_s)} and {duration(estimate.high_s)})"
    )
