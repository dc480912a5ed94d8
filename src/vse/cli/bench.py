"""``vse bench``: what this version does, measured or simulated."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from vse.cli import bench_vaf
from vse.cli.context import Json
from vse.cli.helptext import Commands
from vse.cli.output import directory_for, duration, emit_json, err, out
from vse.model.words import counted

app = Commands(help="Measure or simulate how VSE behaves; needs no site.")
bench_vaf.add_to(app)


@app.command("staging")
def staging(
    files: Annotated[
        int, typer.Option("--files", min=1000, help="How many files in the day.", metavar="N")
    ] = 1_000_000,
    seed: Annotated[int, typer.Option("--seed", help="Another one is another day.", metavar="N")] = 1,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the pictures and a page here.", metavar="DIRECTORY"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Simulate a day of staging: a million files, sources that fail, users in bursts; see how it goes.

    The decisions are those that a site's stager takes. Tells how many of the expected times were right.
    With --output it draws the queue, rates, shares, waiting times, and the told against the true times.

    Examples:

      vse bench staging --files 50000

      vse bench staging --output simulated
    """
    from vse.staging.eta import covered
    from vse.staging.simulation import simulate, world_of

    if output is not None:
        directory_for("write the simulated day", output)
    world = world_of(files, seed)
    err.print(f"Simulating a day of {counted(files, 'file')} ...", markup=False)
    began_s = time.process_time()
    day = simulate(world)
    cpu_s = time.process_time() - began_s
    right = {
        kind: covered(
            [one.took_s for one in day.forecasts if one.kind == kind],
            [one.said for one in day.forecasts if one.kind == kind],
        )
        for kind in ("file", "request")
    }
    if output is not None:
        from vse.app.simulated import draw, page

        draw(world, day, output / "images")
        (output / "staging-simulated.md").write_text(page(world, day), encoding="utf-8")
    if as_json:
        told = {"done": day.done, "failed": day.failed, "attempts": day.attempts, "cpu_s": cpu_s}
        emit_json({**told, "ended_s": day.ended_s, "covered": right, "forecasts": len(day.forecasts)})
        return
    out.print(
        f"{counted(day.done, 'file')} came, {counted(day.failed, 'was', 'were')} given up, "
        f"in {counted(day.attempts, 'attempt')}"
    )
    out.print(
        f"the queue was empty after {duration(day.ended_s)}; simulated in {duration(cpu_s)} of one core"
    )
    for kind, part in right.items():
        out.print(f"expected times of {kind}s: {part:.0%} within their interval of 80 %")
    if output is not None:
        out.print(f"pictures and {output / 'staging-simulated.md'} are written", markup=False)
