"""The life of a transfer, as a pure machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vse.errors import GivenUp, Interrupted, NoSuchEntry, NoSuchFile, ServerFault, Stalled
from vse.model import Lfn
from vse.transfer.lifecycle import (
    ENDED,
    Attempt,
    Cancelled,
    Claimed,
    Due,
    Event,
    Failed,
    Found,
    GoLast,
    KeepAttempt,
    LeaseLost,
    Policy,
    Progressed,
    PutBack,
    Ranked,
    State,
    Succeeded,
    Transfer,
    Wanted,
    Withheld,
    handle,
)

POLICY = Policy()
BROKEN = ServerFault("read http://a/f", "it answered 500", "ask its administrator")


def queued(**changes: object) -> Transfer:
    fresh = Transfer(
        id=1,
        lfn=Lfn("/lhc/f.root"),
        destination="LOCAL",
        priority=5,
        share="anna",
        size_bytes=100,
        adler32=5,
        tree="",
        filter=None,
        state=State.QUEUED,
        place=1,
        not_before_s=0.0,
        failures=0,
        attempts=0,
        bytes_done=0,
        source=None,
        source_se=None,
        given_source=None,
        lease_owner=None,
        lease_until_s=None,
        created_s=0.0,
        started_s=None,
        finished_s=None,
        error=None,
    )
    return replace(fresh, **changes)  # type: ignore[arg-type]


def after(transfer: Transfer, *events: Event, policy: Policy = POLICY, now_s: float = 10.0) -> Transfer:
    for event in events:
        transfer, _ = handle(transfer, event, now_s, policy)
    return transfer


def test_a_good_transfer_is_done_and_leaves_one_attempt_without_an_error() -> None:
    running = after(queued(), Claimed("me"), now_s=10)
    assert (running.state, running.lease_owner, running.lease_until_s) == (State.RUNNING, "me", 40)
    done, commands = handle(running, Succeeded("http://a/f", 100), 12.0, Policy())
    assert (done.state, done.lease_owner, done.finished_s, done.bytes_done) == (State.DONE, None, 12, 100)
    assert commands == (KeepAttempt(Attempt(1, 1, "http://a/f", 10.0, 12.0, 100, None)),)


def test_a_failure_goes_to_the_end_of_the_queue_and_waits_longer_each_time() -> None:
    policy = Policy(max_failures=0, backoff_s=2, backoff_max_s=30)
    transfer, waits = queued(), []
    for _ in range(6):
        transfer, commands = handle(after(transfer, Due(), Claimed("me")), Failed(BROKEN), 10.0, policy)
        assert GoLast() in commands
        waits.append(transfer.not_before_s - 10.0)
    assert waits == [2, 4, 8, 16, 30, 30]
    assert (transfer.state, transfer.failures, transfer.error) == (State.WAITING, 6, BROKEN)


def test_the_back_off_of_a_thousandth_failure_is_still_the_greatest_one() -> None:
    assert Policy(backoff_s=2, backoff_max_s=300).wait_s(5000) == 300


def test_it_is_given_up_after_so_many_failures_with_the_last_reason() -> None:
    transfer = after(queued(), *[Due(), Claimed("me"), Failed(BROKEN)] * 3)
    assert transfer.state is State.FAILED
    assert isinstance(transfer.error, GivenUp)
    assert str(transfer.error) == (
        "cannot stage /lhc/f.root: it failed 3 times, the last time because VSE cannot read http://a/f:"
        " it answered 500. Ask its administrator"
    )


def test_what_trying_again_cannot_mend_is_given_up_at_once_unless_the_site_tries_for_ever() -> None:
    gone = NoSuchFile("read http://a/f", "it is not there")
    assert after(queued(), Claimed("me"), Failed(gone)).state is State.FAILED
    assert after(queued(), Claimed("me"), Failed(gone), policy=Policy(max_failures=0)).state is State.WAITING
    lost = NoSuchEntry("find /lhc/f.root", "it is not in the catalogue")
    assert after(queued(), Claimed("me"), Failed(lost), policy=Policy(max_failures=0)).state is State.FAILED


@pytest.mark.parametrize("end", [PutBack("http://a/f", 50), LeaseLost()])
def test_the_end_of_a_stager_is_no_failure_of_the_file(end: Event) -> None:
    transfer, commands = handle(after(queued(place=7), Claimed("me")), end, 11.0, Policy())
    assert (transfer.state, transfer.failures, transfer.place) == (State.QUEUED, 0, 7)
    assert [type(command) for command in commands] == [KeepAttempt]
    assert isinstance(commands[0].attempt.error, Interrupted)  # type: ignore[union-attr]


def test_a_file_over_which_process_after_process_ends_waits_ever_longer_and_is_not_given_up() -> None:
    policy = Policy(max_failures=3, backoff_s=2, backoff_max_s=300)
    waits = []
    for before in range(2, 30):
        running = after(queued(), Claimed("me"))
        lost, commands = handle(running, LeaseLost(before), 11.0, policy)
        assert (lost.state, lost.failures, lost.lease_owner) == (State.WAITING, 0, None)
        assert f"{before + 1} processes in a row ended" in str(lost.error)
        assert [type(command) for command in commands] == [KeepAttempt, GoLast]
        waits.append(lost.not_before_s - 11.0)
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[-1] == 300


@pytest.mark.parametrize("late", [Succeeded("x", 1), Failed(BROKEN), PutBack(), LeaseLost(), Progressed(5)])
def test_news_of_a_cancelled_transfer_changes_nothing(late: Event) -> None:
    cancelled = after(queued(), Claimed("me"), Cancelled())
    assert handle(cancelled, late, 99.0, Policy()) == (cancelled, ())


@pytest.mark.parametrize("end", [[Failed(BROKEN)] * 1, [Cancelled()], [Succeeded("x", 100)]])
def test_what_has_ended_begins_anew_when_it_is_wanted_again(end: list[Event]) -> None:
    ended = after(queued(), Claimed("me"), *end, policy=Policy(max_failures=1))
    assert ended.state in ENDED
    again, commands = handle(ended, Wanted(200, 6, "Events", "SITE2"), 50.0, Policy())
    assert (again.state, again.failures, again.error, again.not_before_s) == (State.QUEUED, 0, None, 50.0)
    assert (again.size_bytes, again.adler32, again.tree, again.source_se) == (200, 6, "Events", "SITE2")
    assert commands == (GoLast(),)
    assert again.attempts == ended.attempts  # the rows of the attempts before are kept


def test_a_file_that_came_after_it_was_missed_is_not_fetched_again() -> None:
    done = after(queued(), Claimed("me"), Succeeded("x", 100), now_s=20.0)
    assert handle(done, Wanted(100, 5, seen_s=15.0), 21.0, Policy()) == (done, ())
    assert handle(done, Wanted(100, 5, seen_s=25.0), 26.0, Policy())[0].state is State.QUEUED


class Lives(RuleBasedStateMachine):
    """Any events in any order: what must hold after each."""

    policy = Policy(max_failures=3, backoff_s=1, backoff_max_s=8, lease_s=30)

    def __init__(self) -> None:
        super().__init__()
        self.now_s = self.sent_s = 0.0
        self.transfer = queued()
        self.before = self.transfer
        self.commands: tuple[object, ...] = ()
        self.kept: dict[int, Attempt] = {}

    def send(self, event: Event) -> None:
        self.before = self.transfer
        self.sent_s = self.now_s
        self.transfer, self.commands = handle(self.transfer, event, self.now_s, self.policy)
        for command in self.commands:
            if isinstance(command, KeepAttempt):
                assert command.attempt.number not in self.kept, "an attempt is kept once"
                self.kept[command.attempt.number] = command.attempt

    @rule(passed_s=st.floats(0, 100))
    def time_passes(self, passed_s: float) -> None:
        self.now_s += passed_s

    @rule(owner=st.sampled_from(["a", "b"]))
    def claimed(self, owner: str) -> None:
        self.send(Claimed(owner))

    @rule(done=st.integers(0, 100))
    def progressed(self, done: int) -> None:
        self.send(Progressed(done))

    @rule(error=st.sampled_from([BROKEN, Stalled("read", "silent"), NoSuchFile("read", "gone")]))
    def failed(self, error: ServerFault) -> None:
        self.send(Failed(error, "u", 3, "OTHER"))

    @rule(event=st.sampled_from([Succeeded("u", 100), PutBack("u", 4), LeaseLost(), LeaseLost(4), Found()]))
    def ended(self, event: Event) -> None:
        self.send(event)

    @rule()
    def cancelled(self) -> None:
        self.send(Cancelled())

    @rule(priority=st.integers(1, 9), held=st.booleans())
    def wanted(self, priority: int, held: bool) -> None:
        self.send(Wanted(100, 5, priority=priority, share="ben", held=held))

    @rule(event=st.sampled_from([Ranked(1, "ben"), Ranked(9, "eva"), Withheld(), Due()]))
    def told(self, event: Event) -> None:
        self.send(event)

    @invariant()
    def leased_if_and_only_if_running(self) -> None:
        running = self.transfer.state is State.RUNNING
        assert (self.transfer.lease_owner is not None) == running
        assert (self.transfer.lease_until_s is not None) == running

    @invariant()
    def ended_if_and_only_if_it_has_a_time(self) -> None:
        assert (self.transfer.finished_s is not None) == (self.transfer.state in ENDED)

    @invariant()
    def failures_are_bounded_and_a_failed_one_says_why(self) -> None:
        assert 0 <= self.transfer.failures <= self.policy.max_failures
        assert (self.transfer.state is State.FAILED) == isinstance(self.transfer.error, GivenUp)

    @invariant()
    def every_claim_that_ended_left_its_attempt(self) -> None:
        running = self.transfer.state is State.RUNNING
        assert set(self.kept) == set(range(1, self.transfer.attempts + (0 if running else 1)))

    @invariant()
    def a_failure_is_never_due_at_once(self) -> None:
        if self.transfer.failures > self.before.failures and self.transfer.state not in ENDED:
            assert self.transfer.state is State.WAITING
            assert self.transfer.not_before_s >= self.sent_s + self.policy.backoff_s
            assert GoLast() in self.commands

    @invariant()
    def what_is_held_is_not_claimed(self) -> None:
        if self.before.state in (State.HELD, State.WAITING):
            assert self.transfer.state is not State.RUNNING

    @invariant()
    def who_changes_lane_gets_a_new_place(self) -> None:
        if self.transfer.priority != self.before.priority and self.transfer.state is not State.HELD:
            assert GoLast() in self.commands or self.transfer.state in ENDED

    @precondition(lambda self: self.transfer.state is State.DONE)
    @rule()
    def done_is_whole(self) -> None:
        assert self.transfer.bytes_done == self.transfer.size_bytes


TestLives = Lives.TestCase
