"""An analysis from the command line, over real files, right and wrong."""

from __future__ import annotations

import json
import signal
from urllib.request import Request, urlopen

import pytest
import uproot

from support.command_line import add_element
from support.waiting import until

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


SLOW_COUNT = COUNT.replace("    mass =", "    import time\n    time.sleep(len(events) * 0.001)\n    mass =")


def test_several_datasets_are_kept_apart_in_one_result(site, zmumu):
    script = write(site, COUNT)
    one, rest = "/lhc/zmumu/uproot-Zmumu.root", "/lhc/zmumu/uproot-Zmumu-*.root"
    done = site("analyse", script, f"first={one}", f"others = {rest}", f"again={one}", "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["entries_processed"] == 6 * 2304
    assert [file["lfn"] for file in answer["files"]].count(f"{one} [again]") == 1
    result = json.loads((site.directory / "results/result.json").read_text())
    assert {name: part["entries"] for name, part in result["output"].items()} == {
        "first": 2304,
        "others": 4 * 2304,
        "again": 2304,
    }
    with uproot.open(site.directory / "results/histograms.root") as file:
        assert file["others/mass"].values().sum() == 4 * file["first/mass"].values().sum()
    assert (site.directory / "results/others_mass.png").exists()


@pytest.mark.parametrize(
    ("queries", "found"),
    [
        (("/lhc/zmumu/a.root", "/lhc/zmumu/b.root"), "has no name"),
        (("a=/lhc/zmumu/a.root", "a=/lhc/zmumu/b.root"), "two are called a"),
        (("a=Find;Nonsense=1",), "Nonsense"),
    ],
)
def test_names_of_datasets_that_are_wrong_are_told(site, queries, found):
    answer = site("analyse", write(site, COUNT), *queries)
    assert answer.code == 2
    assert found in answer.err


def test_missing_files_of_two_datasets_are_staged_and_kept_apart(two_sites, zmumu):
    for path in zmumu:
        two_sites.add(path, path.name)
    two_sites.publish()
    script = write(two_sites.vse, COUNT)
    one = two_sites.query.replace("*.root", "uproot-Zmumu.root")
    done = two_sites.vse("analyse", script, f"all={two_sites.query}", f"one={one}", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["complete"]
    result = json.loads((two_sites.local / "results/result.json").read_text())
    assert result["output"]["all"]["entries"] == 5 * 2304
    assert result["output"]["one"]["entries"] == 2304
    assert [item["remote"] for item in result["read_from"]] == [False]


def test_results_are_written_to_a_storage_element_as_well(site, zmumu):
    add_element(site.directory, "OUT", "out")
    script = write(site, COUNT)
    words = ("analyse", script, "/lhc/zmumu", "--stage-out")
    assert "has no directory" in site(*words, "OUT").err
    assert site(*words, "NOWHERE:/user/anna").code != 0
    assert not (site.directory / "results").exists()
    done = site(*words, "OUT:/user/anna/run7")
    assert done.code == 0, done.err
    there = site("ls", "/user/anna/run7").out
    for name in ("histograms.root", "report.html", "result.json", "mass.png"):
        assert name in there
        kept = (site.directory / "results" / name).read_bytes()
        assert (site.directory / "out/user/anna/run7" / name).read_bytes() == kept


class Watcher:
    """The live page of a running ``vse``, by the address that it printed."""

    def __init__(self, running):
        line = ""
        while "Live: " not in line:
            line = running.stderr.readline().decode()
            assert line, "it ended without an address"
        self.base, _, self.token = line.partition("Live: ")[2].strip().partition("#")

    def ask(self, path, body=None):
        headers = {"Authorization": f"Bearer {self.token}"}
        request = Request(self.base + path, body, headers)  # noqa: S310 - the address is our own
        with urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.read()

    def wait(self, wanted):
        """Return the first state for which ``wanted`` holds."""

        def state():
            told = json.loads(self.ask("state"))
            return told if wanted(told) else None

        return until(state, told=lambda: self.ask("state"))


def test_it_is_watched_paused_stopped_and_gone_on_with(site, zmumu):
    script = write(site, SLOW_COUNT)
    words = ("--set", "analysis.packet_target_s=0.05", "analyse", script, "/lhc/zmumu")
    running = site.start(*words, "--live")
    try:
        watcher = Watcher(running)
        watcher.wait(lambda state: state.get("entries_done", 0) > 0)
        running.send_signal(signal.SIGUSR1)
        watcher.wait(lambda state: state["state"] == "paused")
        settled = watcher.wait(lambda state: "histograms" in state)
        assert settled["histograms"][0]["name"] == "mass"
        assert sum(worker["entries"] for worker in settled["workers"]) == settled["entries_done"]
        assert settled["entries_done"] < 5 * 2304
        watcher.ask("order", b"resume")
        watcher.wait(lambda state: state["state"] == "running")
        running.send_signal(signal.SIGTERM)
        watcher.wait(lambda state: state["state"] in ("stopping", "done"))
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 0, err
    assert b"incomplete" in out
    assert b"the analysis was stopped before it was processed" in err
    assert b"--resume results/checkpoint" in err
    stopped = json.loads((site.directory / "results/result.json").read_text())
    assert 0 < stopped["entries_processed"] == stopped["output"]["entries"] < 5 * 2304
    done = site(*words, "--resume", "results/checkpoint", "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["complete"]
    assert answer["entries_resumed"] == stopped["entries_processed"]
    result = json.loads((site.directory / "results/result.json").read_text())
    assert result["output"]["entries"] == 5 * 2304
    assert not (site.directory / "results/checkpoint").exists()
    assert "no such file" in site(*words, "--resume", "results/checkpoint").err


def test_the_report_says_what_was_read_from_where_and_how_well(site, zmumu):
    done = site("analyse", write(site, COUNT), "/lhc/zmumu", "--json")
    answer = json.loads(done.out)
    assert 0 < answer["efficiency"] <= 1
    assert [(item["remote"], item["files"], item["entries"]) for item in answer["read_from"]] == [
        (False, 5, 5 * 2304)
    ]
    assert answer["read_from"][0]["read_bytes"] == answer["read_bytes"]
    assert set(answer["slowest"]) == {file["lfn"] for file in answer["files"]}
    assert sum(worker["entries"] for worker in answer["worker_efforts"]) == 5 * 2304
    report = (site.directory / "results/report.html").read_text()
    for wanted in ("Read from", "local disks", "Slowest files", "Workers", "efficiency", "vse analyse"):
        assert wanted in report
