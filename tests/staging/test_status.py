"""How far a request is, when it should be through, and why nothing moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clock import Clock
from support.staging_site import BASE, StagingSite
from vse.errors import ServerFault
from vse.model import Lfn
from vse.staging.told import status_to_json
from vse.staging.values import RequestStatus
from vse.staging.why import waits_for
from vse.transfer.lifecycle import Failed, Progressed, State, Succeeded, Transfer
from vse.transfer.queue import Report
from vse.transfer.shares import Slots


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def clocked(tmp_path: Path, clock: Clock) -> StagingSite:
    one = StagingSite(tmp_path, clock=clock, settings={"slots": 2, "slots_per_source": 2})
    one.add({f"f{number:02}.dat": bytes(1000) for number in range(40)})
    return one


def status(site: StagingSite, request: int) -> RequestStatus:
    (found,) = site.progress.status(site.staging.get([request]))
    return found


def move(site: StagingSite, clock: Clock, turns: int, took_s: float = 10.0) -> None:
    """Let two files at a time come, each in ten seconds; another pair is claimed at the end."""
    for _ in range(turns):
        claimed = site.queue.claim("me", 2, Slots(2, 2))
        clock.now_s += took_s
        done = [Report(one.id, one.attempts, Succeeded("file:///x", one.size_bytes)) for one in claimed]
        site.queue.report("me", done)
    site.queue.claim("me", 2, Slots(2, 2))
    site.staging.settle()


def test_before_anything_moved_it_says_so(clocked: StagingSite) -> None:
    request = clocked.ask()
    found = status(clocked, request)
    assert found.eta is None
    assert "nothing moves now" in found.note
    clocked.queue.claim("me", 2, Slots(2, 2))
    assert status(clocked, request).note == "nothing was measured yet"
    (why,) = clocked.explainer.explain(Lfn(f"{BASE}/f30.dat")).transfers
    assert (why.arrival, why.reason) == (None, "all 2 slots are taken; nothing was measured yet")


def test_a_steady_run_is_foretold(clocked: StagingSite, clock: Clock) -> None:
    """Forty files of ten seconds over two slots; half have come: the last is here in 100 s."""
    request = clocked.ask()
    move(clocked, clock, 10)
    found = status(clocked, request)
    assert (found.here_files, found.running, found.note) == (20, 2, "")
    assert found.eta is not None
    assert found.eta.low_s < 100 < found.eta.high_s
    assert found.eta.likely_s == pytest.approx(100, rel=0.25)
    (middle,) = clocked.explainer.explain(Lfn(f"{BASE}/f30.dat")).transfers
    assert middle.arrival is not None
    assert middle.arrival.likely_s == pytest.approx(60, rel=0.35)
    assert middle.arrival.likely_s < found.eta.likely_s


def test_a_running_file_comes_before_those_that_wait(clocked: StagingSite, clock: Clock) -> None:
    clocked.ask()
    move(clocked, clock, 10)
    (running,) = clocked.explainer.explain(Lfn(f"{BASE}/f20.dat")).transfers
    assert running.position == 0
    assert running.arrival is not None
    assert running.arrival.likely_s == pytest.approx(10, rel=0.5)
    clock.now_s += 5
    one = running.transfer
    clocked.queue.heartbeat("me", {one.id: (one.attempts, Progressed(500, "file:///x"))})
    (later,) = clocked.explainer.explain(one.lfn).transfers
    assert later.arrival is not None
    assert later.arrival.likely_s == pytest.approx(5, rel=0.3)


def test_somebody_elses_queue_ahead_makes_it_later(clocked: StagingSite, clock: Clock) -> None:
    first = clocked.ask("f[0-2]*.dat")
    move(clocked, clock, 5)
    before = status(clocked, first).eta
    clocked.staging.change_priority(clocked.ask("f3*.dat", owner="ben"), 1)
    after = status(clocked, first).eta
    assert before is not None
    assert after is not None
    assert after.likely_s > before.likely_s + 30


def test_a_file_in_its_back_off_says_until_when_and_why(clocked: StagingSite, clock: Clock) -> None:
    clocked.ask()
    move(clocked, clock, 3)
    (running, _) = (one for one in map(_transfer(clocked), range(40)) if one.state is State.RUNNING)
    error = ServerFault("read http://far/x", "it answered 500")
    clocked.queue.report("me", [Report(running.id, running.attempts, Failed(error, "http://far/x", 9))])
    (told,) = clocked.explainer.explain(running.lfn).transfers
    assert told.transfer.state is State.WAITING
    assert "tried again at" in told.reason
    assert "it answered 500" in told.reason
    assert told.arrival is not None


def _transfer(site: StagingSite) -> Callable[[int], Transfer]:
    return lambda number: site.queue.of_lfn(Lfn(f"{BASE}/f{number:02}.dat"))[0]


def test_why_a_queued_file_is_not_taken_names_the_slots_that_are(clocked: StagingSite) -> None:
    clocked.ask()
    one = _transfer(clocked)(0)
    assert "slots are free" in waits_for(one, {}, Slots(2, 2))
    assert waits_for(one, {("REMOTE", "LOCAL"): 2}, Slots(2, 2)) == "all 2 slots are taken"
    full = waits_for(one, {("REMOTE", "LOCAL"): 2}, Slots(9, 9, sources={"REMOTE": 2}))
    assert full == "all 2 slots from REMOTE are taken"
    full = waits_for(one, {("OTHER", "LOCAL"): 3}, Slots(9, 9, destinations={"LOCAL": 3}))
    assert full == "all 3 slots to LOCAL are taken"


def test_a_status_is_json(clocked: StagingSite, clock: Clock) -> None:
    request = clocked.ask()
    move(clocked, clock, 3)
    told = json.loads(json.dumps(status_to_json(status(clocked, request))))
    assert told["eta"].keys() == {"low_s", "likely_s", "high_s"}
    assert told["files"]["done"] == 6
    assert told["reason"] == ""
