"""The engine on real files and real workers: nothing lost, nothing twice, whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from support.analysis_site import DATA, DIMUON, NANO, ZMUMU, input_file, needs_data, run
from support.waiting import until
from vse.analysis.cluster import LocalWorkers
from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse
from vse.analysis.result import Progress
from vse.analysis.script import Script, load_script
from vse.errors import NothingToAnalyse, ResultIncomplete, ScriptFailed

pytestmark = [pytest.mark.slow, needs_data]
Write = Callable[[str], Script]

COUNT = """
import hist
def process(events):
    numbers = [int(n) for n in events.Event]
    return {"entries": len(events), "numbers": numbers}
"""


def direct_numbers(path: Path) -> list[int]:
    with uproot.open(path) as file:
        return sorted(file["events"]["Event"].array(library="np").tolist())


@pytest.mark.parametrize("known", [True, False])
def test_every_entry_of_the_real_files_exactly_once(client: Any, write_script: Write, known: bool) -> None:
    files = [input_file(path, 2304 if known else None) for path in ZMUMU]
    result = run(write_script(COUNT), files, client, packet_entries=100)
    assert result.entries_processed == 2304 * len(ZMUMU)
    assert {item.lfn: item.entries_done for item in result.files} == {file.lfn: 2304 for file in files}
    assert result.output["entries"] == 2304 * len(ZMUMU)
    assert sorted(result.output["numbers"]) == sorted(direct_numbers(ZMUMU[0]) * len(ZMUMU))
    assert result.packets == 24 * len(ZMUMU)
    assert result.complete
    assert result.workers == 2
    assert sum(result.entries_by_worker.values()) == result.entries_processed
    assert result.read_bytes > 0


def test_the_demo_gives_the_same_histogram_as_a_direct_computation(client: Any) -> None:
    script = load_script(DIMUON)
    files = [input_file(path) for path in ZMUMU] + [input_file(DATA / name) for name in NANO]
    result = run(script, files, client, packet_entries=100)
    assert {item.entries for item in result.files} == {2304, *NANO.values()}
    total: Any = None
    for path in [*ZMUMU, *(DATA / name for name in NANO)]:
        with uproot.open(path) as file:
            tree = file["Events"] if "Events" in file else file["events"]
            part = script.process(tree.arrays(filter_name=script.branches))
        total = part if total is None else {key: total[key] + part[key] for key in part}
    assert result.output["entries"] == 2304 * len(ZMUMU) + sum(NANO.values())
    assert result.output["pairs"] == total["pairs"]
    for name in ("dimuon_mass", "z_peak"):
        np.testing.assert_array_equal(
            result.output[name].values(flow=True), total[name].values(flow=True), strict=True
        )


def test_only_the_branches_touched_are_read(client: Any, write_script: Write, tmp_path: Path) -> None:
    path = tmp_path / "wide.root"
    dice = np.random.default_rng(1)
    with uproot.recreate(path) as file:
        file["events"] = {f"x{number}": dice.random(20_000) for number in range(40)}
    body = "import numpy as np\ndef process(events):\n    return float(np.sum(events.x7))\n"
    lazy = run(write_script(body), [input_file(path)], client)
    eager = run(write_script("branches = ['x7']\n" + body), [input_file(path)], client)
    assert lazy.output == pytest.approx(eager.output)
    for result in (lazy, eager):
        assert 20_000 * 7 < result.read_bytes < path.stat().st_size / 5


def test_a_killed_worker_changes_nothing(client: Any, write_script: Write) -> None:
    script = write_script(COUNT.replace("return {", "import time; time.sleep(0.01)\n    return {"))
    killed: list[int] = []
    pids = client.run(os.getpid)

    def kill_once(progress: Progress) -> None:
        if not killed and progress.entries_done > 1500:
            killed.append(next(iter(pids.values())))
            os.kill(killed[0], signal.SIGKILL)

    feed = Feed([input_file(path) for path in ZMUMU], closed=True)
    options = AnalysisOptions(packet_entries=100, progress_every_s=0.02)
    result = analyse(script, feed, client, options, kill_once)
    assert killed
    assert result.workers_lost == 1
    assert result.complete
    assert result.entries_processed == 2304 * len(ZMUMU)
    assert sorted(result.output["numbers"]) == sorted(direct_numbers(ZMUMU[0]) * len(ZMUMU))


def test_one_bad_event_is_found_and_all_others_are_kept(client: Any, write_script: Write) -> None:
    with uproot.open(ZMUMU[0]) as file:
        mass = file["events"]["M"].array(library="np")
    worst = int(np.argmax(mass))
    script = write_script(
        "def process(events):\n    for m in events.M:\n"
        f"        if m > {mass[worst] - 1e-9}:\n            raise ValueError('too heavy')\n"
        "    return len(events)\n"
    )
    result = run(script, [input_file(ZMUMU[0]), input_file(DATA / "uproot-Zmumu-zstd.root")], client)
    same = np.flatnonzero(mass > mass[worst] - 1e-9)
    failed = {(item.lfn, entry) for item in result.failed for entry in range(item.start, item.stop)}
    assert failed == {(file.lfn, int(entry)) for file in result.files for entry in same}
    assert result.output == result.entries_processed == 2 * (2304 - len(same))
    assert result.failed[0].failure.message == "my_script.py:4: ValueError: too heavy"
    assert "raise ValueError('too heavy')" in result.failed[0].failure.traceback


def test_a_script_that_always_raises_is_stopped_early(client: Any, write_script: Write) -> None:
    script = write_script("def process(events):\n    return events.no_such_branch\n")
    begun = time.monotonic()
    with pytest.raises(ScriptFailed, match=r"my_script.py:2: AttributeError: no field named") as caught:
        run(script, [input_file(path) for path in ZMUMU], client)
    assert "\n" not in str(caught.value)
    assert "return events.no_such_branch" in caught.value.__notes__[0]
    assert time.monotonic() - begun < 10


def test_a_script_that_returns_nothing_says_so(client: Any, write_script: Write) -> None:
    with pytest.raises(ScriptFailed, match=r"returned nothing.*return"):
        run(write_script("def process(events):\n    len(events)\n"), [input_file(ZMUMU[0])], client)


def test_an_output_that_cannot_travel_is_the_scripts_failure(client: Any, write_script: Write) -> None:
    with pytest.raises(ScriptFailed, match="pickle"):
        run(
            write_script("def process(events):\n    return {'f': (one for one in [1])}\n"),
            [input_file(ZMUMU[0])],
            client,
        )


def test_classes_of_the_script_come_back(client: Any, write_script: Write) -> None:
    text = (
        "class Sum:\n    def __init__(self, n): self.n = n\n"
        "    def __add__(self, other): return Sum(self.n + other.n)\n"
        "def process(events):\n    return Sum(len(events))\ndef postprocess(total):\n    return total.n\n"
    )
    result = run(write_script(text), [input_file(path) for path in ZMUMU], client, packet_entries=500)
    assert result.output == 2304 * len(ZMUMU)


def test_the_entry_that_kills_workers_is_found(client: Any, write_script: Write) -> None:
    with uproot.open(DATA / "nano_dy.root") as file:
        numbers = file["Events"]["event"].array(library="np")
    text = (
        "import os\nbranches = ['M', 'event']\ndef process(events):\n"
        f"    if 'event' in events.fields and {int(numbers[17])} in events.event.to_list():\n"
        "        os._exit(1)\n    return len(events)\n"
    )
    files = [input_file(ZMUMU[0], 2304), input_file(DATA / "nano_dy.root", 40)]
    result = run(write_script(text), files, client)
    assert [(item.lfn, item.start, item.stop) for item in result.failed] == [("/lhc/nano_dy.root", 17, 18)]
    assert "workers died" in result.failed[0].failure.message
    assert result.output == result.entries_processed == 2304 + 39
    assert result.workers_lost >= 3


def test_broken_files_are_reported_and_the_rest_is_analysed(
    client: Any, write_script: Write, tmp_path: Path
) -> None:
    truncated, garbage, empty = (tmp_path / f"{name}.root" for name in ("truncated", "garbage", "empty"))
    truncated.write_bytes(ZMUMU[0].read_bytes()[:60_000])
    garbage.write_bytes(b"<html>404</html>" * 100)
    with uproot.recreate(empty) as file:
        file.mktree("events", {"Event": "int32", "M": "float64"})
    gone = InputFile("/lhc/gone.root", str(tmp_path / "gone.root"))
    lying = input_file(DATA / "uproot-Zmumu-lzma.root", 5000)
    other = input_file(DATA / "uproot-Zmumu-zstd.root", None, "no_such_tree")
    files = [input_file(path) for path in (truncated, garbage, empty, ZMUMU[0])] + [gone, lying, other]
    result = run(write_script(COUNT), files, client, packet_entries=100)
    assert result.output["entries"] == 2304
    reasons = dict(result.broken)
    assert set(reasons) == {f.lfn for f in files} - {"/lhc/empty.root", f"/lhc/{ZMUMU[0].name}"}
    assert "truncated" in reasons["/lhc/truncated.root"]
    assert "no ROOT file" in reasons["/lhc/garbage.root"]
    assert "No such file" in reasons["/lhc/gone.root"]
    assert reasons[lying.lfn] == "it holds 2,304 entries, the catalogue says 5,000"
    assert "no such tree (trees: events)" in reasons[other.lfn]
    assert all("\n" not in reason for reason in reasons.values())
    by_lfn = {item.lfn: item for item in result.files}
    assert by_lfn["/lhc/empty.root"].entries == 0
    assert not result.complete


def test_damage_in_the_middle_of_a_file_is_the_files_fault(
    client: Any, write_script: Write, tmp_path: Path
) -> None:
    with uproot.open(ZMUMU[0]) as file:
        branch = file["events"]["px1"]
        seek = int(branch.member("fBasketSeek")[0]) + 200
    damaged = tmp_path / "damaged.root"
    data = bytearray(ZMUMU[0].read_bytes())
    data[seek : seek + 4000] = bytes(4000)
    damaged.write_bytes(data)
    script = write_script(
        "import numpy as np\ndef process(events):\n    return float(np.sum(events.px1)) * 0 + len(events)\n"
    )
    result = run(script, [input_file(damaged, 2304), input_file(DATA / "uproot-Zmumu-lz4.root")], client)
    assert [lfn for lfn, _ in result.broken] == ["/lhc/damaged.root"]
    assert result.output == result.entries_processed
    done = {item.lfn: (item.entries_done, item.entries_failed) for item in result.files}
    assert done["/lhc/uproot-Zmumu-lz4.root"] == (2304, 0)
    assert sum(done["/lhc/damaged.root"]) == 2304


def test_strict_refuses_an_incomplete_result(client: Any, write_script: Write, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.root"
    garbage.write_bytes(b"no" * 100)
    with pytest.raises(ResultIncomplete, match=r"/lhc/garbage.root: .*no ROOT file"):
        run(write_script(COUNT), [input_file(ZMUMU[0]), input_file(garbage)], client, strict=True)


def test_a_branch_missing_in_one_file(client: Any, write_script: Write, tmp_path: Path) -> None:
    without = tmp_path / "without.root"
    with uproot.recreate(without) as file:
        file["events"] = {"Event": np.arange(50, dtype=np.int32)}
    script = write_script(
        "import numpy as np\ndef process(events):\n    np.sum(events.M)\n    return len(events)\n"
    )
    result = run(script, [input_file(without), input_file(ZMUMU[0])], client)
    assert result.output == 2304
    assert sum(item.entries for item in result.failed) == 50
    assert "no field named 'M' (the events have Event)" in result.failed[0].failure.message


def test_a_field_that_is_misspelt_is_answered_by_those_most_alike(client: Any, write_script: Write) -> None:
    for expression in ("events.Px1", "events['Px1']"):
        script = write_script(f"def process(events):\n    return len({expression})\n")
        with pytest.raises(ScriptFailed) as caught:
            run(script, [input_file(ZMUMU[0])], client)
        assert "(the events have px1, " in caught.value.found
        listed = caught.value.found.partition("(the events have ")[2].partition(" and ")[0]
        assert len(listed.split(", ")) == 12
        assert " and 8 more)" in caught.value.found


def test_files_that_arrive_while_it_runs(client: Any, write_script: Write) -> None:
    feed = Feed()
    arrived = threading.Event()

    def watch(progress: Progress) -> None:
        if progress.entries_merged:
            assert progress.output["entries"] == progress.entries_merged <= progress.entries_done
        if progress.entries_merged >= 2304:
            assert progress.more_files or progress.files > 1
            arrived.set()

    def stage() -> None:
        feed.put(input_file(ZMUMU[0]))
        arrived.wait(30)
        for path in ZMUMU[1:]:
            feed.put(input_file(path))
        feed.put(input_file(ZMUMU[1]))
        feed.fail("/lhc/lost.root", "the only copy is gone")
        feed.close()

    thread = threading.Thread(target=stage)
    thread.start()
    result = analyse(write_script(COUNT), feed, client, AnalysisOptions(packet_entries=100), watch)
    thread.join()
    assert result.output["entries"] == 2304 * len(ZMUMU)
    assert result.missing == [("/lhc/lost.root", "the only copy is gone")]


def test_no_files_at_all(client: Any, write_script: Write) -> None:
    with pytest.raises(NothingToAnalyse):
        run(write_script(COUNT), [], client)


def test_progress_tells_the_truth_at_the_end(client: Any, write_script: Write) -> None:
    seen: list[Progress] = []
    feed = Feed([input_file(path) for path in ZMUMU], closed=True)
    analyse(write_script(COUNT), feed, client, AnalysisOptions(packet_entries=100), seen.append)
    last = seen[-1]
    assert (last.entries_done, last.entries_expected) == (2304 * len(ZMUMU),) * 2
    assert (last.files, last.files_done, last.eta_s) == (len(ZMUMU), len(ZMUMU), 0)
    assert [item.entries_done for item in seen] == sorted(item.entries_done for item in seen)


def test_a_replaced_file_is_read_anew(client: Any, write_script: Write, tmp_path: Path) -> None:
    script = write_script("def process(events):\n    return int(events.x[0]) * len(events)\n")
    path = tmp_path / "file.root"
    for value in (1, 2):
        with uproot.recreate(tmp_path / "new.root") as file:
            file["events"] = {"x": np.full(10 * value, value)}
        shutil.move(tmp_path / "new.root", path)
        assert run(script, [input_file(path)], client).output == 10 * value**2


def test_a_real_coffea_processor_unchanged(client: Any, write_script: Write) -> None:
    pytest.importorskip("coffea")
    text = (
        "import awkward as ak\nimport hist\nfrom coffea import processor\n"
        "class Muons(processor.ProcessorABC):\n"
        "    def process(self, events):\n"
        "        dataset = events.metadata['dataset']\n"
        "        h = hist.Hist.new.Reg(20, 0, 100, name='pt').Double()\n"
        "        h.fill(ak.flatten(events.Muon.pt))\n"
        "        pairs = events.Muon[ak.num(events.Muon) >= 2]\n"
        "        heaviest = ak.max((pairs[:, 0] + pairs[:, 1]).mass, initial=0)\n"
        "        return {dataset: {'entries': len(events), 'pt': h, 'muons': int(ak.sum(events.nMuon))"
        " if 'nMuon' in events.fields else int(ak.sum(ak.num(events.Muon)))}}\n"
        "    def postprocess(self, accumulator):\n        pass\n"
    )
    files = [input_file(DATA / name) for name in NANO]
    result = run(write_script(text), files, client, dataset="nano", packet_entries=60)
    assert result.output["nano"]["entries"] == sum(NANO.values())
    muons = 0
    for name in NANO:
        with uproot.open(DATA / name) as file:
            muons += int(ak.sum(file["Events"]["nMuon"].array()))
    assert result.output["nano"]["muons"] == muons
    assert result.output["nano"]["pt"].sum(flow=True) == muons


def test_workers_listen_on_this_machine_only_and_stop_quickly() -> None:
    begun = time.monotonic()
    local = LocalWorkers(1)
    assert time.monotonic() - begun < 0.5
    address = local.client.scheduler.address
    pids = list(local.client.run(os.getpid).values())
    assert address.startswith("tls://127.0.0.1:")
    begun = time.monotonic()
    local.close()
    local.close()
    assert time.monotonic() - begun < 3
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


PROGRAM = """
import sys
from vse.analysis.cluster import LocalWorkers
from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse
from vse.analysis.script import load_script

