"""``vse audit``: who did what to a name, and when."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_lines, err, moment, table
from vse.model import Identity, Lfn


def add_to(app: typer.Typer) -> None:
    app.command("audit", rich_help_panel="Names")(audit)


def audit(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name, also one that is no more.", metavar="LFN")],
    as_json: Json = False,
) -> None:
    """Show the changes of a name in order. Calls with very many names are one line, at the directory above
    them all, with their count.

    Example:

      vse audit /lhc/data/a.root
    """
    with open_site(context) as site:
        rows = list(site.names_for(Identity.of_process()).history(Lfn.parse(name)))
    if as_json:
        emit_lines({**one._asdict(), "detail": dict(one.detail)} for one in rows)
        return
    if not rows:
        err.print(f"No change of {Lfn.parse(name)} is known.", markup=False)
    table(
        ("when", "who", "what", "name", "detail"),
        [
            (
                moment(one.when_s),
                one.who,
                one.action,
                one.lfn,
                json.dumps(one.detail, ensure_ascii=False) if one.detail else "",
            )
            for one in rows
        ],
    )
