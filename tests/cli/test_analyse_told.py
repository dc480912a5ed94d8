"""What an analysis tells people: while its workers start, of what is left out, and when its disk is full."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from servers.disk import small_disk
from support.command_line import Command, InProcess, clean_environment, register_numbers

pytestmark = pytest.mark.slow

FILES, ENTRIES = 12, 500
SOME_FAIL = """
branches = ["x"]
def process(events):
    if any(x % 500 == 7 for x in events.x):
        raise ValueError("an odd one")
    return {"n": len(events)}
"""
GROWS = """
import time
branches = ["x"]
def process(events):
    time.sleep(4e-3 * len(events))
    return {"all": events.x}
"""


@pytest.fixture
def site(vse: Command, tmp_path: Path) -> Command:
    register_numbers(InProcess(vse.directory), tmp_path, FILES, ENTRIES)
    return vse


def on_a_terminal(directory: Path, *words: str) -> str:
    """Run ``vse`` on a terminal; return all it shows, in order."""
    inside, outside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "vse.cli", *words],
        cwd=directory, env=clean_environment() | {"TERM": "xterm"},
        stdin=outside, stdout=outside, stderr=outside,
    )  # fmt: skip
    os.close(outside)
    shown = b""
    try:
        while some := os.read(inside, 65536):
            shown += some
    except OSError:  # all who could write have ended
        pass
    os.close(inside)
    assert process.wait(60) == 0, shown
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


def test_the_start_is_shown_and_taken_away_and_one_reason_is_told_once(site: Command) -> None:
    (site.directory / "script.py").write_text(SOME_FAIL)
    shown = on_a_terminal(site.directory, "analyse", "script.py", "/lhc", "--local", "2")
    start, bar, end = (shown.index(words) for words in ("starting 2 workers", "analysing", "incomplete"))
    assert start < bar < end
    assert "starting" not in shown[bar:]
    told = re.findall(r"left out .*\n.*", shown)
    assert len(told) == 1, told
    assert f"left out {FILES} entries of {FILES} files: " in told[0]
    assert "an odd one" in told[0]
    assert told[0].count("entry 7") == 3
    assert told[0].rstrip().endswith(f"; and {FILES - 3} more")


def test_one_is_no_plural(site: Command) -> None:
    (site.directory / "script.py").write_text("def process(events):\n    return len(events)\n")
    done = site("analyse", "script.py", "/lhc/0.root", "--local", "1")
    assert "500 events of 1 file in" in done.out
    assert " on 1 worker (" in done.out
    assert done.err == "", "off a terminal nothing is said of the start"


def test_a_full_disk_is_told_in_a_line_and_holds_nothing_half_written(site: Command, tmp_path: Path) -> None:
    (site.directory / "script.py").write_text(GROWS)
    (tmp_path / "small").mkdir()
    with small_disk(tmp_path / "small", 40_000) as small:
        quick = ("--set", "analysis.packet_target_s=0.1")
        done = site(*quick, "analyse", "script.py", "/lhc", "--local", "2", "-o", str(small / "out"))
        assert done.code == 7
        *before, error = done.err.splitlines()
        assert error == (
            f"error: cannot write to {small}/out: No space left on device. "
            "Make room there, or name another directory with -o"
        )
        assert all(line.startswith("What is done is kept. ") for line in before), done.err
        assert not [*(small / "out").glob(".*")]
