"""``vse get``: copies for yourself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import byte_progress, directory_for, emit_lines, out, size
from vse.model.words import counted


def add_to(app: typer.Typer) -> None:
    app.command("get", rich_help_panel="Data")(get)


def get(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="An LFN, a path with a glob, a dataset query or name.")],
    directory: Annotated[Path, typer.Argument(help="Where to.")] = Path(),
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace files that are there.")] = False,
    as_json: Json = False,
) -> None:
    """Copy files to a directory of your own, from the best copy of each, verified.

    Examples:

      vse get /lhc/data/2026/dimuon_000.root

      vse get '/lhc/data/2026/*.root' ~/data
    """
    from vse.app.read import fetch
    from vse.app.seen import readable, seen_files
    from vse.cli.live import summary_of_bytes
    from vse.errors import NoSuchEntry
    from vse.model import DatasetQuery

    dataset = DatasetQuery.parse(query)
    with open_site(context) as site, byte_progress() as progress:
        found = readable(site, seen_files(site, dataset, site.selector.find(dataset)))
        if not found:
            raise NoSuchEntry(f"get {query}", "no file matches", "look with: vse ls, vse dataset list")
        directory_for(f"get {query}", directory)
        total = sum(located.entry.size_bytes or 0 for located in found)
        task = progress.add_task("getting", total=total, files=f"0/{len(found)}")
        started = time.monotonic()
        for number, located in enumerate(found, start=1):
            target = directory / located.entry.lfn.name
            fetch(site, located, target, lambda count: progress.advance(task, count), force)
            progress.update(task, files=f"{number}/{len(found)}")
        wall_s = time.monotonic() - started
    if as_json:
        emit_lines(
            {
                "lfn": one.entry.lfn,
                "path": str(directory / one.entry.lfn.name),
                "size_bytes": one.entry.size_bytes,
            }
            for one in found
        )
    elif len(found) == 1:
        out.print(f"{directory / found[0].entry.lfn.name}  {size(total)}", markup=False)
    else:
        out.print(
            f"{counted(len(found), 'file')} in {directory}: {summary_of_bytes(total, wall_s)}", markup=False
        )
