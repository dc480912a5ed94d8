"""``vse stager``: the staging daemons of a site."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Context, Json, open_site, settings_path
from vse.cli.helptext import Commands
from vse.cli.output import duration, emit_lines, err, out, size, table

if TYPE_CHECKING:
    from vse.app.site import Site

app = Commands(help="The staging daemons: who works, and a site that had afdsmgrd.")


@app.command("list")
def list_services(context: typer.Context, as_json: Json = False) -> None:
    """Show the daemons that run: on which settings, how much they move, what keeps one from its work.

    Example:

      vse stager list
    """
    from vse.staging.services import Services

    with open_site(context) as site:
        found = Services(site.database, site.clock).list()
        if as_json:
            emit_lines(one.as_dict() for one in found)
            return
        now_s = time.time()
        rows = [
            (
                one.host,
                str(one.pid),
                one.state,
                f"{one.running}/{one.slots}",
                size(one.memory_bytes),
                duration(now_s - one.started_s),
                duration(now_s - one.settings_s),
            )
            for one in found
        ]
        table(("host", "pid", "state", "moving", "memory", "running for", "settings for"), rows, (1, 3, 4))
        show_troubles(site)


def show_troubles(site: Site) -> None:
    """Say what keeps daemons from their work, beside an answer."""
    from vse.staging.services import Services

    for one in Services(site.database, site.clock).list():
        where = f"stager {one.pid} on {one.host}"
        if one.problem is not None:
            err.print(f"{where} is paused: {one.problem}", markup=False)
        if one.notes:
            err.print(f"{where} needs a restart for: {one.notes}", markup=False)
        if 0 < one.memory_limit_bytes < one.memory_bytes:
            err.print(f"{where} holds {size(one.memory_bytes)} of memory", markup=False)


@app.command("import")
def import_afdsmgrd(
    context: typer.Context,
    conf: Annotated[Path, typer.Argument(help="The configuration of afdsmgrd (afdsmgrd.conf, xpd.cf).")],
    element: Annotated[
        str, typer.Option("--element", help="The storage element that the files come to.", metavar="SE")
    ] = "AFDSMGRD",
    write: Annotated[bool, typer.Option("--write", help="Write it to vse.toml.")] = False,
) -> None:
    """Say in vse.toml what an afdsmgrd was told, so that its scripts and datasets go on being used.

    Shows the difference; with --write it is made, and the file of before stays as vse.toml.before.

    Examples:

      vse stager import /etc/afdsmgrd.conf

      vse stager import /etc/afdsmgrd.conf --element OUR-DISK --write
    """
    from vse.app.afdsmgrd import plan_import
    from vse.app.afdsmgrd import write as write_import
    from vse.config.load import parse_flags, without_secrets

    asked: Context = context.obj
    site = settings_path(context)
    plan = plan_import(conf, site, element, dict(os.environ), parse_flags(asked.flags))
    out.print(without_secrets(plan.diff).rstrip("\n") or f"{site} says all of it already.", markup=False)
    for note in plan.notes:
        err.print(f"note: {note}", markup=False)
    if write and plan.diff:
        write_import(plan)
        err.print(f"Written. Start the daemon: vse --site {site.parent} serve stager", markup=False)
    elif plan.diff:
        err.print("Nothing is written yet: add --write.", markup=False)
