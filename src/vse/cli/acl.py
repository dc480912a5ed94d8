"""``vse acl``: access lists of names."""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_lines, out
from vse.model import Access, AccessEntry, Identity, Lfn, NewAccess


def add_to(app: typer.Typer) -> None:
    app.command("acl", rich_help_panel="Names")(acl)


def acl(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Names of the catalogue.", metavar="LFN")],
    put: Annotated[
        list[str] | None, typer.Option("--set", "-m", help="Add or change an entry.", metavar="ENTRY")
    ] = None,
    taken: Annotated[
        list[str] | None, typer.Option("--remove", "-x", help="Take an entry out.", metavar="WHOM:NAME")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", "-b", help="Take all entries out.")] = False,
    default: Annotated[
        bool, typer.Option("--default", "-d", help="Change what new names in the directory get.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show or change access lists (POSIX.1e). An entry is user:NAME:rwx, group:NAME:r-x or mask::r--; the
    mask bounds all named users and groups, and the owning group. Links are followed.

    Examples:

      vse acl /lhc/user/me

      vse acl /lhc/user/me -m user:alice:r-x

      vse acl /lhc/user/me -d -m group:lhc:rwx
    """
    from vse.app.access import new_entries

    lfns = [Lfn.parse(name) for name in names]
    entries = [AccessEntry.parse(text) for text in put or ()]
    with open_site(context) as site:
        guarded = site.names_for(Identity.of_process())
        held = guarded.access(lfns)
        failed = dict(held.failed)
        if put or taken or clear:
            changes = []
            for lfn, one in held.ok.items():
                old = () if clear else one.defaults if default else one.entries
                new = new_entries(old, entries, taken or ())
                name = Lfn(lfn)
                changes.append(NewAccess(name, defaults=new) if default else NewAccess(name, entries=new))
            failed.update(guarded.change_access(changes).failed)
            held = guarded.access(lfns)
        shown = [held.ok[lfn] for lfn in lfns if lfn in held.ok]
    if as_json:
        emit_lines(map(as_dict, shown))
    else:
        for one in shown:
            _show(one)
    for error in failed.values():
        raise error


def as_dict(access: Access) -> dict[str, object]:
    return {
        "lfn": access.lfn,
        "owner": access.owner,
        "group": access.group,
        "mode": f"{access.mode:04o}",
        "entries": [str(one) for one in access.entries],
        "defaults": [str(one) for one in access.defaults],
    }


def _show(access: Access) -> None:
    from vse.model.access import letters

    out.print(f"# {access.lfn}", markup=False)
    print(f"owner:{access.owner}:{letters(access.mode >> 6 & 7)}")
    print(f"owning group:{access.group}:{letters(access.mode >> 3 & 7)}")
    for one in access.entries:
        print(one)
    print(f"others::{letters(access.mode & 7)}")
    for one in access.defaults:
        print(f"default:{one}")
