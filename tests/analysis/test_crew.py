"""Workers that go while they are asked for what they hold: nothing waits for ever, nothing counts twice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from distributed.client import ClosedClientError
from distributed.comm import CommClosedError

from support.analysis_site import input_file
from support.foreign_cluster import WORKER, foreign_cluster
from support.waiting import until
from vse.analysis.attendance import LOOKING_SHARE, Seen, look_at, pause_s
from vse.analysis.checkpoint import Checkpoint
from vse.analysis.crew import Crew
from vse.analysis.engine import AnalysisOptions, Feed, _Run, analyse
from vse.analysis.harvest import Harvester
from vse.analysis.packetizer import Packetizer, PacketStats
from vse.analysis.partials import Partial, Partials
from vse.analysis.result import AnalysisResult, Progress
from vse.analysis.runs import Event
from vse.analysis.script import Script
from vse.analysis.worker_partials import Spoiled
from vse.errors import OutputTooBig, ScriptFailed

pytestmark = pytest.mark.slow
Write = Callable[[str], Script]

ENTRIES = 1000
COUNT = "def process(events):\n    import time\n    time.sleep(0.5)\n    return {'n': len(events)}\n"
ONE_THREAD = (*WORKER, "--nthreads", "1")
GONE = "tcp://127.0.0.1:9"


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.root"
    with uproot.recreate(path) as file:
        file["events"] = {"x": np.arange(ENTRIES)}
    return path


def occupy(marker: str) -> None:
    import pathlib
    import time

    pathlib.Path(marker).touch()
    time.sleep(1000)


def asked_for(dask_scheduler: Any) -> bool:
    """Whether a worker has been asked for a partial result, and has not handed it over."""
    return any("-take-" in str(key) and task.processing_on for key, task in dask_scheduler.tasks.items())


occupy.__module__ = asked_for.__module__ = "__main__"  # sent as code: the cluster does not have the tests


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Start one more worker of the foreign cluster in ``tmp_path``."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        file = str(tmp_path / "scheduler.json")
        common = ("--scheduler-file", file, "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
        with (tmp_path / "told_by_worker").open("ab") as told:
            words = [sys.executable, *ONE_THREAD, *common]
            started.append(subprocess.Popen(words, cwd=tmp_path, stderr=told))
        until((lambda: b"Registered to" in (tmp_path / "told_by_worker").read_bytes()), process=started[-1])

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_what_the_only_worker_held_when_it_left_is_done_again_by_the_next(
    write_script: Write, numbers: Path, tmp_path: Path, start_worker: Callable[[], None]
) -> None:
    """Dask takes nothing anew that nobody was there for: it is not waited for."""
    occupied = tmp_path / "occupied"
    stages: list[Any] = []
    options = AnalysisOptions(packet_entries=ENTRIES // 2, progress_every_s=0.02, stall_s=40.0)
    with foreign_cluster(tmp_path, ONE_THREAD) as cluster:
        client, before = cluster.client, min(cluster.workers)

        def go_when_asked(progress: Progress) -> None:
            if not stages:
                # begins once both packets are done, and keeps the worker from handing over what they gave
                stages.append(client.submit(occupy, str(occupied), workers=[before], priority=-1000))
            elif len(stages) == 1 and occupied.exists() and client.run_on_scheduler(asked_for):
                cluster.processes[1].kill()
                until(lambda: not cluster.workers)
                start_worker()
                stages.append("left")

        feed = Feed([input_file(numbers, ENTRIES)], closed=True)
        result = analyse(write_script(COUNT), feed, client, options, go_when_asked)
    assert stages[1:] == ["left"], "it left while it was asked"
    assert result.wall_s < options.stall_s, "it was waited for"
    assert (result.complete, result.workers_lost) == (True, 1)
    assert result.output["n"] == result.entries_processed == ENTRIES


def test_a_connection_that_is_lost_again_and_again_costs_no_entries(
    write_script: Write, numbers: Path, tmp_path: Path, start_worker: Callable[[], None]
) -> None:
    """No file is to blame for it, and who joined meanwhile is heard of."""
    cuts: list[int] = []
    files = Feed([input_file(numbers, ENTRIES)])
    options = AnalysisOptions(packet_entries=50, progress_every_s=0.02, partial_every_s=0.1)
    with foreign_cluster(tmp_path, ONE_THREAD) as cluster:
        client = cluster.client

        def cut() -> None:
            client.scheduler_comm.comm.abort()
            if len(cuts) == 4:
                start_worker()

        def disturb(progress: Progress) -> None:
            if len(cuts) < 4 and progress.entries_done > 100:
                cuts.append(progress.entries_done)
                before = client.scheduler_comm
                client.loop.add_callback(cut)
                until(lambda: client.scheduler_comm not in (before, None))
            elif len(progress.workers) == 2:
                files.close()

        script = write_script(COUNT.replace("0.5", "0.05"))
        result = analyse(script, files, client, options, disturb)
    assert len(cuts) == 4
    assert result.complete, (result.broken, result.failed)
    assert result.output["n"] == result.entries_processed == ENTRIES


@pytest.fixture
def lonely() -> Iterator[Any]:
    """A client of a scheduler without any worker: what is submitted stays where it is."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def in_loop_of(client: Any, work: Any, timeout_s: float = 30.0) -> Any:
    return asyncio.run_coroutine_threadsafe(work, client.loop.asyncio_loop).result(timeout_s)


