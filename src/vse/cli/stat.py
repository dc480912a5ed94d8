"""``vse stat``: everything known about names."""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli import ls
from vse.cli.context import Json, open_site
from vse.cli.output import emit_lines, moment, out, size
from vse.cli.tag import tags_as_dict
from vse.model import BulkResult, Entry, Identity, Lfn


def add_to(app: typer.Typer) -> None:
    app.command("stat", rich_help_panel="Names")(stat)


def stat(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Files or directories.", metavar="LFN")],
    as_json: Json = False,
) -> None:
    """Show size, checksum, GUID, owner, times and tags of names.

    Example:

      vse stat /lhc/data/2026/dimuon_000.root
    """
    lfns = [Lfn.parse(name) for name in names]
    with open_site(context) as site:
        guarded = site.lookup_for(Identity.of_process())
        result: BulkResult[Entry] = guarded.stat(lfns)
        tags = site.metadata.show([lfn for lfn in lfns if lfn in result.ok]).ok
    found = [(lfn, result.ok[lfn]) for lfn in lfns if lfn in result.ok]
    if as_json:
        emit_lines({**ls.as_dict(one), "tags": tags_as_dict(tags.get(lfn, ()))} for lfn, one in found)
    else:
        for lfn, entry in found:
            _show(entry)
            for tag in tags.get(lfn, ()):
                origin = "" if tag.origin == entry.lfn else f"  (from {tag.origin})"
                out.print(f"{'tag':>9}  {tag.name} = {tag.shown}{origin}", markup=False)
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
        ("leads to" if entry.kind == "link" else "made from", entry.target or ""),
        ("modified", moment(entry.modified_s)),
    ]
    for label, value in rows:
        if value:
            out.print(f"{label:>9}  {value}", markup=False)
