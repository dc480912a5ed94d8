"""``vse pin``: files that stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import AtElement, Json, open_site
from vse.cli.output import emit_json, emit_lines, err, moment, out, table
from vse.cli.spans import span_s
from vse.model import DatasetQuery, Identity
from vse.model.words import counted

if TYPE_CHECKING:
    from vse.app.site import Site

_LIST = "list"


def add_to(app: typer.Typer) -> None:
    app.command("pin", rich_help_panel="Data")(pin)


def pin(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="A dataset, a query, a path with a glob; or 'list'.")],
    duration: Annotated[
        str, typer.Option("--for", help="How long: 12h, 7d, 2w; default: until vse unpin.", metavar="TIME")
    ] = "",
    se: AtElement = "",
    note: Annotated[str, typer.Option("--note", help="Why; others can read it.", metavar="TEXT")] = "",
    as_json: Json = False,
) -> None:
    """Keep the files of a dataset from being thrown away; `vse pin list` shows what is kept.

    Files that are not here yet stay once they are. Pinning again sets a new time.

    Examples:

      vse pin 'Find;BasePath=/lhc/data;FileName=*.root' --for 7d

      vse pin /lhc/data/2026/dimuon_000.root --note 'reference'

      vse pin list
    """
    with open_site(context) as site:
        if query == _LIST:
            _list(site, as_json=as_json)
            return
        element, lfns = (
            site.writable(se).name,
            (file.entry.lfn for file in site.selector.find(DatasetQuery.parse(query))),
        )
        number = site.pins.add(element, lfns, Identity.of_process().name, span_s(duration), note)
    if as_json:
        emit_json({"element": element, "pinned": number})
    else:
        stay = counted(number, "file stays", "files stay")
        out.print(f"{stay} at {element} {f'for {duration}' if duration else 'until vse unpin'}.")


def _list(site: Site, *, as_json: bool) -> None:
    held, asked = site.pins.all(), site.pins.of_requests()
    if as_json:
        emit_lines([*(one._asdict() for one in held), *(one._asdict() for one in asked)])
        return
    rows = [(one.element, one.owner, _until(one.expires_s), str(one.lfn), one.note) for one in held]
    rows += [
        (
            one.element,
            one.owner,
            moment(one.expires_s) if one.expires_s else f"{one.pin_s / 3600:.0f} h from its end",
            one.query,
            f"request {one.request_id}",
        )
        for one in asked
    ]
    table(("at", "by", "until", "what", "note"), rows)
    if not rows:
        err.print("Nothing is pinned.", markup=False)


def _until(expires_s: float | None) -> str:
    return "vse unpin" if expires_s is None else moment(expires_s)
