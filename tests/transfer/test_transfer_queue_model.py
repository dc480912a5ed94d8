"""The queue under anything that may happen, in any order: what must hold after each step."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from support.databases import ensure_sqlite
from vse.db import Database
from vse.db.tables import attempts, transfer_counts, transfer_lanes, transfers
from vse.errors import ServerFault, StorageFull
from vse.model import Lfn
from vse.transfer.buckets import WIDTH
from vse.transfer.lifecycle import (
    ENDED,
    Cancelled,
    Due,
    Event,
    Failed,
    Policy,
    Postponed,
    PutBack,
    Ranked,
    State,
    Succeeded,
    Transfer,
    Wanted,
    Withheld,
)
from vse.transfer.queue import Queue, Report
from vse.transfer.shares import Slots

SLOTS = Slots(5, 3, 4, {"SLOW": 1}, {"POOL": 2})
OWNERS = ("anna", "ben", "eva")
SOURCES = ("SLOW", "FAST", None)
NO_ROOM = StorageFull("keep room for it", "others have it all")
BROKEN = ServerFault("read it", "it answered 500")


class Queues(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.database = Database.open(ensure_sqlite(Path(self.place.name) / "q.db"))
        self.now_s = 0.0
        self.queue = Queue(self.database, Policy(3, 10, 40, 100), lambda: self.now_s)
        self.wanted: set[tuple[str, str]] = set()
        self.held: dict[int, tuple[str, int]] = {}
        self.postponed = 0

    def teardown(self) -> None:
        """Nothing is lost: let all of it come to its end."""
        self.queue.send(dict.fromkeys(self.ids(), Ranked(5, "anna")))
        for _ in range(500):
            self.now_s += 100
            claimed = self.queue.claim("last", 5, SLOTS)
            ends = [Report(one.id, one.attempts, Succeeded("u", one.size_bytes)) for one in claimed]
            self.queue.report("last", ends)
            if all(one.state in ENDED for one in self.all()):
                break
        assert {one.state for one in self.all()} <= ENDED
        self.database.close()
        self.place.cleanup()

    def all(self) -> list[Transfer]:
        return list(self.queue.get(range(1, 1 + len(self.wanted))).values())

    def ids(self) -> list[int]:
        return [one.id for one in self.all()]

    @rule(
        first=st.integers(0, 30),
        count=st.integers(1, 8),
        owner=st.sampled_from(OWNERS),
        source=st.sampled_from(SOURCES),
        to=st.sampled_from(["DISK", "POOL"]),
        priority=st.sampled_from([1, 5]),
        held=st.booleans(),
    )
    def ask(
        self, first: int, count: int, owner: str, source: str | None, to: str, priority: int, held: bool
    ) -> None:
        names = [Lfn(f"/d/f{number:03}") for number in range(first, first + count)]
        one = Wanted(10 + first, 1, "", source, priority=priority, share=owner, held=held)
        ids = self.queue.enqueue(to, dict.fromkeys(names, one))
        assert self.queue.enqueue(to, dict.fromkeys(names, one)) == ids
        self.wanted |= {(name, to) for name in names}

    @rule(stager=st.sampled_from(["one", "other"]), count=st.integers(1, 6))
    def claim(self, stager: str, count: int) -> None:
        before = {one.id: one for one in self.all()}
        claimed = self.queue.claim(stager, count, SLOTS)
        assert len(claimed) <= count
        for one in claimed:
            was = before[one.id]
            lease_over = was.state is State.RUNNING and (was.lease_until_s or 0.0) < self.now_s
            due = was.state is State.WAITING and was.not_before_s <= self.now_s
            assert was.state is State.QUEUED or lease_over or due
            assert (one.state, one.lease_owner) == (State.RUNNING, stager)
            self.held[one.id] = (stager, one.attempts)
        if claimed:  # nobody with a better priority, whose slots are free, was passed over
            worst = max(one.priority for one in claimed)
            left = [one for one in self.all() if one.state is State.QUEUED and one.priority < worst]
            assert all(not self.is_free(one) for one in left)

    def is_free(self, one: Transfer) -> bool:
        running = [other for other in self.all() if other.state is State.RUNNING]
        source = sum(other.source_se == one.source_se for other in running)
        to = sum(other.destination == one.destination for other in running)
        return (
            len(running) < SLOTS.overall
            and source < SLOTS.from_source(one.source_se or "")
            and to < SLOTS.to_destination(one.destination)
        )

    @rule(
        pick=st.integers(0, 100),
        event=st.sampled_from(
            [
                Succeeded("u", 10),
                Failed(BROKEN),
                Failed(BROKEN, next_se="FAST"),
                PutBack(),
                Postponed(NO_ROOM, 0.0),
                Postponed(NO_ROOM, 200.0, "FAST"),
            ]
        ),
    )
    def report(self, pick: int, event: Event) -> None:
        """``until_s`` of what is postponed counts from now."""
        if self.held:
            key = sorted(self.held)[pick % len(self.held)]
            stager, number = self.held.pop(key)
            before = self.queue.get([key])[key]
            ours = before.lease_owner == stager and before.attempts == number
            if isinstance(event, Postponed):
                event = replace(event, until_s=self.now_s + event.until_s)
                self.postponed += ours
            assert bool(self.queue.report(stager, [Report(key, number, event)])) == ours
            if isinstance(event, Postponed) and ours:
                after = self.queue.get([key])[key]
                assert (after.state, after.failures) == (State.WAITING, before.failures)
                assert after.not_before_s == event.until_s

    @rule(
        pick=st.lists(st.integers(1, 40), max_size=6),
        event=st.sampled_from([Cancelled(), Ranked(1, "eva"), Ranked(9, "ben"), Withheld(), Due()]),
    )
    def send(self, pick: list[int], event: Event) -> None:
        self.queue.send(dict.fromkeys(pick, event))

    @rule(passed_s=st.sampled_from([1.0, 10.0, 50.0, 150.0]))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s

    @invariant()
    def every_file_is_one_transfer(self) -> None:
        assert {(one.lfn, one.destination) for one in self.all()} == self.wanted

    @invariant()
    def no_more_run_than_there_are_slots(self) -> None:
        running = [one for one in self.all() if one.state is State.RUNNING]
        assert len(running) <= SLOTS.overall
        for se, number in Counter(one.destination for one in running).items():
            assert number <= SLOTS.to_destination(se)
        for se, number in Counter(one.source_se or "" for one in running).items():
            assert number <= SLOTS.from_source(se)

    @invariant()
    def the_books_are_right(self) -> None:
        counted: Counter[tuple[object, ...]] = Counter()
        lanes: Counter[tuple[str, str, int]] = Counter()
        for one in self.all():
            queued = one.state is State.QUEUED
            spot = (one.priority, one.place // WIDTH) if queued else (0, 0)
            counted[one.destination, one.state.value, *spot, "files"] += 1
            counted[one.destination, one.state.value, *spot, "bytes"] += one.size_bytes
            lanes[one.destination, one.source_se or "", one.priority] += queued
        with self.database.read() as connection:
            for to, state, priority, bucket, files, size in connection.execute(sa.select(transfer_counts)):
                assert counted.pop((to, state, priority, bucket, "files"), 0) == files
                assert counted.pop((to, state, priority, bucket, "bytes"), 0) == size
            for to, source, priority, files, _ in connection.execute(sa.select(transfer_lanes)):
                assert lanes.pop((to, source, priority), 0) == files
        assert not +counted
        assert not +lanes

    @invariant()
    def every_claim_that_ended_left_an_attempt_unless_nothing_was_tried(self) -> None:
        count = sa.select(sa.func.count()).select_from(attempts)
        with self.database.read() as connection:
            kept = connection.execute(count).scalar_one()
            made = connection.execute(sa.select(sa.func.sum(transfers.c.attempts))).scalar() or 0
        assert made - kept == self.postponed + sum(one.state is State.RUNNING for one in self.all())

    @invariant()
    def the_position_is_what_counting_gives(self) -> None:
        queued = sorted(
            (one for one in self.all() if one.state is State.QUEUED),
            key=lambda one: (one.priority, one.place, one.id),
        )
        running = sum(one.state is State.RUNNING for one in self.all())
        for position in {0, len(queued) // 2, len(queued) - 1} if queued else set():
            assert self.queue.ahead(queued[position]).files == position + running


TestQueues = pytest.mark.slow(Queues.TestCase)
Queues.TestCase.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


class Fairness:
    """Serves one file after the other, and watches that no owner gets ahead of another who waits, too."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.left: Counter[str] = Counter()
        self.leads: dict[tuple[str, str], list[int]] = {}

    def serve(self) -> None:
        for one in self.queue.claim("me", 1, Slots(1, 1)):
            self.queue.report("me", [Report(one.id, one.attempts, Succeeded("u", 1))])
            self.left[one.share] -= 1
            for (first, second), leads in self.leads.items():
                if one.share in (first, second):
                    leads.append(leads[-1] + (1 if one.share == first else -1))

    def watch(self) -> None:
        for first, second in combinations(OWNERS, 2):
            if self.left[first] and self.left[second]:
                leads = self.leads.setdefault((first, second), [0])
                assert max(leads) - min(leads) <= 2
            else:
                self.leads.pop((first, second), None)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.one_of(st.tuples(st.sampled_from(OWNERS), st.integers(1, 20)), st.just(("", 3))),
        min_size=5,
        max_size=40,
    )
)
def test_owners_who_both_have_files_queued_are_served_alike(steps: list[tuple[str, int]]) -> None:
    """Whatever came before: in any stretch in which both wait, their numbers differ by two at most."""
    with tempfile.TemporaryDirectory() as place:
        database = Database.open(ensure_sqlite(Path(place) / "q.db"))
        queue, name = Queue(database, Policy(), lambda: 0.0), 0
        fair = Fairness(queue)

        for owner, count in [*steps, ("", 900)]:
            if owner:
                files = [Lfn(f"/d/{name + number:06}") for number in range(count)]
                name += count
                queue.enqueue("HERE", dict.fromkeys(files, Wanted(1, 1, "", "FAR", share=owner)))
                fair.left[owner] += count
                fair.watch()
            else:
                for _ in range(count):
                    if not +fair.left:
                        break
                    fair.serve()
                    fair.watch()
        assert not +fair.left
        database.close()
