"""``vse ls``: list names."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_lines, moment, size, table
from vse.model import Access, Entry, Identity, Lfn

if TYPE_CHECKING:
    from vse.catalogue.guarded import Guarded

_BATCH = 1000


def add_to(app: typer.Typer) -> None:
    app.command("ls", rich_help_panel="Names")(ls)


def ls(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Directories or files.", metavar="LFN")] = None,
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Mode (+ an access list), owner, size, time.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List directories of the catalogue; what an upstream told is shown like our own.

    Examples:

      vse ls /

      vse ls -l /lhc/data/2026
    """
    with open_site(context) as site:
        guarded = site.lookup_for(Identity.of_process())
        for name in names or ["/"]:
            entries = guarded.list(Lfn.parse(name))
            if as_json:
                emit_lines(map(as_dict, entries))
            elif long:
                headings = ("mode", "owner", "group", "size", "modified", "adler32", "name")
                table(headings, _long(guarded, entries), (3,))
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
        **({"target": entry.target} if entry.kind == "link" else {}),
    }


def _long(guarded: Guarded, entries: Iterator[Entry]) -> Iterator[tuple[str, ...]]:
    from vse.catalogue.permissions import symbolic

    while batch := list(islice(entries, _BATCH)):
        held = guarded.access([entry.lfn for entry in batch if entry.kind != "link"]).ok
        for entry in batch:
            plain = Access(entry.lfn, entry.kind, entry.owner, entry.group, entry.mode)
            directory = "/" if entry.kind == "directory" else ""
            arrow = f" -> {entry.target}" if entry.kind == "link" else ""
            yield (
                symbolic(held.get(entry.lfn, plain)),
                entry.owner,
                entry.group,
                size(entry.size_bytes),
                moment(entry.modified_s),
                entry.checksum.value if entry.checksum else "-",
                f"{entry.lfn.name}{directory}{arrow}",
            )
