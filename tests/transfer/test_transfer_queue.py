"""The queue as rows of a database, shared by stagers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.dialects import postgresql

from vse.db import Database
from vse.errors import ServerFault
from vse.model import Lfn
from vse.transfer.instance import dead, new_owner
from vse.transfer.lifecycle import Failed, Policy, Progressed, State, Succeeded, Wanted
from vse.transfer.queue import Queue, Report, due_query

BROKEN = ServerFault("read it", "it answered 500")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Iterator[Queue]:
    database = Database.open(f"sqlite:///{tmp_path / 'q.db'}")
    yield Queue(database, Policy(backoff_s=10, lease_s=30), clock)
    database.close()


def names(count: int, prefix: str = "f") -> list[Lfn]:
    return [Lfn(f"/d/{prefix}{number:03}") for number in range(count)]


def fill(queue: Queue, lfns: list[Lfn], se: str | None = None) -> dict[Lfn, int]:
    return queue.enqueue("LOCAL", {lfn: Wanted(10, 1, "", se) for lfn in lfns})


def test_the_same_file_wanted_twice_is_one_transfer(queue: Queue) -> None:
    first = fill(queue, names(2500))
    again = fill(queue, names(2500))
    assert first == again
    assert queue.tallies()[State.QUEUED] == (2500, 25000, 0)


def test_files_are_claimed_in_order_and_only_once(queue: Queue) -> None:
    fill(queue, names(5))
    claimed = [one.lfn for _ in range(4) for one in queue.claim(new_owner(), 2, 100, 100)]
    assert claimed == names(5)


def test_a_failed_file_comes_after_all_others_and_not_before_its_time(queue: Queue, clock: Clock) -> None:
    fill(queue, names(3))
    me = new_owner()
    (first,) = queue.claim(me, 1, 100, 100)
    queue.report(me, [Report(first.id, first.attempts, Failed(BROKEN))])
    assert [one.lfn for one in queue.claim(me, 9, 100, 100)] == names(3)[1:]
    assert queue.next_due_s() == clock.now_s + 10
    clock.now_s += 9.9
    assert queue.claim(me, 9, 100, 100) == []
    clock.now_s += 0.1
    assert [one.lfn for one in queue.claim(me, 9, 100, 100)] == names(1)
    assert queue.attempts_of(first.id)[0].error == BROKEN or str(queue.attempts_of(first.id)[0].error) == str(
        BROKEN
    )


def test_slots_count_over_all_stagers_in_all_and_for_each_source(queue: Queue) -> None:
    fill(queue, names(6, "a"), "SITE_A")
    fill(queue, names(6, "b"), "SITE_B")
    one, other = new_owner(), new_owner()
    assert [str(t.lfn) for t in queue.claim(one, 4, 5, 2)] == ["/d/a000", "/d/a001", "/d/b000", "/d/b001"]
    assert queue.claim(other, 4, 5, 2) == []
    assert len(queue.claim(other, 4, 5, 3)) == 1  # one of five slots is left


def test_a_move_to_another_source_needs_a_free_slot_there(queue: Queue) -> None:
    fill(queue, names(2, "a"), "SITE_A")
    fill(queue, names(1, "b"), "SITE_B")
    me = new_owner()
    first, second, third = queue.claim(me, 9, 9, 9)
    assert queue.try_source(me, first, "SITE_B", 2)
    assert not queue.try_source(me, second, "SITE_B", 2)
    assert queue.get([first.id])[first.id].source_se == third.source_se == "SITE_B"


def test_many_threads_claim_each_file_once(queue: Queue) -> None:
    fill(queue, names(200))
    taken: list[Lfn] = []

    def work() -> None:
        me = new_owner()
        while claimed := queue.claim(me, 7, 1000, 1000):
            taken.extend(one.lfn for one in claimed)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == names(200)


def test_a_lease_that_is_renewed_is_kept_and_one_that_ran_out_is_taken_over(
    queue: Queue, clock: Clock
) -> None:
    fill(queue, names(1))
    me, other = new_owner(), new_owner()
    (mine,) = queue.claim(me, 1, 9, 9)
    clock.now_s += 25
    assert queue.heartbeat(me, {mine.id: (mine.attempts, Progressed(7, "u"))}) == set()
    assert queue.get([mine.id])[mine.id].bytes_done == 7
    clock.now_s += 25
    assert queue.claim(other, 1, 9, 9) == []
    clock.now_s += 10
    (theirs,) = queue.claim(other, 1, 9, 9)
    assert (theirs.id, theirs.failures, theirs.attempts) == (mine.id, 0, 2)
    assert queue.heartbeat(me, {mine.id: (mine.attempts, Progressed(9))}) == {mine.id}
    assert queue.report(me, [Report(mine.id, mine.attempts, Succeeded("u", 10))]) == []
    assert queue.get([mine.id])[mine.id].state is State.RUNNING


def test_the_work_of_a_process_that_is_gone_is_taken_over_at_once(queue: Queue, tmp_path: Path) -> None:
    fill(queue, names(3))
    code = (
        "import sys; from vse.db import Database; from vse.transfer.queue import Queue\n"
        "from vse.transfer.lifecycle import Policy; from vse.transfer.instance import new_owner\n"
        "q = Queue(Database.open(sys.argv[1]), Policy(lease_s=3600), lambda: 1000.0)\n"
        "print(len(q.claim(new_owner(), 3, 9, 9)), flush=True); sys.stdin.read()\n"
    )
    url = f"sqlite:///{tmp_path / 'q.db'}"
    child = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"3"
    me = new_owner()
    assert queue.claim(me, 9, 9, 9) == []  # it lives
    child.kill()
    child.wait()
    child.stdout.close()
    assert child.stdin is not None
    child.stdin.close()
    assert [one.lfn for one in queue.claim(me, 9, 9, 9)] == names(3)
    kept = queue.attempts_of(1)
    assert len(kept) == 1
    assert "the process that moved it" in str(kept[0].error)


def test_an_owner_is_dead_only_if_that_is_certain() -> None:
    mine = new_owner()
    boot, namespace, pid, start, number = mine.split("/")
    reused = "/".join([boot, namespace, pid, "1", number])  # the id of a process that came later
    elsewhere = "/".join(["another-boot", namespace, "999999", start, number])
    container = "/".join([boot, "1", "999999", start, number])
    assert dead([mine, reused, elsewhere, container, "nonsense"]) == [reused]
    assert int(pid) == os.getpid()


def test_a_cancelled_transfer_leaves_the_queue_and_its_stager_learns_it(queue: Queue) -> None:
    ids = fill(queue, names(2))
    me = new_owner()
    (running,) = queue.claim(me, 1, 9, 9)
    queue.cancel(list(ids.values()))
    assert queue.heartbeat(me, {running.id: (running.attempts, Progressed(1))}) == {running.id}
    assert queue.tallies()[State.CANCELLED].files == 2
    assert queue.claim(me, 9, 9, 9) == []
    fill(queue, names(2))
    assert len(queue.claim(me, 9, 9, 9)) == 2


def test_the_position_counts_what_is_before(queue: Queue) -> None:
    ids = fill(queue, names(4))
    queue.claim(new_owner(), 1, 9, 9)
    last = queue.get([ids[names(4)[3]]])[ids[names(4)[3]]]
    assert queue.ahead(last) == (3, 30, 0)


def test_postgresql_passes_over_rows_that_another_stager_holds() -> None:
    text = str(due_query(1.0, 5, ["X"]).compile(dialect=postgresql.dialect()))
    assert "FOR UPDATE SKIP LOCKED" in text
