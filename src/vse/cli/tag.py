"""``vse tag``: typed values that people give to files and directories."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, emit_lines, err, table
from vse.errors import BadRequest, VseError
from vse.model import BulkResult, Identity, Lfn

if TYPE_CHECKING:
    from vse.model.tags import Tag

app = Commands(
    help="Tag files and directories with typed values, which what is below a directory inherits. "
    "[bold]vse find[/bold] finds by them.",
)
Words = Annotated[list[str], typer.Argument(help="Files or directories, and values.", metavar="WORD")]


@app.command()
def schema(
    context: typer.Context,
    directory: Annotated[str, typer.Argument(help="A directory.", metavar="LFN")],
    definitions: Annotated[
        list[str] | None,
        typer.Argument(help="Tags to define: integer, number, text, time or boolean.", metavar="TAG=TYPE"),
    ] = None,
    note: Annotated[
        list[str] | None, typer.Option("--note", help="What a tag means.", metavar="TAG=TEXT")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", help="Take a tag out again.", metavar="TAG")
    ] = None,
    as_json: Json = False,
) -> None:
    """Define which tags there are in a directory and below it; without any, show those that there are.

    Examples:

      vse tag schema /lhc/data

      vse tag schema /lhc/data run=integer pass=text --note run='Its number'

      vse tag schema /lhc/data --remove pass
    """
    from vse.app.metadata import read_definitions

    lfn = Lfn.parse(directory)
    wanted = read_definitions(lfn, definitions or [], note or [])
    with open_site(context) as site:
        metadata = site.metadata_for(Identity.of_process())
        if remove:
            metadata.undefine(lfn, remove)
        if wanted:
            metadata.define(lfn, wanted)
        known = metadata.schema(lfn)
    if as_json:
        emit_lines({**one._asdict(), "type": str(one.type)} for one in known)
    else:
        table(("tag", "type", "defined in", "meaning"), [(a, str(b), c, d) for a, b, c, d in known])


@app.command("set")
def set_values(context: typer.Context, words: Words, as_json: Json = False) -> None:
    """Give files and directories values; what is below a directory inherits them.

    Examples:

      vse tag set /lhc/data/LHC13d/run195682 run=195682 pass=muon

      vse tag set /lhc/data/a.root /lhc/data/b.root good=false
    """
    from vse.app.metadata import set_tags, split_assignments

    lfns, values = split_assignments(words)
    if not lfns or not values:
        raise BadRequest(
            "set tags", "names and values are needed", "for instance: vse tag set /lhc/data run=195682"
        )
    with open_site(context) as site:
        result = set_tags(site, lfns, values)
    _conclude(result, as_json)


@app.command()
def unset(context: typer.Context, words: Words, as_json: Json = False) -> None:
    """Take values from files and directories, which then inherit again.

    Example:

      vse tag unset /lhc/data/a.root good run
    """
    from vse.app.metadata import is_lfn

    lfns = [Lfn.parse(word) for word in words if is_lfn(word)]
    tags = [word for word in words if not is_lfn(word)]
    if not lfns or not tags:
        raise BadRequest(
            "unset tags", "names and tags are needed", "for instance: vse tag unset /lhc/data run"
        )
    with open_site(context) as site:
        result = site.metadata_for(Identity.of_process()).unset(lfns, tags)
    _conclude(result, as_json)


@app.command()
def show(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Files or directories.", metavar="LFN")],
    as_json: Json = False,
) -> None:
    """Show the tags of names, and where each is inherited from.

    Examples:

      vse tag show /lhc/data/LHC13d/run195682/a.root

      vse tag show /lhc/data --json
    """
    lfns = [Lfn.parse(name) for name in names]
    with open_site(context) as site:
        me = Identity.of_process()
        site.lookup_for(me).stat(lfns)
        result = site.metadata_for(me).show(lfns)
    found = [(lfn, result.ok[lfn]) for lfn in lfns if lfn in result.ok]
    if as_json:
        emit_lines({"lfn": lfn, "tags": tags_as_dict(tags)} for lfn, tags in found)
    else:
        rows = [(lfn, tag.name, tag.shown, str(tag.type), tag.origin) for lfn, tags in found for tag in tags]
        table(("name", "tag", "value", "type", "set at"), rows)
    _raise(result.failed.values())


def tags_as_dict(tags: tuple[Tag, ...]) -> dict[str, object]:
    """Return tags as `--json` shows them everywhere: times as text, all else as it is."""
    return {
        tag.name: {
            "value": tag.shown if tag.type == "time" else tag.value,
            "type": str(tag.type),
            "origin": tag.origin,
        }
        for tag in tags
    }


def _conclude(result: BulkResult[None], as_json: bool) -> None:
    if as_json:
        failed = {name: error.to_dict() for name, error in result.failed.items()}
        emit_json({"ok": sorted(result.ok), "failed": failed})
    _raise(result.failed.values())


def _raise(errors: Iterable[VseError]) -> None:
    failed = list(errors)
    for error in failed[1:]:
        err.print(f"error: {error}", markup=False)
    if failed:
        raise failed[0]
