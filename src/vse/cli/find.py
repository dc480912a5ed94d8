"""``vse find``: which files a query means, and which of them meet a condition."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer

from vse.cli import ls
from vse.cli.context import Json, open_site
from vse.cli.output import emit_json, emit_lines, err, size, table, warn_if_stale
from vse.model import DatasetQuery, Identity, Located
from vse.model.query import FindQuery


def add_to(app: typer.Typer) -> None:
    app.command("find", rich_help_panel="Names")(find)


def find(
    context: typer.Context,
    query: Annotated[
        str, typer.Argument(help="A directory, a path with a glob, a dataset query, or a dataset's name.")
    ],
    condition: Annotated[
        str, typer.Argument(help="What fields and tags of the files must be.", show_default=False)
    ] = "",
    name: Annotated[
        str, typer.Option("--name", help="A glob on the last part of the name.", metavar="GLOB")
    ] = "",
    long: Annotated[bool, typer.Option("--long", "-l", help="Size, entries and places.")] = False,
    count: Annotated[bool, typer.Option("--count", help="Print how many files there are.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Print so many at most.", min=1, metavar="N")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find files by where they are, their fields and their tags; upstream catalogues are asked once, then the
    answer is cached.

    Fields: size, name, path, owner, group, created, modified, entries, tree, guid, se (where a copy is).

    Examples:

      vse find '/lhc/data/2026/*.root' -l

      vse find /lhc/data 'run >= 195682 and pass = "muon"' --name '*.root'

      vse find /lhc 'size > 1 GiB and not se = "TORINO"' --count

      vse find 'Find;BasePath=/lhc/data;FileName=*.root'
    """
    from vse.app.metadata import find as find_files

    dataset = DatasetQuery.parse(query)
    with open_site(context) as site:
        found, report = find_files(site, dataset, condition, name)
        base = dataset.base if isinstance(dataset, FindQuery) else None
        found, refused = site.lookup_for(Identity.of_process()).readable(base, found)
        number = _print(islice(found, limit), long=long, count=count, as_json=as_json)
        if not number and not as_json and not count:
            shown = f"{dataset} where {condition}" if condition else str(dataset)
            err.print(f"No file matches {shown}.", markup=False)
        warn_if_stale(report)
        for error in refused:
            err.print(f"left out: {error}", markup=False)
        if refused:
            raise refused[0]


def _print(found: Iterator[Located], *, long: bool, count: bool, as_json: bool) -> int:
    """Print files as they come; return how many there are."""
    number = 0

    def counted() -> Iterator[Located]:
        nonlocal number
        for located in found:
            number += 1
            yield located

    if count:
        number = sum(1 for _ in found)
        if as_json:
            emit_json({"count": number})
        else:
            print(number)
    elif as_json:
        emit_lines(map(located_as_dict, counted()))
    elif long:
        table(("size", "entries", "where", "name"), map(_row, counted()), (0, 1))
    else:
        for located in counted():
            print(located.entry.lfn)
    return number


def located_as_dict(located: Located) -> dict[str, object]:
    """Return a file with its replicas as `--json` shows it everywhere."""
    contents = located.contents
    return {
        **ls.as_dict(located.entry),
        "tree": contents.tree if contents else None,
        "entries": contents.entries if contents else None,
        "replicas": [
            {"se": replica.se, "url": replica.url, "state": str(replica.state), "origin": replica.origin}
            for replica in located.replicas
        ],
    }


def _row(located: Located) -> tuple[str, ...]:
    entries = f"{located.contents.entries}" if located.contents else "-"
    places = ",".join(replica.se for replica in located.replicas) or "-"
    return size(located.entry.size_bytes), entries, places, located.entry.lfn
