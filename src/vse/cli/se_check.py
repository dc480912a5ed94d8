"""``vse se check``: does a storage element do what its drivers declare?"""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_lines, out, table
from vse.errors import StorageFault


def add_to(app: typer.Typer) -> None:
    app.command("check")(check)


def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The storage element.", metavar="NAME")],
    as_json: Json = False,
) -> None:
    """Prove each capability on the live storage with a scratch file, and leave nothing behind. What the
    settings forbid is not tried. The exit code is 7 where something declared does not work.

    Example:

      vse se check LOCAL-DISK
    """
    from vse.app.se_check import check as prove

    with open_site(context, with_catalogue=False) as site:
        proofs = list(prove(site, site.elements.get(name)))
    if as_json:
        emit_lines(proof._asdict() for proof in proofs)
    else:
        marks = {True: "yes", False: "NO", None: "-"}
        table(
            ("section", "capability", "declared", "works", "time", ""),
            (
                (
                    one.section,
                    one.capability,
                    "yes" if one.declared else "no",
                    marks[one.works],
                    f"{1000 * one.seconds:.0f} ms" if one.works is not None else "-",
                    one.found,
                )
                for one in proofs
            ),
            right=(4,),
        )
    broken = [f"{one.section} {one.capability}: {one.found}" for one in proofs if one.works is False]
    if broken:
        raise StorageFault(
            f"trust the storage element {name}", "; ".join(broken), "mend the storage or its settings"
        )
    if not as_json:
        out.print(f"{name} does all that it declares.", markup=False)
