"""``vse quarantine``: files that failed verification, with the evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, Limit, open_site
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, emit_lines, err, moment, out, size, table
from vse.errors import BadRequest

if TYPE_CHECKING:
    from vse.app.site import Site
    from vse.staging.quarantine import Kept

app = Commands(help="Files that failed verification, kept with the evidence.")
Numbers = Annotated[list[int], typer.Argument(help="Numbers of the list.", metavar="NUMBER")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list")
def list_(
    context: typer.Context,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Print what is kept, the newest first.

    Example:

      vse quarantine list
    """
    with open_site(context) as site:
        held = site.quarantine.newest(limit)
    if as_json:
        emit_lines(one.to_dict() for one in held)
        return
    rows = [
        (str(one.id), moment(one.when_s), size(one.size_bytes), one.element, one.lfn, one.error.found)
        for one in held
    ]
    table(("number", "when", "size", "element", "name", "what is wrong"), rows, (0, 2))


@app.command("show")
def show(context: typer.Context, numbers: Numbers, as_json: Json = False) -> None:
    """Print all that is known of files in quarantine.

    Example:

      vse quarantine show 3
    """
    with open_site(context) as site:
        held = site.quarantine.get(numbers)
    if as_json:
        emit_lines(one.to_dict() for one in held)
        return
    for one in held:
        _show(one)


@app.command("release")
def release(context: typer.Context, number: int, yes: Yes = False, as_json: Json = False) -> None:
    """Accept a file after all: it appears under its name, as if verification had not minded.

    Its size and checksum must be those of the catalogue.

    Example:

      vse quarantine release 3
    """
    with open_site(context) as site:
        (kept,) = site.quarantine.get([number])
        if not yes:
            err.print(f"{kept.lfn} failed verification: {kept.error.found}", markup=False)
            _ask(f"Let it appear at {kept.element} as it is?")
        path = site.quarantine.release(kept)
        if path is not None:
            site.links.ensure({kept.lfn: path})
    if as_json:
        emit_json({"lfn": kept.lfn, "element": kept.element, "path": str(path) if path else None})
    else:
        out.print(f"{kept.lfn} is at {kept.element} now", markup=False)


@app.command("delete")
def delete(
    context: typer.Context,
    numbers: Annotated[
        list[int] | None, typer.Argument(help="Numbers of the list.", metavar="NUMBER")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is kept.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete files from quarantine, and what is known of them.

    Examples:

      vse quarantine delete 3 4

      vse quarantine delete --all --yes
    """
    if bool(numbers) == everything:
        raise BadRequest("delete from quarantine", "it is not said what", "give numbers, or --all")
    with open_site(context) as site:
        held = _all(site) if everything else site.quarantine.get(numbers or [])
        if not yes and held:
            _ask(f"Delete {len(held)} from quarantine, {size(sum(one.size_bytes or 0 for one in held))}?")
        gone = site.quarantine.delete([one.id for one in held])
    if as_json:
        emit_json({"deleted": [one.id for one in gone]})
    else:
        out.print(f"{len(gone)} deleted", markup=False)


def tell_of(kept: Kept) -> None:
    """Print one line of a file in quarantine, for `vse why`."""
    where = "" if kept.path is None else f" (vse quarantine show {kept.id})"
    out.print(f"         {moment(kept.when_s)} in quarantine: {kept.error.found}{where}", markup=False)


def _all(site: Site) -> list[Kept]:
    return site.quarantine.newest(limit=2**31 - 1)


def _ask(question: str) -> None:
    typer.confirm(question, abort=True, err=True)


def _show(one: Kept) -> None:
    rows = [
        ("number", str(one.id)),
        ("name", one.lfn),
        ("element", one.element),
        ("source", one.source or ""),
        ("attempt", str(one.attempt or "")),
        ("when", moment(one.when_s)),
        ("size", "" if one.size_bytes is None else f"{size(one.size_bytes)} ({one.size_bytes} bytes)"),
        ("checksum", str(one.checksum or "")),
        ("bytes", str(one.path or "not kept")),
        ("wrong", one.error.found),
        ("do", one.error.todo),
    ]
    for label, value in rows:
        if value:
            out.print(f"{label:>9}  {value}", markup=False)
