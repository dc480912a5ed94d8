"""``vse find``: which files a dataset query means."""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli import ls
from vse.cli.context import Json, open_site
from vse.cli.output import emit_lines, err, size, table, warn_if_stale
from vse.model import DatasetQuery, Located


def add_to(app: typer.Typer) -> None:
    app.command("find", rich_help_panel="Names")(find)


def find(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="A dataset query, or a path with a glob.")],
    long: Annotated[bool, typer.Option("--long", "-l", help="Size, entries and places.")] = False,
    as_json: Json = False,
) -> None:
    """Find files by a dataset query; upstream catalogues are asked once, then the answer is cached.

    Examples:

      vse find 'Find;BasePath=/lhc/data;FileName=*.root'

      vse find '/lhc/data/2026/*.root' -l
    """
    dataset = DatasetQuery.parse(query)
    with open_site(context) as site:
        found, report = site.lookup.find_with_report(dataset.base, dataset.pattern)
        if as_json:
            count = emit_lines(map(located_as_dict, found))
        elif long:
            rows = [_row(located) for located in found]
            count = len(rows)
            table(("size", "entries", "where", "name"), rows, (0, 1))
        else:
            count = 0
            for located in found:
                print(located.entry.lfn)
                count += 1
        if not count and not as_json:
            err.print(f"No file matches {dataset}.", markup=False)
        warn_if_stale(report)


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
