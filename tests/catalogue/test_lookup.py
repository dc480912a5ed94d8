"""The lookup cache, over an upstream that does what the test says and counts what it is asked."""

from __future__ import annotations

import fnmatch

import pytest

from support.scripted import Scripted, located
from vse.catalogue.lookup import Believed, Lookup
from vse.catalogue.port import NewReplica
from vse.catalogue.sql import SqlCatalogue
from vse.errors import Denied, NoSuchEntry, UpstreamGarbage, UpstreamUnavailable
from vse.model import BulkResult, Contents, Entry, Lfn, Located, NewFile, Replica, ReplicaState
from vse.testing.names import TREE, NamesConformance

DOWN = UpstreamUnavailable("ask up", "connection refused")
BASE = Lfn("/lhc/data")
A, B, C = Lfn("/lhc/data/1/a.root"), Lfn("/lhc/data/1/b.root"), Lfn("/lhc/data/2/c.txt")


@pytest.fixture
def up():
    return Scripted("up", located(A), located(B), located(C))


@pytest.fixture
def lookup(catalogue, up, clock):
    return Lookup(catalogue, [up], clock, {"up": Believed(1000, 100)})


def names(answer):
    return [file.entry.lfn for file in answer]


# -- find -----------------------------------------------------------------------------------------


def test_a_find_is_asked_once_and_then_answered_from_the_rows(lookup, up, clock, database):
    answer, report = lookup.find_with_report(BASE, "*.root")
    assert names(answer) == [A, B]
    assert (report.asked, report.queries, report.stale) == (["up"], 1, False)
    for _ in range(3):
        answer, report = lookup.find_with_report(BASE, "*.root")
        assert names(answer) == [A, B]
        assert (report.asked, report.queries, report.waited_s) == ([], 0, 0.0)
    assert len(up.asked) == 1
    assert (lookup.hits, lookup.misses, lookup.stale, lookup.queries) == (3, 1, 0, 1)

    another = Lookup(SqlCatalogue(database, clock), [up], clock, {"up": Believed(1000, 100)})
    assert names(another.find(BASE, "*.root")) == [A, B]
    assert len(up.asked) == 1, "the answer is a row: it outlives the object"


def test_what_the_upstream_told_is_served_whole(lookup, up):
    up.files[A] = located(A, 7, None, "SE1", "root://far//a", Contents("Events", 12))
    (file,) = lookup.find(BASE, "a.root")
    assert file.entry[:8] == (A, "file", 7, None, None, "far", "away", 0o640)
    assert file.entry.modified_s == 6.0
    assert file.replicas == (Replica(A, "SE1", "root://far//a", ReplicaState.AVAILABLE, None, "up"),)
    assert file.contents == Contents("Events", 12)
    up.files[B] = located(B, url=None)
    (file,) = lookup.find(BASE, "b.root")
    assert file.replicas[0].url is None


def test_an_answer_expires(lookup, up, clock):
    list(lookup.find(BASE, "*.root"))
    clock.now_s += 999
    list(lookup.find(BASE, "*.root"))
    assert len(up.asked) == 1
    clock.now_s += 1
    list(lookup.find(BASE, "*.root"))
    assert len(up.asked) == 2


def test_an_empty_answer_expires_sooner(lookup, up, clock):
    assert names(lookup.find(Lfn("/lhc/none"), "*")) == []
    assert names(lookup.find(Lfn("/lhc/none"), "*")) == []
    assert len(up.asked) == 1
    clock.now_s += 100
    assert names(lookup.find(Lfn("/lhc/none"), "*")) == []
    assert len(up.asked) == 2


@pytest.mark.parametrize(
    ("base", "pattern", "asks"),
    [
        ("/lhc/data/1", "*.root", False),
        ("/lhc/data/1/deeper", "*.root", False),
        ("/lhc/data", "*", True),
        ("/lhc/data", "a.root", True),
        ("/lhc", "*.root", True),
        ("/lhc/data2", "*.root", True),
    ],
)
def test_an_answer_holds_those_below_it(lookup, up, base, pattern, asks):
    list(lookup.find(BASE, "*.root"))
    list(lookup.find(Lfn(base), pattern))
    assert len(up.asked) == 1 + asks


