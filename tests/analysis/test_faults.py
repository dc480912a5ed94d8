"""What goes wrong on workers: the result is right and complete, or says exactly what is missing."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import uproot

from support.analysis_site import DATA, ZMUMU, input_file, needs_data, run
from support.foreign_cluster import WORKER, foreign_cluster
from support.waiting import until
from vse.analysis.cluster import LocalWorkers
from vse.analysis.engine import AnalysisOptions, Feed, InputFile, analyse
from vse.analysis.result import Progress
from vse.analysis.script import Script
from vse.errors import OutputTooBig, WorkersLost

pytestmark = [pytest.mark.slow, needs_data]
Write = Callable[[str], Script]

COUNT = "def process(events):\n    import time\n    time.sleep(0.02)\n    return {'n': len(events)}\n"
ALL = 2304 * len(ZMUMU)


def expect_all(result: Any) -> None:
    assert result.complete, (result.failed, result.broken)
    assert result.output["n"] == result.entries_processed == ALL
    assert sum(result.entries_by_worker.values()) == ALL


def feed() -> Feed:
    return Feed([input_file(path) for path in ZMUMU], closed=True)


def test_a_stopped_worker_loses_its_packets_and_its_late_answer(client: Any, write_script: Write) -> None:
    stopped: list[int] = []
    pids = list(client.run(os.getpid).values())

    def stop_one(progress: Progress) -> None:
        if not stopped and progress.entries_done > 1000:
            stopped.append(pids[0])
            os.kill(pids[0], signal.SIGSTOP)

    options = AnalysisOptions(packet_entries=100, progress_every_s=0.02, partial_every_s=0.1, stall_s=1.0)
    result = analyse(write_script(COUNT), feed(), client, options, stop_one)
    assert stopped
    assert result.workers_lost >= 1
    expect_all(result)
    client.wait_for_workers(2, timeout=60)


def test_an_entry_that_hangs_is_found(client: Any, write_script: Write, tmp_path: Path) -> None:
    path = tmp_path / "short.root"
    with uproot.recreate(path) as file:
        file["events"] = {"x": np.arange(24)}
    script = write_script(
        "import time\ndef process(events):\n    if 7 in events.x.to_list():\n        time.sleep(1000)\n"
        "    return {'n': len(events)}\n"
    )
    result = run(script, [input_file(path, 24)], client, stall_s=2.0, stall_factor=2, packet_entries=1)
    assert [(item.start, item.stop) for item in result.failed] == [(7, 8)]
    assert result.output["n"] == result.entries_processed == 23
    client.wait_for_workers(2, timeout=60)


def test_a_file_deleted_or_cut_short_in_mid_analysis(
    client: Any, write_script: Write, tmp_path: Path
) -> None:
    copies = [Path(shutil.copyfile(ZMUMU[0], tmp_path / f"{name}.root")) for name in ("gone", "cut", "good")]
    for path in copies:
        path.chmod(0o600)
    harmed: list[str] = []

    def harm(progress: Progress) -> None:
        if not harmed and progress.entries_done > 600:
            copies[0].unlink()
            os.truncate(copies[1], 30_000)
            harmed.append("both")

    options = AnalysisOptions(packet_entries=50, progress_every_s=0.01)
    script = write_script(COUNT)
    files = Feed([input_file(path, 2304) for path in copies], closed=True)
    result = analyse(script, files, client, options, harm)
    assert harmed
    assert {lfn for lfn, _ in result.broken} == {"/lhc/gone.root", "/lhc/cut.root"}
    for item in result.files:
        missing = sum(failed.entries for failed in result.failed if failed.lfn == item.lfn)
        assert (item.entries_done + missing, item.entries_failed) == (2304, missing)
    assert {item.lfn: item.entries_failed for item in result.files}["/lhc/good.root"] == 0
    assert result.output["n"] == result.entries_processed == 3 * 2304 - result.entries_failed


def test_a_tree_missing_in_one_file_of_many(client: Any, write_script: Write, tmp_path: Path) -> None:
    odd = tmp_path / "odd.root"
    with uproot.recreate(odd) as file:
        file["other"] = {"x": np.arange(5)}
    many = [InputFile(f"/lhc/{number}", str(ZMUMU[0]), "events") for number in range(60)]
    files = [*many, InputFile("/lhc/odd", str(odd), "events")]
    result = run(write_script("def process(events):\n    return len(events)\n"), files, client)
    assert [lfn for lfn, _ in result.broken] == ["/lhc/odd"]
    assert "no such tree (trees: other)" in result.broken[0][1]
    assert result.output == 60 * 2304
    assert not result.drained


def test_a_copy_that_cannot_be_read_is_passed_over(client: Any, write_script: Write, tmp_path: Path) -> None:
    file = InputFile("/lhc/a", str(tmp_path / "gone.root"), sources=(str(ZMUMU[0]),))
    result = run(write_script("def process(events):\n    return len(events)\n"), [file], client)
    assert result.complete
    assert result.output == 2304


def test_an_output_too_big_says_which_part_is(client: Any, write_script: Write) -> None:
    script = write_script(
        "import numpy as np\ndef process(events):\n"
        "    return {'n': 1, 'deep': {'huge': np.zeros(2_000_000), 'small': np.zeros(9)}}\n"
    )
    with pytest.raises(OutputTooBig, match=r"takes 16 MB and 10 MB are.*\['deep'\]\['huge'\] with 16 MB"):
        run(script, [input_file(ZMUMU[0])], client, max_output_bytes=10_000_000)
    assert run(script, [input_file(ZMUMU[0])], client).output["n"] >= 1


def test_a_leak_costs_workers_but_no_entries(write_script: Write) -> None:
    script = write_script(
        "kept = []\ndef process(events):\n    import time\n"
        "    kept.append(b'x' * 22_000_000)\n    time.sleep(0.05)\n    return {'n': len(events)}\n"
    )
    with LocalWorkers(2, memory_limit_bytes=600_000_000) as local:
        local.client.wait_for_workers(2, timeout=60)
        options = AnalysisOptions(packet_entries=250, partial_every_s=0.2, progress_every_s=0.05)
        result = analyse(script, feed(), local.client, options)
    assert result.workers_lost >= 1
    expect_all(result)


def test_a_worker_killed_again_and_again_while_it_starts_is_replaced(write_script: Write) -> None:
    def worker_process(*, other_than: int) -> int:
        found = [
            process.pid
            for process in psutil.Process().children()
            if process.pid not in (other_than, *before) and "spawn_main" in " ".join(process.cmdline())
        ]
        return found[0] if found else 0

    before = {process.pid for process in psutil.Process().children()}
    with LocalWorkers(1) as local:
        (pid,) = local.client.run(os.getpid).values()
        for _ in range(4):
            os.kill(pid, signal.SIGKILL)
            pid = until(lambda gone=pid: worker_process(other_than=gone))
        os.kill(pid, signal.SIGKILL)
        expect_all(analyse(write_script(COUNT), feed(), local.client, AnalysisOptions()))


def test_a_scheduler_that_dies_leaves_what_was_merged(
    client: Any, write_script: Write, tmp_path: Path
) -> None:
    script, checkpoint = write_script(COUNT), tmp_path / "it.checkpoint"
    merged: list[int] = []

    with foreign_cluster(tmp_path, (*WORKER, "--nthreads", "2")) as foreign:

        def kill(progress: Progress) -> None:
            if not merged and progress.entries_merged > 1000:
                merged.append(progress.entries_merged)
                foreign.processes[0].kill()

        options = AnalysisOptions(packet_entries=50, partial_every_s=0.1, progress_every_s=0.02)
        begun = time.monotonic()
        with pytest.raises(WorkersLost, match=r"scheduler is gone; [\d,]+ of .* entries.*checkpoint"):
            analyse(script, feed(), foreign.client, options, kill, checkpoint=checkpoint)
        assert time.monotonic() - begun < 120
    result = analyse(script, feed(), client, AnalysisOptions(), checkpoint=checkpoint)
    assert result.entries_resumed >= merged[0]
    assert result.complete
    assert result.output["n"] == ALL


def test_a_branch_missing_and_no_entries(client: Any, write_script: Write, tmp_path: Path) -> None:
    empty = tmp_path / "empty.root"
    with uproot.recreate(empty) as file:
        file.mktree("events", {"M": "float64"})
    files = [input_file(empty), input_file(ZMUMU[0]), input_file(DATA / "nano_dy.root", 40)]
    script = write_script(
        "import numpy as np\ndef process(events):\n    return len(events) + 0 * int(np.sum(events.M))\n"
    )
    result = run(script, files, client)
    assert result.output == 2304
    assert sum(item.entries for item in result.failed) == 40
    assert {item.lfn for item in result.failed} == {"/lhc/nano_dy.root"}
