"""What the lookup does beyond the time of an answer, after a failure, and when nobody is to be asked."""

from __future__ import annotations

import pytest

from support.scripted import Scripted, located
from support.waiting import until
from vse.catalogue.belief import Believed, Standing, pause_s, standing
from vse.catalogue.lookup import Lookup
from vse.catalogue.sql import SqlCatalogue
from vse.errors import Denied, UpstreamGarbage, UpstreamUnavailable
from vse.model import Lfn

BASE = Lfn("/lhc/data")
A, B, NEW = Lfn("/lhc/data/1/a.root"), Lfn("/lhc/data/1/b.root"), Lfn("/lhc/data/1/new.root")
DOWN = UpstreamUnavailable("ask up", "connection refused")
STALE = Believed(fresh_s=1000, negative_fresh_s=100, stale_s=500)
PAUSED = Believed(fresh_s=1000, negative_fresh_s=100, backoff_s=5, backoff_max_s=60)


@pytest.fixture
def up():
    return Scripted("up", located(A), located(B))


def names(answer):
    return [file.entry.lfn for file in answer]


def over(database, up, clock, expiry, **more):
    return Lookup(SqlCatalogue(database, clock), [up], clock, {"up": expiry}, **more)


def queued(database):
    with database.read() as connection:
        return connection.exec_driver_sql("SELECT kind, question FROM refreshes").fetchall()


# -- decisions ------------------------------------------------------------------------------------


def test_how_an_answer_stands():
    assert standing(None, 0, 500) is Standing.DUE
    assert standing(1000, 999, 500) is Standing.FRESH
    assert standing(1000, 1000, 500) is Standing.STALE
    assert standing(1000, 1499, 500) is Standing.STALE
    assert standing(1000, 1500, 500) is Standing.DUE
    assert standing(1000, 1000, 0) is Standing.DUE


def test_a_pause_doubles_up_to_the_longest():
    assert [pause_s(failures, PAUSED) for failures in range(7)] == [0, 5, 10, 20, 40, 60, 60]
    assert pause_s(10_000, PAUSED) == 60
    assert pause_s(3, Believed()) == 0


# -- stale while it is asked anew -----------------------------------------------------------------


def test_an_old_find_is_served_at_once_and_asked_anew_behind(database, up, clock):
    with over(database, up, clock, STALE) as lookup:
        assert names(lookup.find(BASE, "*")) == [A, B]
        up.files[NEW] = located(NEW)
        clock.now_s += 1200
        answer, report = lookup.find_with_report(BASE, "*")
        assert (names(answer), report.asked, report.refreshing) == ([A, B], [], True)
        until(lambda: len(up.asked) == 2 and not queued(database))
        answer, report = lookup.find_with_report(BASE, "*")
        assert (names(answer), report.asked, report.refreshing) == ([A, B, NEW], [], False)
        assert len(up.asked) == 2


def test_old_names_are_served_at_once_and_asked_anew_behind(database, up, clock):
    with over(database, up, clock, STALE) as lookup:
        assert set(lookup.resolve([A, B]).ok) == {A, B}
        up.files[A] = located(A, 77)
        clock.now_s += 1200
        result, report = lookup.resolve_with_report([A, B])
        assert [result.ok[A].entry.size_bytes, report.asked, report.refreshing] == [10, [], True]
        until(lambda: len(up.asked) == 2 and not queued(database))
        result, report = lookup.stat_with_report([A])
        assert (result.ok[A].size_bytes, report.refreshing) == (77, False)
        assert up.asked[1] == ("resolve", A, B), "in bulk"


def test_beyond_that_the_upstream_is_asked_first(database, up, clock):
    with over(database, up, clock, STALE) as lookup:
        list(lookup.find(BASE, "*"))
        clock.now_s += 1500
        _, report = lookup.find_with_report(BASE, "*")
        assert (report.asked, report.refreshing) == (["up"], False)


def test_not_there_is_not_served_beyond_its_time(database, up, clock):
    with over(database, up, clock, STALE) as lookup:
        assert names(lookup.find(Lfn("/none"), "*")) == []
        clock.now_s += 101
        assert lookup.find_with_report(Lfn("/none"), "*")[1].asked == ["up"]


def test_what_a_process_left_queued_another_asks(database, up, clock):
    """The first process ends, or is killed, with its question claimed or only queued."""
    with over(database, up, clock, STALE) as lookup:
        list(lookup.find(BASE, "*"))
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO refreshes VALUES ('find', '/lhc/data/*', 1.0, 0.0)")
        connection.exec_driver_sql(
            "INSERT INTO refreshes VALUES ('lfn', ?, 2.0, ?)", (A, clock.now_s + 1700.0)
        )
    clock.now_s += 1200
    with over(database, up, clock, STALE) as lookup:
        lookup.resume_refreshing()
        until(lambda: len(up.asked) == 2 and queued(database) == [("lfn", A)])
    clock.now_s += 600
    with over(database, up, clock, STALE) as lookup:
        lookup.resume_refreshing()
        until(lambda: not queued(database))


def test_a_refresh_that_fails_keeps_the_old_answer(database, up, clock):
    with over(database, up, clock, STALE) as lookup:
        list(lookup.find(BASE, "*"))
        up.error = DOWN
        clock.now_s += 1200
        assert names(lookup.find(BASE, "*")) == [A, B]
        until(lambda: len(up.asked) == 2 and not queued(database))
        for _ in range(5):
            assert names(lookup.find(BASE, "*")) == [A, B]
        assert len(up.asked) == 2, "it is not asked again at once"


# -- after a failure ------------------------------------------------------------------------------