def test_a_find_of_everything_answers_any_pattern_below(lookup, up):
    list(lookup.find(Lfn("/"), "*"))
    assert names(lookup.find(Lfn("/lhc/data/2"), "?.txt")) == [C]
    assert len(up.asked) == 1


def test_what_is_told_no_more_disappears(lookup, up, clock, catalogue):
    list(lookup.find(BASE, "*"))
    catalogue.add_replicas([NewReplica(B, "HERE")])
    del up.files[A], up.files[B], up.files[C]
    clock.now_s += 1000
    (kept,) = lookup.find(BASE, "*.root")
    assert (kept.entry.lfn, [copy.se for copy in kept.replicas]) == (B, ["HERE"])
    assert isinstance(catalogue.resolve([A]).failed[A], NoSuchEntry)
    assert names(catalogue.find(BASE, "*")) == [B, C], "*.root says nothing of a text file"


@pytest.mark.parametrize("pattern", ["*.root", "[ab].root"])
@pytest.mark.parametrize("base", ["/", "/lhc/data", "/lhc/data/1"])
def test_only_names_that_were_asked_about_disappear(lookup, up, clock, base, pattern):
    for lfn in ("/lhc/data/1/x.txt", "/lhc/data/1!/y.root", "/lhc/data-1/z.root"):
        up.files[Lfn(lfn)] = located(lfn)
    list(lookup.find(Lfn("/"), "*"))
    before = set(names(lookup.catalogue.find(Lfn("/"), "*")))
    clock.now_s += 1000
    gone = {lfn for lfn in up.files if lfn.is_below(base) and fnmatch.fnmatchcase(lfn.name, pattern)}
    up.files.clear()
    up.files[Lfn("/lhc/data/1/a.root")] = located("/lhc/data/1/a.root")
    list(lookup.find(Lfn(base), pattern))
    assert set(names(lookup.catalogue.find(Lfn("/"), "*"))) == before - gone | {A}


def test_files_told_without_replicas_come_and_go(lookup, up, clock, catalogue):
    up.files = {A: located(A, copies=False), B: located(B, copies=False)}
    assert [file.replicas for file in lookup.find(BASE, "*")] == [(), ()]
    del up.files[A]
    clock.now_s += 1000
    assert names(lookup.find(BASE, "*")) == [B]


def test_a_find_at_a_single_file_comes_and_goes(lookup, up, clock, catalogue):
    assert names(lookup.find(A, "*")) == [A]
    del up.files[A]
    clock.now_s += 1000
    assert names(lookup.find(A, "*")) == []


def test_a_file_that_changed_upstream_is_served_as_it_is_now(lookup, up, clock):
    up.files[A] = located(A, 10, 1, contents=Contents("Events", 5))
    list(lookup.find(BASE, "*"))
    up.files[A] = located(A, 11, None)
    clock.now_s += 1000
    (file,) = lookup.find(BASE, "a.root")
    assert (file.entry.size_bytes, file.entry.adler32, file.contents) == (11, None, None)


def test_our_own_names_are_never_overwritten(lookup, up, catalogue):
    catalogue.register([NewFile(A, 99, 7, "HERE", contents=Contents("Mine", 1)), NewFile(B, 10, 1, "HERE")])
    up.files[B] = located(B, 10, 1, contents=Contents("Theirs", 2))
    answer, report = lookup.find_with_report(BASE, "*.root")
    mine, united = answer
    assert (mine.entry.size_bytes, [copy.se for copy in mine.replicas]) == (99, ["HERE"])
    assert mine.contents == Contents("Mine", 1)
    assert [(copy.se, copy.origin) for copy in united.replicas] == [("FAR", "up"), ("HERE", "")]
    assert united.entry.owner == "root"
    assert report.conflict_count == 1
    (conflict,) = report.conflicts
    assert (conflict.lfn, conflict.upstream) == (A, "up")
    assert "99 bytes, not 10" in conflict.found


