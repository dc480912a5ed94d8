"""``vse chmod`` and ``vse chown``: modes and owners of names."""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import report_names
from vse.errors import BadRequest
from vse.model import Identity, Lfn, NewAccess

Names = Annotated[list[str], typer.Argument(help="Names of the catalogue.", metavar="LFN")]


def add_to(app: typer.Typer) -> None:
    app.command("chmod", rich_help_panel="Names")(chmod)
    app.command("chown", rich_help_panel="Names")(chown)


def chmod(
    context: typer.Context,
    mode: Annotated[str, typer.Argument(help="0750, or g+w,o-rwx; t is the sticky bit.", metavar="MODE")],
    names: Names,
    as_json: Json = False,
) -> None:
    """Change the modes of names that are yours. Links are followed. Of a name with an access list, the
    group's digit becomes its mask.

    Examples:

      vse chmod 0750 /lhc/user/me

      vse chmod g+w,o= /lhc/user/me/a.root
    """
    from vse.app.access import new_mode

    lfns = [Lfn.parse(name) for name in names]
    with open_site(context) as site:
        guarded = site.names_for(Identity.of_process())
        held = guarded.access(lfns)
        changes = [NewAccess(Lfn(lfn), mode=new_mode(mode, one)) for lfn, one in held.ok.items()]
        result = guarded.change_access(changes)
        result.failed.update(held.failed)
    report_names(result, as_json=as_json)


def chown(
    context: typer.Context,
    owner: Annotated[str, typer.Argument(help="OWNER, OWNER:GROUP or :GROUP.", metavar="OWNER[:GROUP]")],
    names: Names,
    as_json: Json = False,
) -> None:
    """Change the owners and groups of names. Only administrators give names away; owners may choose among
    their own groups. Links are followed.

    Examples:

      vse chown alice /lhc/user/alice

      vse chown :lhc /lhc/user/me/a.root
    """
    name, _, group = owner.partition(":")
    if not (name or group):
        raise BadRequest(f"give names to {owner!r}", "it names nobody", "write OWNER, OWNER:GROUP or :GROUP")
    with open_site(context) as site:
        result = site.names_for(Identity.of_process()).change_access(
            [NewAccess(Lfn.parse(one), owner=name or None, group=group or None) for one in names]
        )
    report_names(result, as_json=as_json)
