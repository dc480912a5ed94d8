"""``vse catalogue``: the whole catalogue from a file, and into one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, err
from vse.model import Lfn
from vse.model.words import counted

app = Commands(help="The whole catalogue from a file, and into one.")
_SHOWN = 10


@app.command("load")
def load(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(help="A .csv, .parquet, or .jsonl file (.gz too); - is CSV from stdin.")
    ],
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on behind rows that cannot be understood.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Register every row of a table: lfn and size_bytes, and what else there is of adler32, guid, owner,
    group, mode, modified_s, se, url, state, tree, entries. Or make every name of a .jsonl file that vse
    catalogue dump wrote.

    What is there already is left as it is, so that a load can be run again.

    Examples:

      vse catalogue load site-dump.parquet

      zcat dump.csv.gz | vse catalogue load -

      vse catalogue load backup.jsonl.gz
    """
    from vse.app.catalogue_files import load_catalogue

    began_s = time.monotonic()
    with open_site(context) as site, err.status("loading") as status:
        loaded = load_catalogue(
            site, path, skip_bad=skip_bad, tell=lambda done: status.update(f"loading: {counted(done, 'row')}")
        )
    took_s = time.monotonic() - began_s
    if as_json:
        failed = {name: error.to_dict() for name, error in loaded.failed.items()}
        numbers = {"rows": loaded.rows, "files": loaded.files, "others": loaded.others}
        emit_json(numbers | {"failures": loaded.failures, "failed": failed})
    else:
        others = f" and {counted(loaded.others, 'other name')}" if loaded.others else ""
        said = f"{counted(loaded.files, 'file')}{others} of {counted(loaded.rows, 'row')} loaded"
        err.print(f"{said} in {took_s:.1f} s.", markup=False)
        for error in list(loaded.failed.values())[:_SHOWN]:
            err.print(f"error: {error}", markup=False)
        if loaded.failures > _SHOWN:
            err.print(f"... and {loaded.failures - _SHOWN:,} more: see them with --json")
    if loaded.failures:
        raise typer.Exit(1)


@app.command("dump")
def dump(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(help="A .csv, .parquet, or .jsonl file (.gz too); - is CSV to stdout.")
    ],
    base: Annotated[str, typer.Option(help="Below this name only.", metavar="LFN")] = "/",
) -> None:
    """Write every copy of every file to a table, one row each; or, to a .jsonl file, every name with all that
    is beside it. The file appears when it is whole.

    Links, collections, access lists, tags, other checksums and origins of copies are in .jsonl only, and what
    upstreams told is not in it. Datasets, the trash and the history are in neither.

    Examples:

      vse catalogue dump catalogue.parquet

      vse catalogue dump backup.jsonl.gz

      vse catalogue dump - --base /lhc/data | head
    """
    from vse.app.catalogue_files import dump_catalogue

    with open_site(context) as site, err.status("writing") as status:
        where = Lfn.parse(base)
        rows = dump_catalogue(site, path, where, lambda done: status.update(f"writing: {done:,} done"))
    err.print(f"{counted(rows, 'row')} written.")
