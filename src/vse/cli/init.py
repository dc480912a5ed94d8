"""``vse init``: make a site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vse.cli.output import out


def add_to(app: typer.Typer) -> None:
    app.command("init", rich_help_panel="Sites")(init)


def init(
    directory: Annotated[Path, typer.Argument(help="Where; it is made if missing.")] = Path(),
    name: Annotated[str, typer.Option(help="The site's name.")] = "local",
    element: Annotated[str, typer.Option(help="The name of its storage element.")] = "LOCAL-DISK",
) -> None:
    """Make a site: a vse.toml, a catalogue, a storage element and a link tree.

    Examples:

      vse init                      (here)

      vse init /srv/vse --name torino --element TORINO-DISK
    """
    from vse.app.init import init_site
    from vse.app.site import Site

    loaded = init_site(directory, name=name, element=element)
    with Site.open(loaded) as site:
        site.database.close()
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
