"""``vse stage-out``: write files back to a storage element."""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_lines, err, out


def add_to(app: typer.Typer) -> None:
    app.command("stage-out", rich_help_panel="Data")(stage_out)


def stage_out(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(help="Files of this machine, LFNs, or URLs.", metavar="FILE")],
    to: Annotated[str, typer.Option(help="The storage element that they go to.", metavar="SE")],
    name: Annotated[
        str, typer.Option("--as", help="The LFN, or a directory of LFNs, that they get.", metavar="LFN")
    ] = "",
    priority: Annotated[int, typer.Option(min=1, max=9, help="1 goes first, 9 last.", metavar="N")] = 5,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Move the files now, or leave them to a stager.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write files back: queued, tried again, verified, and in the catalogue when they are there.

    A file of this machine has to stay where it is until then. A file of the catalogue without --as gets one
    more copy; with it, a copy under another name.

    Examples:

      vse stage-out hist.root --to TIER2 --as /lhc/user/a/anna/hist.root

      vse stage-out out/*.root --to TIER2 --as /lhc/user/a/anna/run7/ --wait

      vse stage-out /lhc/data/2026/dimuon_000.root --to TAPE
    """
    from vse.app import places
    from vse.app.stage_out import names_for
    from vse.app.stage_out import stage_out as ask
    from vse.cli.request import as_dict
    from vse.errors import RequestIncomplete
    from vse.staging.values import Conditions, RequestState

    with open_site(context) as site:
        named = names_for(site, [places.read(site, one) for one in files], name)
        requests = ask(site, named, to, Conditions(priority=priority))
        if wait:
            import threading

            site.stager().run(threading.Event(), [one.id for one in requests])
            requests = site.staging.get([one.id for one in requests])
        failed = [one for one in requests if one.state is RequestState.FAILED]
        if as_json:
            emit_lines(map(as_dict, requests))
        else:
            for lfn, one in zip(named, requests, strict=True):
                out.print(f"Request {one.id}: {lfn} to {one.destination}, {one.state}", markup=False)
        for one in failed:
            for item in site.staging.items(one.id):
                err.print(f"failed {item.lfn}: {item.error}", markup=False)
        if failed:
            raise RequestIncomplete(
                "stage out all files",
                f"{len(failed)} of {len(requests)} did not get there",
                "see why above; the same command tries them again",
            )