def test_one_that_failed_is_left_alone_by_every_process(database, up, clock):
    up.error = DOWN
    lookup, other = (over(database, up, clock, PAUSED) for _ in range(2))
    for pause in (5, 10, 20, 40, 60, 60):
        with pytest.raises(UpstreamUnavailable, match="connection refused"):
            lookup.find(BASE, "*")
        asked = len(up.asked)
        clock.now_s += pause - 0.5
        with pytest.raises(UpstreamUnavailable, match=r"it failed .*asked again in .*connection refused"):
            other.find(BASE, "*")
        (error,) = other.resolve([A]).failed.values()
        assert isinstance(error, UpstreamUnavailable)
        assert len(up.asked) == asked
        clock.now_s += 0.5
    up.error = None
    assert names(other.find(BASE, "*")) == [A, B]
    up.error = DOWN
    clock.now_s += 1001
    assert names(lookup.find(BASE, "*")) == [A, B]
    clock.now_s += 5
    assert lookup.find_with_report(BASE, "*")[1].asked == ["up"], "a success began the count anew"


@pytest.mark.parametrize("error", [Denied("ask up", "it answered 401"), UpstreamGarbage("read", "no JSON")])
def test_a_pause_keeps_the_kind_of_error(database, up, clock, error):
    up.error = error
    lookup = over(database, up, clock, PAUSED)
    for _ in range(2):
        with pytest.raises(type(error), match=error.found):
            lookup.find(BASE, "*")
    assert len(up.asked) == 1


def test_a_pause_that_the_upstream_wishes_is_kept(database, up, clock):
    up.error = UpstreamUnavailable("ask up", "it answered 429")
    up.error.retry_after_s = 50.0
    lookup = over(database, up, clock, PAUSED)
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable):
            lookup.find(BASE, "*")
        clock.now_s += 49
    assert len(up.asked) == 1 + 0


def test_a_clock_that_was_set_back_does_not_pause_for_ever(database, up, clock):
    up.error = DOWN
    lookup = over(database, up, clock, PAUSED)
    with pytest.raises(UpstreamUnavailable):
        lookup.find(BASE, "*")
    up.error = None
    clock.now_s -= 1e6
    assert names(lookup.find(BASE, "*")) == [A, B]


# -- offline --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["all", "one"])
def test_offline_serves_what_is_here_and_says_so(database, up, clock, how):
    list(over(database, up, clock, PAUSED).find(BASE, "*"))
    clock.now_s += 1e7
    if how == "all":
        lookup = over(database, up, clock, PAUSED, offline=True)
    else:
        lookup = over(database, up, clock, Believed(1000, 100, offline=True))
    answer, report = lookup.find_with_report(BASE, "*")
    assert (names(answer), report.offline, report.asked) == ([A, B], ["up"], [])
    assert "offline" in str(report.failed["up"])
    result, report = lookup.resolve_with_report([A, NEW])
    assert (set(result.ok), report.offline) == ({A}, ["up"])
    assert isinstance(result.failed[NEW], UpstreamUnavailable), "nobody knows whether it is there"
    with pytest.raises(UpstreamUnavailable, match="offline"):
        lookup.find(Lfn("/never/asked"), "*")
    assert len(up.asked) == 1


# -- prefetch and counts --------------------------------------------------------------------------


def test_prefetch_brings_the_answer_here(database, up, clock):
    lookup = over(database, up, clock, PAUSED)
    assert lookup.prefetch(BASE, "*").asked == ["up"]
    assert lookup.prefetch(BASE, "*").asked == []
    assert lookup.prefetch(BASE, "*", again=True).asked == ["up"]
    assert lookup.resolve_with_report([A, B])[1].asked == []
    up.error = DOWN
    with pytest.raises(UpstreamUnavailable):
        lookup.prefetch(BASE, "*", again=True)
    up.error = None
    assert names(lookup.find(BASE, "*")) == [A, B]


def test_counts_are_rows_over_all_processes(database, up, clock):
    for _ in range(2):
        with over(database, up, clock, PAUSED) as lookup:
            list(lookup.find(BASE, "*"))
            lookup.resolve([A, B])
    (state,) = over(database, up, clock, PAUSED).states()
    assert (state.name, state.hits, state.misses, state.stale, state.queries) == ("up", 5, 1, 0, 1)
    assert (state.failures, state.failed, state.error) == (0, 0, None)
    assert state.hit_rate == pytest.approx(5 / 6)
    assert state.waited_s > 0
    up.error = DOWN
    clock.now_s += 1001
    with over(database, up, clock, PAUSED) as lookup:
        list(lookup.find(BASE, "*"))
        (state,) = lookup.states()
    assert (state.failures, state.failed, state.stale) == (1, 1, 1)
    assert state.not_before_s == clock.now_s + 5
    assert "connection refused" in str(state.error)


@pytest.mark.slow
def test_postgresql_keeps_the_same_rows(postgresql, up, clock):
    both = Believed(1000, 100, stale_s=500, backoff_s=5, backoff_max_s=60)
    with over(postgresql, up, clock, both) as lookup:
        assert set(lookup.resolve([A, B]).ok) == {A, B}
        assert names(lookup.find(BASE, "*")) == [A, B]
        clock.now_s += 1200
        assert lookup.find_with_report(BASE, "*")[1].refreshing
        assert lookup.resolve_with_report([A, B])[1].refreshing
        until(lambda: not queued(postgresql))
        assert not lookup.find_with_report(BASE, "*")[1].refreshing
        up.error = DOWN
        with pytest.raises(UpstreamUnavailable):
            lookup.prefetch(BASE, "*", again=True)
    (state,) = over(postgresql, up, clock, both).states()
    assert (state.failures, state.failed, state.not_before_s) == (1, 1, clock.now_s + 5)
    with pytest.raises(UpstreamUnavailable, match="it failed once"):
        over(postgresql, up, clock, both).find(Lfn("/elsewhere"), "*")
