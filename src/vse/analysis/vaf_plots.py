"""The pictures of the seed's measurements (seed 002, Figures 4.3, 4.14, 4.15), drawn anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vse.analysis.plots import BLUE, GREY, INK, RED, drawn, save
from vse.analysis.ramp_ups import DAY_S, SITES
from vse.analysis.simulation import Outcome
from vse.analysis.vaf_bench import PushPullRow

_COLOURS = (BLUE, RED, "#3a8f4d", "#8a5fb0", "#c98a1b")


def draw_ramp_ups(stem: Path) -> list[Path]:
    """Draw the workers of each site over an hour, and the times that Table 4.3 gives."""
    with drawn(9, 5.6) as figure:
        axes = figure.subplots()
        minutes = np.linspace(0, 60, 400)
        for site, colour in zip(SITES, _COLOURS, strict=True):
            axes.plot(minutes, [site.workers(60 * one) for one in minutes], color=colour, label=site.site)
            marks = [
                (when_s / 60, number)
                for when_s, number in zip(site.seed_s, (25, 50, 75), strict=True)
                if when_s
            ]
            axes.plot(*zip(*marks, strict=True), "o", color=colour, markersize=6)
        axes.set(xlim=(0, 60), ylim=(0, 100))
        axes.set_xlabel("minutes after the request of 100 workers", loc="right")
        axes.set_ylabel("workers", loc="top")
        axes.set_title("Ramp-up of five Grid sites", loc="left", fontsize=14, fontweight="bold")
        axes.legend(loc="lower right", title="curves: fits (Table 4.4)\ndots: Table 4.3", alignment="left")
        return save(figure, stem)


def draw_push_pull(rows: Sequence[PushPullRow], stem: Path) -> list[Path]:
    """Draw the time to results of push and pull at CERN, and by how much pull is faster."""
    site = SITES[0]
    days = np.linspace(0.1, 10, 200)
    push = np.array([site.push_s(one * DAY_S) for one in days]) / 60
    pull = np.array([site.pull_s(one * DAY_S) for one in days]) / 60
    with drawn(12, 5.2) as figure:
        times, gain = figure.subplots(1, 2)
        times.plot(days, push, color=RED, label="push: best number of jobs (4.8)")
        times.plot(days, pull, color=BLUE, label="pull: workers never wait (4.5)")
        ours = [row.days for row in rows]
        times.plot(
            ours,
            [row.pull_simulated_s / 60 for row in rows],
            "o",
            color=BLUE,
            label="VSE's packetizer, simulated",
        )
        times.plot(ours, [row.seed_push_s / 60 for row in rows], "x", color=INK, label="printed in Table 4.5")
        times.plot(ours, [row.seed_pull_s / 60 for row in rows], "x", color=INK)
        times.set(xlim=(0, 10.3), ylim=(0, 215))
        times.set_ylabel("minutes to the results", loc="top")
        times.legend(loc="upper left")
        gain.plot(days, 100 * (1 - pull / push), color=GREY, label="by the formulas")
        gain.plot(
            ours, [100 * row.speedup for row in rows], "o", color=BLUE, label="VSE's packetizer, simulated"
        )
        gain.plot(
            ours, [100 * row.seed_speedup for row in rows], "x", color=INK, label="printed in Table 4.5"
        )
        gain.set(xlim=(0, 10.3), ylim=(0, 35))
        gain.set_ylabel("pull is faster by [%]", loc="top")
        gain.legend(loc="lower left")
        for axes, title in ((times, "Time to results at CERN"), (gain, "Gain of pull over push")):
            axes.set_xlabel("serial computing time [days]", loc="right")
            axes.set_title(title, loc="left", fontsize=14, fontweight="bold")
        return save(figure, stem)


def draw_completion(outcome: Outcome, ideal: float, stem: Path) -> list[Path]:
    """Draw when each worker ended and how much it processed."""
    names = sorted(outcome.ended_s, key=lambda name: outcome.entries[name])
    with drawn(12, 5.2) as figure:
        ended, work = figure.subplots(1, 2)
        _bars(ended, [outcome.ended_s[name] for name in names], BLUE, "seconds to the end of its work")
        ended.axhline(ideal, color=RED, linewidth=1.2, label=f"ideal: {ideal:.0f} s")
        ended.legend(loc="lower right", frameon=True)
        _bars(work, [outcome.entries[name] / 1e3 for name in names], GREY, "thousand entries")
        ended.set_title(
            f"All end within {outcome.spread_s:.1f} s", loc="left", fontsize=14, fontweight="bold"
        )
        work.set_title("The fast ones do more", loc="left", fontsize=14, fontweight="bold")
        return save(figure, stem)


def _bars(axes: Any, heights: Sequence[float], colour: str, label: str) -> None:
    axes.bar(range(1, len(heights) + 1), heights, color=colour, width=0.75)
    axes.set_xlabel("workers, the slowest first", loc="right")
    axes.set_ylabel(label, loc="top")
    axes.tick_params(axis="x", which="minor", bottom=False, top=False)
