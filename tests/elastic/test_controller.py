"""What the controller decides, with the time passed in."""

from __future__ import annotations

import json
from itertools import pairwise

from vse.elastic.batch.port import JobSeen
from vse.elastic.controller import (
    Cancel,
    Limits,
    Looked,
    NotSubmitted,
    ShutDown,
    State,
    Submit,
    Submitted,
    Wished,
    handle,
)

LIMITS = Limits(
    idle_s=100, idle_client_s=1000, pending_s=50, joining_s=20, backoff_s=10, backoff_max_s=40, max_deaths=3
)


def submitted(count: int, now: float = 0.0, prefix: str = "job") -> State:
    state, commands = handle(State(), Wished(count), now, LIMITS)
    assert commands == [Submit(count)]
    return handle(state, Submitted(tuple(f"{prefix}{n}" for n in range(count))), now, LIMITS)[0]


def looked(*jobs: str, waiting: tuple[str, ...] = (), joined: tuple[str, ...] = (), **more: int) -> Looked:
    seen = [JobSeen(job, True) for job in jobs] + [JobSeen(job, False, "Resources") for job in waiting]
    return Looked(tuple(seen), frozenset(joined), **more)


def test_a_wish_is_filled_and_a_smaller_one_gives_back_what_has_not_begun_first():
    state, commands = handle(
        submitted(3), looked("job0", waiting=("job1", "job2"), joined=("job0",)), 1, LIMITS
    )
    assert commands == []
    state, commands = handle(state, Wished(1), 2, LIMITS)
    assert commands == [Cancel(("job1", "job2"))]
    assert list(state.jobs) == ["job0"]


def test_a_worker_whose_job_ended_is_replaced_at_once():
    state, _ = handle(submitted(2), looked("job0", "job1", joined=("job0", "job1"), tasks=1), 1, LIMITS)
    state, commands = handle(state, looked("job1", joined=("job1",), tasks=1), 50, LIMITS)
    assert commands == [Submit(1)]
    assert state.deaths == 0


def test_jobs_that_die_at_once_are_asked_for_more_and_more_slowly_and_then_no_more():
    state, now, begun = State(), 0.0, []
    state, commands = handle(state, Wished(1), now, LIMITS)
    while now < 1000 and not state.drained:
        if commands == [Submit(1)]:
            begun.append(now)
            state, _ = handle(state, Submitted((f"job{now}",)), now, LIMITS)
            state, _ = handle(state, looked(f"job{now}"), now, LIMITS)
        now += 1
        state, commands = handle(state, looked(), now, LIMITS)
    assert [later - earlier for earlier, later in pairwise(begun)] == [11, 21]
    assert len(begun) == 3
    assert state.drained.startswith("3 in a row: jobs end before their worker joins")
    assert handle(state, looked(), now + 50, LIMITS)[1] == []


def test_a_new_wish_tries_again_what_was_drained():
    state = State(wish=1, deaths=3, drained="bad", not_before=1e9)
    assert handle(state, Wished(1), 5, LIMITS)[1] == [Submit(1)]


def test_a_job_that_never_begins_is_withdrawn_and_asked_for_again():
    state, commands = handle(submitted(1), looked(waiting=("job0",)), 51, LIMITS)
    assert commands == [Cancel(("job0",))]
    assert handle(state, looked(), 52, LIMITS)[1] == []
    assert handle(state, looked(), 62, LIMITS)[1] == [Submit(1)]


def test_a_job_whose_worker_never_joins_is_cancelled_and_counts_as_dead():
    state, commands = handle(submitted(1), looked("job0"), 1, LIMITS)
    assert commands == []
    state, commands = handle(state, looked("job0"), 22, LIMITS)
    assert commands == [Cancel(("job0",))]
    assert state.deaths == 1


def test_a_batch_system_that_does_not_answer_changes_nothing():
    state, commands = handle(submitted(2), Looked(None, frozenset()), 30, LIMITS)
    assert commands == []
    assert len(state.jobs) == 2
    assert state.remark == "the batch system does not say what it runs"


def test_a_batch_system_that_takes_no_jobs_is_asked_more_and_more_slowly():
    state, _ = handle(State(), Wished(1), 0, LIMITS)
    state, _ = handle(state, NotSubmitted("queue closed"), 0, LIMITS)
    assert handle(state, looked(), 9, LIMITS)[1] == []
    assert handle(state, looked(), 10, LIMITS)[1] == [Submit(1)]
    assert "queue closed" in state.remark


def test_a_job_just_submitted_may_be_missing_in_the_list():
    state, commands = handle(submitted(1), looked(), 5, LIMITS)
    assert (list(state.jobs), commands) == (["job0"], [])


def test_idle_ends_all_but_tasks_keep_it_and_clients_keep_it_longer():
    there = {"joined": ("job0",)}
    state, _ = handle(submitted(1), looked("job0", tasks=5, **there), 90, LIMITS)
    assert handle(state, looked("job0", **there), 180, LIMITS)[1] == []
    assert handle(state, looked("job0", clients=1, **there), 300, LIMITS)[1] == []
    _, commands = handle(state, looked("job0", **there), 191, LIMITS)
    assert commands == [Cancel(("job0",)), ShutDown("nothing was asked of it for 101 s")]


def test_decisions_survive_a_restart_and_jobs_that_were_not_recorded_are_taken_over():
    state = submitted(2)
    again = State.from_dict(json.loads(json.dumps(state.to_dict())), 500)
    assert again.jobs == state.jobs
    assert again.wish == 2
    adopted, commands = handle(
        again, looked("job0", "job1", "lost", joined=("job0", "job1", "lost")), 501, LIMITS
    )
    assert set(adopted.jobs) | set(commands[0].jobs) == {"job0", "job1", "lost"}
    assert len(adopted.jobs) == 2


def test_waiting_for_the_first_worker_is_not_idle():
    state, _ = handle(submitted(1), looked(waiting=("job0",)), 40, LIMITS)
    assert handle(state, looked(waiting=("job0",)), 49, Limits(idle_s=5, pending_s=50))[1] == []


def test_a_job_that_has_lost_its_worker_is_replaced_and_is_no_death():
    state, _ = handle(submitted(1), looked("job0", joined=("job0",), tasks=1), 1, LIMITS)
    state, commands = handle(state, looked("job0", tasks=1), 30, LIMITS)
    assert commands == []
    state, commands = handle(state, looked("job0", tasks=1), 51, LIMITS)
    assert commands == [Cancel(("job0",)), Submit(1)]
    assert state.deaths == 0
