"""Workers that stall, die or fail while they start: the analysis begins with the first that is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.analysis_site import ZMUMU, input_file, needs_data, run
from support.waiting import until
from vse.analysis import nannies
from vse.analysis.cluster import LocalWorkers
from vse.analysis.script import Script
from vse.errors import WorkersLost

pytestmark = pytest.mark.slow
Write = Callable[[str], Script]
COUNT = "def process(events):\n    return {'n': len(events)}\n"


def starting(of: psutil.Process, *, but: set[int] = frozenset()) -> list[int]:  # type: ignore[assignment]
    """Return the worker processes among the children of a process."""
    found = []
    for child in of.children():
        try:
            if "spawn_main" in " ".join(child.cmdline()) and child.pid not in but:
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture
def before() -> set[int]:
    """Processes that are no business of these tests."""
    return {child.pid for child in psutil.Process().children()}


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)


@needs_data
def test_a_worker_that_stalls_while_it_starts_holds_nobody_up(write_script: Write, before: set[int]) -> None:
    me = psutil.Process()
    local = LocalWorkers(3)
    first = until(lambda: starting(me, but=before))[0]
    os.kill(first, signal.SIGSTOP)
    begun = time.monotonic()
    result = run(write_script(COUNT), [input_file(path) for path in ZMUMU], local.client)
    assert time.monotonic() - begun < nannies.START_S / 2
    assert result.complete
    assert result.output["n"] == 2304 * len(ZMUMU)
    assert psutil.Process(first).status() == psutil.STATUS_STOPPED
    pids = starting(me, but=before)
    begun = time.monotonic()
    local.close()
    assert time.monotonic() - begun < 3
    assert first in pids
    until(lambda: gone(pids))


def test_one_that_never_gets_up_is_replaced(before: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    me = psutil.Process()
    with LocalWorkers(2) as local:
        stalled = until(lambda: starting(me, but=before))[0]
        os.kill(stalled, signal.SIGSTOP)
        local.client.wait_for_workers(1, timeout=60)
        monkeypatch.setattr(nannies, "START_S", 0.5)
        until(lambda: not psutil.pid_exists(stalled))
        monkeypatch.undo()
        local.client.wait_for_workers(2, timeout=60)


def test_a_worker_that_is_killed_while_it_starts_is_replaced(before: set[int]) -> None:
    me = psutil.Process()
    with LocalWorkers(2) as local:
        os.kill(until(lambda: starting(me, but=before))[0], signal.SIGKILL)
        local.client.wait_for_workers(2, timeout=60)


def test_where_all_die_while_they_start_the_error_says_so_soon(before: set[int]) -> None:
    me, over = psutil.Process(), threading.Event()

    def kill_all() -> None:
        while not over.wait(0.02):
            for pid in starting(me, but=before):
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    killer.start()
    begun = time.monotonic()
    try:
        with LocalWorkers(2) as local, pytest.raises(WorkersLost) as caught:
            _ = local.client
    finally:
        over.set()
        killer.join()
    assert time.monotonic() - begun < 20
    told = str(caught.value)
    assert told.startswith("cannot start 2 workers: they ended while they started. Look at the memory")


def test_what_hinders_all_of_them_is_told(write_script: Write) -> None:
    import dask

    with (
        dask.config.set({"distributed.nanny.preload": ["no_such_module_at_all"]}),
        LocalWorkers(1) as local,
        pytest.raises(WorkersLost, match=r"start 1 worker: .*no_such_module_at_all'?\. Look") as caught,
    ):
        _ = local.client
    assert ".." not in str(caught.value)


def test_to_close_during_the_start_takes_a_moment_and_leaves_nothing(before: set[int]) -> None:
    me = psutil.Process()
    local = LocalWorkers(3)
    pids = until(lambda: len(found := starting(me, but=before)) == 3 and found)
    os.kill(pids[0], signal.SIGSTOP)
    begun = time.monotonic()
    local.close()
    assert time.monotonic() - begun < 3
    until(lambda: gone(pids))
    assert starting(me, but=before) == []
    with pytest.raises(WorkersLost, match="they were closed"):
        _ = local.client


PROGRAM = """
from vse.analysis.cluster import LocalWorkers

if __name__ == "__main__":
    with LocalWorkers(3) as workers:
        try:
            workers.client.wait_for_workers(99)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
"""


@pytest.mark.parametrize("stalled", [False, True])
def test_ctrl_c_during_the_start_leaves_no_process(tmp_path: Path, stalled: bool) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, program], start_new_session=True, **pipes)
    parent = psutil.Process(process.pid)
    pids = until(lambda: len(found := starting(parent)) == 3 and found)
    if stalled:
        os.kill(pids[1], signal.SIGSTOP)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "interrupted\n", "")
    until(lambda: gone(pids))
