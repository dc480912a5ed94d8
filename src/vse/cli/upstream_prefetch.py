"""``vse upstream prefetch``: have the answers of upstreams here before anybody needs them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import duration, emit_json, out, size
from vse.model.words import counted


def add_to(app: typer.Typer) -> None:
    app.command("prefetch")(prefetch)


def prefetch(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="A directory, or a dataset query or name.")],
    again: Annotated[bool, typer.Option("--again", help="Ask even where the answer is believed.")] = False,
    as_json: Json = False,
) -> None:
    """Ask the upstreams for a directory or dataset, so that looking names up in it asks nobody.

    Examples:

      vse upstream prefetch /lhc/data/2026

      vse upstream prefetch 'Find;BasePath=/lhc/data;FileName=*.root' --again
    """
    from vse.app.prefetch import prefetch as prefetch_now

    with open_site(context) as site:
        done = prefetch_now(site, query, again)
        if as_json:
            emit_json(asdict(done))
            return
        asked = (
            f"{counted(done.queries, 'query', 'queries')} took {duration(done.waited_s)}"
            if done.queries
            else "nobody was asked"
        )
        verb = "is" if done.files == 1 else "are"
        out.print(f"{counted(done.files, 'file')} of {size(done.size_bytes)} {verb} known here; {asked}.")
