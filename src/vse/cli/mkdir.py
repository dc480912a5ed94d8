"""``vse mkdir``: directories of the catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import report_names


def add_to(app: typer.Typer) -> None:
    app.command("mkdir", rich_help_panel="Names")(mkdir)


def mkdir(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Directories.", metavar="LFN[@SE]")],
    as_json: Json = False,
) -> None:
    """Make directories, and those missing above them; one that is there stays as it is. With @SE the
    directory is made on that storage too (files make theirs by themselves).

    Examples:

      vse mkdir /lhc/user/me/2026

      vse mkdir /lhc/incoming@LOCAL-DISK
    """
    from vse.app.namespace import make_directories
    from vse.app.places import Place, split_name

    with open_site(context) as site:
        result = make_directories(site, [Place(*split_name(site, name)) for name in names])
    report_names(result, as_json=as_json)
