"""How long work that is queued takes, as a flow through slots. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Work:
    """Seconds of slots that a source needs for files of one priority, and how many it may have."""

    priority: int
    left_s: float
    slots: float
    source_se: str = ""


def drain_s(works: Sequence[Work], mine: str, slots: float) -> float:
    """Return how long it takes until the source ``mine`` has no work left, as a flow through ``slots``."""
    left = [one for one in works if one.left_s > 1e-9]
    now_s = 0.0
    while any(one.source_se == mine for one in left):
        given = _allot(left, slots)
        step_s = min(one.left_s / had for one, had in zip(left, given, strict=True) if had > 0)
        for one, had in zip(left, given, strict=True):
            one.left_s -= had * step_s
        now_s += step_s
        left = [one for one in left if one.left_s > 1e-9]
    return now_s


def _allot(works: Sequence[Work], slots: float) -> list[float]:
    """Share slots out: better priorities first, within one as there is work, to each source what it may."""
    given = [0.0] * len(works)
    by_source: dict[str, float] = {}
    for priority in sorted({one.priority for one in works}):
        some = [n for n, one in enumerate(works) if one.priority == priority]
        while some and slots > 1e-9:
            total_s = sum(works[n].left_s for n in some)
            caps = {n: max(0.0, works[n].slots - by_source.get(works[n].source_se, 0.0)) for n in some}
            full = [n for n in some if slots * works[n].left_s / total_s >= caps[n]]
            for n in full or some:
                given[n] = caps[n] if full else slots * works[n].left_s / total_s
            for n in full or some:
                name = works[n].source_se
                by_source[name] = by_source.get(name, 0.0) + given[n]
            slots -= sum(given[n] for n in full or some)
            some = [n for n in some if n not in full] if full else []
    return given
