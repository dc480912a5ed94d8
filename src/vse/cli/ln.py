"""``vse ln``: symbolic links of the catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import report_names
from vse.model import Identity, Lfn, NewLink


def add_to(app: typer.Typer) -> None:
    app.command("ln", rich_help_panel="Names")(ln)


def ln(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="An LFN, or relative to the link.", metavar="TARGET")],
    link: Annotated[str, typer.Argument(help="The new name.", metavar="LFN")],
    symbolic: Annotated[
        bool,
        typer.Option("--symbolic", "-s", help="As ln -s; there are no other links.", show_default=False),
    ] = True,
    as_json: Json = False,
) -> None:
    """Make a symbolic link. It may lead to a file or a directory, also to one that is not there yet. Names
    lead over 40 links at most. vse rm removes the link, never what it leads to.

    Examples:

      vse ln -s /lhc/data/2026/run9 /lhc/user/me/latest

      vse ln -s ../data/a.root /lhc/user/a.root
    """
    me = Identity.of_process()
    with open_site(context) as site:
        new = NewLink(Lfn.parse(link), target, me.name, me.groups[0])
        result = site.names_for(me).make_links([new])
    report_names(result, as_json=as_json)
