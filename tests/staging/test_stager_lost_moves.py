"""Moves that go on although they are nobody's any more, and what they must not take from others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from support.pool_site import PoolSite
from support.staging_site import BASE, StagingSite, file_element
from support.waiting import until
from vse.errors import DatabaseBusy, StorageFault, VseError
from vse.model import Lfn
from vse.staging.stager import Outcome, Parts, Stager
from vse.staging.stager_tape import Tapes
from vse.staging.values import RequestState
from vse.storage.element import Elements, ReadSource
from vse.transfer.instance import new_owner
from vse.transfer.lifecycle import Policy, State, Transfer
from vse.transfer.mover import Job, Live, Source
from vse.transfer.queue import Queue
from vse.transfer.shares import Slots

pytestmark = pytest.mark.slow


class HangsOnce(Elements):
    """A faulty wrapper: the first read of 'hangs' does not return before it is let go."""

    def __init__(self, real: Elements) -> None:
        super().__init__(list(real))
        self.reached, self.let_go, self.reads = threading.Event(), threading.Event(), 0

    def open(self, source: ReadSource) -> Any:
        if "hangs" in source.url:
            self.reads += 1
            if self.reads == 1:
                self.reached.set()
                self.let_go.wait()
        return super().open(source)


@contextmanager
def working(site: StagingSite, room: Any = None) -> Iterator[Stager]:
    """A stager of the site that works beside the test."""
    parts = Parts(
        site.catalogue, site.catalogue, site.elements, site.queue, site.staging, site.verifier, room=room
    )
    stop, stager = threading.Event(), Stager(parts, site.settings, site.news.append, site.clock)
    thread = threading.Thread(target=stager.run, args=(stop,))
    thread.start()
    try:
        yield stager
    finally:
        stop.set()
        stager.wake()
        thread.join(60)
        assert not thread.is_alive()


def one(site: StagingSite, name: str) -> Transfer:
    (found,) = site.queue.of_lfn(Lfn(f"{BASE}/{name}"))
    return found


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[StagingSite]:
    """A file whose first read hangs."""
    site = StagingSite(tmp_path, settings={"slots": 2})
    site.elements = HangsOnce(site.elements)
    site.add({"hangs.dat": b"content"})
    yield site
    site.elements.let_go.set()
    site.close()


def test_what_is_cancelled_and_wanted_again_at_once_does_not_wait_for_the_move_before(
    hung: StagingSite,
) -> None:
    """It is claimed again before the heartbeat tells that the first move is not wanted any more."""
    first = hung.ask()
    with working(hung):
        assert hung.elements.reached.wait(60)
        hung.staging.cancel(first)
        second = hung.ask()
        until(lambda: hung.staging.get([second])[0].state is RequestState.DONE, 30)
        hung.elements.let_go.set()
        until(lambda: not hung.partials(), what="the first move leaves nothing behind")
    assert hung.local(f"{BASE}/hangs.dat").read_bytes() == b"content"
    assert one(hung, "hangs.dat").attempts == 2


def test_a_clock_that_jumps_forward_lets_a_stager_keep_what_it_moves(tmp_path: Path) -> None:
    ahead_s = 0.0
    site = StagingSite(tmp_path, settings={"slots": 2}, clock=lambda: time.time() + ahead_s)
    site.elements = HangsOnce(site.elements)
    site.add({"hangs.dat": b"content"})
    site.ask()
    with working(site) as stager:
        assert site.elements.reached.wait(60)
        ahead_s = 3600.0
        site.add({"other.dat": b"more"})
        site.ask("other*")
        stager.wake()
        until(lambda: one(site, "other.dat").state is State.DONE)
        site.elements.let_go.set()
        until(lambda: one(site, "hangs.dat").state is State.DONE)
    assert (one(site, "hangs.dat").attempts, site.elements.reads) == (1, 1)
    site.close()


def test_a_move_that_hangs_and_is_given_up_keeps_no_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vse.staging.stager._GRACE_S", 0.2)
    site = PoolSite(tmp_path, clock=time.time, settings={"slots": 1, "no_progress_s": 0.3, "max_failures": 1})
    site.elements = HangsOnce(site.elements)
    site.add({"hangs.dat": bytes(700), "other.dat": bytes(600)})
    with working(site, site.pool.reservations):
        site.ask("hangs*")
        until(lambda: one(site, "hangs.dat").state is State.FAILED)
        assert site.used() == (0, 0, 0)
        site.ask("other*")  # both do not fit
        until(lambda: one(site, "other.dat").state is State.DONE)
        site.elements.let_go.set()
    assert site.used() == (1, 600, 0)
    site.close()


def test_who_lost_a_file_to_another_stager_does_not_give_back_the_space_of_that_one(tmp_path: Path) -> None:
    site = PoolSite(tmp_path)
    lfn, me, other = Lfn(f"{BASE}/a"), new_owner(), new_owner()
    room = site.pool.reservations
    room.reserve("LOCAL", lfn, 100, "anna", holder=me)
    room.reserve("LOCAL", lfn, 100, "anna", holder=other)
    room.release("LOCAL", [lfn], me)
    assert site.used() == (0, 0, 100)
    room.release("LOCAL", [lfn], other)
    assert site.used() == (0, 0, 0)
    site.close()


class Stutters(Queue):
    """A faulty wrapper: a call that a move makes is not answered, once."""

    error: VseError | None = None

    def try_source(self, *given: Any) -> bool:
        error, self.error = self.error, None
        if error is not None:
            raise error
        return super().try_source(*given)


class StuttersRoom:
    """Likewise, for keeping space."""

    def __init__(self, error: VseError | None) -> None:
        self.error = error

    def reserve(self, *_given: Any, **_more: Any) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error

    def release(self, *_given: Any) -> None: ...

    def turn_into_holdings(self, *_given: Any) -> list[Lfn]:
        return []


@pytest.mark.parametrize("error", [StorageFault("ask", "it hung up"), DatabaseBusy("ask", "it is locked")])
@pytest.mark.parametrize("where", ["source", "room"])
def test_a_database_that_does_not_answer_a_move_is_no_failure_of_its_file(
    tmp_path: Path, error: VseError, where: str
) -> None:
    places = [file_element(name, tmp_path / name.lower()) for name in ("AWAY", "REMOTE", "LOCAL")]
    site = StagingSite(tmp_path, elements=places, settings={"max_failures": 1})
    site.queue = queue = Stutters(site.database, Policy.of(site.settings))
    (lfn,) = site.add({"a.dat": b"content"})
    site.add_replica(lfn, b"content", "AWAY")  # read first, by its name, and not there
    queue.error = error if where == "source" else None
    with working(site, StuttersRoom(error if where == "room" else None)):
        request = site.ask()
        until(lambda: site.staging.get([request])[0].is_over)
    assert (one(site, "a.dat").state, one(site, "a.dat").failures) == (State.DONE, 0)
    told = [str(attempt.error) for attempt in site.queue.attempts_of(one(site, "a.dat").id) if attempt.error]
    assert [error.found in reason for reason in told] == ([True] if where == "source" else [])
    site.close()


class BreaksTape(Elements):
    """A faulty wrapper: a driver that breaks when it is asked where files are."""

    def get(self, name: str) -> Any:
        raise RuntimeError(f"{name} has a defect")


def test_a_driver_that_breaks_over_tapes_fails_its_files_and_no_later_one_is_forgotten(
    tmp_path: Path,
) -> None:
    site = StagingSite(tmp_path)
    site.add({"a.dat": b"content"})
    site.ask()
    (claimed,) = site.queue.claim("me", 1, Slots(1, 1))
    ended: SimpleQueue[Outcome] = SimpleQueue()
    tapes = Tapes(BreaksTape(list(site.elements)), time.time, lambda *_: None, ended.put)
    for _ in range(2):
        live = Live(claimed, time.monotonic())
        source = Source("REMOTE", "tape:a", lambda: None, tape=claimed.lfn)
        tapes.take([(live, Job(claimed, [source], None))])
        outcome = ended.get(timeout=60)
        assert outcome.live is live
        assert "REMOTE has a defect" in str(outcome.error)
    tapes.stop()
    site.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stager_whose_leases_nobody_renews_any_more_ends(
    hung: StagingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_given: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Stager, "_beat", breaks)
    request = hung.ask()
    with pytest.raises(VseError, match="the thread that does has ended"):
        hung.work([request])
    assert one(hung, "hangs.dat").state is State.QUEUED
