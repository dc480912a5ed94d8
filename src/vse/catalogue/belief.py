"""How long an answer is believed, how long an upstream that failed is left alone, and what is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from vse.catalogue.answers import Conflict
from vse.errors import VseError

FRESH_S = 86400.0
NEGATIVE_FRESH_S = 300.0
MOST_CONFLICTS = 100


class Pauses(Protocol):
    """How long an upstream that failed is left alone; `vse.config.settings.UpstreamSettings` is one."""

    @property
    def backoff_s(self) -> float: ...

    @property
    def backoff_max_s(self) -> float: ...


class Expiry(Pauses, Protocol):
    """How the answers of an upstream are believed; `vse.config.settings.UpstreamSettings` is one."""

    @property
    def fresh_s(self) -> float: ...

    @property
    def negative_fresh_s(self) -> float: ...

    @property
    def stale_s(self) -> float: ...

    @property
    def offline(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Believed:
    """An `Expiry` by itself: nothing is served beyond its time, and one that failed is asked again."""

    fresh_s: float = FRESH_S
    negative_fresh_s: float = NEGATIVE_FRESH_S
    stale_s: float = 0.0
    backoff_s: float = 0.0
    backoff_max_s: float = 0.0
    offline: bool = False


class Standing(Enum):
    """What may be done with an answer at a time."""

    FRESH = "believed"
    STALE = "served at once, while the upstream is asked behind it"
    DUE = "the upstream is asked first"


def standing(expires_s: float | None, now_s: float, stale_s: float) -> Standing:
    """Return how an answer that is believed until ``expires_s`` (None: there is none) stands."""
    if expires_s is None or expires_s + stale_s <= now_s:
        return Standing.DUE
    return Standing.FRESH if expires_s > now_s else Standing.STALE


def pause_s(failures: int, pauses: Pauses) -> float:
    """Return how long an upstream that failed ``failures`` times in a row is left alone."""
    if not failures or not pauses.backoff_s:
        return 0.0
    doubled: float = pauses.backoff_s * 2.0 ** min(failures - 1, 60)
    return min(doubled, max(pauses.backoff_max_s, pauses.backoff_s))


@dataclass(slots=True)
class LookupReport:
    """How one call was answered.

    ``asked``: upstreams that were asked, in order. ``queries`` and ``waited_s``: what that took.
    ``failed``: upstreams that were due and did not answer, and why; what is served of theirs is what
    they told before. ``offline``: those of them that are not asked at all. ``refreshing``: the answer
    is older than it is believed, is within what the settings allow, and is asked for anew behind it.
    ``conflicts``: names of which an upstream tells something else than is held here, at most
    `MOST_CONFLICTS` of the ``conflict_count``.
    """

    asked: list[str] = field(default_factory=list)
    queries: int = 0
    waited_s: float = 0.0
    failed: dict[str, VseError] = field(default_factory=dict)
    offline: list[str] = field(default_factory=list)
    refreshing: bool = False
    conflicts: list[Conflict] = field(default_factory=list)
    conflict_count: int = 0

    @property
    def stale(self) -> bool:
        """Whether the answer may be older than the settings allow."""
        return bool(self.failed)

    def note_conflicts(self, conflicts: Sequence[Conflict]) -> None:
        self.conflict_count += len(conflicts)
        self.conflicts.extend(conflicts[: MOST_CONFLICTS - len(self.conflicts)])
