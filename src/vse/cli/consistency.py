"""``vse consistency``: is on the storage what the catalogue says, and nothing else?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_json, emit_lines, err, moment, out, size, table
from vse.model import Lfn
from vse.model.words import counted

if TYPE_CHECKING:
    from vse.app.consistency import Checked
    from vse.app.evidence import Evidence

_SHOWN = 20


def add_to(app: typer.Typer) -> None:
    app.command("consistency", rich_help_panel="Sites")(consistency)


def consistency(
    context: typer.Context,
    se: Annotated[str, typer.Argument(help="The storage element.", metavar="SE")],
    commit: Annotated[
        bool, typer.Option("--commit", help="Mark what is lost, remove what is dark in two runs.")
    ] = False,
    base: Annotated[str, typer.Option(help="Look below this name only.", metavar="LFN")] = "/",
    listing: Annotated[
        Path | None,
        typer.Option(
            help="The site's own dump of the storage: a line 'path size modified' each.", metavar="FILE"
        ),
    ] = None,
    runs: Annotated[bool, typer.Option("--runs", help="Show the runs that are kept; check nothing.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show every finding.")] = False,
    as_json: Json = False,
) -> None:
    """Compare what the catalogue knows with what a storage element holds.

    Dark: held, but not known. Lost: known, but not held. Differing: of another size. The catalogue is
    looked at before and after the storage, so that what comes or goes meanwhile is neither. Changes nothing
    without --commit. Ends with exit code 1 if anything was found.

    Examples:

      vse consistency LOCAL-DISK

      vse consistency LOCAL-DISK --commit

      vse consistency LOCAL-DISK --listing dump.txt.gz --json
    """
    from vse.app.consistency import check
    from vse.app.evidence import Evidence

    with open_site(context) as site:
        evidence = Evidence(site.database)
        if runs:
            _show_runs(evidence, site.elements.get(se).name, as_json)
            return
        where = Lfn.parse(base)
        with err.status("looking at the catalogue") as status:
            checked = check(
                site,
                se,
                commit=commit,
                base=where,
                listing=listing,
                tell=lambda phase, number: status.update(f"{phase}: {counted(number, 'file')}"),
            )
        if as_json:
            _emit(evidence, checked)
        else:
            _show(evidence, checked, everything)
    if not checked.consistent:
        raise typer.Exit(1)


def _show_runs(evidence: Evidence, se: str, as_json: bool) -> None:
    kept = evidence.runs(se)
    if as_json:
        emit_lines(run._asdict() for run in kept)
        return
    headings = ("run", "began", "below", "copies", "dark", "lost", "differing")
    rows = [
        (
            str(run.id),
            moment(run.started_s) + ("" if run.finished_s else " (broken off)"),
            run.base,
            *(f"{number:,}" for number in (run.checked, run.dark, run.lost, run.differing)),
        )
        for run in kept
    ]
    table(headings, rows, right=(0, 3, 4, 5, 6))


def _emit(evidence: Evidence, checked: Checked) -> None:
    emit_json(
        {
            "run": checked.run,
            "se": checked.se,
            "committed": checked.committed,
            "known": checked.tally.known,
            "held": checked.tally.held,
            "removed": checked.removed,
            "marked": checked.marked,
            "waiting": checked.waiting,
            "refused": {str(verdict): why for verdict, why in checked.refused.items()},
            "unlisted": {path: error.to_dict() for path, error in checked.unlisted.items()},
            "failed": {path: error.to_dict() for path, error in checked.failed.items()},
            "findings": [one._asdict() for one in evidence.findings(checked.run)],
        }
    )


def _show(evidence: Evidence, checked: Checked, everything: bool) -> None:
    tally = checked.tally
    rows = []
    for number, one in enumerate(evidence.findings(checked.run)):
        if number == _SHOWN and not everything:
            break
        rows.append((str(one.verdict), size(one.held_bytes), size(one.known_bytes), one.lfn or one.path))
    if rows:
        table(("", "held", "known", "name"), rows, right=(1, 2))
    total = tally.dark + tally.lost + tally.differing + tally.found
    if total > len(rows):
        err.print(f"... and {total - len(rows):,} more: see them with --all or --json")
    out.print(
        f"{checked.se}: {counted(tally.known, 'copy', 'copies')} known, {counted(tally.held, 'file')} held: "
        f"{tally.dark:,} dark, "
        f"{tally.lost:,} lost, {tally.differing:,} of another size, {tally.found:,} found again.",
        markup=False,
    )
    for path, error in checked.unlisted.items():
        err.print(f"not judged below {path}: {error}", markup=False)
    for path, error in checked.failed.items():
        err.print(f"not mended: {path}: {error}", markup=False)
    for why in dict.fromkeys(checked.refused.values()):
        kinds = [str(verdict) for verdict, reason in checked.refused.items() if reason == why]
        done = "was" if checked.committed else "would be"
        err.print(f"nothing {done} done about {' and '.join(kinds)} files: {why}", markup=False)
    if checked.committed:
        out.print(
            f"{counted(checked.marked, 'copy', 'copies')} marked, {counted(checked.removed, 'dark file')} "
            f"removed ({size(checked.removed_bytes)}), "
            f"{counted(checked.waiting, 'dark file waits', 'dark files wait')} for a second look.",
            markup=False,
        )
    elif total:
        out.print("Nothing was changed. To mend what may be mended: --commit.", markup=False)
