"""``vse mv``: give names other names."""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_json, err, out
from vse.model import Lfn


def add_to(app: typer.Typer) -> None:
    app.command("mv", rich_help_panel="Names")(mv)


def mv(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A file or a directory.", metavar="LFN")],
    target: Annotated[str, typer.Argument(help="Its new name, or a directory.", metavar="NEW-LFN")],
    as_json: Json = False,
) -> None:
    """Rename a file or a directory: in the catalogue, in the link tree, and on the storages that store by
    LFN. A name that is taken is never replaced. Of a storage that cannot rename, the catalogue keeps the URL.

    Examples:

      vse mv /lhc/user/me/a.root /lhc/user/me/b.root

      vse mv /lhc/user/me/2025 /lhc/archive
    """
    from vse.app.namespace import move

    with open_site(context) as site:
        done = move(site, Lfn.parse(source), Lfn.parse(target))
    if as_json:
        emit_json(done._asdict())
        return
    out.print(f"{done.source} is now {done.target}", markup=False)
    if done.kept:
        err.print(f"{', '.join(done.kept)} cannot rename: the copy there keeps its place.", markup=False)
