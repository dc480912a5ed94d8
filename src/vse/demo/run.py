"""The demo, step by step: two sites, one dataset, the same analysis twice. It shows nothing by itself."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from vse.analysis.cluster import LocalWorkers, start_local
from vse.analysis.engine import AnalysisOptions, OnProgress
from vse.analysis.output import find_fits
from vse.analysis.plots import with_error
from vse.analysis.report import Table
from vse.analysis.result import AnalysisResult
from vse.analysis.script import Script, load_script
from vse.app.analyse import Dataset, analyse_dataset, keep_results, locate
from vse.app.init import init_site
from vse.app.site import Site
from vse.catalogue.lookup import LookupReport
from vse.demo import remote
from vse.demo.remote import RemoteProcess, WideAreaLink
from vse.model import FindQuery
from vse.staging.values import FileStaged, News

SCRIPT = "dimuon.py"


@dataclass(frozen=True, slots=True)
class Pass:
    """One time through: seconds in all, seconds and bytes of staging, and the result."""

    wall_s: float
    staging_s: float
    staged_bytes: int
    result: AnalysisResult


class Demo:
    """Holds the workers and the remote process; ends them with the ``with`` block."""

    def __init__(self, directory: Path, link: WideAreaLink, workers: int) -> None:
        self.remote_directory = directory / "remote"
        self.site_directory = directory / "site"
        self.results_directory = directory / "results"
        self.link = link
        self.remote_files = 0
        self.remote_bytes = 0
        self.found_files = 0
        self.lookup_report = LookupReport()
        self._workers_count = workers
        self._stack = ExitStack()
        self._started_s = 0.0

    def __enter__(self) -> Self:
        self._workers: LocalWorkers = self._stack.enter_context(start_local(self._workers_count))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def make_remote(
        self, data: Path | None, files: int, events: int, seed: int, note: Callable[[], None]
    ) -> None:
        """Fill the remote site with ``data`` or generated files, and start its door."""
        remote.make_remote(self.remote_directory)
        if data is None:
            base = remote.generate(self.remote_directory, files, events, seed, note)
        else:
            base = remote.take_in(self.remote_directory, data)
        self.query = FindQuery(base=base, pattern="*.root")
        stored = remote.register_all(self.remote_directory, base)
        self.remote_files, self.remote_bytes = len(stored), sum(stored.values())
        self.example_lfn = min(stored)
        self._stack.enter_context(RemoteProcess(self.remote_directory, self.link))

    def make_local(self) -> None:
        """Make the local site, which knows the remote one as its upstream and as a storage element."""
        loaded = init_site(self.site_directory, name="demo", remote=remote.as_remote(self.remote_directory))
        script = self.site_directory / SCRIPT
        shutil.copyfile(Path(__file__).with_name(SCRIPT), script)
        self.script: Script = load_script(script)
        self.site: Site = self._stack.enter_context(Site.open(loaded))

    def wait_for_workers(self) -> None:
        """Their start is not part of what is measured: a facility's workers are there."""
        _ = self._workers.client

    def begin(self) -> Dataset:
        """Start the watch and find the dataset."""
        self._started_s = time.monotonic()
        dataset, self.lookup_report = locate(self.site, self.query)
        self.found_files = len(dataset.here) + len(dataset.missing)
        return dataset

    def finish(self, dataset: Dataset, on_progress: OnProgress, on_news: Callable[[News], None]) -> Pass:
        """Analyse the dataset, staging what is missing; stop the watch."""
        staged_bytes, last_s = 0, self._started_s

        def hear(news: News) -> None:
            nonlocal staged_bytes, last_s
            if isinstance(news, FileStaged):
                staged_bytes += news.size_bytes
                last_s = time.monotonic()
            on_news(news)

        result = analyse_dataset(
            self.site,
            dataset,
            self.script,
            self._workers.client,
            AnalysisOptions(dataset=str(self.query)),
            on_progress=on_progress,
            on_news=hear,
        )
        return Pass(time.monotonic() - self._started_s, last_s - self._started_s, staged_bytes, result)

    def save(self, cold: Pass, warm: Pass) -> list[Path]:
        """Write the results and the report with both times; return the paths, the report first."""
        ratio = f"{cold.wall_s / max(warm.wall_s, 1e-9):.1f}"
        rows = [
            ("this demo", f"{cold.wall_s:.1f} s", f"{warm.wall_s:.1f} s", ratio),
            ("seed, Table 4.1 (Torino 2014)", "12:43", "1:06", "12"),
        ]
        caption = (
            "Times with the catalogue and the staging, without the start of the workers. A catalogue query "
            f"takes {self.link.query_latency_s * 1000:.0f} ms and the line carries "
            f"{self.link.bandwidth_bytes_per_s / 2**20:.1f} MiB/s: an artificial distance, the rest is real."
        )
        return keep_results(
            self.site,
            warm.result,
            self.script,
            self.results_directory,
            tables=[Table("First and second time", ("", "empty cache", "cached", "ratio"), rows, caption)],
            timings={
                "find, stage and analyse (empty cache)": cold.wall_s,
                "the same again (cached)": warm.wall_s,
            },
        )

    def fit_lines(self, result: AnalysisResult) -> list[str]:
        """Return each fitted peak as a sentence."""
        return [
            f"{fit.resonance.name}: mass {with_error(fit.mass, fit.mass_error, '±')} GeV "
            f"(PDG {fit.resonance.mass:.5g}), {fit.signal:,.0f} ± {fit.signal_error:,.0f} decays"
            for fit in find_fits(result.output).values()
        ]
