"""What this process takes of its machine: memory and time (seed 002 §4.3.5.2, §4.3.5.3)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """Memory in bytes; times in seconds: since the process began, and since the figures before."""

    resident_bytes: int
    virtual_bytes: int
    wall_s: float
    user_s: float
    system_s: float
    delta_wall_s: float = 0.0
    delta_user_s: float = 0.0
    delta_system_s: float = 0.0

    @property
    def processor_percent(self) -> float:
        """Processor time of the whole life, in percent of it."""
        return _percent(self.user_s + self.system_s, self.wall_s)

    @property
    def delta_processor_percent(self) -> float:
        return _percent(self.delta_user_s + self.delta_system_s, self.delta_wall_s)


def began_s() -> float:
    """Return when this process began, of the monotonic clock: what it took before its first line counts."""
    fields = Path("/proc/self/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    lived_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - lived_s


def look(began_s: float, before: ProcessFigures | None = None) -> ProcessFigures:
    """Return the figures of now; ``began_s`` of the monotonic clock is when the process began."""
    virtual, resident = (int(word) for word in Path("/proc/self/statm").read_text("ascii").split()[:2])
    times, wall_s = os.times(), time.monotonic() - began_s
    last = before or ProcessFigures(0, 0, 0.0, 0.0, 0.0)
    return ProcessFigures(
        resident * _PAGE_BYTES,
        virtual * _PAGE_BYTES,
        wall_s,
        times.user,
        times.system,
        wall_s - last.wall_s,
        times.user - last.user_s,
        times.system - last.system_s,
    )


def resident_bytes() -> int:
    return look(time.monotonic()).resident_bytes


def _percent(part_s: float, whole_s: float) -> float:
    return 100.0 * part_s / whole_s if whole_s > 0 else 0.0
