"""``vse request``: what was asked for, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vse.cli.context import Json, Limit, open_site
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, emit_lines, err, moment, out, size, table

if TYPE_CHECKING:
    from vse.app.site import Site
    from vse.model import Identity
    from vse.staging.values import Item, Request

app = Commands(help="Requests for datasets: list, show, cancel, retry, approve.")

_Number = Annotated[int, typer.Argument(metavar="REQUEST", help="A request's number.")]
_Note = Annotated[str, typer.Option("--note", help="Why; kept with the request.", metavar="TEXT")]
_SHOWN_FILES = 1000


@app.command("list")
def list_requests(
    context: typer.Context,
    all_of_them: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
    held: Annotated[bool, typer.Option("--held", help="Only those that wait for approval.")] = False,
    owner: Annotated[str, typer.Option("--owner", help="Only those of one user.", metavar="USER")] = "",
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the open requests, newest first.

    Examples:

      vse request list

      vse request list --held

      vse request list --all --owner anna --json
    """
    from vse.staging.values import RequestState

    with open_site(context) as site:
        found = site.staging.list(
            open_only=not all_of_them and not held,
            states=(RequestState.HELD,) if held else (),
            owner=owner,
            limit=limit,
        )
        if as_json:
            emit_lines(map(as_dict, found))
            return
        table(("request", "state", "priority", "asked", "by", "to", "dataset"), map(_row, found), (0, 2))
        if not found:
            err.print("No such requests. Ask for a dataset: vse stage --help", markup=False)


@app.command("show")
def show(
    context: typer.Context,
    number: _Number,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state", help="Only files in this state: here waiting done failed cancelled.", metavar="STATE"
        ),
    ] = None,
    after: Annotated[str, typer.Option("--after", help="Only files behind this name.", metavar="LFN")] = "",
    as_json: Json = False,
) -> None:
    """Show a request and its files (a thousand at a time), each with its state and why it failed.

    Examples:

      vse request show 3

      vse request show 3 --state failed --json
    """
    from vse.staging.values import ItemState

    with open_site(context) as site:
        (request,) = site.staging.get([number])
        wanted = [_choice(ItemState, one) for one in state or ()]
        files = site.staging.items(number, wanted, after=after, limit=_SHOWN_FILES)
        if as_json:
            from vse.staging.told import item_to_json

            emit_json({**as_dict(request), "files": [item_to_json(one) for one in files]})
            return
        _show(request)
        table(("file", "state", "bytes", "why"), map(_file_row, files), (2,))
        if len(files) == _SHOWN_FILES:
            err.print(f"There are more: vse request show {number} --after {files[-1].lfn}", markup=False)


@app.command("cancel")
def cancel(context: typer.Context, number: _Number, as_json: Json = False) -> None:
    """End a request. Files that others asked for as well are still brought for them.

    Examples:

      vse request cancel 3
    """
    from vse.app import requests

    _do(context, as_json, lambda site, who: requests.cancel(site, number, who))


@app.command("retry")
def retry(context: typer.Context, number: _Number, as_json: Json = False) -> None:
    """Try the files of a request again that failed or were cancelled, now.

    Examples:

      vse request retry 3
    """
    from vse.app import requests

    _do(context, as_json, lambda site, who: requests.retry(site, number, who))


@app.command("priority")
def priority(
    context: typer.Context,
    number: _Number,
    value: Annotated[int, typer.Argument(min=1, max=9, metavar="PRIORITY", help="1 is first, 9 is last.")],
    as_json: Json = False,
) -> None:
    """Change what comes first: all files of priority 1 come before those of priority 2.

    Examples:

      vse request priority 3 1
    """
    from vse.app import requests

    _do(context, as_json, lambda site, who: requests.change_priority(site, number, value, who))


@app.command("approve")
def approve(context: typer.Context, number: _Number, note: _Note = "", as_json: Json = False) -> None:
    """Let a request go on that waits for approval (see the setting stager.approval).

    Examples:

      vse request approve 3 --note 'for the summer conference'
    """
    from vse.app import requests

    _do(context, as_json, lambda site, who: requests.approve(site, number, who, note))


@app.command("refuse")
def refuse(context: typer.Context, number: _Number, note: _Note, as_json: Json = False) -> None:
    """End a request that waits for approval; who asked is told why.

    Examples:

      vse request refuse 3 --note 'too large for this month'
    """
    from vse.app import requests

    _do(context, as_json, lambda site, who: requests.refuse(site, number, who, note))


def _do(context: typer.Context, as_json: bool, work: Callable[[Site, Identity], Request]) -> None:
    from vse.model import Identity

    with open_site(context) as site:
        request = work(site, Identity.of_process())
    if as_json:
        emit_json(as_dict(request))
    else:
        out.print(f"Request {request.id} is {request.state}, priority {request.priority}.", markup=False)


def as_dict(request: Request) -> dict[str, Any]:
    """Return a request as `--json` shows it; times are Unix seconds."""
    from vse.staging.told import request_to_json

    return request_to_json(request)


def _row(request: Request) -> tuple[str, ...]:
    return (
        str(request.id),
        str(request.state),
        str(request.priority),
        moment(request.created_s),
        request.owner,
        request.destination,
        request.query,
    )


def _show(request: Request) -> None:
    head = f"request {request.id}  {request.state}, priority {request.priority}  {request.query}"
    out.print(head, markup=False)
    asked = f"  asked    {moment(request.created_s)} by {request.owner}, to {request.destination}"
    out.print(asked, markup=False)
    if request.note:
        out.print(f"  note     {request.note}", markup=False)
    if request.approved_by is not None:
        why = f": {request.approval_note}" if request.approval_note else ""
        out.print(f"  approval {request.approval} by {request.approved_by}{why}", markup=False)
    if request.error is not None:
        out.print(f"  failed   {request.error}", markup=False)


def _file_row(item: Item) -> tuple[str, ...]:
    from vse.staging.values import ItemState

    waiting = item.state is ItemState.WAITING and item.transfer_state is not None
    state = str(item.transfer_state) if waiting else str(item.state)
    return (item.lfn, state, size(item.size_bytes), str(item.error or ""))


def _choice(kind: Any, text: str) -> Any:
    from vse.errors import BadRequest

    try:
        return kind(text)
    except ValueError as error:
        known = ", ".join(kind)
        raise BadRequest(f"show files that are {text!r}", f"a file is one of: {known}") from error
