"""The one-page report of an analysis: an HTML file that stands on its own."""

from __future__ import annotations

import base64
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from vse.analysis.fit import PeakFit
from vse.analysis.plots import with_error
from vse.analysis.report_effort import ideal_s, short_name
from vse.analysis.result import AnalysisResult, Progress

_VERSIONS = (
    "virtual-storage-element",
    "uproot",
    "awkward",
    "hist",
    "distributed",
    "numpy",
    "iminuit",
    "coffea",
)
_MAX_FILES = 200
_MAX_WORKERS = 50
_MAX_REASONS = 100
_MAX_PLACES = 200


@dataclass(frozen=True, slots=True)
class Table:
    """A table for the report: cold and warm times, say. Cells are shown as they are."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class ReportContent:
    """All that the page tells.

    ``plots``: PNG or SVG files, in order; ``fits`` as `vse.analysis.output.find_fits` gives them;
    ``tables``: extra tables shown after the plots; ``timings`` in seconds, by step; ``notes``: sentences.
    """

    title: str
    site: str
    result: AnalysisResult
    command: str = ""
    plots: Sequence[Path] = ()
    fits: dict[str, PeakFit] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    timings: dict[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    made: datetime | None = None


@dataclass(slots=True)
class LeftOut:
    """All that is not in a result for one reason: which, how much of it, and of how many files."""

    reason: str
    what: str = ""
    places: list[str] = field(default_factory=list)
    lfns: set[str] = field(default_factory=set)
    entries: int = 0
    traceback: str = ""

    @property
    def amount(self) -> str:
        """``1,250 entries of 3 files``; of whole files ``2 files: did not come``."""
        files = "1 file" if len(self.lfns) == 1 else f"{len(self.lfns):,} files"
        if self.what:
            return f"{files}: {self.what}"
        return f"1 entry of {files}" if self.entries == 1 else f"{self.entries:,} entries of {files}"


def left_out(result: AnalysisResult | Progress) -> list[LeftOut]:
    """Return what is not in the result by its reason: files that did not come, broken ones, entries."""
    found: dict[tuple[str, str], LeftOut] = {}
    for what, files in (("did not come", result.missing), ("cannot be read", result.broken)):
        for lfn, reason in files:
            one = found.setdefault((what, reason), LeftOut(reason, what))
            one.places.append(lfn)
            one.lfns.add(lfn)
    for item in result.failed:
        reason = item.failure.message
        one = found.setdefault(("", reason), LeftOut(reason, traceback=item.failure.traceback))
        one.places.append(place_text(item.lfn, item.start, item.stop))
        one.lfns.add(item.lfn)
        one.entries += item.entries
    return [*found.values()]


def place_text(lfn: str, start: int, stop: int) -> str:
    """``/lhc/a.root, entry 7``, or ``/lhc/a.root, entries 1,000 to 1,999``."""
    return f"{lfn}, entry {start:,}" if stop - start == 1 else f"{lfn}, entries {start:,} to {stop - 1:,}"


def write_report(path: Path, content: ReportContent) -> Path:
    """Write the report to ``path`` in one step: images and style inside, no link to anything else."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vse.analysis", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": size_text,
        "seconds": seconds_text,
        "count": "{:,}".format,
        "place": short_name,
    }
    reasons = left_out(content.result)
    workers = sorted(content.result.efforts, key=lambda worker: (not worker.drained, -worker.entries))
    page = environment.get_template("report.html").render(
        content=content,
        result=content.result,
        made=(content.made or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
        images=[_inline(plot) for plot in content.plots],
        fits=[_fit_row(name, fit) for name, fit in content.fits.items()],
        files=content.result.files[:_MAX_FILES],
        more_files=max(0, len(content.result.files) - _MAX_FILES),
        left_out=reasons[:_MAX_REASONS],
        more_reasons=max(0, len(reasons) - _MAX_REASONS),
        most_places=_MAX_PLACES,
        workers=workers[:_MAX_WORKERS],
        more_workers=max(0, len(workers) - _MAX_WORKERS),
        ideal_s=ideal_s(workers, content.result.wall_s),
        versions=_versions(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path


def size_text(size_bytes: float) -> str:
    """``2.4 MB``: decimal units, as disks and networks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def seconds_text(seconds: float) -> str:
    """``12:43`` for minutes and seconds, ``6.6 s`` below one minute."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _inline(plot: Path) -> dict[str, str]:
    kind = "svg+xml" if plot.suffix == ".svg" else "png"
    data = base64.b64encode(plot.read_bytes()).decode("ascii")
    return {"name": plot.stem, "source": f"data:image/{kind};base64,{data}"}


def _fit_row(name: str, fit: PeakFit) -> dict[str, Any]:
    unit, scale = ("MeV", 1e3) if fit.width < 0.2 else ("GeV", 1.0)
    return {
        "histogram": name,
        "resonance": fit.resonance.name,
        "mass": with_error(fit.mass, fit.mass_error, "±") + " GeV",
        "pdg": f"{fit.resonance.mass:g} GeV",
        "width": with_error(fit.width * scale, fit.width_error * scale, "±") + f" {unit}",
        "signal": f"{fit.signal:,.0f} ± {fit.signal_error:,.0f}",
        "chi2": f"{fit.chi2:.0f} / {fit.ndf}",
    }


def _versions() -> dict[str, str]:
    versions = {"Python": platform.python_version()}
    for name in _VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
