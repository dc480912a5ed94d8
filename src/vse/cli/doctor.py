"""``vse doctor``: is this site well?"""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.output import emit_lines, err, out


def add_to(app: typer.Typer) -> None:
    app.command("doctor", rich_help_panel="Sites")(doctor)


def doctor(
    context: typer.Context,
    fix: Annotated[bool, typer.Option("--fix", help="Make the link tree right.")] = False,
    as_json: Json = False,
) -> None:
    """Look at every part of the site: database, storage elements, upstreams, queue, links.

    Ends with exit code 1 if something is bad. Changes nothing without --fix.

    Examples:

      vse doctor

      vse doctor --fix
    """
    from vse.app.doctor import examine, mend_links

    marks = {
        "good": "[green]good[/green]   ",
        "warning": "[yellow]warning[/yellow]",
        "bad": "[red]bad[/red]    ",
    }
    with open_site(context) as site:
        findings = list(examine(site))
        if as_json:
            emit_lines(finding._asdict() for finding in findings)
        else:
            for finding in findings:
                out.print(marks[finding.state], end="  ")
                out.print(f"{finding.subject}: {finding.found}", markup=False)
                if finding.todo and finding.todo.lower() not in finding.found.lower():
                    out.print(f"         -> {finding.todo}", markup=False)
        if fix:
            done = mend_links(site)
            err.print(
                f"links: {done.made} made, {done.removed} removed, {done.kept} were right", markup=False
            )
            for conflict in done.conflicts.values():
                err.print(f"left alone: {conflict}", markup=False)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)
