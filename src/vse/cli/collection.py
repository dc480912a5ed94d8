"""``vse collection``: ordered lists of names under a name of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, err, out
from vse.errors import NoSuchEntry, VseError
from vse.model import Identity, Lfn

app = Commands(help="Ordered lists of names; vse find NAME finds their files.")
Change = Callable[[list[Lfn]], list[Lfn]]
Collection = Annotated[str, typer.Argument(help="The collection.", metavar="LFN")]
Members = Annotated[list[str], typer.Argument(help="Its members, in order.", metavar="MEMBER")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse members that are not there.")]
_SHOWN = 10


@app.command("put")
def put(
    context: typer.Context,
    collection: Collection,
    members: Members,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Make a collection of these members, or give one that is there these instead of its own.

    Members that are not there (yet) are kept all the same, and named.

    Example:

      vse collection put /lhc/user/me/best /lhc/data/a.root /lhc/data/b.root
    """
    _change(context, collection, lambda _: [Lfn.parse(one) for one in members], as_json, strict)


@app.command("add")
def add(
    context: typer.Context,
    collection: Collection,
    members: Members,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Add members at the end of a collection; it is made where it is missing.

    Members that are not there (yet) are added all the same, and named.

    Example:

      vse collection add /lhc/user/me/best /lhc/data/c.root
    """
    _change(context, collection, lambda held: [*held, *map(Lfn.parse, members)], as_json, strict)


@app.command("remove")
def remove(context: typer.Context, collection: Collection, members: Members, as_json: Json = False) -> None:
    """Take members out of a collection; the files stay.

    Example:

      vse collection remove /lhc/user/me/best /lhc/data/c.root
    """
    gone = {Lfn.parse(one) for one in members}

    def without(held: list[Lfn]) -> list[Lfn]:
        for lfn in gone - set(held):
            raise NoSuchEntry(f"take {lfn} out of {collection}", "it is no member")
        return [lfn for lfn in held if lfn not in gone]

    _change(context, collection, without, as_json)


@app.command("show")
def show(context: typer.Context, collection: Collection, as_json: Json = False) -> None:
    """Print the members of a collection, also those that are not there.

    Example:

      vse collection show /lhc/user/me/best
    """
    with open_site(context) as site:
        members = list(site.names_for(Identity.of_process()).members(Lfn.parse(collection)))
    if as_json:
        emit_json({"lfn": collection, "members": members})
    else:
        for lfn in members:
            print(lfn)


def _change(context: typer.Context, name: str, change: Change, as_json: bool, strict: bool = False) -> None:
    me, lfn = Identity.of_process(), Lfn.parse(name)
    with open_site(context) as site:
        names = site.names_for(me)
        try:
            held = list(names.members(lfn))
        except NoSuchEntry:
            held = []
        members = list(dict.fromkeys(change(held)))
        before = set(held)
        missing = site.lookup_for(me).stat([one for one in members if one not in before]).failed
        if strict:
            for error in missing.values():
                raise error
        names.put_collection(lfn, members, me.name, me.groups[0])
    _warn(missing)
    if as_json:
        emit_json({"lfn": lfn, "members": members, "missing": list(missing)})
    else:
        out.print(f"{lfn} has {len(members)} members", markup=False)


def _warn(missing: dict[str, VseError]) -> None:
    for one, error in list(missing.items())[:_SHOWN]:
        err.print(f"warning: the member {one} cannot be found: {error.found}", markup=False)
    if len(missing) > _SHOWN:
        err.print(f"... and {len(missing) - _SHOWN} more")
