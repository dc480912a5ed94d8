"""Which files make room, which are kept and why, and which are copied because they are read often. Pure.

Seed 001 asks for a pool that "removes the least recently used files" by itself; what must never go is told
by others (`vse.staging.protection`), what goes is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from vse.config.pools import PoolSettings
from vse.errors import BadSettings
from vse.model import Lfn
from vse.model.sizes import show_bytes


class Fill(NamedTuple):
    """How full a pool is. ``used_bytes`` counts what is reserved for files on their way, too."""

    total_bytes: int
    used_bytes: int


class Watermarks(NamedTuple):
    """Fractions of the size of a pool: above ``high`` files go, until it is at ``low`` or below.

    Raises `BadSettings` from `checked` where they are not 0 <= low < high <= 1.
    """

    high: float
    low: float

    @classmethod
    def of(cls, settings: PoolSettings) -> Watermarks:
        return cls(settings.high, settings.low).checked()

    def checked(self) -> Watermarks:
        if not 0 <= self.low < self.high <= 1:
            raise BadSettings(
                "keep a pool between its watermarks",
                f"high is {self.high}, low is {self.low}",
                "write fractions of its size, low below high: high = 0.9, low = 0.8",
            )
        return self


class Candidate(NamedTuple):
    """A file that a pool holds. ``accessed_s``: when it was read last, or came (Unix seconds)."""

    lfn: Lfn
    size_bytes: int
    accessed_s: float
    owner: str = ""
    group: str = ""
    dataset: str = ""
    reads: int = 0


class Eviction(NamedTuple):
    """A file that goes, and the reason for people."""

    file: Candidate
    reason: str


class EvictionPlan(NamedTuple):
    """What goes and what was passed over, in the order of the last access.

    ``short_bytes``: what is still to be freed when all of ``evictions`` have gone.
    """

    evictions: tuple[Eviction, ...]
    kept: tuple[Eviction, ...]
    short_bytes: int


def bytes_to_free(fill: Fill, marks: Watermarks, need_bytes: int = 0) -> int:
    """Return how much must go so that ``need_bytes`` more fit below the high watermark; then down to low."""
    high, low = (int(fill.total_bytes * mark) for mark in marks.checked())
    if fill.used_bytes + need_bytes <= high:
        return 0
    return max(0, min(fill.used_bytes, fill.used_bytes + need_bytes - low))


def plan_eviction(
    goal_bytes: int,
    candidates: Iterable[Candidate],
    protected: Mapping[Lfn, str],
    now_s: float,
    because: str,
) -> EvictionPlan:
    """Return which candidates go to free ``goal_bytes``: the oldest access first, by name where equal.

    ``protected`` gives the reason of each that must stay. A last access after ``now_s`` (a clock was set
    back) counts as now. ``because`` begins every reason. No more go than are needed: taking the last
    eviction away would leave the goal unmet.
    """
    left = goal_bytes
    evictions: list[Eviction] = []
    kept: list[Eviction] = []
    for one in sorted(candidates, key=lambda one: (min(one.accessed_s, now_s), one.lfn)):
        if left <= 0:
            break
        if one.lfn in protected:
            kept.append(Eviction(one, protected[one.lfn]))
            continue
        evictions.append(Eviction(one, f"{because}; {_last_read(one)}, the oldest that could go"))
        left -= one.size_bytes
    return EvictionPlan(tuple(evictions), tuple(kept), max(0, left))


def _last_read(one: Candidate) -> str:
    when = _moment(one.accessed_s)
    return f"last read {when}" if one.reads else f"never read since it came {when}"


def _moment(when_s: float) -> str:
    return datetime.fromtimestamp(when_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def why_full(element: str, fill: Fill, marks: Watermarks, need_bytes: int) -> str:
    """Return in words why a pool makes room."""
    total, used = show_bytes(fill.total_bytes), show_bytes(fill.used_bytes)
    asked = f", {show_bytes(need_bytes)} more were needed" if need_bytes else ""
    return f"{element} was filled to {used} of {total}{asked} (high watermark {marks.high:.0%})"


# -- replication -------------------------------------------------------------------------------------


class Popular(NamedTuple):
    """A file, how often it was read lately, and at which storage elements it is, or will be."""

    lfn: Lfn
    size_bytes: int
    reads: int
    places: frozenset[str]


class ReplicationPlan(NamedTuple):
    """Which files go to which storage element, the most read first; those the budget left out."""

    copies: tuple[tuple[Popular, str], ...]
    left_out: tuple[tuple[Popular, str], ...]


def plan_replication(
    popular: Sequence[Popular],
    destinations: Sequence[str],
    at_least_reads: int,
    budget_bytes: int,
) -> ReplicationPlan:
    """Return the copies to ask for: of files read often enough, at each destination that lacks one.

    The most read come first, by name where equal; one that the budget has no room for is left out, and
    smaller ones behind it may still fit.
    """
    copies: list[tuple[Popular, str]] = []
    left_out: list[tuple[Popular, str]] = []
    left = budget_bytes
    for one in sorted(popular, key=lambda one: (-one.reads, one.lfn)):
        for place in destinations:
            if one.reads < at_least_reads or place in one.places:
                continue
            if one.size_bytes > left:
                left_out.append((one, place))
                continue
            left -= one.size_bytes
            copies.append((one, place))
    return ReplicationPlan(tuple(copies), tuple(left_out))
