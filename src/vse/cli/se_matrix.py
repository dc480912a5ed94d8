"""``vse se matrix``: what a copy between any two storage elements would use."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_json, err, out, table

if TYPE_CHECKING:
    from vse.storage.matrix import Cell


def add_to(app: typer.Typer) -> None:
    app.command("matrix")(matrix)


def matrix(
    context: typer.Context,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print comma-separated values with headings.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell for every two storage elements what a copy from one to the other would use: the protocol they
    have in common, the section and URL scheme at each end, and who moves the bytes; or why there is no way.

    Examples:

      vse se matrix

      vse se matrix --csv > matrix.csv
    """
    with open_site(context, with_catalogue=False) as site:
        cells = site.elements.matrix()
    if as_json:
        emit_json([cell._asdict() for cell in cells])
    elif as_csv:
        _print_csv(cells)
    elif cells:
        table(("from", "to", "way", "protocol", "reads", "writes"), [_row(cell) for cell in cells])
        _print_reasons(cells)
    else:
        err.print("There are no two storage elements to copy between; see vse se list.")


def _row(cell: Cell) -> tuple[str, ...]:
    if cell.way is None:
        return cell.source, cell.destination, "none", "-", "-", "-"
    return (
        cell.source,
        cell.destination,
        cell.way.value.removesuffix(" through this machine"),
        cell.protocol or "-",
        f"{cell.source_scheme} by {cell.source_section}",
        f"{cell.destination_scheme} by {cell.destination_section}",
    )


def _print_reasons(cells: Sequence[Cell]) -> None:
    """Say below the table why cells are empty; elsewhere than on a terminal, on standard error."""
    where = out if sys.stdout.isatty() else err
    for cell in cells:
        if cell.way is None:
            where.print(f"\n[bold]No way from {cell.source} to {cell.destination}[/bold]:")
            for reason in cell.reason.split("; "):
                where.print(f"  {reason}", markup=False)


def _print_csv(cells: Sequence[Cell]) -> None:
    from vse.storage.matrix import Cell

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(Cell._fields)
    writer.writerows(["" if value is None else str(value) for value in cell] for cell in cells)
