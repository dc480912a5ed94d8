"""``vse why``: where is my file, when will it come, why did it fail?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli import quarantine
from vse.cli.context import Json, open_site
from vse.cli.output import emit_json, moment, out, size
from vse.cli.status import expected
from vse.model import Lfn

if TYPE_CHECKING:
    from vse.staging.why import Queued, Why
    from vse.storage.element import ReadSource
    from vse.transfer.lifecycle import Attempt


def add_to(app: typer.Typer) -> None:
    app.command("why", rich_help_panel="Data")(why)


def why(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A file.", metavar="LFN")],
    as_json: Json = False,
) -> None:
    """Tell everything about one file: each copy, which would be read and why, what is queued, every
    attempt with its error, and when it should arrive.

    Example:

      vse why /lhc/data/2026/dimuon_000.root
    """
    lfn = Lfn.parse(name)
    with open_site(context) as site:
        if as_json:
            from vse.app.desk import everything_about

            emit_json(everything_about(site, lfn))
            return
        answer = site.explainer.explain(lfn)
        _show(answer)
        for one in site.quarantine.of(lfn):
            quarantine.tell_of(one)
        for element, reason in site.pool.explain(lfn).items():
            out.print(f"pool     {element}: {reason}", markup=False)
        for gone in site.pool.log(lfn=lfn, limit=5):
            what = f"{moment(gone.when_s)} {gone.element}, {gone.state}: {gone.reason}"
            out.print(f"         {what}", markup=False)
        link = site.links.path(lfn)
        if link.is_symlink():
            out.print(f"link     {link}", markup=False)


def _show(why: Why) -> None:
    entry = why.entry
    out.print(f"[bold]{entry.lfn}[/bold]")
    out.print(
        f"{size(entry.size_bytes)}, {entry.checksum or 'no checksum'}, modified {moment(entry.modified_s)}"
    )
    if why.fresh_until_s is not None:
        out.print(f"told by an upstream catalogue; asked again after {moment(why.fresh_until_s)}")
    for copy in why.copies:
        origin = f", told by {copy.origin}" if copy.origin else ""
        accessed = f", last read {moment(copy.accessed_s)}" if copy.accessed_s else ""
        mark = "[green]readable[/green]" if copy.usable else "[yellow]not readable[/yellow]"
        out.print(f"copy     {copy.se}: {mark} ({copy.state}{origin}{accessed})")
        if copy.url:
            out.print(f"         {copy.url}", markup=False)
        if copy.reason:
            out.print(f"         {copy.reason}", markup=False)
    if entry.target is not None:
        out.print(f"copy     [yellow]none yet[/yellow], can be made from {entry.target} by staging it")
    elif not why.copies:
        out.print("copy     [yellow]none is known[/yellow]")
    if why.reads:
        first, *others = why.reads
        reason = "the only way" if not others else f"preferred to {', '.join(_way(one) for one in others)}"
        out.print(f"read     {_way(first)} ({reason})")
    elif why.no_plan:
        out.print("read     [yellow]not possible[/yellow]: ", end="")
        out.print(why.no_plan, markup=False)
    for queued in why.transfers:
        _show_transfer(queued)


def _way(source: ReadSource) -> str:
    return f"{source.se} by {source.protocol}"


def _result(attempt: Attempt) -> str:
    if attempt.error is not None:
        return str(attempt.error)
    source = f" from {attempt.source}" if attempt.source else ""
    way = f", {attempt.way}" if attempt.way else ""
    return f"good: {size(attempt.bytes_done)}{source}{way}"


def _show_transfer(queued: Queued) -> None:
    transfer = queued.transfer
    where = f"transfer to {transfer.destination}: {transfer.state}"
    if queued.position:
        where += f", number {queued.position} in the queue, behind {size(queued.ahead_bytes)}"
    elif queued.position == 0:
        where += f", {size(transfer.bytes_done)} of {size(transfer.size_bytes)} moved"
    out.print(where, markup=False)
    if queued.reason:
        out.print(f"         {queued.reason}", markup=False)
    for wanting in queued.wanted_by:
        out.print(
            f"         wanted by {wanting.owner} since {moment(wanting.created_s)} "
            f"(request {wanting.request_id}: {wanting.query})",
            markup=False,
        )
    for attempt in queued.attempts:
        out.print(
            f"         {moment(attempt.started_s)} attempt {attempt.number}: {_result(attempt)}", markup=False
        )
    if queued.arrival is not None:
        out.print(f"expected {expected(queued.arrival)}", markup=False)
