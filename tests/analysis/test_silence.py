"""Workers that do not answer: a script that hangs, a worker that is paused, news that were not heard."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from support.analysis_site import ZMUMU, input_file, needs_data, run
from support.foreign_cluster import WORKER, Foreign, foreign_cluster
from support.waiting import until
from vse.analysis.engine import AnalysisOptions, Feed, analyse
from vse.analysis.result import Progress
from vse.analysis.script import Script
from vse.errors import WorkersLost

pytestmark = [pytest.mark.slow, needs_data]
Write = Callable[[str], Script]

COUNT = "def process(events):\n    import time\n    time.sleep(0.02)\n    return {'n': len(events)}\n"
ALL = 2304 * len(ZMUMU)
HANGS = """
import time
def process(events):
    if 77 in events.x.to_list():
        wait_for_ever()
    return {"n": len(events)}
def wait_for_ever():
    while True:
        time.sleep(0.01)
"""


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.root"
    with uproot.recreate(path) as file:
        file["events"] = {"x": np.arange(400)}
    return path


def test_a_packet_that_takes_its_time_is_no_hang(client: Any, write_script: Write, numbers: Path) -> None:
    """A second each, where a third of one is said to be a hang: but that is what they all take."""
    text = "import time\ndef process(events):\n    time.sleep(0.01 * len(events))\n    return len(events)\n"
    result = run(write_script(text), [input_file(numbers, 400)], client, hang_s=0.3, packet_entries=100)
    assert result.complete
    assert (result.output, result.packets, result.workers_lost) == (400, 4, 0)


def test_a_hang_is_seen_in_the_script_and_found_long_before_silence_tells(
    client: Any, write_script: Write, numbers: Path
) -> None:
    script = write_script(HANGS)
    options: dict[str, Any] = {"hang_s": 0.5, "packet_entries": 2, "stall_s": 600.0}
    seen: list[Any] = []
    feed = Feed([input_file(numbers, 400)], closed=True)
    options["progress_every_s"] = 0.05
    result = analyse(script, feed, client, AnalysisOptions(**options), lambda news: seen.extend(news.hanging))
    assert [(item.start, item.stop) for item in result.failed] == [(77, 78)]
    assert seen, "it is told while it is sought"
    assert all(item.start <= 77 < item.stop for item in seen)
    assert all("it was still at my_script.py:9" in item.failure.message for item in seen)
    assert result.output["n"] == result.entries_processed == 399
    failure = result.failed[0].failure
    assert failure.message.startswith("it hangs: after ")
    assert failure.message.endswith("it was still at my_script.py:9")
    assert "wait_for_ever()" in failure.traceback
    client.wait_for_workers(2, timeout=120)


def test_a_worker_that_dies_while_the_analysis_begins_costs_no_wait(client: Any, write_script: Write) -> None:
    """Its leaving is in the news, or it is not in the list: it is waited for by nobody."""
    script = write_script("def process(events):\n    return {'n': len(events)}\n")
    options = AnalysisOptions(stall_s=600.0)
    for delay_s in (0.0, 0.005, 0.01, 0.02, 0.03):
        client.wait_for_workers(2, timeout=120)
        pid = next(iter(client.run(os.getpid).values()))
        killer = threading.Timer(delay_s, os.kill, (pid, signal.SIGKILL))
        killer.start()
        feed = Feed([input_file(path) for path in ZMUMU], closed=True)
        begun = time.monotonic()
        assert analyse(script, feed, client, options).output["n"] == ALL
        assert time.monotonic() - begun < 120
        killer.join()
    client.wait_for_workers(2, timeout=120)


LIMIT_BYTES = 700_000_000


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Foreign]:
    """Two workers with Dask's own rules for memory, which nobody replaces."""
    worker = (*WORKER, "--nthreads", "1", "--memory-limit", str(LIMIT_BYTES))
    with foreign_cluster(tmp_path, worker, worker) as cluster:
        yield cluster


def fill_memory(dask_worker: Any) -> None:
    dask_worker.hoard = b"x" * (LIMIT_BYTES * 16 // 20)


def free_memory(dask_worker: Any) -> None:
    del dask_worker.hoard


fill_memory.__module__ = free_memory.__module__ = "__main__"  # sent as code: workers do not have the tests


def test_what_a_paused_worker_has_is_done_by_others_and_it_may_come_back(
    two: Foreign, write_script: Write
) -> None:
    client, script = two.client, write_script(COUNT)
    worker = min(two.workers)
    stages: list[int] = []

    def disturb(progress: Progress) -> None:
        here = progress.workers.get(worker)
        if not stages and here:
            client.run(fill_memory, workers=[worker])
            until(lambda: two.workers[worker]["status"] == "paused", 60)
            stages.append(progress.entries_done)
        elif len(stages) == 1 and here is None:
            client.run(free_memory, workers=[worker])
            stages.append(progress.entries_done)
        elif len(stages) == 2 and here:
            stages.append(progress.entries_done)

    files = Feed([input_file(path) for path in ZMUMU])
    options = AnalysisOptions(packet_entries=50, progress_every_s=0.05, stall_s=600.0, hang_s=2.0)
    enough = threading.Thread(target=lambda: (until(lambda: len(stages) == 3, 120), files.close()))
    enough.start()
    begun = time.monotonic()
    result = analyse(script, files, client, options, disturb)
    enough.join()
    assert len(stages) == 3, "it was paused, left alone, and given work again"
    assert time.monotonic() - begun < 120
    assert result.complete
    assert result.output["n"] == result.entries_processed == sum(result.entries_by_worker.values()) == ALL


def test_where_all_are_paused_it_is_said(two: Foreign, write_script: Write) -> None:
    client, script = two.client, write_script(COUNT)
    client.run(fill_memory)
    until(lambda: [one["status"] for one in two.workers.values()] == ["paused"] * 2, 60)
    options = AnalysisOptions(no_workers_s=3.0)
    with pytest.raises(WorkersLost, match=r"2 are paused, their memory is nearly full\. Give them"):
        analyse(script, Feed([input_file(path) for path in ZMUMU], closed=True), client, options)


WRONG_CLOCK = """
import sys, time
true, days = time.time, float(sys.argv.pop(1))
time.time = lambda: true() + days * 86400
from distributed.cli.dask_worker import main
main()
"""


def test_workers_with_a_wrong_clock_count_as_others_do(tmp_path: Path, write_script: Write) -> None:
    clocks = [("-c", WRONG_CLOCK, days, "--nthreads", "1") for days in ("-3", "400")]
    with foreign_cluster(tmp_path, *clocks) as cluster:
        options = AnalysisOptions(packet_entries=50, partial_every_s=0.2, stall_s=600.0)
        feed = Feed([input_file(path) for path in ZMUMU], closed=True)
        begun = time.monotonic()
        result = analyse(write_script(COUNT), feed, cluster.client, options)
        took_s = time.monotonic() - begun
    assert result.complete
    assert result.output["n"] == result.entries_processed == ALL
    assert len(result.efforts) == 2
    assert all(0 < worker.entries < ALL for worker in result.efforts)
    assert 0 < result.wall_s <= took_s
    assert all(0 <= worker.busy_s <= took_s for worker in result.efforts)
    assert 0 < (result.efficiency or 0) <= 1
