"""The script that README prints is run on files like those that `make demo` makes."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import uproot

from vse.demo.generate import generate

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_script_of_the_readme_finds_the_z(tmp_path: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "zpeak.py").write_text(script)
    process = runpy.run_path(str(tmp_path / "zpeak.py"))["process"]
    (made,) = generate(tmp_path, files=1, events_per_file=4000)
    with uproot.open(made.path) as file:
        events = file["Events"].arrays(["nMuon", "Muon_pt", "Muon_eta", "Muon_phi"])
    result = process(events)
    counts = result["mass"].values()
    assert result["pairs"] > 1000
    assert 88 <= 60 + counts.argmax() / 2 <= 94
    assert counts[58:68].sum() > 100
