"""A result that cannot be written is not lost: the checkpoint has it until all of it is on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.analysis_site import ZMUMU, needs_data
from support.command_line import Command
from vse.app.init import init_site

pytestmark = [pytest.mark.slow, needs_data]
COUNT = "def process(events):\n    return {'n': len(events)}\n"
ALL = 2304 * len(ZMUMU)


def test_results_that_cannot_be_written_are_gone_on_from(tmp_path: Path) -> None:
    init_site(tmp_path / "site", name="test")
    vse = Command(tmp_path / "site")
    assert vse("register", *map(str, ZMUMU), "--to", "/real").code == 0
    (vse.directory / "count.py").write_text(COUNT)
    in_the_way = vse.directory / "results" / "report.html"
    in_the_way.mkdir(parents=True)
    words = ("analyse", "count.py", "/real/*.root", "--local", "2")
    lost = vse(*words)
    assert lost.code != 0
    assert "Traceback" not in lost.err
    assert "What is done is kept. For the rest: vse analyse count.py" in lost.err
    assert "--resume results/checkpoint" in lost.err
    in_the_way.rmdir()
    done = vse(*words, "--resume", "results/checkpoint", "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert (answer["complete"], answer["entries_resumed"]) == (True, ALL)
    assert not (vse.directory / "results" / "checkpoint").exists()


def test_a_defect_in_postprocess_says_how_to_go_on(tmp_path: Path) -> None:
    init_site(tmp_path / "site", name="test")
    vse = Command(tmp_path / "site")
    assert vse("register", str(ZMUMU[0]), "--to", "/real").code == 0
    (vse.directory / "count.py").write_text(COUNT + "def postprocess(output):\n    return output.n\n")
    words = ("analyse", "count.py", "/real/*.root", "--local", "1")
    failed = vse(*words)
    assert failed.code == 11
    assert "count.py:4: AttributeError" in failed.err
    assert "correct postprocess, and that alone" in failed.err.lower()
    assert "--resume results/checkpoint" in failed.err
    (vse.directory / "count.py").write_text(COUNT + "def postprocess(output):\n    return output['n']\n")
    done = vse(*words, "--resume", "results/checkpoint", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["entries_resumed"] == 2304
