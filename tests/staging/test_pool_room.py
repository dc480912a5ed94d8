"""A transfer that waits for room in the pool: no failure, no slot taken, and it says what it waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.pool_site import NOW_S, PoolSite
from support.staging_site import BASE
from vse.errors import BadRequest, GivenUp, QuotaExceeded, StorageFull, VseError
from vse.model import Lfn
from vse.staging.quotas import Quota
from vse.staging.stager import Parts, Stager
from vse.staging.why import waits_for
from vse.transfer.lifecycle import State, Transfer


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[PoolSite]:
    one = PoolSite(tmp_path, size=1000, settings={"max_failures": 1})
    yield one
    one.close()


def work(site: PoolSite, request: int) -> None:
    """Let a stager work until nothing is left to do at this moment."""
    room = site.pool.reservations
    parts = Parts(
        site.catalogue, site.catalogue, site.elements, site.queue, site.staging, site.verifier, room=room
    )
    stop = threading.Event()
    stager = Stager(parts, site.settings, lambda _: None, site.clock)
    thread = threading.Thread(target=stager.run, args=(stop, [request]))
    thread.start()
    pause = threading.Event()
    while thread.is_alive() and busy(site):
        pause.wait(0.02)
    stop.set()
    stager.wake()
    thread.join()


def busy(site: PoolSite) -> bool:
    due_s = site.queue.next_due_s()
    now = sum(site.queue.tallies()[state].files for state in (State.QUEUED, State.RUNNING))
    return bool(now) or (due_s is not None and due_s <= site.now_s)


def transfer(site: PoolSite, name: str) -> Transfer:
    (one,) = site.queue.of_lfn(Lfn(f"{BASE}/{name}"))
    return one


def waits(site: PoolSite, name: str, kind: type[VseError]) -> None:
    one = transfer(site, name)
    assert (one.state, one.failures) == (State.WAITING, 0)
    assert isinstance(one.error, kind)
    assert one.not_before_s > NOW_S
    assert "it is tried again at" in waits_for(one, {}, site.progress.slots)
    assert str(one.error) in waits_for(one, {}, site.progress.slots)
    assert site.queue.attempts_of(one.id) == []
    assert site.used()[2] == 0  # no space is kept for it


def test_no_room_is_waited_for_however_few_failures_are_allowed(
    pool: PoolSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vse.staging.pool._PAUSE_S", 0.0)  # after a round that freed nothing
    pinned = pool.hold("pinned", 900)
    pool.pins.add("LOCAL", [pinned], "anna", None)
    pool.add({"new.dat": bytes(200)})
    request = pool.ask("new*")
    for _ in range(4):
        work(pool, request)
        waits(pool, "new.dat", StorageFull)
        pool.now_s = transfer(pool, "new.dat").not_before_s
    pool.pins.remove("LOCAL", [pinned], "anna")
    work(pool, request)
    assert transfer(pool, "new.dat").state is State.DONE
    assert pool.local(f"{BASE}/new.dat").read_bytes() == bytes(200)
    assert not pool.local(pinned).exists()


def test_a_quota_is_waited_for_and_others_go_on(pool: PoolSite) -> None:
    pool.quotas.set(Quota("LOCAL", "user", "anna", 100))
    pool.add({"new.dat": bytes(200), "small.dat": bytes(50)})
    request = pool.ask()
    work(pool, request)
    assert transfer(pool, "small.dat").state is State.DONE
    waits(pool, "new.dat", QuotaExceeded)
    pool.quotas.set(Quota("LOCAL", "user", "anna", 500))
    pool.now_s = transfer(pool, "new.dat").not_before_s
    work(pool, request)
    assert transfer(pool, "new.dat").state is State.DONE


def test_what_is_larger_than_the_whole_pool_is_given_up_at_once(pool: PoolSite) -> None:
    pool.add({"huge.dat": bytes(2000)})
    work(pool, pool.ask())
    one = transfer(pool, "huge.dat")
    assert one.state is State.FAILED
    assert isinstance(one.error, GivenUp)
    assert "all of it is 1 kB" in str(one.error)
    (attempt,) = pool.queue.attempts_of(one.id)
    assert isinstance(attempt.error, BadRequest)