def test_a_file_whose_copy_is_here_keeps_its_size(lookup, up, clock, catalogue):
    list(lookup.find(BASE, "*"))
    catalogue.add_replicas([NewReplica(A, "HERE", contents=Contents("Events", 3))])
    up.files[A] = located(A, 11, 1)
    clock.now_s += 1000
    answer, report = lookup.find_with_report(BASE, "a.root")
    (file,) = answer
    assert (file.entry.size_bytes, file.contents) == (10, Contents("Events", 3))
    assert report.conflict_count == 1


def test_a_file_that_is_a_directory_here_is_reported(lookup, up, catalogue):
    catalogue.register([NewFile(A.child("inside"), 1)])
    answer, report = lookup.find_with_report(BASE, "*")
    assert names(answer) == [B, A.child("inside"), C]
    assert [conflict.lfn for conflict in report.conflicts] == [A]


# -- an upstream that fails ------------------------------------------------------------------------


@pytest.mark.parametrize("error", [DOWN, Denied("ask up", "401"), UpstreamGarbage("ask", "it is HTML")])
def test_with_nothing_known_the_upstreams_error_is_raised(lookup, up, error):
    up.error = error
    with pytest.raises(type(error)) as raised:
        lookup.find(BASE, "*")
    assert raised.value is error
    result = lookup.resolve([A, B])
    assert result.failed == {A: error, B: error}
    assert lookup.stat([A]).failed == {A: error}
    with pytest.raises(type(error)):
        lookup.list(BASE)


def test_stale_rows_are_served_and_the_report_says_so(lookup, up, clock):
    list(lookup.find(BASE, "*"))
    clock.now_s += 5000
    up.error = DOWN
    answer, report = lookup.find_with_report(BASE, "*.root")
    assert names(answer) == [A, B]
    assert report.stale
    assert report.failed == {"up": DOWN}
    result, report = lookup.resolve_with_report([A, C])
    assert set(result.ok) == {A, C}
    assert report.failed == {"up": DOWN}
    assert lookup.stale == 3
    missing = Lfn("/lhc/data/9/new.root")
    assert lookup.resolve([missing]).failed == {missing: DOWN}, "nobody can say that it is not there"

    up.error = None
    answer, report = lookup.find_with_report(BASE, "*.root")
    assert not report.stale


def test_an_empty_answer_is_served_stale_too(lookup, up, clock):
    list(lookup.find(Lfn("/lhc/none"), "*"))
    clock.now_s += 5000
    up.error = DOWN
    answer, report = lookup.find_with_report(Lfn("/lhc/none"), "*")
    assert names(answer) == []
    assert report.stale


def test_what_is_only_here_is_served_when_an_upstream_was_never_heard(lookup, up, catalogue):
    catalogue.register([NewFile(A, 10, 1, "HERE")])
    up.error = DOWN
    answer, report = lookup.find_with_report(BASE, "*")
    assert names(answer) == [A]
    assert report.stale


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
def test_an_answer_that_breaks_off_changes_nothing(lookup, up, clock, catalogue, before):
    if before:
        list(lookup.find(BASE, "*"))
    known = list(catalogue.find(Lfn("/"), "*"))
    clock.now_s += 5000
    up.files = {Lfn(f"/lhc/data/{i:05d}.root"): located(f"/lhc/data/{i:05d}.root") for i in range(12_000)}
    up.breaks_after = 11_999
    if before:
        answer, report = lookup.find_with_report(BASE, "*")
        assert names(answer) == [A, B, C]
        assert isinstance(report.failed["up"], UpstreamGarbage)
    else:
        with pytest.raises(UpstreamGarbage, match="ends in the middle"):
            lookup.find(BASE, "*")
    assert list(catalogue.find(Lfn("/"), "*")) == known

    up.breaks_after = None
    assert len(list(lookup.find(BASE, "*"))) == 12_000
    assert names(catalogue.find(BASE, "[abc].*")) == []


