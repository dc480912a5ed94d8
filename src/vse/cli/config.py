"""``vse config``: what is set, and where."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from vse.cli.context import Context, Json, settings_path
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, out, table

app = Commands(help="Show the settings.")


@app.command()
def show(
    context: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value came from.")] = False,
    as_json: Json = False,
) -> None:
    """Print every setting with its value.

    Examples:

      vse config show --origin

      VSE_STAGER__SLOTS=16 vse config show --json
    """
    from vse.config.load import flatten, load, parse_flags

    asked: Context = context.obj
    rows = flatten(load(settings_path(context), os.environ, parse_flags(asked.flags)))
    if as_json:
        emit_json([{"key": key, "value": value, "origin": where} for key, value, where in rows])
    elif origin:
        table(("setting", "value", "origin"), rows)
    else:
        table(("setting", "value"), [row[:2] for row in rows])


@app.command()
def path(context: typer.Context) -> None:
    """Print which vse.toml is used.

    Examples:

      vse config path

      vse --site /srv/vse config path
    """
    out.print(str(settings_path(context)), markup=False)
