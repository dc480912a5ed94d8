"""``vse unpin``: let pinned files go."""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli.context import AtElement, open_site
from vse.cli.output import out
from vse.errors import BadRequest
from vse.model import DatasetQuery, Identity


def add_to(app: typer.Typer) -> None:
    app.command("unpin", rich_help_panel="Data")(unpin)


def unpin(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="As for vse pin.", metavar="QUERY")] = "",
    request: Annotated[
        int | None, typer.Option("--request", help="The files of this request.", min=1, metavar="REQUEST")
    ] = None,
    se: AtElement = "",
    everybody: Annotated[
        bool, typer.Option("--everybody", help="Pins of others, too; for administrators.")
    ] = False,
) -> None:
    """Let files go that you pinned, by `vse pin` or with a request.

    Examples:

      vse unpin '/lhc/data/2026/*.root'

      vse unpin --request 12
    """
    if bool(query) == (request is not None):
        raise BadRequest("unpin files", "it is not said which", "give a dataset, or --request NUMBER")
    from vse.app.pool import require_administrator

    with open_site(context) as site:
        if everybody:
            require_administrator(site, "let go what others pinned")
        owner = None if everybody else Identity.of_process().name
        if request is not None:
            site.pins.remove_request(request, owner)
            out.print(f"The files of request {request} may go.")
            return
        lfns = (file.entry.lfn for file in site.known_selector.find(DatasetQuery.parse(query)))
        number = site.pins.remove(site.writable(se).name, lfns, owner)
    out.print(f"{number} pin{'' if number == 1 else 's'} taken away.")
