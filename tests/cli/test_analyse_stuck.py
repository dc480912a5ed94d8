"""A script that hangs, from the command line: the entry is found, left out, and reported with its line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import uproot

pytestmark = pytest.mark.slow

HANGS = """
import time
def process(events):
    while -7 in events.Event.to_list():
        time.sleep(0.01)
    return {"entries": len(events)}
"""


def test_the_entry_on_which_a_script_hangs_is_named(vse, zmumu, tmp_path):
    odd = tmp_path / "odd.root"
    with uproot.recreate(odd) as file:
        file["events"] = {"Event": np.array([5, -7])}
    assert vse("register", str(odd), str(zmumu[0]), "--to", "/lhc/zmumu").code == 0
    script = vse.directory / "script.py"
    script.write_text(HANGS)
    quick = ("--set", "analysis.hang_s=0.5", "--set", "analysis.stall_s=100")
    done = vse(*quick, "analyse", str(script), "/lhc/zmumu", "--local", "2", "--json", timeout_s=280)
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["entries_processed"] == 2304 + 1
    (failed,) = answer["failed"]
    assert (failed["lfn"], failed["start"], failed["stop"]) == ("/lhc/zmumu/odd.root", 1, 2)
    assert failed["error"].startswith("it hangs: after ")
    assert "script.py:" in failed["error"]
    assert "in process\n    while -7 in events" in failed["traceback"] or "time.sleep" in failed["traceback"]
