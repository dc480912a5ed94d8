"""The queue as rows of a database, shared by stagers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from support.clock import Clock
from vse.db import Database
from vse.db.tables import request_items, requests, transfers
from vse.errors import ServerFault
from vse.model import Lfn
from vse.transfer.instance import dead, ended, new_owner
from vse.transfer.lifecycle import (
    Failed,
    Policy,
    Progressed,
    PutBack,
    Ranked,
    State,
    Succeeded,
    Transfer,
    Wanted,
)
from vse.transfer.queue import Queue, Report
from vse.transfer.shares import Slots

BROKEN = ServerFault("read it", "it answered 500")


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def queue(database_url: str, clock: Clock) -> Iterator[Queue]:
    database = Database.open(database_url)
    yield Queue(database, Policy(backoff_s=10, lease_s=30), clock)
    database.close()


def names(count: int, prefix: str = "f") -> list[Lfn]:
    return [Lfn(f"/d/{prefix}{number:03}") for number in range(count)]


def fill(
    queue: Queue, lfns: list[Lfn], se: str | None = None, to: str = "LOCAL", **more: object
) -> dict[Lfn, int]:
    return queue.enqueue(to, {lfn: Wanted(10, 1, "", se, **more) for lfn in lfns})  # type: ignore[arg-type]


ONE = Slots(1, 1)


def served(queue: Queue, count: int, slots: Slots = ONE) -> list[str]:
    """Claim and end one file after the other; return their names."""
    found = []
    for _ in range(count):
        for one in queue.claim("me", 1, slots):
            queue.report("me", [Report(one.id, one.attempts, Succeeded("u", 10))])
            found.append(one.lfn.name)
    return found


def test_the_same_file_wanted_twice_is_one_transfer(queue: Queue) -> None:
    first = fill(queue, names(2500))
    again = fill(queue, names(2500))
    assert first == again
    assert queue.tallies()[State.QUEUED] == (2500, 25000, 0)


def test_files_are_claimed_in_order_and_only_once(queue: Queue) -> None:
    fill(queue, names(5))
    claimed = [one.lfn for _ in range(4) for one in queue.claim(new_owner(), 2, Slots(100, 100))]
    assert claimed == names(5)


def test_a_failed_file_comes_after_all_others_and_not_before_its_time(queue: Queue, clock: Clock) -> None:
    fill(queue, names(3))
    me = new_owner()
    (first,) = queue.claim(me, 1, Slots(100, 100))
    queue.report(me, [Report(first.id, first.attempts, Failed(BROKEN))])
    assert [one.lfn for one in queue.claim(me, 9, Slots(100, 100))] == names(3)[1:]
    assert queue.next_due_s() == clock.now_s + 10
    clock.now_s += 9.9
    assert queue.claim(me, 9, Slots(100, 100)) == []
    clock.now_s += 0.1
    assert [one.lfn for one in queue.claim(me, 9, Slots(100, 100))] == names(1)
    (attempt,) = queue.attempts_of(first.id)
    assert (type(attempt.error), str(attempt.error)) == (type(BROKEN), str(BROKEN))


def test_a_clock_that_jumps_keeps_nobody_waiting_for_a_day(queue: Queue, clock: Clock) -> None:
    fill(queue, names(1))
    me = new_owner()
    clock.now_s += 86400
    (one,) = queue.claim(me, 1, Slots(100, 100))
    queue.report(me, [Report(one.id, one.attempts, Failed(BROKEN))])
    clock.now_s -= 86400  # whoever had set it wrong sets it right
    assert [again.id for again in queue.claim(me, 1, Slots(100, 100))] == [one.id]


def test_a_clock_that_jumps_ahead_takes_nothing_from_a_stager_of_this_machine_that_lives(
    queue: Queue, clock: Clock
) -> None:
    fill(queue, names(1))
    me, other = new_owner(), new_owner()
    (one,) = queue.claim(me, 1, Slots(100, 100))
    clock.now_s += 86400
    assert queue.heartbeat(me, {one.id: (one.attempts, Progressed(5))}) == set()
    assert queue.claim(other, 1, Slots(100, 100)) == []
    assert queue.report(me, [Report(one.id, one.attempts, Succeeded("u", 10))])


def test_slots_count_over_all_stagers_in_all_and_for_each_source(queue: Queue) -> None:
    fill(queue, names(6, "a"), "SITE_A")
    fill(queue, names(6, "b"), "SITE_B")
    one, other = new_owner(), new_owner()
    assert [str(t.lfn) for t in queue.claim(one, 4, Slots(5, 2))] == [
        "/d/a000",
        "/d/a001",
        "/d/b000",
        "/d/b001",
    ]
    assert queue.claim(other, 4, Slots(5, 2)) == []
    assert len(queue.claim(other, 4, Slots(5, 3))) == 1  # one of five slots is left


def test_a_move_to_another_source_needs_a_free_slot_there(queue: Queue) -> None:
    fill(queue, names(2, "a"), "SITE_A")
    fill(queue, names(1, "b"), "SITE_B")
    me = new_owner()
    first, second, third = queue.claim(me, 9, Slots(9, 9))
    assert queue.try_source(me, first, "SITE_B", Slots(9, 2))
    assert not queue.try_source(me, second, "SITE_B", Slots(9, 2))
    assert queue.get([first.id])[first.id].source_se == third.source_se == "SITE_B"


def test_many_threads_claim_each_file_once(queue: Queue) -> None:
    fill(queue, names(200))
    taken: list[Lfn] = []

    def work() -> None:
        me = new_owner()
        while claimed := queue.claim(me, 7, Slots(1000, 1000)):
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
    (mine,) = queue.claim(me, 1, Slots(9, 9))
    clock.now_s += 25
    assert queue.heartbeat(me, {mine.id: (mine.attempts, Progressed(7, "u"))}) == set()
    assert queue.get([mine.id])[mine.id].bytes_done == 7
    clock.now_s += 25
    assert queue.claim(other, 1, Slots(9, 9)) == []
    clock.now_s += 10
    (theirs,) = queue.claim(other, 1, Slots(9, 9))
    assert (theirs.id, theirs.failures, theirs.attempts) == (mine.id, 0, 2)
    assert queue.heartbeat(me, {mine.id: (mine.attempts, Progressed(9))}) == {mine.id}
    assert queue.report(me, [Report(mine.id, mine.attempts, Succeeded("u", 10))]) == []
    assert queue.get([mine.id])[mine.id].state is State.RUNNING


@pytest.mark.slow
def test_the_work_of_a_process_that_is_gone_is_taken_over_at_once(queue: Queue, database_url: str) -> None:
    fill(queue, names(3))
    code = (
        "import sys; from vse.db import Database; from vse.transfer.queue import Queue\n"
        "from vse.transfer.lifecycle import Policy; from vse.transfer.instance import new_owner\n"
        "from vse.transfer.shares import Slots\n"
        "q = Queue(Database.open(sys.argv[1]), Policy(lease_s=3600), lambda: 1000.0)\n"
        "print(len(q.claim(new_owner(), 3, Slots(9, 9))), flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, database_url], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"3"
    me = new_owner()
    assert queue.claim(me, 9, Slots(9, 9)) == []  # it lives
    child.kill()
    child.wait()
    child.stdout.close()
    assert child.stdin is not None
    child.stdin.close()
    assert [one.lfn for one in queue.claim(me, 9, Slots(9, 9))] == names(3)
    kept = queue.attempts_of(1)
    assert len(kept) == 1
    assert "the process that moved it" in str(kept[0].error)


def test_a_file_that_ends_every_stager_lets_the_others_go_before_it(queue: Queue, clock: Clock) -> None:
    """Each process that has the first file dies, with all that it moves; the rest is moved all the same."""
    first, *rest = names(12)
    fill(queue, [first, *rest])
    lives = 0
    while queue.tallies()[State.DONE].files < len(rest):
        me, lives = new_owner(), lives + 1
        claimed = queue.claim(me, 4, Slots(4, 4))
        if first in [one.lfn for one in claimed]:
            ended(me)
        else:
            queue.report(me, [Report(one.id, one.attempts, Succeeded("u", 10)) for one in claimed])
        clock.now_s += 1
        assert lives < 60
    (held,) = queue.of_lfn(first)
    assert held.state in (State.WAITING, State.QUEUED, State.RUNNING)
    assert held.failures == 0
    for one in rest:
        assert queue.of_lfn(one)[0].failures == 0


def test_attempts_of_an_earlier_wish_and_stops_in_between_are_not_held_against_a_file(
    queue: Queue, clock: Clock
) -> None:
    (lfn,) = names(1)
    fill(queue, [lfn])

    def begin(die: bool) -> Transfer:
        clock.now_s += 1
        me = new_owner()
        (claimed,) = queue.claim(me, 1, ONE)
        if die:
            ended(me)
        else:
            queue.report(me, [Report(claimed.id, claimed.attempts, PutBack())])
        return claimed

    for die in (True, True, False, True, True):
        begin(die)
    assert begin(False).attempts == 6
    begin(True)
    queue.cancel([queue.of_lfn(lfn)[0].id])
    clock.now_s += 1
    fill(queue, [lfn])
    begin(True)
    begin(True)
    begin(True)
    assert queue.claim(new_owner(), 1, ONE) == []
    (waits,) = queue.of_lfn(lfn)
    assert "3 processes in a row" in str(waits.error)


def test_an_owner_is_dead_only_if_that_is_certain() -> None:
    mine = new_owner()
    boot, namespace, pid, start, number = mine.split("/")
    reused = "/".join([boot, namespace, pid, "1", number])  # the id of a process that came later
    elsewhere = "/".join(["another-boot", namespace, "999999", start, number])
    container = "/".join([boot, "1", "999999", start, number])
    assert dead([mine, reused, elsewhere, container, "nonsense"]) == [reused]
    assert int(pid) == os.getpid()


_AS_NOBODY = """
import os, sys
from vse.transfer.instance import dead, new_owner
new_owner()  # loads what another user may not reach
os.setgid(65534); os.setuid(65534)
hidden = not os.path.exists(f"/proc/{os.getppid()}/stat")
print(hidden, *dead(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount /proc anew")
def test_an_owner_that_lives_is_not_dead_where_the_processes_of_others_are_hidden() -> None:
    mine = new_owner()
    gone = "/".join([*mine.split("/")[:2], "4194303", "1", "1"])
    mount = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh", sys.executable]
    done = subprocess.run([*words, "-c", _AS_NOBODY, mine, gone], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"True {gone}\n", "")


def test_a_lease_that_no_clock_could_have_given_is_over_where_its_owner_cannot_be_seen(
    queue: Queue, clock: Clock
) -> None:
    """The clocks were a day ahead when it was given; whoever has it on this machine is seen to live."""
    fill(queue, names(2))
    me, elsewhere = new_owner(), "another-boot/1/1/1/1"
    clock.now_s += 86400
    queue.claim(me, 1, Slots(9, 9))
    queue.claim(elsewhere, 1, Slots(9, 9))
    clock.now_s -= 86400
    assert [one.lfn for one in queue.claim(new_owner(), 9, Slots(9, 9))] == names(2)[1:]


@pytest.mark.slow
def test_a_cancelled_transfer_leaves_the_queue_and_its_stager_learns_it(queue: Queue) -> None:
    ids = fill(queue, names(2))
    me = new_owner()
    (running,) = queue.claim(me, 1, Slots(9, 9))
    queue.cancel(list(ids.values()))
    assert queue.heartbeat(me, {running.id: (running.attempts, Progressed(1))}) == {running.id}
    assert queue.tallies()[State.CANCELLED].files == 2
    assert queue.claim(me, 9, Slots(9, 9)) == []
    fill(queue, names(2))
    assert len(queue.claim(me, 9, Slots(9, 9))) == 2


def test_the_position_counts_what_is_before(queue: Queue) -> None:
    ids = fill(queue, names(4))
    queue.claim(new_owner(), 1, Slots(9, 9))
    last = queue.get([ids[names(4)[3]]])[ids[names(4)[3]]]
    assert queue.ahead(last) == (3, 30, 0)


# -- who is next ---------------------------------------------------------------------------------


def test_who_asks_for_little_does_not_wait_for_who_asked_for_much(queue: Queue) -> None:
    fill(queue, names(100, "a"), share="anna")
    assert served(queue, 10) == [f"a{number:03}" for number in range(10)]
    fill(queue, names(3, "b"), share="ben")
    assert served(queue, 7) == ["a010", "b000", "a011", "b001", "a012", "b002", "a013"]


def test_who_was_idle_has_saved_up_nothing(queue: Queue) -> None:
    fill(queue, names(50, "a"), share="anna")
    served(queue, 40)
    fill(queue, names(20, "b"), share="ben")
    assert sum(name.startswith("b") for name in served(queue, 10)) == 5


def test_all_of_a_better_priority_comes_first(queue: Queue) -> None:
    fill(queue, names(5, "a"), priority=5, share="anna")
    fill(queue, names(3, "b"), priority=2, share="anna")
    fill(queue, names(2, "c"), priority=9, share="eva")
    assert served(queue, 10) == [
        *(f"b00{n}" for n in range(3)),
        *(f"a00{n}" for n in range(5)),
        "c000",
        "c001",
    ]


def test_a_file_wanted_twice_has_the_better_priority(queue: Queue) -> None:
    fill(queue, names(5), priority=5, share="anna")
    fill(queue, names(5)[3:4], priority=1, share="ben")
    fill(queue, names(5)[3:4], priority=7, share="eva")
    assert served(queue, 2) == ["f003", "f000"]


def test_a_failed_file_comes_behind_those_of_its_owner_only(queue: Queue, clock: Clock) -> None:
    fill(queue, names(3, "a"), share="anna")
    fill(queue, names(9, "b"), share="ben")
    (first,) = queue.claim("me", 1, Slots(9, 9))
    queue.report("me", [Report(first.id, first.attempts, Failed(BROKEN))])
    assert queue.get([first.id])[first.id].state is State.WAITING
    clock.now_s += 10
    order = served(queue, 12)
    assert order.index("a002") < order.index("a000") < order.index("b004")


def test_held_files_wait_until_somebody_may_have_them(queue: Queue) -> None:
    ids = fill(queue, names(2), held=True, share="anna")
    assert served(queue, 2) == []
    queue.send({ids[names(2)[1]]: Ranked(3, "anna")})
    assert served(queue, 2) == ["f001"]
    assert queue.tallies()[State.HELD] == (1, 10, 0)
    fill(queue, names(1), share="ben")  # who needs no approval
    assert served(queue, 2) == ["f000"]


def test_slots_of_a_destination_and_of_single_elements(queue: Queue) -> None:
    fill(queue, names(9, "a"), "TAPE", "DISK")
    fill(queue, names(9, "b"), "FAST", "DISK")
    fill(queue, names(9, "c"), "FAST", "POOL")
    slots = Slots(20, 9, 3, {"TAPE": 1}, {"POOL": 2})
    found = Counter(one.lfn.name[0] for one in queue.claim("me", 20, slots))
    assert found == {"a": 1, "b": 2, "c": 2}
    assert queue.claim("me", 20, slots) == []


@pytest.mark.slow
def test_a_source_whose_slots_are_taken_does_not_keep_the_others_waiting(queue: Queue) -> None:
    fill(queue, names(900, "a"), "SLOW", share="anna")
    fill(queue, names(5, "b"), "FAST", share="anna")
    slots = Slots(9, 9, sources={"SLOW": 1})
    found = [one.lfn.name for one in queue.claim("me", 6, slots)]
    assert found == ["a000", *(f"b00{number}" for number in range(5))]
    fill(queue, names(300, "d"), "FAST", share="anna")
    served(queue, 250, slots)  # the source that is not slow goes on, and comes far
    fill(queue, names(1, "c"), "SLOW", share="ben")
    (first,) = [one for one in queue.get([1]).values() if one.state is State.RUNNING]
    queue.report("me", [Report(first.id, first.attempts, Succeeded("u", 10))])
    soon = served(queue, 3, Slots(99, 99, sources={"FAST": 1, "SLOW": 1}))
    assert "c000" in soon  # newcomers do not wait for all that was shut in


def test_the_position_is_what_counting_gives(queue: Queue) -> None:
    fill(queue, names(700, "a"), "ONE", share="anna")
    fill(queue, names(300, "b"), "TWO", share="ben", priority=3)
    fill(queue, names(300, "c"), share="eva")
    served(queue, 20)
    queue.claim("me", 4, Slots(9, 9))
    queued = sorted(
        (one for one in queue.get(range(1, 1400)).values() if one.state is State.QUEUED),
        key=lambda one: (one.priority, one.place, one.id),
    )
    for position in (0, 1, 279, 280, 281, 600, len(queued) - 1):
        assert queue.ahead(queued[position]).files == position + 4
        assert queue.ahead(queued[position], "LOCAL").size_bytes == (position + 4) * 10
        assert queue.ahead(queued[position], "ELSEWHERE").files == 0


def test_only_what_certain_requests_wait_for(queue: Queue) -> None:
    """Near the front of the queue, and thousands of files behind it."""
    far = fill(queue, names(3, "z"), share="ben")
    fill(queue, names(1500, "a"), share="anna")
    with queue._database.write() as connection:
        row = {
            "query": "q",
            "destination": "LOCAL",
            "owner": "ben",
            "priority": 5,
            "note": "",
            "state": "active",
        }
        row |= {"approval": "none", "approval_note": "", "created_s": 0.0}
        connection.execute(requests.insert(), row)
        items = [
            {"request_id": 1, "lfn": lfn, "size_bytes": 10, "transfer_id": key, "state": "waiting"}
            for lfn, key in list(far.items())[1:]
        ]
        connection.execute(request_items.insert(), items)
        connection.execute(sa.update(transfers).where(transfers.c.lfn == "/d/z002").values(place=10**6))
    assert [one.lfn.name for one in queue.claim("me", 1, Slots(9, 9), [1])] == ["z001"]
    assert [one.lfn.name for one in queue.claim("me", 9, Slots(9, 9), [1])] == ["z002"]
    assert queue.claim("me", 9, Slots(9, 9), [1]) == []


@pytest.mark.slow
def test_two_processes_that_claim_have_each_file_once(queue: Queue, database_url: str) -> None:
    fill(queue, names(400), "FAR")
    code = (
        "import sys; from vse.db import Database; from vse.transfer.queue import Queue, Report\n"
        "from vse.transfer.lifecycle import Policy, Succeeded; from vse.transfer.shares import Slots\n"
        "from vse.transfer.instance import new_owner\n"
        "q, me = Queue(Database.open(sys.argv[1]), Policy(), lambda: 1000.0), new_owner()\n"
        "while c := q.claim(me, 5, Slots(20, 12)):\n"
        "    q.report(me, [Report(o.id, o.attempts, Succeeded('u', 10)) for o in c])\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, database_url], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        # No other limit than that of every test: how long it takes is the machine's affair.
        assert [(child.communicate()[1], child.returncode) for child in children] == [("", 0)] * 2
    finally:
        for child in children:
            child.kill()
    done = queue.get(range(1, 401)).values()
    assert {(one.state, one.attempts) for one in done} == {(State.DONE, 1)}
    assert queue.tallies()[State.DONE] == (400, 4000, 4000)
