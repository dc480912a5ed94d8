"""``vse ls``: list names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_lines, moment, size, table
from vse.model import Entry, Lfn


def add_to(app: typer.Typer) -> None:
    app.command("ls", rich_help_panel="Names")(ls)


def ls(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Directories or files.", metavar="LFN...")] = None,
    long: Annotated[bool, typer.Option("--long", "-l", help="Size, time, owner, checksum.")] = False,
    as_json: Json = False,
) -> None:
    """List directories of the catalogue; what an upstream told is shown like our own.

    Examples:

      vse ls /

      vse ls -l /lhc/data/2026
    """
    with open_site(context) as site:
        for name in names or ["/"]:
            entries = site.lookup.list(Lfn.parse(name))
            if as_json:
                emit_lines(map(as_dict, entries))
            elif long:
                table(("mode", "owner", "group", "size", "modified", "adler32", "name"), _long(entries), (3,))
            else:
                for entry in entries:
                    print(entry.lfn.name + ("/" if entry.kind == "directory" else ""))


def as_dict(entry: Entry) -> dict[str, object]:
    """Return an entry as `--json` shows it everywhere."""
    return {
        "lfn": entry.lfn,
        "kind": entry.kind,
        "size_bytes": entry.size_bytes,
        "checksum": str(entry.checksum) if entry.checksum else None,
        "guid": str(entry.uuid) if entry.uuid else None,
        "owner": entry.owner,
        "group": entry.group,
        "mode": f"{entry.mode:04o}",
        "modified": entry.modified.isoformat(),
    }


def _long(entries: Iterable[Entry]) -> Iterable[tuple[str, ...]]:
    for entry in entries:
        directory = entry.kind == "directory"
        yield (
            f"{entry.mode:04o}",
            entry.owner,
            entry.group,
            size(entry.size_bytes),
            moment(entry.modified_s),
            entry.checksum.value if entry.checksum else "-",
            entry.lfn.name + ("/" if directory else ""),
        )
