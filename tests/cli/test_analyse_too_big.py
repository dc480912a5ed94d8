"""An output that does not fit, from the command line: what is said, the exit code, and what is on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command_line import Answer, Command, register_numbers

pytestmark = pytest.mark.slow

FILES, ENTRIES = 24, 500
KEEPS = """
import time
branches = ["x"]
def process(events):
    time.sleep(1e-3 * len(events))
    return {"n": len(events), "all": events.x}
"""
NO_MEMORY = """
import multiprocessing
class Sum:
    def __init__(self, n):
        self.n = n
    def __add__(self, other):
        if multiprocessing.parent_process() is None:
            raise MemoryError
        return Sum(self.n + other.n)
def process(events):
    return {"sum": Sum(len(events))}
"""


@pytest.fixture
def site(vse: Command, tmp_path: Path) -> Command:
    register_numbers(vse, tmp_path, FILES, ENTRIES)
    return vse


def analyse(site: Command, text: str, *more: str, most_bytes: int = 10**9) -> Answer:
    """Analyse in packets of a tenth of a second, so that there are many."""
    (site.directory / "script.py").write_text(text)
    settings = ("--set", f"analysis.max_output_bytes={most_bytes}", "--set", "analysis.packet_target_s=0.1")
    return site(*settings, "analyse", "script.py", "/lhc", "--local", "2", *more)


def test_what_was_added_is_written_and_the_rest_follows_with_more_memory(site: Command) -> None:
    done = analyse(site, KEEPS, "--json", most_bytes=40_000)
    assert done.code == 11
    assert "cannot merge all that script.py gives: it takes 0 MB and 0 MB are allowed" in done.err
    assert "the largest part is the output['all'] with 0 MB" in done.err
    assert "Make it smaller (fewer bins, no lists of entries)" in done.err
    assert "analysis.max_output_bytes" in done.err
    assert "Traceback" not in done.err
    answer = json.loads(done.out)
    there = answer["entries_processed"]
    assert 0 < there < FILES * ENTRIES
    assert not answer["complete"]
    assert answer["too_big"].startswith("it takes 0 MB")
    left_out = {
        (item["lfn"], entry) for item in answer["failed"] for entry in range(item["start"], item["stop"])
    }
    left_out |= {(item["lfn"], entry) for item in answer["broken"] for entry in range(ENTRIES)}
    assert there + len(left_out) == FILES * ENTRIES
    result = json.loads((site.directory / "results/result.json").read_text())
    assert (result["output"]["n"], result["too_big"]) == (there, answer["too_big"])
    assert "--resume results/checkpoint" in done.err
    whole = analyse(site, KEEPS, "--json", "--resume", "results/checkpoint")
    assert whole.code == 0, whole.err
    answer = json.loads(whole.out)
    assert (answer["complete"], answer["entries_resumed"]) == (True, there)
    assert answer["entries_processed"] == FILES * ENTRIES


def test_where_nothing_fits_there_is_no_result(site: Command) -> None:
    done = analyse(site, KEEPS, most_bytes=100)
    assert done.code == 11
    assert "cannot merge what script.py gives: it takes 0 MB and 0 MB are allowed" in done.err
    assert "Traceback" not in done.err
    assert not (site.directory / "results/result.json").exists()


def test_no_memory_to_add_it_up_here_is_said_in_a_line(site: Command) -> None:
    done = analyse(site, NO_MEMORY)
    assert done.code == 11
    assert "cannot merge what script.py gives: there is no memory left to add it up" in done.err
    assert "analysis.max_output_bytes" in done.err
    assert "Traceback" not in done.err
    assert not (site.directory / "results/result.json").exists()