@pytest.mark.parametrize("number", [1, 20])
def test_a_collection_ends_in_time_whatever_does_not_come(
    lonely: Any, write_script: Write, number: int
) -> None:
    harvester = Harvester(lonely, "run", write_script(COUNT).source, 10**6)
    partials = [Partial(one, GONE) for one in range(number)]
    harvester.ask(partials)
    harvest = in_loop_of(lonely, harvester.collect(partials, limit_s=0.2))
    assert (harvest.parts, harvest.lost) == (None, list(range(number)))


def test_a_collection_that_is_given_up_ends_at_once(lonely: Any, write_script: Write) -> None:
    harvester = Harvester(lonely, "run", write_script(COUNT).source, 10**6)
    partials = [Partial(number, GONE) for number in range(20)]
    harvester.ask(partials)

    async def collect() -> Any:
        collection = asyncio.ensure_future(harvester.collect(partials, limit_s=600.0))
        await asyncio.sleep(0)
        await harvester.give_up([partial.future for partial in partials])
        return await collection

    assert in_loop_of(lonely, collect()).lost == list(range(20))
    # so does the next, where nobody took them off the list
    again = in_loop_of(lonely, harvester.collect(partials, limit_s=600.0))
    assert (again.parts, again.lost) == (None, list(range(20)))


class Fails:
    """A client that cannot fetch anything."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.status = "finished"

    def submit(self, *_: Any, **__: Any) -> Fails:
        return self

    async def exception(self) -> None:
        return None

    def __await__(self) -> Any:
        raise self.error
        yield


def test_what_cannot_be_fetched_for_want_of_memory_is_told_as_too_big(write_script: Write) -> None:
    harvester = Harvester(Fails(MemoryError()), "run", write_script(COUNT).source, 10**6)
    partials = [Partial(1, GONE)]
    harvester.ask(partials)
    harvest = asyncio.run(harvester.collect(partials, limit_s=10.0))
    assert isinstance(harvest.spoiled, Spoiled)
    assert harvest.spoiled.too_big
    assert "memory" in harvest.spoiled.failure.message


def test_a_defect_is_no_lost_worker(write_script: Write) -> None:
    harvester = Harvester(Fails(ZeroDivisionError("a defect")), "run", write_script(COUNT).source, 10**6)
    partials = [Partial(1, GONE)]
    harvester.ask(partials)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(harvester.collect(partials, limit_s=10.0))


class Told:
    """A client whose scheduler says ``error``; None: there is none any more."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.scheduler = None if error is None else self

    async def identity(self, **_: Any) -> None:
        assert self.error is not None
        raise self.error


@pytest.mark.parametrize("error", [CommClosedError("gone"), TimeoutError(), ClosedClientError(), None])
def test_where_the_scheduler_is_gone_nothing_is_seen_of_workers(error: Exception | None) -> None:
    assert asyncio.run(look_at(Told(error), [GONE], "script.py")) == {}


def test_looking_is_made_up_for_but_not_waiting_for_one_that_does_not_answer() -> None:
    """Seen once under load: a worker was asked that just ended, and one that hung was not for 200 s more."""
    answered, silent, gone = Seen("running", []), Seen("running"), Seen("gone")
    assert pause_s(10.0, [answered, answered], 0.1) == 10.0 * LOOKING_SHARE
    assert pause_s(0.001, [answered], 0.1) == 0.1
    for seen in ([answered, silent], [silent], [gone], []):
        assert pause_s(10.0, seen, 0.1) == 0.1


def test_a_defect_is_no_lost_scheduler() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(look_at(Told(ZeroDivisionError("a defect")), [GONE], "script.py"))


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def crew(client: Any, write_script: Write, told: list[Event]) -> Crew:
    packetizer, source = Packetizer(fixed_entries=10), write_script(COUNT).source
    harvester = Harvester(client, "run", source, 10**6)
    order: Any = None
    return Crew(
        client, packetizer, Partials(), AnalysisOptions(), source, "run", harvester, order, told.append
    )


def test_a_worker_given_up_before_its_collection_begins_counts_once(client: Any, crew: Crew) -> None:
    """It may still hand over what it was asked for: until the collection tells, this is not done again."""
    worker = min(client.scheduler_info(n_workers=-1)["workers"])
    crew.packetizer.add_file("/a", 10)
    crew.packetizer.no_more_files()
    crew.joined(worker)
    (packet,) = crew.packetizer.next_packets(worker)
    number = crew.partials.send(worker)
    crew.packetizer.done(packet, PacketStats(10, 0.1))
    crew.partials.answered(number, [packet])
    crew.partials.seal()
    whole = crew.partials.whole()
    crew.harvester.ask(whole)
    crew.looked({worker: Seen("gone")})
    assert not crew.packetizer.has_work, "its packet is given to another"
    harvest = in_loop_of(client, crew.harvester.collect(whole, limit_s=30.0))
    assert harvest.lost == [number]
    crew.undo(worker, harvest.lost)
    assert crew.packetizer.has_work
    assert not crew.partials


