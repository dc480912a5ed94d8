"""What an analysis gives, and what it tells on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vse.analysis.ledger import FailedRange
from vse.analysis.report_effort import Origin, WorkerResult, efficiency, origins

SLOWEST = 10


class FileResult(NamedTuple):
    """One file that was analysed. ``entries`` is None where it could not be opened.

    ``wall_s``: the time that workers were in its packets.
    """

    lfn: str
    url: str
    source: str
    size_bytes: int
    entries: int | None
    entries_done: int
    entries_failed: int
    read_bytes: int
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class AnalysisResult:
    """The merged output and the books: what is in it, and what is not and why.

    ``output``: what the script's functions returned, added up (None where no entry was processed).
    ``broken``: files that could not be read; ``missing``: files that never came; both (lfn, reason).
    """

    script: str
    dataset: str
    output: Any
    entries_processed: int
    files: list[FileResult]
    failed: list[FailedRange]
    broken: list[tuple[str, str]]
    missing: list[tuple[str, str]]
    read_bytes: int
    wall_s: float
    workers: int
    packets: int
    workers_lost: int
    entries_by_worker: dict[str, int] = field(default_factory=dict)
    efforts: list[WorkerResult] = field(default_factory=list)
    drained: list[tuple[str, str]] = field(default_factory=list)
    """Workers that got nothing more, as everything failed on them, each with its last reason."""
    entries_resumed: int = 0
    """Entries that a checkpoint of an earlier run brought; they are among those processed."""
    too_big: str = ""
    """Where the output became larger than allowed: how large, and which part. What came after is failed."""

    checkpoint: Path | None = None
    """A file that has the output until it is kept elsewhere; it is then to be removed if this is complete."""

    @property
    def efficiency(self) -> float | None:
        """Ideal time (the work over the workers' rates, as they came) over measured time; None: not known."""
        return efficiency(self.efforts, self.wall_s)

    @property
    def origins(self) -> list[Origin]:
        """What was read from where, the largest part first."""
        return origins((one.source, one.url, one.entries_done, one.read_bytes) for one in self.files)

    @property
    def slowest(self) -> list[FileResult]:
        """The files that took longest, the slowest first."""
        timed = [one for one in self.files if one.wall_s > 0]
        return sorted(timed, key=lambda one: -one.wall_s)[:SLOWEST]

    @property
    def complete(self) -> bool:
        return not (self.failed or self.broken or self.missing)

    @property
    def entries_failed(self) -> int:
        return sum(item.entries for item in self.failed)

    @property
    def rate(self) -> float:
        """Entries a second."""
        return self.entries_processed / self.wall_s if self.wall_s > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the output, as JSON."""
        return {
            "script": self.script,
            "dataset": self.dataset,
            "complete": self.complete,
            "entries_processed": self.entries_processed,
            "entries_failed": self.entries_failed,
            "files": [item._asdict() for item in self.files],
            "failed": [
                {
                    "lfn": item.lfn,
                    "start": item.start,
                    "stop": item.stop,
                    "error": item.failure.message,
                    "traceback": item.failure.traceback,
                }
                for item in self.failed
            ],
            "broken": [{"lfn": lfn, "error": error} for lfn, error in self.broken],
            "missing": [{"lfn": lfn, "error": error} for lfn, error in self.missing],
            "read_bytes": self.read_bytes,
            "wall_s": self.wall_s,
            "entries_per_s": self.rate,
            "workers": self.workers,
            "workers_lost": self.workers_lost,
            "packets": self.packets,
            "entries_by_worker": self.entries_by_worker,
            "drained": [{"worker": worker, "error": error} for worker, error in self.drained],
            "entries_resumed": self.entries_resumed,
            "too_big": self.too_big,
            "efficiency": self.efficiency,
            "read_from": [item._asdict() for item in self.origins],
            "slowest": [item.lfn for item in self.slowest],
            "worker_efforts": [item._asdict() for item in self.efforts],
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of an analysis.

    ``output`` is the sum of ``entries_merged`` entries, as it was collected last: look at it, do not keep
    or change it. What workers have done since is counted in ``entries_done``.

    ``eta_s`` is None while nothing can be said: no rate yet, or files still to come.
    """

    entries_done: int
    entries_failed: int
    entries_expected: int
    files: int
    files_done: int
    more_files: bool
    read_bytes: int
    elapsed_s: float
    rate: float
    eta_s: float | None
    workers: dict[str, int]
    output: Any
    entries_merged: int = 0
    efforts: tuple[WorkerResult, ...] = ()
    paused: bool = False
    stopping: bool = False
    failed: Sequence[FailedRange] = ()
    broken: Sequence[tuple[str, str]] = ()
    missing: Sequence[tuple[str, str]] = ()
    hanging: Sequence[FailedRange] = ()
    """Entries on some of which the script hangs, while it is sought on which."""