@pytest.mark.parametrize(
    "wrong",
    [
        located("/elsewhere/x.root"),
        located("/lhc/data/x.txt"),
        located("/lhc/data/x.root", size_bytes=-1),
        located("/lhc/data/x.root", size_bytes=None),
    ],
)
def test_garbage_is_not_stored(lookup, up, catalogue, wrong):
    up.find = lambda base, pattern: iter([located(A), wrong])
    with pytest.raises(UpstreamGarbage, match="upstream up"):
        lookup.find(BASE, "*.root")
    up.answer = BulkResult(ok={A: wrong})
    assert isinstance(lookup.resolve([A]).failed[A], UpstreamGarbage)
    up.answer = BulkResult()
    assert isinstance(lookup.resolve([A]).failed[A], UpstreamGarbage)
    up.answer = BulkResult(ok={A: located(A), B: located(B)})
    assert isinstance(lookup.resolve([A]).failed[A], UpstreamGarbage)
    assert list(catalogue.find(Lfn("/"), "*")) == []


# -- names ----------------------------------------------------------------------------------------


def test_names_are_asked_in_one_call_and_only_those_that_are_due(lookup, up, clock, catalogue):
    catalogue.register([NewFile(Lfn("/own"), 1)])
    absent = Lfn("/lhc/absent")
    result, report = lookup.resolve_with_report([Lfn("/own"), A, absent, B])
    assert set(result.ok) == {Lfn("/own"), A, B}
    assert isinstance(result.failed[absent], NoSuchEntry)
    assert up.asked == [("resolve", A, absent, B)]
    assert report.queries == 1
    lookup.resolve([Lfn("/own"), A, absent, B])
    assert len(up.asked) == 1
    clock.now_s += 100
    lookup.resolve([Lfn("/own"), A, absent, B])
    assert up.asked[1:] == [("resolve", absent)], "'not there' is believed for a shorter time"
    clock.now_s += 900
    lookup.stat([Lfn("/own"), A, absent, B])
    assert up.asked[2:] == [("resolve", A, absent, B)]
    assert (lookup.hits, lookup.misses, lookup.queries) == (1 + 4 + 3 + 1, 3 + 1 + 3, 3)


def test_a_find_answers_for_names(lookup, up, clock):
    list(lookup.find(BASE, "*.root"))
    absent, text = Lfn("/lhc/data/1/none.root"), Lfn("/lhc/data/1/none.txt")
    assert set(lookup.resolve([A, B, absent]).ok) == {A, B}
    assert len(up.asked) == 1
    lookup.resolve([text])
    assert up.asked[1:] == [("resolve", text)]
    clock.now_s += 100
    up.files[absent] = located(absent)
    assert lookup.resolve([absent]).ok, "that a find did not tell of a name is a 'not there', too"


def test_a_name_that_is_told_no_more_disappears(lookup, up, clock, catalogue):
    lookup.resolve([A, B])
    catalogue.add_replicas([NewReplica(B, "HERE")])
    up.files.clear()
    clock.now_s += 1000
    result = lookup.resolve([A, B])
    assert isinstance(result.failed[A], NoSuchEntry)
    assert [copy.se for copy in result.ok[B].replicas] == ["HERE"]
    assert names(catalogue.find(BASE, "*")) == [B]
    assert len(up.asked) == 2
    lookup.resolve([A, B])
    assert len(up.asked) == 2


def test_directories_are_not_asked_about(lookup, up):
    list(lookup.find(BASE, "*"))
    assert lookup.stat([BASE, Lfn("/"), BASE.child("1")]).failed == {}
    assert isinstance(lookup.resolve([BASE]).failed[BASE], NoSuchEntry)
    assert len(up.asked) == 1


def test_one_name_that_fails_does_not_block_the_others(lookup, up):
    up.answer = BulkResult(ok={A: located(A)}, failed={B: DOWN})
    result, report = lookup.resolve_with_report([A, B])
    assert set(result.ok) == {A}
    assert result.failed == {B: DOWN}
    assert report.failed == {"up": DOWN}


def test_list_asks_only_for_a_directory_that_is_not_known(lookup, up):
    assert list(lookup.list(Lfn("/"))) == []
    assert up.asked == []
    assert [entry.lfn for entry in lookup.list(BASE)] == ["/lhc/data/1", "/lhc/data/2"]
    assert [entry.lfn for entry in lookup.list(BASE.child("1"))] == [A, B]
    assert up.asked == [("find", BASE, "*")]
    with pytest.raises(NoSuchEntry):
        lookup.list(Lfn("/lhc/none"))


