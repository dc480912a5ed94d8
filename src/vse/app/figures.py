"""What a site tells of its upstreams in figures: for Prometheus, and for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vse.catalogue.upstream_states import UpstreamState
from vse.model.words import counted
from vse.monitor.metrics import Family, Sample

_COUNTERS: tuple[tuple[str, str, Callable[[UpstreamState], float]], ...] = (
    ("hits", "Names and finds answered without asking the upstream.", lambda state: state.hits),
    ("misses", "Names and finds asked of the upstream.", lambda state: state.misses),
    ("stale", "Of the hits and misses, those served beyond their time.", lambda state: state.stale),
    ("queries", "Calls to the upstream.", lambda state: state.queries),
    ("failed_queries", "Calls that the upstream did not answer.", lambda state: state.failed),
    ("waited_seconds", "Time spent in calls to the upstream.", lambda state: state.waited_s),
)


def upstream_figures(states: Sequence[UpstreamState]) -> list[Family]:
    """Return the counts of upstreams over the life of the site, and whether each answers."""
    families = [
        Family(
            f"vse_upstream_{name}",
            text,
            "counter",
            ("upstream",),
            [Sample((state.name,), value(state)) for state in states],
        )
        for name, text, value in _COUNTERS
    ]
    up = [Sample((state.name,), float(not state.failures)) for state in states]
    text = "Whether the last call to the upstream was answered."
    return [*families, Family("vse_upstream_up", text, "gauge", ("upstream",), up)]


def upstream_summary(state: UpstreamState, now_s: float) -> str:
    """Return one line about an upstream for people; empty where nothing was ever asked."""
    if state.hit_rate is None:
        return ""
    words = [
        f"{100 * state.hit_rate:.1f} % of {state.hits + state.misses} answered here",
        f"{counted(state.queries, 'query', 'queries')} took {state.waited_s:.1f} s",
    ]
    if state.stale:
        words.append(f"{state.stale} served beyond their time")
    if state.failures and state.error is not None:
        left_s = state.not_before_s - now_s
        pause = f", asked again in {left_s:.0f} s" if left_s > 0 else ""
        words.append(f"failing ({state.error.found}{pause})")
    return "; ".join(words)
