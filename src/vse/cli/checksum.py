"""``vse checksum``: is every copy the file it should be?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import byte_progress, emit_lines, err, table
from vse.errors import ChecksumMismatch, VseError
from vse.model import Checksum, Lfn

if TYPE_CHECKING:
    from vse.app.namespace import Compared


def add_to(app: typer.Typer) -> None:
    app.command("checksum", rich_help_panel="Data")(checksum)


def checksum(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Files.", metavar="LFN")],
    as_json: Json = False,
) -> None:
    """Compare the adler32 of files: in the catalogue, as each storage tells it, and computed from the bytes
    of each copy, which are all read. The exit code is 8 where two differ.

    Example:

      vse checksum /lhc/data/2026/dimuon_000.root
    """
    from vse.app.namespace import checksums

    lfns = [Lfn.parse(name) for name in names]
    compared: list[Compared] = []
    with open_site(context) as site, byte_progress() as progress:
        task = progress.add_task("reading", total=None, files=f"0/{len(lfns)}")
        for number, lfn in enumerate(lfns, start=1):
            compared.append(checksums(site, lfn, lambda count: progress.advance(task, count)))
            progress.update(task, files=f"{number}/{len(lfns)}")
    if as_json:
        emit_lines(map(_as_dict, compared))
    else:
        rows = [
            (one.lfn, copy.se, _shown(one.catalogue), _shown(copy.told), _shown(copy.computed))
            for one in compared
            for copy in one.copies
        ]
        table(("file", "copy at", "catalogue", "storage", "computed"), rows)
    _raise_first(compared)


def _shown(value: Checksum | VseError | None) -> str:
    if value is None:
        return "-"
    return value.value if isinstance(value, Checksum) else f"({value.code})"


def _as_dict(one: Compared) -> dict[str, object]:
    return {
        "lfn": one.lfn,
        "catalogue": str(one.catalogue) if one.catalogue else None,
        "differ": one.differ,
        "copies": [
            {"se": copy.se, "storage": _json(copy.told), "computed": _json(copy.computed)}
            for copy in one.copies
        ],
    }


def _json(value: Checksum | VseError | None) -> object:
    return value.to_dict() if isinstance(value, VseError) else str(value) if value else None


def _raise_first(compared: list[Compared]) -> None:
    """Raise for files whose checksums differ, else for the first copy that could not be read."""
    different = [one.lfn for one in compared if one.differ]
    if different:
        raise ChecksumMismatch(
            f"trust {', '.join(different)}",
            "not all checksums are the same",
            "remove the copies that differ (vse rm LFN@SE) and copy a good one there (vse cp)",
        )
    failures = [
        value for one in compared for copy in one.copies for value in copy[1:] if isinstance(value, VseError)
    ]
    for error in failures[1:]:
        err.print(f"error: {error}", markup=False)
    for error in failures:
        raise error
