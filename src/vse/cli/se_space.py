"""``vse se space``: how full the storage elements are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_lines, err, size, table
from vse.errors import BadRequest
from vse.model import Space
from vse.model.words import counted

if TYPE_CHECKING:
    from vse.app.site import Site
    from vse.storage.element import StorageElement


def add_to(app: typer.Typer) -> None:
    app.command("space")(space)


def space(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Only this storage element.", metavar="NAME")] = "",
    wait_s: Annotated[
        float, typer.Option("--wait", help="Seconds to wait for an answer.", min=0.1, metavar="SECONDS")
    ] = 10.0,
    recount: Annotated[
        bool, typer.Option("--recount", help="Of NAME's volumes: count anew what is really there, first.")
    ] = False,
    expire: Annotated[
        bool, typer.Option("--expire", help="Of NAME's volumes: erase the files past their lifetime, first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print how much space each storage element has, by its OccupancyPlugin; '-' where it cannot tell.

    Examples:

      vse se space

      vse se space LOCAL-DISK --json

      vse se space MANY-DISKS --recount --expire
    """
    if (recount or expire) and not name:
        raise BadRequest("tend the volumes", "it is not said of which storage element", "give its NAME")
    from concurrent.futures import ThreadPoolExecutor

    from vse.storage.occupancy import Occupancies

    with open_site(context) as site:
        elements = [site.elements.get(name)] if name else list(site.elements)
        if expire:
            _expire(site, elements[0])
        if recount:
            _recount(elements[0])
        answers = Occupancies(site.settings.site.vo, wait_s=wait_s)
        with ThreadPoolExecutor(max(1, min(32, len(elements)))) as pool:
            found = list(zip(elements, pool.map(answers.of, elements), strict=True))
    if as_json:
        emit_lines(
            {
                "name": element.name,
                "total_bytes": one.space.total_bytes,
                "free_bytes": one.space.free_bytes,
                "error": one.error.to_dict() if one.error else None,
            }
            for element, one in found
        )
    else:
        rows = [
            (element.name, size(one.space.total_bytes), size(one.space.free_bytes), _used(one.space))
            for element, one in found
        ]
        table(("name", "total", "free", "used"), rows, right=(1, 2, 3))
    failures = [(element.name, one.error) for element, one in found if one.error is not None]
    if len(failures) == len(found) == 1:
        raise failures[0][1]
    for failed, error in failures:
        err.print(f"{failed}: {error}", markup=False)


def _expire(site: Site, element: StorageElement) -> None:
    from vse.app.volumes import expire

    done = expire(site, element)
    err.print(f"{counted(len(done.ok), 'expired file')} erased, {size(sum(done.ok.values()))}", markup=False)
    for error in done.failed.values():
        err.print(str(error), markup=False)


def _recount(element: StorageElement) -> None:
    from vse.app.volumes import recount

    for one in recount(element):
        was = (
            ""
            if one.before_bytes == one.found.size_bytes
            else f" (the account said {size(one.before_bytes)})"
        )
        found = f"{one.volume}: {counted(one.found.files, 'file')}, {size(one.found.size_bytes)}{was}"
        err.print(found, markup=False)


def _used(found: Space) -> str:
    total, free = found.total_bytes, found.free_bytes
    return f"{100 * (total - free) / total:.0f} %" if total and free is not None else "-"
