"""``vse stat``: everything known about names."""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli import ls
from vse.cli.context import Json, open_site
from vse.cli.output import emit_lines, moment, out, size
from vse.model import BulkResult, Entry, Lfn


def add_to(app: typer.Typer) -> None:
    app.command("stat", rich_help_panel="Names")(stat)


def stat(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Files or directories.", metavar="LFN...")],
    as_json: Json = False,
) -> None:
    """Show size, checksum, GUID, owner and times of names.

    Example:

      vse stat /lhc/data/2026/dimuon_000.root
    """
    lfns = [Lfn.parse(name) for name in names]
    with open_site(context) as site:
        result: BulkResult[Entry] = site.lookup.stat(lfns)
    found = [result.ok[lfn] for lfn in lfns if lfn in result.ok]
    if as_json:
        emit_lines(map(ls.as_dict, found))
    else:
        for entry in found:
            _show(entry)
    for error in result.failed.values():
        raise error


def _show(entry: Entry) -> None:
    rows = [
        ("name", entry.lfn),
        ("kind", entry.kind),
        (
            "size",
            f"{size(entry.size_bytes)} ({entry.size_bytes} bytes)" if entry.size_bytes is not None else "",
        ),
        ("checksum", str(entry.checksum or "")),
        ("guid", str(entry.uuid or "")),
        ("owner", f"{entry.owner}:{entry.group} {entry.mode:04o}"),
        ("modified", moment(entry.modified_s)),
    ]
    for label, value in rows:
        if value:
            out.print(f"{label:>9}  {value}", markup=False)
