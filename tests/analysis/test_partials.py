"""Partial results: the first comes soon, and a scheduler keeps nothing of the tasks that brought them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.analysis_site import ZMUMU, input_file, needs_data
from vse.analysis.engine import AnalysisOptions, Feed, analyse
from vse.analysis.result import Progress
from vse.analysis.script import Script

pytestmark = [pytest.mark.slow, needs_data]
SLOW = """
import time


def process(events):
    time.sleep(0.1)
    return {"entries": len(events)}
"""


def notes_of_submissions(dask_scheduler: Any) -> int:
    spans = dask_scheduler.extensions["spans"].spans.values()
    return sum(len((span.metadata or {}).get("collections", ())) for span in spans)


def test_the_first_partial_result_does_not_wait_for_its_turn(
    client: Any, write_script: Callable[[str], Script]
) -> None:
    seen: list[int] = []

    def look(output: Any, progress: Progress) -> None:
        assert output["entries"] == progress.entries_merged
        seen.append(output["entries"])

    files = [input_file(path, 2304) for path in ZMUMU]
    options = AnalysisOptions(packet_entries=300, partial_every_s=1000.0)
    result = analyse(write_script(SLOW), Feed(files, closed=True), client, options, on_partial=look)
    assert result.output["entries"] == 2304 * len(files)
    assert seen, "nothing was to be seen before the end"
    assert 0 < seen[0] < 2304 * len(files)
    assert client.run_on_scheduler(notes_of_submissions) == 0
