"""Progress that is looked at while files arrive and events are read."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import Progress, TaskID
from rich.table import Table

from vse.cli.output import byte_progress, duration, err, event_progress, event_rate, size
from vse.model.words import counted
from vse.staging.values import FileFailed, FileStaged, LinkRefused, Moved, News

if TYPE_CHECKING:
    from vse.analysis.result import Progress as AnalysisProgress


MOST_WORKERS = 8


class StagingView:
    """Files, bytes, rate and time to come of a staging; one line for each file that fails.

    ``total_files`` and ``total_bytes`` are what is to come. `hear` may be called from any thread.
    """

    def __init__(self, total_files: int, total_bytes: int, label: str = "staging") -> None:
        self.progress: Progress = byte_progress()
        self._total_files = total_files
        self._total_bytes = total_bytes
        self._lock = threading.Lock()
        self._bytes: dict[str, int] = {}
        self._staged: set[str] = set()
        self._task: TaskID = self.progress.add_task(
            label, total=total_bytes or None, files=f"0/{total_files}"
        )

    def hear(self, news: News) -> None:
        with self._lock:
            if isinstance(news, Moved):
                self._bytes[news.lfn] = news.bytes_done
            elif isinstance(news, FileStaged):
                self._bytes[news.lfn] = news.size_bytes
                self._staged.add(news.lfn)
            elif isinstance(news, FileFailed):
                self._bytes.pop(news.lfn, None)
                kind = "[red]given up[/red]:" if news.final else "[yellow]will try again[/yellow]:"
                err.print(kind, end=" ")
                err.print(str(news.error), markup=False)
            elif isinstance(news, LinkRefused):
                err.print("[yellow]no link[/yellow]:", end=" ")
                err.print(str(news.error), markup=False)
            self.progress.update(
                self._task,
                completed=sum(self._bytes.values()),
                files=f"{len(self._staged)}/{self._total_files}",
            )

    @property
    def shown(self) -> RenderableType:
        return self.progress

    def finish(self) -> None:
        """Show the end as it is, also where other processes carried some of the files."""
        self.progress.stop_task(self._task)


class AnalysisView:
    """Events, rate and time to come of an analysis of ``total_files``, some of which may be still to come.

    Below it a line for each worker, of many those that are busiest. ``keys``: what can be pressed.
    """

    def __init__(self, total_files: int, label: str = "analysing", keys: str = "") -> None:
        from vse.analysis.live import Rates

        self._total_files = total_files
        self._keys = keys
        self._label = label
        self._rates, self._byte_rates = Rates(), Rates()
        self._workers: Table | None = None
        self.progress: Progress = event_progress()
        self._task: TaskID = self.progress.add_task(label, total=None, events="", rate="")

    def hear(self, news: AnalysisProgress) -> None:
        # Files that are still to come are taken to be as long as those that are here.
        still_to_come = self._total_files / news.files if news.more_files and news.files else 1.0
        byte_rate = self._byte_rates.hear(news.elapsed_s, {"": float(news.read_bytes)})[""]
        state = "stopping" if news.stopping else "paused" if news.paused else self._label
        self.progress.update(
            self._task,
            description=state,
            total=round(news.entries_expected * still_to_come) or None,
            completed=news.entries_done,
            events=counted(news.entries_done, "event"),
            rate=f"{event_rate(news.rate)}, {size(byte_rate)}/s",
        )
        self._workers = self._lines(news)

    def _lines(self, news: AnalysisProgress) -> Table:
        from vse.analysis.report_effort import short_name

        rates = self._rates.hear(
            news.elapsed_s, {one.name: float(one.entries) for one in news.efforts if one.left_s is None}
        )
        known = sorted(news.efforts, key=lambda one: (one.left_s is not None, -one.entries, one.name))
        lines = Table.grid(padding=(0, 2))
        for one in known[:MOST_WORKERS]:
            state = one.drained or ("gone" if one.left_s is not None else "")
            speed = event_rate(rates.get(one.name, 0.0))
            failures = f"{counted(one.failures, 'packet')} failed" if one.failures else ""
            lines.add_row(
                f"  {short_name(one.name)}",
                counted(one.entries, "event"),
                state or speed,
                size(one.read_bytes),
                failures,
            )
        if len(known) > MOST_WORKERS:
            lines.add_row(f"  and {counted(len(known) - MOST_WORKERS, 'more worker')}")
        return lines

    @property
    def shown(self) -> RenderableType:
        lines = [self.progress, self._workers, self._keys and f"  [dim]{self._keys}[/dim]"]
        return Group(*(line for line in lines if line))


class Views:
    """Several progress displays as one, refreshed together; plain lines at the end off a terminal."""

    def __init__(self, *views: StagingView | AnalysisView | None) -> None:
        self._views = [view for view in views if view is not None]
        self._live = (
            Live(get_renderable=self._all, console=err, refresh_per_second=8) if err.is_terminal else None
        )

    def _all(self) -> Group:
        return Group(*(view.shown for view in self._views))

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for view in self._views:
            if isinstance(view, StagingView):
                view.finish()
        if self._live is not None:
            self._live.stop()


def summary_of_bytes(size_bytes: int, wall_s: float) -> str:
    """Return ``98.3 MB in 8.1 s (12.1 MB/s)``."""
    rate = f" ({size(size_bytes / wall_s)}/s)" if wall_s > 0 and size_bytes else ""
    return f"{size(size_bytes)} in {duration(wall_s)}{rate}"
