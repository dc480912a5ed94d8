"""``vse trash``: removed names, until they expire."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, emit_lines, err, moment, out, table
from vse.errors import BadRequest
from vse.model import BulkResult, Identity, Trashed

app = Commands(help="Names that were removed and can be had back.")
Words = Annotated[
    list[str] | None, typer.Argument(help="Numbers of the list, or names.", metavar="NUMBER|LFN")
]


@app.command("list")
def list_(context: typer.Context, as_json: Json = False) -> None:
    """Print what is in the trash: yours; for administrators, everyone's.

    Example:

      vse trash list
    """
    with open_site(context) as site:
        held = site.names_for(Identity.of_process()).trash()
        if as_json:
            emit_lines(one._asdict() for one in held)
            return
        rows = [
            (str(one.id), one.kind, moment(one.removed_s), one.removed_by, moment(one.expires_s), one.lfn)
            for one in held
        ]
    table(("number", "kind", "removed", "by", "until", "name"), rows, (0,))


@app.command("restore")
def restore(context: typer.Context, words: Words = None, as_json: Json = False) -> None:
    """Have names back, with their copies, owners and tags. Of a name, what was removed last.

    Example:

      vse trash restore /lhc/user/me/a.root
    """
    from vse.app.trash import chosen
    from vse.app.trash import restore as give_back

    if not words:
        raise BadRequest("restore", "it is not said what", "give numbers of vse trash list, or names")
    with open_site(context) as site:
        result = give_back(site, chosen(site.names_for(Identity.of_process()), words))
    if as_json:
        failed = {which: error.to_dict() for which, error in result.failed.items()}
        emit_json({"ok": sorted(result.ok.values()), "failed": failed})
    else:
        for lfn in result.ok.values():
            out.print(f"{lfn} is back", markup=False)
    for error in result.failed.values():
        raise error


@app.command("empty")
def empty(
    context: typer.Context,
    words: Words = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what has not expired.")] = False,
    as_json: Json = False,
) -> None:
    """Remove names in the trash for good, with their copies: those given, or all that have expired.

    Examples:

      vse trash empty

      vse trash empty /lhc/user/me/large.root
    """
    from vse.app.trash import chosen
    from vse.app.trash import empty as remove

    with open_site(context) as site:
        names = site.names_for(Identity.of_process())
        until_s = math.inf if everything else site.clock()
        held = chosen(names, words) if words else [one for one in names.trash() if one.expires_s <= until_s]
        result = remove(site, names, names.expired(until_s, [one.id for one in held]))
    _report(result, as_json)
    if not held:
        err.print("Nothing in the trash has expired; name what to remove now, or give --all.", markup=False)


def _report(result: BulkResult[Trashed], as_json: bool) -> None:
    if as_json:
        failed = {which: error.to_dict() for which, error in result.failed.items()}
        emit_json({"ok": sorted(one.lfn for one in result.ok.values()), "failed": failed})
    else:
        for one in result.ok.values():
            out.print(f"removed {one.lfn} for good", markup=False)
    for error in list(result.failed.values())[1:]:
        err.print(f"error: {error}", markup=False)
    for error in result.failed.values():
        raise error
