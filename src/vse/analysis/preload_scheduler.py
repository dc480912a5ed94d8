"""What a scheduler of ours does first: it stops Dask from keeping half a kilobyte for every task ever sent.

Dask notes of what kind each submission is in the span it belongs to, which is kept as long as the scheduler
lives. Nobody reads it here, and a facility runs for weeks.
"""

from __future__ import annotations

from typing import Any


def dask_setup(scheduler: Any) -> None:
    """Called by dask in each new scheduler."""
    spans = scheduler.extensions.get("spans")
    if spans is None:
        return
    observe = spans.observe_tasks

    def observe_tasks(tasks: Any, code: Any, span_metadata: object) -> Any:
        return observe(tasks, code, {})

    spans.observe_tasks = observe_tasks
