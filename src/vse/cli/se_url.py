"""``vse se url``: what a file is called by each protocol, and what a copying service is to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_json, table

if TYPE_CHECKING:
    from vse.app.site import Site
    from vse.model import Lfn


def add_to(app: typer.Typer) -> None:
    app.command("url")(url)


def url(
    context: typer.Context,
    lfn: Annotated[str, typer.Argument(help="A logical file name.", metavar="LFN")],
    name: Annotated[str, typer.Argument(help="A storage element.", metavar="NAME")],
    to: Annotated[
        str,
        typer.Option(
            help="The URLs and options of a copy to this element, by a service such as FTS.", metavar="SE"
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Print the URLs of a file at a storage element: for each operation, and for the catalogue.

    Nothing is asked of the storage; the file need not be there.

    Examples:

      vse se url /lhc/a.root CERN-USER

      vse se url /lhc/a.root CERN-TAPE --to CERN-USER
    """
    from vse.model import Lfn

    with open_site(context) as site:
        file = Lfn.parse(lfn)
        rows = _copy(site, file, name, to) if to else _here(site, file, name)
    if as_json:
        emit_json(dict(rows))
    else:
        table(("for", ""), [(what, "-" if value is None else str(value)) for what, value in rows])


def _here(site: Site, lfn: Lfn, name: str) -> list[tuple[str, str | int | None]]:
    from vse.errors import NoPlan

    element, guid = site.elements.get(name), _guid(site, lfn)
    rows: list[tuple[str, str | int | None]] = []
    for operation in ("read", "write", "stage"):
        try:
            section = element.plan(operation).sections[0]
        except NoPlan as error:
            rows.append((operation, f"({error.found})"))
        else:
            rows.append((operation, element.url_by(section, lfn, guid)))
    return [*rows, ("catalogue", element.registration_url(lfn, guid))]


def _copy(site: Site, lfn: Lfn, source: str, target: str) -> list[tuple[str, str | int | None]]:
    return list(site.elements.plan_urls(source, target, lfn, guid=_guid(site, lfn))._asdict().items())


def _guid(site: Site, lfn: Lfn) -> bytes | None:
    entry = site.catalogue.stat([lfn]).ok.get(lfn)
    return entry.guid if entry else None
