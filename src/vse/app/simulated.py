"""Pictures and a page of a simulated day of staging (`vse bench staging`)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vse.analysis.plots import BLUE, GREY, INK, RED, drawn
from vse.staging.eta import covered, pinball
from vse.staging.simulation import Day, Forecasted, World

GREEN, ORANGE, VIOLET = "#3c8f5a", "#d98c1f", "#7a56a8"
COLOURS = (BLUE, ORANGE, GREEN, RED, VIOLET, GREY)
_NAMES = {"file": "files", "request": "whole requests"}


def draw(world: World, day: Day, directory: Path) -> list[Path]:
    """Draw the queue, the rates, the shares, the waiting times, and the calibration; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Callable[[Any, World, Day], None]] = {
        "staging_queue": _draw_queue,
        "staging_shares": _draw_shares,
        "staging_eta": _draw_eta,
    }
    paths = []
    for name, draw_one in pictures.items():
        path = directory / f"{name}.png"
        with drawn(11, 5.2 if name == "staging_eta" else 7.4) as figure:
            draw_one(figure, world, day)
            figure.savefig(path, dpi=130, metadata={"Software": None})
        paths.append(path)
    return paths


def page(world: World, day: Day, images: str = "images") -> str:
    """Return the documentation page of a simulated day, with its figures."""
    sources = "\n".join(
        f"| {one.name} | {one.slots} | {one.bytes_per_s / 1e6:.0f} MB/s | {one.file_s:g} s | "
        f"{one.failing:.1%} | {one.wobble:.0%} |"
        for one in world.sources
    )
    waits = "\n".join(
        f"| {priority} | {len(some):,} | {_time(_part(some, 0.5))} | {_time(_part(some, 0.9))} |"
        for priority, some in sorted(day.waits_s.items())
    )
    eta = "\n".join(_eta_row(kind, day) for kind in _NAMES)
    return _PAGE.format(
        files=world.files,
        users=len(world.users),
        slots=world.slots,
        sources=sources,
        done=day.done,
        failed=day.failed,
        attempts=day.attempts,
        ended=day.ended_s / 3600,
        longest=max(one.queued for one in day.looks),
        waits=waits,
        eta=eta,
        images=images,
    )


_PAGE = """\
# A simulated day of staging

Made by `vse bench staging --output docs`; the same numbers come out wherever it runs. {files:,} files are
asked for within 22 hours by {users} users, in bursts, with priorities 3, 5 and 7, and come from four
sources over {slots} slots. What becomes of a transfer, when it is tried again, who comes next, and when a
file should arrive is decided by the code that a site runs; sources, failures, users and time are made up.

| source | slots | a stream | each file | attempts that fail | how much its rate changes |
|---|---|---|---|---|---|
{sources}

{done:,} files came and {failed:,} were given up, in {attempts:,} attempts; the queue was empty after
{ended:.1f} hours, and held {longest:,} files at its longest.

![The queue and the rates over the day]({images}/staging_queue.png)

## Who waits how long

All files of a better priority come first; within one, each user gets the same part of the slots as long
as they have files queued, however many.

| priority | files | half of them waited less than | nine in ten less than |
|---|---|---|---|
{waits}

![Slots by user, and waiting times by priority]({images}/staging_shares.png)

## Whether the expected times are right

Every five minutes three queued files and an open request were asked when they would be there. The
interval that is told should hold the true time in 80 % of the cases. The pinball loss is that of the
interval's ends and its middle: the mean of how far the told times were off, weighted as their quantiles
are; compared with the true times it says how sharp the forecasts are.

| asked about | times | within it | earlier | later | width (high / low) | pinball loss | true time |
|---|---|---|---|---|---|---|---|
{eta}

Nobody knows what will be asked for in the next hours: bursts of files of better priorities make one of a
worse priority late, by more than the past could tell. Those are the red lines to the right in the
picture.

![Told and true times]({images}/staging_eta.png)
"""


def _eta_row(kind: str, day: Day) -> str:
    some = [one for one in day.forecasts if one.kind == kind]
    true_s, said = [one.took_s for one in some], [one.said for one in some]
    early = sum(one.took_s < one.said.low_s for one in some) / len(some)
    late = sum(one.took_s > one.said.high_s for one in some) / len(some)
    width = statistics.median(one.said.high_s / max(one.said.low_s, 1.0) for one in some)
    loss = statistics.fmean(
        pinball(true_s, [one[number] for one in said], part) for number, part in enumerate((0.1, 0.5, 0.9))
    )
    inside = covered(true_s, said)
    mean = statistics.fmean(true_s)
    return (
        f"| {_NAMES[kind]} | {len(some)} | {inside:.0%} | {early:.0%} | {late:.0%} | {width:.1f} | "
        f"{_time(loss)} | {_time(mean)} (mean) |"
    )


