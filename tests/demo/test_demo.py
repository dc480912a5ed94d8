"""The main job, whole, as the README says it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import uproot

from support.command_line import REAL_DATA

pytestmark = pytest.mark.slow


def run(directory: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "vse.cli", *words],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_on_real_files_is_exact_and_leaves_a_site(tmp_path):
    real = sorted(REAL_DATA.glob("*.root"))
    assert len(real) == 7, f"the real files are missing in {REAL_DATA}"
    entries = 5 * 2304 + 40 + 200
    for _ in range(2):  # running it again works too
        out = run(tmp_path, "demo", "--data", str(REAL_DATA), "--bandwidth-mib-s", "50")
        assert f"{entries:,} events of 7 files" in out
        assert "asked once" in out
        assert "the upstream was not asked" in out
        assert "12:43" in out
    results = tmp_path / "vse-demo/results"
    answer = json.loads((results / "result.json").read_text())
    assert answer["complete"]
    assert {file["lfn"].rpartition("/")[2]: file["entries_done"] for file in answer["files"]} == {
        path.name: 2304 if "Zmumu" in path.name else 40 if path.name == "nano_dy.root" else 200
        for path in real
    }
    assert answer["fits"]["dimuon_mass"]["resonance"] == "Z"
    assert answer["fits"]["dimuon_mass"]["mass_gev"] == pytest.approx(91.19, abs=0.5)
    assert (results / "dimuon_mass.png").read_bytes().startswith(b"\x89PNG")
    assert (results / "report.html").exists()
    site = tmp_path / "vse-demo/site"
    assert len(run(site, "ls", "/lhc/data/2026/dimuon").splitlines()) == 7
    assert "LOCAL-DISK by file" in run(site, "why", "/lhc/data/2026/dimuon/nano_dy.root")
    with uproot.open(site / "vse/lhc/data/2026/dimuon/uproot-Zmumu.root") as file:
        assert file["events"].num_entries == 2304
    again = run(site, "analyse", "dimuon.py", "/lhc/data/2026/dimuon/*Zmumu*.root", "-o", "mine")
    assert "11,520 events of 5 files" in again
    assert re.search(r"mine/report\.html", again)


def test_the_demo_does_not_touch_what_it_did_not_make(tmp_path):
    (tmp_path / "vse-demo/site").mkdir(parents=True)
    (tmp_path / "vse-demo/site/thesis.tex").write_text("precious")
    done = subprocess.run(
        [sys.executable, "-m", "vse.cli", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "it holds something else" in done.stderr
    assert (tmp_path / "vse-demo/site/thesis.tex").read_text() == "precious"
