"""Every command of docs/a-physicists-day.md, in order, as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import uproot

from support.command_line import add_element, clean_environment

pytestmark = pytest.mark.slow
PAGE = Path(__file__).resolve().parents[2] / "docs" / "a-physicists-day.md"


def in_the_peak(path):
    with uproot.open(path) as file:
        events = file["events"].arrays(["M", "Q1", "Q2"], library="np")
    return int(((events["M"] >= 60) & (events["M"] < 120) & (events["Q1"] != events["Q2"])).sum())


def test_the_page_does_what_it_says(two_sites, zmumu, tmp_path):
    data = zmumu[2:]
    for path in data:
        two_sites.add(path, f"data/{path.name}")
    for path in zmumu[:2]:
        two_sites.add(path, f"mc/{path.name}")
    two_sites.publish()
    add_element(two_sites.local, "GROUP", "group")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, words in (("vse", "-m vse.cli "), ("python", "")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        (commands / name).chmod(0o755)
    environment = clean_environment() | {"PATH": f"{commands}:{os.environ['PATH']}"}
    script = two_sites.local / "zpeak.py"
    said = ""
    for kind, block in re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        if kind == "python":
            script.write_text((script.read_text() + "\n\n" if script.exists() else "") + block)
            continue
        assert kind == "bash"
        done = subprocess.run(
            ["bash", "-euc", block], cwd=two_sites.local, env=environment, capture_output=True, text=True,
            timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        said += done.stdout
    mass = sum(in_the_peak(path) for path in data)
    assert f"\n{float(mass)}\n" in said
    assert f"{3 * 2304:,} events of 3 files" in said
    result = json.loads((two_sites.local / "compared/result.json").read_text())
    assert result["complete"]
    assert set(result["output"]) == {"data", "mc"}
    assert set(result["output"]["mc"]) == {"nominal", "scale_up"}
    assert (two_sites.local / "group/lhc/user/a/anna/zpeak/report.html").exists()
    assert "histograms.root" in said
