"""An output that becomes too big: what was added until then is kept, and it is said what is not in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from support.analysis_site import input_file
from vse.analysis.checkpoint import Checkpoint
from vse.analysis.endings import ended_as_too_big
from vse.analysis.engine import AnalysisOptions, Feed, analyse
from vse.analysis.result import AnalysisResult
from vse.analysis.script import Script

pytestmark = pytest.mark.slow
Write = Callable[[str], Script]

FILES, ENTRIES = 6, 2000
GROWS = """
import time
def process(events):
    time.sleep(0.02)
    return {"n": len(events), "all": events.x}
"""


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = []
    for number in range(FILES):
        found.append(tmp_path / f"{number}.root")
        with uproot.recreate(found[-1]) as file:
            file["events"] = {"x": np.arange(number * ENTRIES, (number + 1) * ENTRIES)}
    return found


def left_out(result: AnalysisResult) -> set[int]:
    """The numbers that the result says it does not have."""
    numbers = {file.lfn: int(Path(file.url).stem) for file in result.files}
    out = {
        numbers[item.lfn] * ENTRIES + entry
        for item in result.failed
        for entry in range(item.start, item.stop)
    }
    for lfn, _ in result.broken:
        out |= set(range(numbers[lfn] * ENTRIES, (numbers[lfn] + 1) * ENTRIES))
    return out


@pytest.mark.parametrize("known", [True, False])
def test_what_is_there_is_kept_and_the_rest_can_follow(
    client: Any, write_script: Write, paths: list[Path], tmp_path: Path, known: bool
) -> None:
    script, checkpoint = write_script(GROWS), tmp_path / "it.checkpoint"

    def go(most_bytes: int) -> AnalysisResult:
        feed = Feed([input_file(path, ENTRIES if known else None) for path in paths], closed=True)
        options = AnalysisOptions(
            packet_entries=100, partial_every_s=0.05, progress_every_s=0.02, max_output_bytes=most_bytes
        )
        return analyse(script, feed, client, options, checkpoint=checkpoint)

    result = go(40_000)
    assert result.too_big.startswith(
        "it takes 0 MB and 0 MB are allowed; the largest part is the output['all']"
    )
    assert not result.complete
    there = result.output["all"].to_list()
    assert len(there) == len(set(there)) == result.output["n"] == result.entries_processed > 0
    assert set(there) == set(range(FILES * ENTRIES)) - left_out(result)
    assert {file.entries_done + file.entries_failed for file in result.files} <= {ENTRIES, 0}
    told = rf"all that my_script.py gives: it takes .*; it has {len(there):,} entries, .*max_output_bytes"
    assert re.search(told, str(ended_as_too_big(result)))
    kept = Checkpoint.at(checkpoint, script.source)
    assert (kept.entries, kept.output["n"]) == (len(there), len(there))
    whole = go(10**9)
    assert whole.complete
    assert sorted(whole.output["all"].to_list()) == list(range(FILES * ENTRIES))
    assert whole.entries_resumed == len(there)
