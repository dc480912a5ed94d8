"""``vse dataset verify`` and ``vse dataset diff``: is a dataset what it was?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.dataset import Query, counting
from vse.cli.output import emit_lines, err, out, size
from vse.model.words import counted

if TYPE_CHECKING:
    from vse.app.dataset_verification import Verdict
    from vse.app.datasets import Difference
    from vse.model import DatasetFile


def add_to(app: typer.Typer) -> None:
    app.command("verify")(verify)
    app.command("diff")(diff)


def verify(
    context: typer.Context,
    query: Query,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Also compare the checksum of every copy here.")
    ] = False,
    contents: Annotated[
        bool, typer.Option("--contents/--no-contents", help="Open ROOT files and count their entries.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Look at every file: is it there, as big as it was, staged here, and can it be read?

    What is wrong is told file by file. In a frozen dataset, files whose copy here is broken are marked
    corrupt (analyses leave them out), and those that are sound again no longer. With --json one object
    a line for each file, and the exit code says whether all is well.

    Examples:

      vse dataset verify muons

      vse dataset verify muons@1 --checksums --json
    """
    from vse.app.dataset_verification import Checks, State
    from vse.app.dataset_verification import verify as verified
    from vse.errors import IntegrityError
    from vse.model import DatasetQuery

    asked = DatasetQuery.parse(query)
    found: Counter[State] = Counter()
    with open_site(context) as site, counting("verifying") as count:

        def looked() -> Iterator[Verdict]:
            for verdict in verified(site, asked, Checks(checksums, contents), count):
                found[verdict.state] += 1
                yield verdict

        if as_json:
            emit_lines(verdict.to_dict() for verdict in looked())
        else:
            for verdict in looked():
                if verdict.error is not None:
                    err.print(f"[yellow]{verdict.state}[/yellow]", end=" ")
                    err.print(str(verdict.error), markup=False)
    told = ", ".join(f"{count} {state}" for state, count in sorted(found.items())) or "no files"
    if not as_json:
        out.print(f"{asked}: {told}.", markup=False)
    bad = sum(found[state] for state in (State.MISSING, State.DIFFERS, State.CORRUPT, State.UNCHECKED))
    if bad:
        raise IntegrityError(f"verify all of {asked}", told, "each file is named above with its reason")


def diff(
    context: typer.Context,
    before: Query,
    after: Annotated[
        str, typer.Argument(help="What to compare it with; left out: the query it was made by, asked now.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Tell which files two datasets do not have in common, and which differ.

    Examples:

      vse dataset diff muons@1 muons@2

      vse dataset diff muons
    """
    from vse.app.datasets import differences, own_query
    from vse.model import DatasetQuery

    one = DatasetQuery.parse(before)
    with open_site(context) as site:
        first, second = (one, DatasetQuery.parse(after)) if after else own_query(site, one)
        found: Counter[str] = Counter()

        def counted() -> Iterator[Difference]:
            for difference in differences(site, first, second):
                found[difference.kind] += 1
                yield difference

        if as_json:
            emit_lines(difference.to_dict() for difference in counted())
            return
        for difference in counted():
            print(_line(difference))
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items())) or "no difference"
    err.print(f"{first} -> {second}: {told}.", markup=False)


def _line(difference: Difference) -> str:
    kind, before, after = difference
    one = after or before
    assert one is not None  # noqa: S101  # a difference has one side at least
    mark = {"added": "+", "removed": "-", "changed": "!"}[kind]
    how = f"{_told(before)} -> {_told(after)}" if before and after else _told(one)
    return f"{mark}\t{one.label}\t{how}"


def _told(file: DatasetFile) -> str:
    parts = [size(file.size_bytes) if file.size_bytes >= 0 else "size not known"]
    if file.checksum:
        parts.append(str(file.checksum))
    if file.entries is not None:
        parts.append(counted(file.entries, "entry", "entries"))
    return ", ".join(parts)
