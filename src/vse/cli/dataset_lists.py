"""``vse dataset import`` and ``vse dataset export``: lists of other programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.dataset import Query, counting, tell
from vse.cli.output import emit_json, err
from vse.model.words import counted

_HELP = "jsonl, text (as ROOT's TFileCollection::AddFromFile reads it) or coffea"


def add_to(app: typer.Typer) -> None:
    app.command("import")(import_)
    app.command("export")(export)


def import_(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="The list.", metavar="FILE")],
    name: Annotated[str, typer.Argument(help="The dataset's name.")],
    kind: Annotated[
        str, typer.Option("--format", help=f"{_HELP}, or root; left out: found by looking.", metavar="FORMAT")
    ] = "",
    key: Annotated[str, typer.Option(help="Which one, of a file with several lists.", metavar="NAME")] = "",
    note: Annotated[str, typer.Option(help="What it is for.", metavar="TEXT")] = "",
    as_json: Json = False,
) -> None:
    """Take in a list of files as the next version of a dataset; where nothing has changed, none is made.

    A list of names or URLs, a coffea fileset, or a ROOT file that holds a TFileCollection. Files that the
    catalogue does not know are in the dataset as well: vse dataset verify names them.

    Examples:

      vse dataset import files.txt muons

      vse dataset import LHC10h.root LHC10h_muons --key dataset
    """
    from vse.app.dataset_lists import take_in

    with open_site(context) as site, counting("importing") as count:
        frozen = take_in(site, path, name, kind=kind, key=key, note=note, count=count)
    tell(frozen.dataset, as_json, unchanged=not frozen.is_new)


def export(
    context: typer.Context,
    query: Query,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; default: print it.", metavar="FILE")
    ] = None,
    kind: Annotated[str, typer.Option("--format", help=_HELP, metavar="FORMAT")] = "text",
    names: Annotated[bool, typer.Option("--names", help="Names of the catalogue instead of URLs.")] = False,
    as_json: Json = False,
) -> None:
    """Write a dataset as a list for other programs: by the URLs of its mode, or by name.

    Examples:

      vse dataset export 'muons;Mode=local' --format coffea -o fileset.json

      vse dataset export muons --names
    """
    from vse.app.dataset_lists import give_out
    from vse.model import DatasetQuery

    asked = DatasetQuery.parse(query)
    with open_site(context) as site:
        if output is None:
            give_out(site, asked, kind, sys.stdout, names=names)
            return
        with counting("exporting") as count:
            files = _to_file(output, lambda out: give_out(site, asked, kind, out, names=names, count=count))
    if as_json:
        emit_json({"path": str(output), "files": files})
    else:
        err.print(f"{counted(files, 'file')} in {output}", markup=False)


def _to_file(path: Path, write: Callable[[IO[str]], int]) -> int:
    """Let ``write`` fill a file, which has its name only when it is whole."""
    from vse.errors import StorageFault

    partial = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with partial.open("x", encoding="utf-8") as out:
            files = write(out)
        partial.replace(path)
    except OSError as error:
        raise StorageFault(f"write {path}", error.strerror or str(error)) from error
    finally:
        partial.unlink(missing_ok=True)
    return files