def test_expired_not_there_answers_do_not_pile_up(lookup, up, clock, database):
    for turn in range(5):
        lookup.resolve([Lfn(f"/none/{turn}/{i}") for i in range(10)])
        clock.now_s += 100
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM answers").scalar() == 10


# -- several upstreams -----------------------------------------------------------------------------


@pytest.fixture
def two(catalogue, up, clock):
    other = Scripted("other", located(A, se="NEAR"), located("/lhc/data/3/d.root", se="NEAR"))
    expiries = {"up": Believed(1000, 100), "other": Believed(500, 50)}
    return Lookup(catalogue, [up, other], clock, expiries), other


def test_answers_of_several_upstreams_are_united_by_name(two, up, clock):
    lookup, _ = two
    answer, report = lookup.find_with_report(BASE, "*.root")
    first, *rest = answer
    assert [(copy.se, copy.origin) for copy in first.replicas] == [("FAR", "up"), ("NEAR", "other")]
    assert names(rest) == [B, "/lhc/data/3/d.root"]
    assert report.asked == ["up", "other"]
    clock.now_s += 500
    assert lookup.find_with_report(BASE, "*.root")[1].asked == ["other"], "each is due in its own time"
    assert len(names(lookup.find(BASE, "*.root"))) == 3
    assert len(up.asked) == 1


def test_one_upstream_that_fails_does_not_hide_the_other(two, up, clock):
    lookup, other = two
    other.error = DOWN
    answer, report = lookup.find_with_report(BASE, "*")
    assert names(answer) == [A, B, C]
    assert report.failed == {"other": DOWN}
    result = lookup.resolve([A, Lfn("/lhc/data/3/d.root")])
    assert set(result.ok) == {A}
    assert result.failed == {"/lhc/data/3/d.root": DOWN}
    other.error = None
    located_a = lookup.resolve([A]).one(A)
    assert [copy.origin for copy in located_a.replicas] == ["up", "other"]


def test_an_upstream_forgets_its_own_replicas_only(two, up, clock):
    lookup, _ = two
    list(lookup.find(BASE, "*"))
    up.files.clear()
    clock.now_s += 1000
    answer = list(lookup.find(BASE, "*"))
    assert [(file.entry.lfn, [copy.se for copy in file.replicas]) for file in answer] == [
        (A, ["NEAR"]),
        ("/lhc/data/3/d.root", ["NEAR"]),
    ]


def test_upstreams_that_disagree_are_reported_and_the_first_is_kept(two, up):
    lookup, other = two
    other.files[A] = located(A, 11, se="NEAR")
    answer, report = lookup.find_with_report(BASE, "a.root")
    (file,) = answer
    assert (file.entry.size_bytes, [copy.se for copy in file.replicas]) == (10, ["FAR"])
    assert [(conflict.lfn, conflict.upstream) for conflict in report.conflicts] == [(A, "other")]


def test_only_upstreams_own_answers_count_for_names(two, up):
    lookup, other = two
    lookup.resolve([A, B])
    assert up.asked == other.asked == [("resolve", A, B)]
    lookup.resolve([A, B])
    assert len(up.asked) == len(other.asked) == 1


def test_without_upstreams_a_lookup_is_the_catalogue(catalogue, clock):
    lookup = Lookup(catalogue, [], clock)
    catalogue.register([NewFile(A, 1)])
    assert names(lookup.find(BASE, "*")) == [A]
    assert lookup.resolve([A, B]).ok.keys() == {A}


class TestLookupOverAnUpstream(NamesConformance):
    """Names that come from an upstream look the same as our own."""

    @pytest.fixture
    def names(self, catalogue, clock):
        return Lookup(catalogue, [Scripted("up")], clock)

    def fill(self, names, files):
        (up,) = names.upstreams
        for file in files:
            modified_s = 1.0 if file.modified_s is None else file.modified_s
            entry = Entry(
                file.lfn, "file", file.size_bytes, file.adler32, file.guid, file.owner, file.group,
                file.mode, 1.0, modified_s,
            )  # fmt: skip
            copies = () if file.se is None else (Replica(file.lfn, file.se, file.url, "available", None, ""),)
            up.files[file.lfn] = Located(entry, copies, file.contents)
        assert len(list(names.find(Lfn("/"), "*"))) == len(TREE)