def main():
    with LocalWorkers(2) as workers:
        import os
        workers.client.wait_for_workers(2, timeout=60)
        print(*workers.client.run(os.getpid).values(), flush=True)
        feed = Feed([InputFile("/a", sys.argv[2])], closed=True)
        try:
            analyse(load_script(sys.argv[1]), feed, workers.client, AnalysisOptions(packet_entries=10))
        except KeyboardInterrupt:
            print("interrupted", flush=True)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_end_from_outside_leaves_no_worker(tmp_path: Path, how: signal.Signals) -> None:
    program, script = tmp_path / "program.py", tmp_path / "slow.py"
    program.write_text(PROGRAM)
    script.write_text(
        "import time\ndef process(events):\n    print('user says', flush=True)\n"
        "    time.sleep(0.2)\n    return 1\n"
    )
    process = subprocess.Popen(
        [sys.executable, program, script, ZMUMU[0]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    pids = process.stdout.readline().split()
    assert len(pids) == 2
    assert process.stderr.readline() == "user says\n"
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.kill()
    out, err = process.communicate(timeout=30)
    if how == signal.SIGINT:
        assert (process.returncode, out) == (0, "interrupted\n")
        assert set(err.splitlines()) <= {"user says"}
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_stranger_cannot_use_the_workers(client: Any) -> None:
    """Another user of the machine can connect to the port, but has not our certificate."""
    from distributed import Client, Security

    address = client.scheduler_info()["address"]
    assert address.startswith("tls://127.0.0.1:")
    for strangers_address, security in (
        (address.replace("tls://", "tcp://"), None),
        (address, Security.temporary()),
    ):
        with pytest.raises((OSError, RuntimeError)):
            Client(strangers_address, security=security, timeout="2s", set_as_default=False)
