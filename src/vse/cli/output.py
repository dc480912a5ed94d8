"""How answers look: tables for people, plain columns for pipes, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from vse.catalogue.lookup import LookupReport
    from vse.model import BulkResult

out = Console(highlight=False, soft_wrap=True)
"""Answers."""
err = Console(stderr=True, highlight=False, soft_wrap=True)
"""Everything that is not an answer: progress, warnings, errors."""

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(size_bytes: float | None) -> str:
    """Return a number of bytes for people: ``1.4 MB`` (powers of 1000, as storage is sold)."""
    if size_bytes is None:
        return "-"
    value = float(size_bytes)
    for unit in _UNITS:
        if abs(value) < 999.5 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("the loop returns at the last unit")


def size_of(part_bytes: float, whole_bytes: float) -> str:
    """Return ``18.2 of 98.0 MB``, or ``999 kB of 98.0 MB``."""
    part, whole = size(part_bytes), size(whole_bytes)
    number, _, unit = part.partition(" ")
    return f"{number if whole.endswith(f' {unit}') else part} of {whole}"


def duration(seconds: float | None) -> str:
    """Return a time span for people: ``0.4 s``, ``12 s``, ``3:07``, ``2:03:07``."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def event_rate(per_s: float) -> str:
    """Return how fast events are read, for people: ``850 events/s``, ``12.3 k events/s``."""
    for scale, unit in ((1e6, "M events/s"), (1e3, "k events/s")):
        if per_s >= scale:
            value = per_s / scale
            return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.1f} {unit}"
    return f"{per_s:.0f} events/s"


def moment(seconds: float | None) -> str:
    """Return a Unix time as local date and time to the minute."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def emit_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def emit_lines(values: Iterable[Any]) -> int:
    """Print JSON values one a line as they come; return how many."""
    count = 0
    for value in values:
        print(json.dumps(value, ensure_ascii=False))
        count += 1
    return count


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Print rows: a table on a terminal, tab-separated columns (no headings) anywhere else.

    ``right``: the numbers of the columns that are aligned right.
    """
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        drawn.add_column(heading, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    out.print(drawn)


def directory_for(wanted: str, directory: Path) -> None:
    """Make a directory of the user's own if it is missing.

    Raises `StorageFault` where nothing can be written to it, before any work is done for what it is to hold.
    """
    from vse.errors import StorageFault

    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = "it is a file" if isinstance(error, FileExistsError) else error.strerror or str(error)
        raise StorageFault(wanted, f"{directory}: {found}", "name another directory") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StorageFault(wanted, f"{directory}: you may not write in it", "name another directory")


def report_names(result: BulkResult[Any], *, as_json: bool) -> None:
    """Print the names for which a command worked, then each error; raise the first of them."""
    if as_json:
        failed = {name: error.to_dict() for name, error in result.failed.items()}
        emit_json({"ok": sorted(result.ok), "failed": failed})
    else:
        for name in result.ok:
            out.print(name, markup=False)
    for error in list(result.failed.values())[1:]:
        err.print(f"error: {error}", markup=False)
    for error in result.failed.values():
        raise error


def warn_if_stale(report: LookupReport) -> None:
    """Say where an answer may be old because an upstream catalogue did not answer."""
    for name, error in report.failed.items():
        how = "is not asked" if name in report.offline else "did not answer"
        err.print(f"[yellow]Upstream {name} {how}[/yellow]; this is what it told before. ", end="")
        err.print(str(error), markup=False)


class MeanRate(ProgressColumn):
    """Bytes a second since the start: news of files come in bursts, between which no rate can be told."""

    def render(self, task: Task) -> Text:
        took_s = task.finished_time or task.elapsed
        return Text(
            f"{size(task.completed / took_s)}/s" if took_s and task.completed else "", "progress.data.speed"
        )


def byte_progress() -> Progress:
    """A progress display for moving files: files, bytes, rate and time to come."""
    return Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[files]:>9} files"),
        DownloadColumn(),
        MeanRate(),
        TimeRemainingColumn(compact=True),
        console=err,
        disable=not err.is_terminal,
    )


def event_progress() -> Progress:
    """A progress display for reading events; it fits in 80 columns."""
    return Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=10),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        console=err,
        disable=not err.is_terminal,
    )