def _part(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[round(part * (len(ordered) - 1))]


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _draw_queue(figure: Any, world: World, day: Day) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True)
    hours = [one.when_s / 3600 for one in day.looks]
    upper.fill_between(hours, [one.queued / 1e3 for one in day.looks], color=BLUE, alpha=0.25, linewidth=0)
    upper.plot(hours, [one.queued / 1e3 for one in day.looks], color=BLUE, linewidth=1.6)
    upper.set_ylabel("Queued files / 1000", loc="top")
    upper.set_ylim(bottom=0)
    upper.set_title("A simulated day", loc="left", fontsize=14, fontweight="bold")
    upper.set_title(f"{world.files:,} files", loc="right", fontsize=12, color=GREY)
    names = [one.name for one in world.sources]
    rates = [[one.done_bytes.get(name, 0) / world.look_s / 1e6 for one in day.looks] for name in names]
    lower.stackplot(hours, rates, labels=names, colors=COLOURS, alpha=0.75, linewidth=0)
    lower.set_ylabel("MB/s, by source", loc="top")
    lower.set_xlabel("Hour of the day", loc="right")
    lower.set_xlim(0, hours[-1])
    lower.set_ylim(0, 1.25 * max(map(sum, zip(*rates, strict=True))))
    lower.legend(ncols=4, loc="upper left", fontsize=11)


def _draw_shares(figure: Any, world: World, day: Day) -> None:
    upper, lower = figure.subplots(2, 1)
    hours = [one.when_s / 3600 for one in day.looks]
    users = list(world.users)
    used = [[one.by_user.get(name, 0.0) / world.look_s for one in day.looks] for name in users]
    upper.stackplot(hours, used, labels=users, colors=COLOURS, alpha=0.75, linewidth=0)
    upper.axhline(world.slots, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    upper.set_ylim(0, 1.42 * world.slots)
    upper.set_xlim(0, hours[-1])
    upper.set_ylabel("Slots, by user", loc="top")
    upper.set_xlabel("Hour of the day", loc="right")
    upper.legend(ncols=6, loc="upper left", fontsize=11)
    for colour, (priority, waits) in zip(COLOURS, sorted(day.waits_s.items()), strict=False):
        ordered = sorted(waits)[:: max(1, len(waits) // 2000)]
        parts = [(number + 1) / len(ordered) for number in range(len(ordered))]
        lower.plot(
            [max(one, 1.0) for one in ordered],
            parts,
            color=colour,
            linewidth=1.8,
            label=f"priority {priority}",
        )
    lower.set_xscale("log")
    lower.set_xlim(left=1)
    lower.set_ylim(0, 1.03)
    lower.set_xlabel("Waited for a slot for less than (s)", loc="right")
    lower.set_ylabel("Part of the files", loc="top")
    lower.legend(loc="upper left", fontsize=12)


def _draw_eta(figure: Any, _world: World, day: Day) -> None:
    for axes, (kind, name) in zip(figure.subplots(1, 2), _NAMES.items(), strict=True):
        some = [one for one in day.forecasts if one.kind == kind]
        for one in some:
            inside = one.said.low_s <= one.took_s <= one.said.high_s
            axes.plot(
                [max(one.took_s, 1.0)] * 2,
                [max(one.said.low_s, 1.0), max(one.said.high_s, 1.0)],
                color=BLUE if inside else RED,
                linewidth=0.7,
                alpha=0.35,
            )
        axes.plot(*_likely(some), ".", color=INK, markersize=2)
        ends = (10.0, 2e5)
        axes.plot(ends, ends, color=GREY, linewidth=1.2)
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
        axes.set_xlabel("True time to come (s)", loc="right")
        axes.set_ylabel("Told: middle and 80 % interval (s)", loc="top")
        right = covered([one.took_s for one in some], [one.said for one in some])
        axes.set_title(name.capitalize(), loc="left", fontsize=14, fontweight="bold")
        axes.set_title(f"{right:.0%} within", loc="right", fontsize=12, color=GREY)


def _likely(some: Sequence[Forecasted]) -> tuple[list[float], list[float]]:
    return [max(one.took_s, 1.0) for one in some], [max(one.said.likely_s, 1.0) for one in some]
