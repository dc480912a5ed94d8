"""``vse quota``: how much a user, a group or a dataset may have."""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.helptext import Commands
from vse.cli.output import emit_lines, err, out, size, table
from vse.cli.pool import bytes_of
from vse.errors import BadRequest

app = Commands(help="How much a user, a group or a dataset may have.")
_User = Annotated[
    str, typer.Option("--user", help="Of this user; '*': of each that has none.", metavar="NAME")
]
_Group = Annotated[
    str, typer.Option("--group", help="Of this group; '*': of each that has none.", metavar="NAME")
]
_Dataset = Annotated[
    str, typer.Option("--dataset", help="Of this dataset; '*': of each that has none.", metavar="NAME")
]
_At = Annotated[
    str, typer.Option("--se", help="At this storage element; default: at each one.", metavar="SE")
]


@app.command("set")
def set_quota(
    context: typer.Context,
    limit: Annotated[str, typer.Argument(help="The most: 5TB, 500GB.", metavar="SIZE")],
    user: _User = "",
    group: _Group = "",
    dataset: _Dataset = "",
    se: _At = "*",
) -> None:
    """Give a user, a group or a dataset a quota. What is over it stays; no more comes.

    Examples:

      vse quota set 5TB --user anna

      vse quota set 1TB --user '*' --se LOCAL
    """
    from vse.app.pool import require_administrator, synchronise
    from vse.staging.quotas import Quota

    kind, name = _whose(user, group, dataset)
    limit_bytes = bytes_of(limit)
    with open_site(context) as site:
        require_administrator(site, "change quotas")
        element = se if se == "*" else site.elements.get(se).name
        site.quotas.set(Quota(element, kind, name, limit_bytes))
        for one in site.elements:  # what is there already counts
            if element in ("*", one.name) and one.can("write"):
                synchronise(site, one.name)
    where = "each storage element" if se == "*" else element
    out.print(f"The {kind} {name} may have {size(limit_bytes)} at {where}.")


@app.command("rm")
def remove(
    context: typer.Context, user: _User = "", group: _Group = "", dataset: _Dataset = "", se: _At = "*"
) -> None:
    """Take a quota away.

    Example:

      vse quota rm --user anna
    """
    from vse.app.pool import require_administrator

    kind, name = _whose(user, group, dataset)
    with open_site(context) as site:
        require_administrator(site, "change quotas")
        site.quotas.remove(se if se == "*" else site.elements.get(se).name, kind, name)
    out.print(f"The {kind} {name} has no quota of its own there any more.")


@app.command("show")
def show(context: typer.Context, se: _At = "", as_json: Json = False) -> None:
    """Print what everybody has, what is on its way for them, and what they may have.

    Examples:

      vse quota show

      vse quota show --se LOCAL --json
    """
    with open_site(context) as site:
        elements = [site.elements.get(se)] if se else list(site.elements)
        rows = [share for one in elements for share in site.quotas.shares(one.name)]
        general = site.quotas.all()
    if as_json:
        emit_lines(one._asdict() for one in rows)
        return
    table(
        ("at", "kind", "name", "files", "has", "on its way", "may have"),
        [
            (
                one.element,
                one.kind,
                one.name,
                str(one.files),
                size(one.size_bytes),
                size(one.reserved_bytes),
                size(one.limit_bytes),
            )
            for one in rows
        ],
        right=(3, 4, 5, 6),
    )
    for quota in general:
        if quota.name == "*":
            where = "each storage element" if quota.element == "*" else quota.element
            err.print(f"Each other {quota.kind} may have {size(quota.limit_bytes)} at {where}.", markup=False)
    if not rows and not general:
        err.print("Nobody has a quota, and no pool keeps accounts: vse quota set --help", markup=False)


def _whose(user: str, group: str, dataset: str) -> tuple[str, str]:
    given = [(kind, name) for kind, name in (("user", user), ("group", group), ("dataset", dataset)) if name]
    if len(given) != 1:
        raise BadRequest(
            "find whose quota is meant", "it takes one of them", "give --user, --group or --dataset"
        )
    return given[0]
