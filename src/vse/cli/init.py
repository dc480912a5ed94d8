"""``vse init``: make a site."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vse.cli.context import Context
from vse.cli.output import out


def add_to(app: typer.Typer) -> None:
    app.command("init", rich_help_panel="Sites")(init)


def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Where; it is made if missing.")] = Path(),
    name: Annotated[str, typer.Option(help="The site's name.", metavar="NAME")] = "local",
    element: Annotated[
        str, typer.Option(help="The name of its storage element.", metavar="SE")
    ] = "LOCAL-DISK",
) -> None:
    """Make a site: a vse.toml, a catalogue, a storage element and a link tree.

    Where a vse.toml is already, and its database is a file that is missing, only that is made, empty: no
    other command does, so that a disk that is not mounted is noticed.

    Examples:

      vse init                      (here)

      vse init /srv/vse --name torino --element TORINO-DISK
    """
    from vse.app.init import complete_site, init_site
    from vse.config.load import parse_flags

    asked: Context = context.obj
    flags = parse_flags(asked.flags)
    completed = complete_site(directory, os.environ, flags)
    if completed is not None:
        out.print(
            f"[green]Made[/green] a new, empty catalogue for the site {completed.settings.site.name!r} in "
            f"{completed.root}; its vse.toml stays as it is."
        )
        return
    loaded = init_site(directory, name=name, element=element, environment=os.environ, flags=flags)
    out.print(f"[green]Made[/green] the site {name!r} in {loaded.root}:")
    out.print(
        "  vse.toml    its settings (vse config show --origin)\n"
        f"  storage/    the storage element {element}\n"
        "  vse/        the link tree\n"
        "  var/        the catalogue",
    )
    out.print(
        "Next: add an upstream catalogue and its storage element to vse.toml (docs/connect-an-upstream.md), "
        "or register files of your own: vse register --help",
    )
