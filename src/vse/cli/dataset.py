"""``vse dataset``: lists of files under a name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vse.cli.context import Json, open_site
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, emit_lines, err, moment, out, size, table, warn_if_stale
from vse.model.words import counted

if TYPE_CHECKING:
    from vse.app.datasets import Note, Placed
    from vse.model import Dataset

app = Commands(help="Datasets: lists of files under a name, or queries.")

Query = Annotated[str, typer.Argument(help="A dataset's name, NAME@VERSION, a dataset query, or a path.")]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The dataset's name.")],
    query: Query,
    by_query: Annotated[
        bool, typer.Option("--by-query", help="Keep the query; it is asked anew each time.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Give a name by query another query.")] = False,
    note: Annotated[str, typer.Option(help="What it is for.", metavar="TEXT")] = "",
    as_json: Json = False,
) -> None:
    """Freeze the files that a query means now, as the next version of a dataset; or name the query.

    Where they are those of the newest version, and nothing more is known of them, that one stays as it is.

    Examples:

      vse dataset create muons 'Data;Period=LHC10h;Variant=AOD086;Run=139505'

      vse dataset create latest '/lhc/data/2026/*.root' --by-query
    """
    from vse.app.datasets import freeze, keep_query
    from vse.errors import BadRequest
    from vse.model import DatasetQuery

    asked = DatasetQuery.parse(query)
    if replace and not by_query:
        todo = "a frozen dataset gets a new version instead"
        raise BadRequest("use --replace", "it is for --by-query only", todo)
    unchanged = False
    with open_site(context) as site:
        if by_query:
            dataset = keep_query(site, name, asked, note=note, replace=replace)
        else:
            with counting("freezing") as count:
                (dataset, is_new), report = freeze(site, name, asked, note=note, count=count)
            unchanged = not is_new
            warn_if_stale(report)
    tell(dataset, as_json, unchanged=unchanged)


@app.command("list")
def list_(
    context: typer.Context,
    pattern: Annotated[str, typer.Argument(help="A glob on the names.")] = "*",
    as_json: Json = False,
) -> None:
    """List the datasets of this site, every version.

    Examples:

      vse dataset list

      vse dataset list 'muon*' --json
    """
    with open_site(context) as site:
        found = site.datasets.list(pattern)
        if as_json:
            emit_lines(map(as_dict, found))
            return
        table(
            ("dataset", "files", "size", "entries", "owner", "made", "query or note"),
            map(_row, found),
            (1, 2, 3),
        )


@app.command()
def show(
    context: typer.Context,
    query: Query,
    summary: Annotated[bool, typer.Option("--summary", help="Only the totals.")] = False,
    as_json: Json = False,
) -> None:
    """Show the files of a dataset or query: entries, size, whether staged or corrupt, and the URL.

    Mode=local shows only what has a copy here, Mode=remote the URLs elsewhere, Mode=cache the URLs that
    all files have here or will have. With --json one object a line.

    Examples:

      vse dataset show muons@2

      vse dataset show 'muons;Mode=remote' --json

      vse dataset show muons --summary
    """
    from vse.app.datasets import show as shown
    from vse.model import DatasetQuery

    with open_site(context) as site:
        answer = shown(site, DatasetQuery.parse(query))
        totals = _Totals()
        files = totals.counted(answer.files)
        if summary:
            with counting("looking") as count:
                for _ in files:
                    count(1)
        elif as_json:
            emit_lines(placed.to_dict() for placed in files)
        else:
            headings = ("entries", "size", "flags", "tree", "name", "url")
            table(headings, map(_file_row, files), (0, 1))
        warn_if_stale(answer.report)
        if summary and as_json:
            emit_json({"query": str(answer.query), **totals.to_dict()})
        elif not as_json:
            (out if summary else err).print(totals.sentence(), markup=False)


@app.command()
def rm(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Datasets, or NAME@VERSION.", metavar="NAME")],
    every: Annotated[bool, typer.Option("--all", help="Every version.")] = False,
    as_json: Json = False,
) -> None:
    """Forget datasets. No file is touched.

    Examples:

      vse dataset rm muons@1

      vse dataset rm muons --all
    """
    from vse.app.datasets import remove
    from vse.model import DatasetQuery

    with open_site(context) as site:
        gone = [one for name in names for one in remove(site, DatasetQuery.parse(name), every=every)]
    if as_json:
        emit_json({"removed": [one.label for one in gone]})
    else:
        for one in gone:
            out.print(f"{one.label} is forgotten.", markup=False)


class _Totals:
    """Adds up the files that pass by."""

    def __init__(self) -> None:
        self.files = self.staged = self.corrupt = self.unknown = self.size_bytes = self.entries = 0
        self.uncounted = 0

    def counted(self, files: Iterator[Placed]) -> Iterator[Placed]:
        for placed in files:
            self.files += 1
            self.staged += placed.here is not None
            self.corrupt += placed.file.corrupt
            self.unknown += not placed.selected.known
            self.size_bytes += max(0, placed.file.size_bytes)
            self.entries += placed.file.entries or 0
            self.uncounted += placed.file.entries is None
            yield placed

    def to_dict(self) -> dict[str, object]:
        return {
            "files": self.files,
            "size_bytes": self.size_bytes,
            "entries": None if self.uncounted else self.entries,
            "staged": self.staged,
            "corrupt": self.corrupt,
            "unknown": self.unknown,
        }

    def sentence(self) -> str:
        parts = [counted(self.files, "file"), size(self.size_bytes), f"{self.staged} staged"]
        if self.entries:
            some = f" (not known of {counted(self.uncounted, 'file')})" if self.uncounted else ""
            parts.insert(2, f"{counted(self.entries, 'entry', 'entries')}{some}")
        if self.corrupt:
            parts.append(f"{self.corrupt} corrupt")
        if self.unknown:
            parts.append(f"{self.unknown} not in the catalogue")
        return ", ".join(parts) + "."


def _file_row(placed: Placed) -> tuple[str, ...]:
    file = placed.file
    flags = "".join(
        letter if holds else "-"
        for letter, holds in (
            ("S", placed.here is not None),
            ("C", file.corrupt),
            ("?", not placed.selected.known),
        )
    )
    entries = "-" if file.entries is None else str(file.entries)
    shown_size = size(file.size_bytes) if file.size_bytes >= 0 else "-"
    return entries, shown_size, flags, file.tree or "-", file.label, placed.url or "-"


def as_dict(dataset: Dataset) -> dict[str, object]:
    """Return a dataset as `--json` shows it everywhere."""
    frozen = dataset.kind == "frozen"
    return {
        "name": dataset.name,
        "version": dataset.version if frozen else None,
        "kind": dataset.kind,
        "query": dataset.query or None,
        "tree": dataset.tree or None,
        "owner": dataset.owner,
        "created": dataset.created.isoformat(),
        "files": dataset.files if frozen else None,
        "size_bytes": dataset.size_bytes if frozen else None,
        "entries": dataset.entries if frozen else None,
        "note": dataset.note or None,
    }


def tell(dataset: Dataset, as_json: bool, *, unchanged: bool = False) -> None:
    """Say what was made, or that nothing had to be."""
    if as_json:
        emit_json(as_dict(dataset) | {"unchanged": unchanged})
    elif dataset.kind == "query":
        out.print(f"{dataset.label} is {dataset.query}", markup=False)
    else:
        said = " is unchanged" if unchanged else ""
        files = counted(dataset.files, "file")
        out.print(f"{dataset.label}{said}: {files}, {size(dataset.size_bytes)}.", markup=False)


def _row(dataset: Dataset) -> tuple[str, ...]:
    frozen = dataset.kind == "frozen"
    entries = "-" if dataset.entries is None or not frozen else str(dataset.entries)
    about = dataset.note or dataset.query
    totals = (str(dataset.files), size(dataset.size_bytes), entries) if frozen else ("-", "-", "-")
    return dataset.label, *totals, dataset.owner, moment(dataset.created_s), about


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Note]:
    """Show how many files are done; yields what is told of each further number of them."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("files"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda files: progress.advance(task, files)
