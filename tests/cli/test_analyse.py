"""An analysis from the command line, over real files, right and wrong."""

from __future__ import annotations

import json

import pytest
import uproot

pytestmark = pytest.mark.slow

COUNT = """
import hist
def process(events):
    mass = hist.Hist.new.Reg(60, 60, 120, name="mass", label="mass [GeV]").Int64()
    mass.fill(events.M)
    return {"entries": len(events), "mass": mass}
"""


@pytest.fixture
def site(vse, zmumu):
    assert vse("register", *map(str, zmumu), "--to", "/lhc/zmumu").code == 0
    return vse


def write(site, text):
    path = site.directory / "script.py"
    path.write_text(text)
    return str(path)


def test_every_entry_once_and_everything_on_disk(site, zmumu):
    done = site("analyse", write(site, COUNT), "/lhc/zmumu", "-o", "out", "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["complete"]
    assert answer["entries_processed"] == 5 * 2304
    assert {file["entries_done"] for file in answer["files"]} == {2304}
    expected = sum(
        int(((m := uproot.open(path)["events"]["M"].array(library="np")) >= 60).sum() - (m >= 120).sum())
        for path in zmumu
    )
    with uproot.open(site.directory / "out/histograms.root") as file:
        assert file["mass"].values().sum() == expected
    result = json.loads((site.directory / "out/result.json").read_text())
    assert result["output"]["entries"] == 5 * 2304
    report = (site.directory / "out/report.html").read_text()
    assert "http://" not in report.replace("http://www.w3.org", "")
    assert (site.directory / "out/mass.png").read_bytes().startswith(b"\x89PNG")


def test_missing_files_join_as_they_arrive(two_sites, zmumu):
    lfns = [two_sites.add(path, path.name) for path in zmumu]
    two_sites.publish()
    script = write(two_sites.vse, COUNT)
    refused = two_sites.vse("analyse", script, two_sites.query, "--missing", "fail")
    assert refused.code == 3
    assert "vse stage" in refused.err
    skipped = two_sites.vse("analyse", script, two_sites.query, "--missing", "skip", "--json")
    assert json.loads(skipped.out)["entries_processed"] == 0
    assert len(json.loads(skipped.out)["missing"]) == 5
    done = two_sites.vse("analyse", script, two_sites.query, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["entries_processed"] == 5 * 2304
    assert all(two_sites.link(lfn).exists() for lfn in lfns)


def test_a_broken_file_is_reported_and_with_strict_fatal(two_sites, zmumu, tmp_path):
    cut = tmp_path / "cut.root"
    cut.write_bytes(zmumu[0].read_bytes()[:60_000])
    two_sites.add(zmumu[0], "good.root")
    two_sites.add(cut, "cut.root")
    two_sites.publish()
    script = write(two_sites.vse, COUNT)
    quick = ("--set", "stager.max_failures=1")
    done = two_sites.vse(*quick, "analyse", script, two_sites.query)
    assert done.code == 0, done.err
    assert "incomplete" in done.out
    assert "left out" in done.err
    assert "cut.root" in done.err
    strict = two_sites.vse(*quick, "analyse", script, two_sites.query, "--strict")
    assert strict.code == 11
    assert "cut.root" in strict.err


def test_one_bad_event_is_named_and_costs_only_itself(site):
    script = COUNT.replace(
        "    mass =",
        "    if (events.Event == 84451448).to_numpy().any(): raise ValueError('no muon')\n    mass =",
    ).replace("(events.Event == 84451448).to_numpy().any()", "84451448 in list(events.Event)")
    events = uproot.open(site.directory / "vse/lhc/zmumu/uproot-Zmumu.root")["events"]["Event"].array(
        library="np"
    )
    bad = int(events[1234])
    script = script.replace("84451448", str(bad))
    count_bad = int((events == bad).sum())
    done = site("analyse", write(site, script), "/lhc/zmumu/uproot-Zmumu.root", "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["entries_processed"] == 2304 - count_bad
    assert any(item["start"] <= 1234 < item["stop"] for item in answer["failed"])
    assert "script.py:4" in answer["failed"][0]["error"]
    assert "no muon" in answer["failed"][0]["error"]
    strict = site("analyse", write(site, script), "/lhc/zmumu/uproot-Zmumu.root", "--strict")
    assert strict.code == 11


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("def process(events)\n    pass\n", 2, "script.py:1"),
        ("x = 1\n", 2, "process"),
        ("import nonsense_module\ndef process(events): return 1\n", 2, "nonsense_module"),
        ("def process(events):\n    return events.nonsense\n", 11, "nonsense"),
        ("def process(events):\n    return 1 / 0\n", 11, "script.py:2"),
    ],
)
def test_a_script_that_cannot_work_ends_early_with_its_line(site, text, code, message):
    answer = site("analyse", write(site, text), "/lhc/zmumu")
    assert answer.code == code
    assert message in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert "Traceback" not in answer.err
