"""Exactly once under fire: workers killed at random times, and every entry of the real files counted once.

``VSE_KILL_RUNS`` says how often (50 shows what issue 6 asks for; the default is a look).
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from support.analysis_site import ZMUMU, input_file, needs_data
from vse.analysis.cluster import LocalWorkers
from vse.analysis.engine import AnalysisOptions, Feed, analyse
from vse.analysis.script import Script

pytestmark = [pytest.mark.slow, needs_data]
Write = Callable[[str], Script]

WORKERS = 5
RUNS = int(os.environ.get("VSE_KILL_RUNS", "3"))
SCRIPT = """
import hist, time
def process(events):
    time.sleep(0.01)
    name = events.attrs["lfn"]
    mass = hist.Hist.new.Reg(60, 60, 120, name="m").Double()
    mass.fill(events.M.to_numpy())
    return {"entries": {name: len(events)}, "mass": mass, "numbers": {name: events.Event.to_list()}}
"""


@pytest.fixture(scope="module")
def five() -> Iterator[LocalWorkers]:
    with LocalWorkers(WORKERS) as workers:
        yield workers


def everybody(five: LocalWorkers) -> Any:
    """A client of workers that are all there again."""
    five.client.wait_for_workers(WORKERS, timeout=120)
    return five.client


def kill_at_random(client: Any, dice: random.Random, ended: threading.Event) -> list[int]:
    """Kill a fifth of the workers, each at its own time; return their process numbers."""
    killed: list[int] = []
    while not killed or dice.random() < 0.2:
        if ended.wait(dice.uniform(0.0, 0.5)):
            break
        pids = [info for info in client.run(os.getpid, on_error="ignore").values() if isinstance(info, int)]
        if pids and not ended.is_set():
            killed.append(dice.choice(pids))
            with suppress(ProcessLookupError):
                os.kill(killed[-1], signal.SIGKILL)
    return killed


@pytest.mark.timeout(max(300, 30 * RUNS))
def test_a_fifth_of_the_workers_killed_at_random_times(five: LocalWorkers, write_script: Write) -> None:
    script = write_script(SCRIPT)
    options = AnalysisOptions(packet_entries=100, partial_every_s=0.05, progress_every_s=0.02)
    files = [input_file(path) for path in ZMUMU]
    calm = analyse(script, Feed(files, closed=True), everybody(five), options)
    killed, lost = 0, 0
    for number in range(RUNS):
        client = everybody(five)
        ended, dice = threading.Event(), random.Random(number)
        counts: list[int] = []
        killer = threading.Thread(
            target=lambda client=client, dice=dice, ended=ended, counts=counts: counts.extend(
                kill_at_random(client, dice, ended)
            )
        )
        killer.start()
        try:
            result = analyse(script, Feed(files, closed=True), client, options)
        finally:
            ended.set()
            killer.join()
        killed += len(counts)
        lost += result.workers_lost
        assert result.complete, number
        assert result.output["entries"] == {file.lfn: 2304 for file in files}, number
        assert [item.entries_done for item in result.files] == [2304] * len(files), number
        assert result.entries_processed == 2304 * len(files)
        for file in files:
            assert sorted(result.output["numbers"][file.lfn]) == sorted(calm.output["numbers"][file.lfn])
        assert (result.output["mass"].values(flow=True) == calm.output["mass"].values(flow=True)).all()
    assert killed >= RUNS
    assert lost, "nobody was killed while it ran"
    print(f"{RUNS} runs, {killed} killed, {lost} lost while it ran")
