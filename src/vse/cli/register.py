"""``vse register``: take files into the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import byte_progress, emit_json, err, out
from vse.errors import BadRequest
from vse.model import BulkResult, Lfn, Trashed
from vse.model.words import counted

if TYPE_CHECKING:
    from vse.app.site import Site
    from vse.storage.element import StorageElement


def add_to(app: typer.Typer) -> None:
    app.command("register", rich_help_panel="Names")(register)


def register(
    context: typer.Context,
    paths: Annotated[list[Path] | None, typer.Argument(help="Files of this machine.", metavar="FILE")] = None,
    to: Annotated[str, typer.Option(help="The directory of the catalogue they go to.", metavar="LFN")] = "",
    se: Annotated[
        str, typer.Option("--se", help="The storage element; default: stager.destination.", metavar="SE")
    ] = "",
    scan: Annotated[
        str, typer.Option(help="Register what the element holds below this name.", metavar="LFN")
    ] = "",
    as_json: Json = False,
) -> None:
    """Take files into the catalogue: copy files of this machine to a storage element, or register what
    it holds already. Each is read once: size, adler32, and for ROOT files the entries of its tree.

    Examples:

      vse register mine_*.root --to /lhc/user/me

      vse register --scan /lhc/data --se LOCAL-DISK
    """
    if bool(paths) == bool(scan) or (paths and not to):
        raise BadRequest(
            "register",
            "it is not clear what",
            "give files and --to LFN, or --scan LFN; see vse register --help",
        )
    with open_site(context) as site:
        element = site.writable(se)
        if scan:
            result = _scan(site, element, Lfn.parse(scan))
        else:
            result = _store(site, element, paths or [], Lfn.parse(to))
    if as_json:
        emit_json({"ok": sorted(result.ok), "failed": {lfn: e.to_dict() for lfn, e in result.failed.items()}})
    else:
        out.print(f"{counted(len(result.ok), 'file')} registered at {element.name}.", markup=False)
    for error in list(result.failed.values())[1:]:
        err.print(f"error: {error}", markup=False)
    for error in result.failed.values():
        raise error


def _scan(site: Site, element: StorageElement, base: Lfn) -> BulkResult[Lfn]:
    from vse.app.register import register_stored

    with byte_progress() as progress:
        task = progress.add_task("reading", total=None, files="")
        return register_stored(
            site, element, base, lambda stored: progress.advance(task, stored.size_bytes or 0)
        )


def _store(site: Site, element: StorageElement, paths: list[Path], directory: Lfn) -> BulkResult[Lfn]:
    from vse.app.register import store_files

    with byte_progress() as progress:
        total = sum(path.stat().st_size for path in paths if path.is_file())
        task = progress.add_task("storing", total=total, files=str(len(paths)))
        return store_files(
            site, element, paths, directory, lambda count: progress.advance(task, count), _tell_of_trash
        )


def _tell_of_trash(gone: Trashed) -> None:
    err.print(f"removed for good from the trash: {gone.lfn}, whose place was needed", markup=False)
