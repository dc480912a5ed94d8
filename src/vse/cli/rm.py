"""``vse rm``: remove files, or single copies of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_lines, err, out, size
from vse.errors import VseError

if TYPE_CHECKING:
    from vse.app.namespace import Removal


def add_to(app: typer.Typer) -> None:
    app.command("rm", rich_help_panel="Names")(rm)


def rm(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Files, or their copies.", metavar="LFN[@SE]")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only print what would be removed.")
    ] = False,
    last_copy: Annotated[
        bool, typer.Option("--last-copy", help="Remove LFN@SE also where it is the only copy.")
    ] = False,
    forever: Annotated[
        bool, typer.Option("--forever", help="Remove names and their copies at once, past the trash.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove names: a file, a link, a collection or an empty directory. They go to the trash for as long as
    the settings say (catalogue.trash_s; see vse trash), the copies of files stay until then; LFN@SE removes
    only the copy there, at once. Nothing is removed unless all of it may be.

    Examples:

      vse rm -n /lhc/user/me/old.root

      vse rm /lhc/data/a.root@CERN-DISK

      vse rm --forever /lhc/user/me/large.root
    """
    from vse.app.namespace import into_trash, plan_removal, remove
    from vse.app.places import Place, split_name

    done: list[Removal] = []
    with open_site(context) as site:
        places = [Place(*split_name(site, name)) for name in names]
        kept = into_trash(site, forever)
        planned = [
            one for place in places for one in plan_removal(site, place, last_copy=last_copy, forever=forever)
        ]
        failure: VseError | None = None
        if dry_run:
            done = planned
        else:
            try:
                remove(site, planned, done.append, forever=forever)
            except VseError as error:
                failure = error
    _report(done, kept, dry_run, as_json)
    if failure is not None:
        left = len(planned) - len(done)
        err.print(
            f"{left} of {len(planned)} were not removed; the same command tries them again.", markup=False
        )
        raise failure


def _report(done: Sequence[Removal], kept: bool, dry_run: bool, as_json: bool) -> None:
    if as_json:
        emit_lines(
            {
                "lfn": one.lfn,
                "se": one.se or None,
                "size_bytes": one.size_bytes,
                "trash": kept and not one.se,
                "dry_run": dry_run,
            }
            for one in done
        )
    else:
        for one in done:
            what = (
                f"{one}  {size(one.size_bytes)}"
                if one.se
                else f"{one}  ({'to the trash' if kept else 'the name'})"
            )
            out.print(f"would remove {what}" if dry_run else f"removed {what}", markup=False)