def test_what_was_added_to_a_partial_result_after_it_was_given_up_is_done_again(
    client: Any, write_script: Write, numbers: Path
) -> None:
    """Of two tasks that add to one accumulator, one crashes and the other is answered then."""
    feed = Feed([input_file(numbers, ENTRIES)], closed=True)
    options = AnalysisOptions(packet_entries=100)
    run = _Run(write_script(COUNT), client, options, None, None, None)
    feed.connect(run.events.put)
    tell, crashed = run.crew.tell, []

    def crash_first(event: Event) -> None:
        """The answer of one task gets lost on its way while another of the same partial result is open."""
        if event.kind == "answered" and not crashed and len(run.crew.members[run_worker(event)].tasks) > 1:
            crashed.append(event.task)
            event = Event("crashed", CancelledError(), event.task)
        tell(event)

    def run_worker(event: Event) -> str:
        return run.crew.tasks[event.task].worker

    run.crew.tell = crash_first
    try:
        result = run.run()
    finally:
        run.stop()
    assert crashed
    assert result.complete
    assert result.output["n"] == result.entries_processed == sum(result.entries_by_worker.values()) == ENTRIES


def test_what_goes_wrong_beside_the_analysis_ends_it(client: Any, crew: Crew, told: list[Event]) -> None:
    async def defect() -> None:
        raise ZeroDivisionError("a defect")

    crew.in_loop(defect())
    until(lambda: told)
    assert [(event.kind, type(event.value)) for event in told] == [("broke", ZeroDivisionError)]


def test_a_defect_in_a_collection_is_raised_and_not_waited_for(
    client: Any, write_script: Write, numbers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def defect(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(Harvester, "collect", defect)
    feed = Feed([input_file(numbers, ENTRIES)], closed=True)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        analyse(write_script(COUNT), feed, client, AnalysisOptions())


STUCK = """
class Sum:
    pickled = 0

    def __reduce__(self):
        self.pickled += 1
        if self.pickled > 1:
            raise ValueError("x" * 20_000)
        return Sum, ()

def process(events):
    return Sum()
"""


def test_a_failure_of_many_words_is_told_as_it_is(client: Any, write_script: Write, numbers: Path) -> None:
    feed = Feed([input_file(numbers, ENTRIES)], closed=True)
    with pytest.raises(ScriptFailed, match=r"my_script.py:8: ValueError: xxx") as told:
        analyse(write_script(STUCK), feed, client, AnalysisOptions(packet_entries=ENTRIES))
    assert "raise ValueError" in told.value.__notes__[0]


HEAVY = """
import multiprocessing, pathlib, time

class Sum:
    def __init__(self, n):
        self.n = n

    def __add__(self, other):
        self.n += other.n
        if multiprocessing.parent_process() is None and pathlib.Path({flag!r}).exists():
            raise MemoryError
        return self

def process(events):
    time.sleep(0.02)
    return {{"n": len(events), "sum": Sum(len(events))}}
"""


@pytest.mark.parametrize("checkpoint_every_s", [0.0, 1000.0])
def test_no_memory_to_add_it_up_is_told_and_the_checkpoint_has_what_held_before(
    client: Any, write_script: Write, numbers: Path, tmp_path: Path, checkpoint_every_s: float
) -> None:
    """The addition that fails has half changed the output: nothing of that is written."""
    flag, path = tmp_path / "flag", tmp_path / "it.checkpoint"
    script = write_script(HEAVY.format(flag=str(flag)))
    options = AnalysisOptions(
        packet_entries=20,
        partial_every_s=0.05,
        progress_every_s=0.02,
        checkpoint_every_s=checkpoint_every_s,
    )

    def fill(progress: Progress) -> None:
        if progress.entries_merged:
            flag.touch()

    def go(**more: Any) -> AnalysisResult:
        feed = Feed([input_file(numbers, ENTRIES)], closed=True)
        return analyse(script, feed, client, options, checkpoint=path, **more)

    with pytest.raises(OutputTooBig, match="there is no memory left to add it up") as told:
        go(on_progress=fill)
    assert "max_output_bytes" in str(told.value)
    flag.unlink()
    before = 0
    if checkpoint_every_s:
        assert not path.exists()
    else:
        kept = Checkpoint.at(path, script.source)
        before = kept.entries
        assert 0 < before < ENTRIES
        assert kept.output["n"] == kept.output["sum"].n == before
        assert f"{before:,} entries are kept in {path}" in str(told.value)
    whole = go()
    assert (whole.complete, whole.entries_resumed) == (True, before)
    assert whole.output["n"] == whole.output["sum"].n == ENTRIES
