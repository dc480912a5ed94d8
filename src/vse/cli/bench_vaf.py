"""``vse bench vaf``: the measurements of the Virtual Analysis Facility's thesis, again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vse.cli.context import Json
from vse.cli.output import directory_for, duration, emit_json, err, out, table

if TYPE_CHECKING:
    from vse.analysis.vaf_bench import PushPullRow, RampUpRow


def add_to(app: typer.Typer) -> None:
    app.command("vaf")(vaf)


def vaf(
    plots: Annotated[
        Path | None, typer.Option(help="Draw the figures into this directory.", metavar="DIRECTORY")
    ] = None,
    as_json: Json = False,
) -> None:
    """Reproduce the seed's Tables 4.1 and 4.3 to 4.5 and its Figure 4.3, with VSE's own packetizer on
    simulated farms; the seed's numbers stand beside ours. Takes some seconds; needs no site.

    Examples:

      vse bench vaf

      vse bench vaf --plots figures
    """
    from vse.analysis import vaf_bench

    if plots is not None:
        directory_for("draw the figures", plots)
    with err.status("simulating"):
        ramp_ups = list(vaf_bench.ramp_up_rows())
        push_pull = list(vaf_bench.push_pull_rows())
        outcome, ideal = vaf_bench.uniform_completion()
        cache = vaf_bench.cache_row()
    drawn: list[Path] = []
    if plots is not None:
        from vse.analysis.vaf_plots import draw_completion, draw_push_pull, draw_ramp_ups

        drawn += draw_ramp_ups(plots / "vaf_ramp_ups")
        drawn += draw_push_pull(push_pull, plots / "vaf_push_pull")
        drawn += draw_completion(outcome, ideal, plots / "vaf_completion")
    if as_json:
        emit_json(_document(ramp_ups, push_pull, drawn))
        return
    out.print("Table 4.1  24 workers, small files, in all (m:ss)")
    seed = vaf_bench.SEED_CACHE
    rows = [
        ("empty cache", duration(seed.cold_s), duration(cache.cold_s)),
        ("cached data", duration(seed.warm_s), duration(cache.warm_s)),
    ]
    table(("", "seed", "VSE, one bulk query"), rows, right=(1, 2))
    _show_ramp_ups(ramp_ups)
    _show_push_pull(push_pull)
    out.print("\nFigure 4.3  24 workers whose speeds differ by a factor of four")
    out.print(
        f"all end within {outcome.spread_s:.1f} s (seed: around 20 s), "
        f"{min(outcome.entries.values()):,} to {max(outcome.entries.values()):,} entries each, "
        f"efficiency {ideal / outcome.finished_s:.3f}"
    )
    for path in drawn:
        err.print(f"drawn: {path}", markup=False)


def _show_ramp_ups(rows: list[RampUpRow]) -> None:
    out.print("\nTable 4.3  seconds to 25, 50, 75 of 100 workers: by the fitted curve (as printed)")
    shown = [
        (
            row.site.site,
            *(
                f"{_number(ours)} ({_number(theirs)})"
                for ours, theirs in zip(row.times_s, row.site.seed_s, strict=True)
            ),
        )
        for row in rows
    ]
    table(("site", "25", "50", "75"), shown, right=(1, 2, 3))
    out.print(
        "\nTable 4.4  p0 and p1: fitted anew to drawn arrivals (as printed); efficiency of the packetizer"
    )
    shown = [
        (
            row.site.site,
            f"{row.fitted_p0:.4f} ({row.site.p0:.4f})",
            f"{row.fitted_p1:.5f} ({row.site.p1:.5f})",
            f"{row.efficiency:.3f}",
        )
        for row in rows
    ]
    table(("site", "p0", "p1", "efficiency"), shown, right=(1, 2, 3))


def _show_push_pull(rows: list[PushPullRow]) -> None:
    out.print("\nTable 4.5  time to results at CERN (as printed)")
    shown = [
        (
            f"{row.days:g}",
            f"{_minutes(row.push_s)} ({_minutes(row.seed_push_s)})",
            f"{_minutes(row.pull_simulated_s)} ({_minutes(row.seed_pull_s)})",
            f"{row.speedup:.0%} ({row.seed_speedup:.0%})",
        )
        for row in rows
    ]
    table(("days", "push", "pull, simulated", "gain"), shown, right=(0, 1, 2, 3))


def _number(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.0f}"


def _minutes(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}:{minutes:02d}"


def _document(ramp_ups: list[RampUpRow], push_pull: list[PushPullRow], drawn: list[Path]) -> dict[str, Any]:
    return {
        "ramp_ups": [{**row._asdict(), "site": row.site._asdict()} for row in ramp_ups],
        "push_pull": [{**row._asdict(), "speedup": row.speedup} for row in push_pull],
        "plots": [str(path) for path in drawn],
    }
