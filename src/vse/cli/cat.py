"""``vse cat``: the bytes of a file."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vse.cli.context import open_site
from vse.errors import BadRequest
from vse.model import Identity, Lfn


def add_to(app: typer.Typer) -> None:
    app.command("cat", rich_help_panel="Data")(cat)


def cat(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Files.", metavar="LFN")],
) -> None:
    """Write files to standard output, each from its best copy, checked against the catalogue.

    Example:

      vse cat /lhc/data/2026/runs.txt | head
    """
    from vse.app.read import stream_file
    from vse.app.seen import readable

    if sys.stdout.isatty() and any(name.endswith(".root") for name in names):
        raise BadRequest(
            "show a ROOT file on a terminal",
            "it is binary",
            "send it to a file: vse cat LFN > FILE, or vse get",
        )
    with open_site(context) as site:
        for name in names:
            lfn = Lfn.parse(name)
            file = site.lookup_for(Identity.of_process()).resolve([lfn]).one(lfn)
            for piece in stream_file(site, *readable(site, [file])):
                sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
