"""``vse cp``: a copy from any place to any other."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import byte_progress, emit_json, err, out


def add_to(app: typer.Typer) -> None:
    app.command("cp", rich_help_panel="Data")(cp)


def cp(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="An LFN, LFN@SE, a URL or a local path.", metavar="SRC")],
    target: Annotated[str, typer.Argument(help="Likewise, or a directory.", metavar="DST")],
    as_json: Json = False,
) -> None:
    """Copy a file between names of the catalogue, storage elements, URLs and paths of this machine.

    The copy is verified by size and checksum, and appears whole or not at all; a name that is taken is
    never replaced. Where DST is an LFN, the copy is entered in the catalogue: the same LFN at another
    storage element is a further copy of the file. The storages copy by themselves where they can, else the
    bytes go through this machine; the answer says which. An absolute name that both the catalogue and this
    machine know is refused: write lfn:/NAME or file:/NAME.

    Examples:

      vse cp my.root /lhc/user/me/my.root

      vse cp /lhc/data/a.root@CERN-DISK /lhc/data/a.root@LOCAL-DISK

      vse cp /lhc/data/a.root .
    """
    from vse.app.copy import copy
    from vse.app.places import read
    from vse.cli.live import summary_of_bytes

    with open_site(context) as site, byte_progress() as progress:
        task = progress.add_task("copying", total=None, files="0/1")
        started = time.monotonic()
        done = copy(
            site,
            read(site, source),
            read(site, target, written_to=True),
            lambda count, total: progress.update(task, completed=count, total=total),
        )
        progress.update(task, files="1/1")
        wall_s = time.monotonic() - started
    if as_json:
        emit_json({**done._asdict(), "checksum": str(done.checksum) if done.checksum else None})
        return
    told = f"{summary_of_bytes(done.size_bytes, wall_s)}, {done.checksum or 'no checksum'}, {done.way}"
    out.print(f"{done.target}  {told}", markup=False)
    if done.remark:
        err.print(done.remark, markup=False)
