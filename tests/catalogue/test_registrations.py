"""Copies made here, told to upstreams: none is lost, refusals are kept, one that is away is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.catalogue.port import CopyMade
from vse.catalogue.registrations import (
    LEASE_S,
    Recipient,
    Registrar,
    Registration,
    Registrations,
    RegistrationState,
    outcome,
)
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.errors import AlreadyExists, Denied, UpstreamGarbage, UpstreamUnavailable, VseError
from vse.model import BulkResult, Lfn, NewFile

QUEUED, DONE, FAILED = RegistrationState.QUEUED, RegistrationState.DONE, RegistrationState.FAILED
AWAY = UpstreamUnavailable("register copies", "it was silent")
REFUSED = AlreadyExists("register a copy", "it has another size")


@dataclass(frozen=True)
class Pauses:
    backoff_s: float = 5.0
    backoff_max_s: float = 60.0


class Elsewhere:
    """An upstream that answers as it is told to; ``heard`` is what it took."""

    def __init__(self) -> None:
        self.heard: list[CopyMade] = []
        self.calls = 0
        self.fault: VseError | None = None
        self.refusals: dict[str, VseError] = {}

    def covers(self, lfn: Lfn) -> bool:
        return lfn.startswith("/far/")

    def register_replicas(self, copies: Sequence[CopyMade]) -> BulkResult[None]:
        self.calls += 1
        assert len({one.lfn for one in copies}) == len(copies)
        if self.fault is not None:
            raise self.fault
        good = [one for one in copies if one.lfn not in self.refusals]
        self.heard += good
        failed = {one.lfn: self.refusals[one.lfn] for one in copies if one.lfn in self.refusals}
        return BulkResult(dict.fromkeys(one.lfn for one in good), failed)


class Site:
    """A catalogue with copies at two elements, and a registrar for one upstream."""

    def __init__(self, catalogue: SqlCatalogue, database: Database, clock: Callable[[], float]) -> None:
        self.catalogue = catalogue
        self.clock = clock
        self.far = Elsewhere()
        self.queue = Registrations(database, catalogue.rows.upstreams.ids)
        self.registrar = self.another()

    def another(self) -> Registrar:
        """A registrar as another process of the site has one."""
        recipients = {"far": Recipient(self.far, Pauses(), 10)}
        return Registrar(
            self.queue, recipients, self.catalogue, lambda copy, guid: f"root://here/{copy.lfn}", self.clock
        )

    def make(self, count: int, se: str = "HERE") -> list[Lfn]:
        names = [Lfn(f"/far/f{number}") for number in range(count)]
        files = [NewFile(name, number, number, se) for number, name in enumerate(names)]
        assert not self.catalogue.register(files).failed
        self.registrar.enqueue([(name, se) for name in names])
        return names

    def all(self) -> list[Registration]:
        return list(self.queue.list())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def site(request: pytest.FixtureRequest, clock: Callable[[], float]) -> Iterator[Site]:
    database = request.getfixturevalue("database" if request.param == "sqlite" else "postgresql")
    return Site(SqlCatalogue(database, clock), database, clock)


def test_copies_are_told_in_bulk_with_what_they_are_copies_of(site: Site) -> None:
    names = site.make(25)
    assert site.registrar.drain() == 25
    assert site.far.calls == 3
    assert [one.lfn for one in site.far.heard] == names
    assert site.far.heard[7] == CopyMade(names[7], "HERE", f"root://here/{names[7]}", 7, 7)
    assert {one.state for one in site.all()} == {DONE}
    assert site.queue.counts() == {"far": {DONE: 25}}
    assert site.registrar.drain() == 0 and site.far.calls == 3


def test_names_that_the_upstream_cannot_have_are_not_queued(site: Site) -> None:
    site.catalogue.register([NewFile(Lfn("/mine/f"), 1, 1, "HERE")])
    site.registrar.enqueue([(Lfn("/mine/f"), "HERE")])
    assert site.all() == []


def test_an_upstream_that_is_away_is_asked_again_after_growing_pauses(site: Site, clock) -> None:
    site.make(3)
    site.far.fault = AWAY
    began_s = clock.now_s
    waits = []
    for _ in range(6):
        assert site.registrar.drain() == 0
        assert site.registrar.drain() == 0  # at once after it: not asked
        (due_s,) = {one.not_before_s for one in site.all()}
        waits.append(due_s - clock.now_s)
        clock.now_s = due_s
    assert waits == [5, 10, 20, 40, 60, 60] and site.far.calls == 6
    assert {(one.state, one.failures) for one in site.all()} == {(QUEUED, 6)}
    assert "it was silent" in str(site.all()[0].error)
    site.far.fault = None
    assert site.registrar.drain() == 3
    assert clock.now_s > began_s and {one.error for one in site.all()} == {None}


def test_one_that_is_refused_does_not_hold_up_the_others(site: Site) -> None:
    names = site.make(5)
    site.far.refusals[names[2]] = REFUSED
    assert site.registrar.drain() == 4
    (failed,) = site.queue.list("far", [FAILED])
    assert failed.lfn == names[2] and str(failed.error) == str(REFUSED)
    assert site.registrar.drain() == 0
    site.far.refusals.clear()
    assert site.queue.retry("far", site.clock()) == 1
    assert site.registrar.drain() == 1
    assert site.queue.counts() == {"far": {DONE: 5}}


def test_a_process_that_is_killed_with_claimed_copies_loses_none(site: Site, clock) -> None:
    site.make(4)
    assert len(site.queue.claim("far", 10, clock.now_s)) == 4
    assert site.another().drain() == 0  # they are the other's
    clock.now_s += LEASE_S
    assert site.another().drain() == 4


def test_killed_before_it_wrote_the_answer_down_it_is_told_again(site: Site, clock) -> None:
    site.make(2)
    claimed = site.queue.claim("far", 10, clock.now_s)
    site.far.register_replicas([CopyMade(one.lfn, one.se, None, 0, None) for one in claimed])
    clock.now_s += LEASE_S
    assert site.another().drain() == 2
    assert {one.state for one in site.all()} == {DONE}


def test_a_copy_that_is_gone_is_not_told(site: Site) -> None:
    names = site.make(3)
    site.catalogue.remove_replicas([names[0]], "HERE")
    site.catalogue.remove([names[1]])
    assert site.registrar.drain() == 1
    assert [one.lfn for one in site.far.heard] == [names[2]] == [one.lfn for one in site.all()]


def test_copies_of_one_file_at_two_elements_are_both_told(site: Site) -> None:
    site.make(3, "HERE")
    site.make(3, "THERE")
    assert site.registrar.drain() == 6
    assert {one.se for one in site.far.heard} == {"HERE", "THERE"}


def test_a_copy_made_anew_is_told_anew(site: Site) -> None:
    names = site.make(1)
    site.registrar.drain()
    site.registrar.enqueue([(names[0], "HERE")])
    assert site.registrar.drain() == 1 and len(site.far.heard) == 2
    assert len(site.all()) == 1


def test_two_processes_tell_each_copy_once(site: Site) -> None:
    site.make(100)
    others = [threading.Thread(target=site.another().drain) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join(30)
    assert len(site.far.heard) == len({one.lfn for one in site.far.heard}) == 100


def test_a_list_of_many_is_whole(site: Site) -> None:
    site.make(2500)
    assert [one.lfn for one in site.queue.list()] == [f"/far/f{number}" for number in range(2500)]


def test_run_tells_what_is_queued_meanwhile_and_ends_with_nothing_due(site: Site) -> None:
    over = threading.Event()
    runner = threading.Thread(target=site.registrar.run, args=(over,))
    runner.start()
    try:
        site.make(12)
    finally:
        over.set()
        runner.join(20)
    assert not runner.is_alive()
    assert site.queue.counts() == {"far": {DONE: 12}}


@given(
    failures=st.integers(0, 10_000),
    pauses=st.builds(Pauses, st.floats(0.1, 100), st.floats(100, 1000)),
    wanted_s=st.none() | st.floats(0, 1e5),
)
def test_a_pause_is_never_shorter_than_wanted_and_never_without_end(
    failures: int, pauses: Pauses, wanted_s: float | None
) -> None:
    error = UpstreamUnavailable("register", "busy")
    error.retry_after_s = wanted_s
    after = outcome(failures, error, pauses, 1000.0)
    assert after.state is QUEUED and after.failures == failures + 1 and after.finished_s is None
    pause_s = after.not_before_s - 1000.0
    assert pauses.backoff_s - 1e-6 <= pause_s <= max(pauses.backoff_max_s, wanted_s or 0) + 1e-6
    assert pause_s >= (wanted_s or 0) - 1e-6


def test_what_will_not_get_better_is_not_tried_again() -> None:
    for error in (Denied("register", "no"), REFUSED):
        assert outcome(0, error, Pauses(), 7.0).state is FAILED
    assert outcome(0, UpstreamGarbage("register", "?"), Pauses(), 7.0).state is QUEUED
    assert outcome(4, None, Pauses(), 7.0) == (DONE, 4, 7.0, 7.0)
