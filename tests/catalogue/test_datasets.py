"""Datasets in the database, and queries answered: on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from vse.app.datasets import compare, sorted_by_name
from vse.catalogue.datasets import Datasets, Finding
from vse.catalogue.lookup import Lookup
from vse.catalogue.selection import Selector
from vse.catalogue.sql import SqlCatalogue
from vse.config.settings import DatasetSettings, VariantSettings
from vse.errors import AlreadyExists, BadQuery, BadRequest, NoSuchDataset, NoSuchEntry, UpstreamUnavailable
from vse.model import BulkResult, Contents, DatasetFile, DatasetQuery, Lfn, Located, NewFile, ReplicaState

AOD = "/alice/data/2010/LHC10h/{:09d}/ESDs/pass2/AOD086/0001/AliAOD.root"


@pytest.fixture(params=["database", pytest.param("postgresql", marks=pytest.mark.slow)])
def place(request, clock):
    """A catalogue, its datasets, and a selector over it."""
    database = request.getfixturevalue(request.param)
    catalogue = SqlCatalogue(database, clock)
    datasets = Datasets(database, catalogue.rows, clock)
    return catalogue, datasets, Selector(catalogue, datasets, DatasetSettings())


def some(*names, size_bytes=10, **more):
    return [DatasetFile(Lfn(f"/lhc/{name}"), size_bytes, **more) for name in names]


def freeze(datasets, name, files, **more):
    return datasets.freeze(name, files, **{"query": "", "tree": "", "owner": "anna"} | more)


def lfns(selector, text):
    return [one.file.lfn for one in selector.select(DatasetQuery.parse(text)).files]


def test_each_snapshot_is_a_version(place, clock):
    _, datasets, _ = place
    first = freeze(datasets, "muons", some("a", "b", entries=3, tree="t"), query="/lhc", note="why")
    clock.now_s += 5
    second = freeze(datasets, "muons", some("a"))
    assert (first.label, first.files, first.size_bytes, first.entries) == ("muons@1", 2, 20, 6)
    assert (first.owner, first.note, first.query) == ("anna", "why", "/lhc")
    assert (second.label, second.files, second.entries) == ("muons@2", 1, None)
    assert datasets.get("muons") == second
    assert datasets.get("muons", 1) == first
    assert [one.label for one in datasets.list("mu*")] == ["muons@1", "muons@2"]
    assert list(datasets.list("x*")) == []
    datasets.remove(second)
    assert datasets.get("muons") == first
    assert [file for _, file in datasets.files(first)] == some("a", "b", entries=3, tree="t")


def ensure(datasets, name, files, **more):
    made = datasets.ensure_frozen(name, files, **{"query": "", "tree": "", "owner": "anna"} | more)
    return made.dataset.version, made.is_new


def test_a_version_is_made_only_of_what_has_changed(place):
    _, datasets, _ = place
    files = [*some("a", "b", "a", adler32=1, tree="t"), *some("c", member="m", source="root://h//c")]
    assert ensure(datasets, "d", files, query="/lhc", usual_note="from x") == (1, True)
    assert ensure(datasets, "d", iter(files), query="/lhc", usual_note="from y") == (1, False)
    first = datasets.get("d")
    assert (first.files, first.note) == (3, "from x")
    datasets.mark(first, [Finding(0, True, 7), Finding(1, False, 8)])
    assert ensure(datasets, "d", files, query="/lhc") == (1, False), "what verification found is no change"
    unknown = [file._replace(adler32=None, size_bytes=-1) for file in files]
    assert ensure(datasets, "d", unknown, query="/lhc") == (1, False)
    assert [one.version for one in datasets.versions("d")] == [1]
    changes = [
        [*reversed(files)],
        files[:2],
        [*files, *some("d")],
        [files[0]._replace(lfn=Lfn("/lhc/0")), *files[1:]],
        *(
            [*files[:3], files[3]._replace(**{what: value})]
            for what, value in (
                ("size_bytes", 11), ("adler32", 2), ("tree", "u"), ("entries", 3), ("corrupt", True),
                ("source", None), ("member", "n"),
            )
        ),
    ]  # fmt: skip
    for version, changed in enumerate(changes, 2):
        assert ensure(datasets, "d", changed, query="/lhc") == (version, True), changed
    assert ensure(datasets, "d", changed, query="/lhc", note="for anna")[1]
    assert ensure(datasets, "d", changed, query="/lhc", note="for anna") == (version + 1, False)
    assert ensure(datasets, "d", changed, query="/lhc") == (version + 1, False)
    assert ensure(datasets, "d", changed, query="/lhc", tree="t")[1]
    assert ensure(datasets, "d", changed)[1]


def test_what_a_file_is_comes_back(place):
    _, datasets, _ = place
    files = [
        DatasetFile(Lfn("/lhc/b.zip"), 1, 2**32 - 1, "/t", 5, True, "root://h//b.zip", "in.root"),
        DatasetFile(Lfn("/lhc/b.zip"), 1, None, "", None, False, None, "other.root"),
        DatasetFile(Lfn("/lhc/ä"), -1),
        DatasetFile(Lfn("/lhc/b.zip"), 99, None, "", None, False, None, "in.root"),  # again: not kept
    ]
    dataset = freeze(datasets, "d", iter(files))
    assert [file for _, file in datasets.files(dataset)] == files[:3]
    assert (dataset.files, dataset.size_bytes, dataset.entries) == (3, 2, None)
    assert datasets.corrupt_files(dataset) == 1


def test_unknown_names_are_explained(place):
    _, datasets, _ = place
    freeze(datasets, "muons", some("a"))
    datasets.keep_query("latest", query="/lhc", tree="", owner="anna")
    with pytest.raises(NoSuchDataset, match="Did you mean muons"):
        datasets.get("muon")
    with pytest.raises(NoSuchDataset, match="these versions: 1"):
        datasets.get("muons", 2)
    with pytest.raises(NoSuchDataset, match="by query, which has no versions"):
        datasets.get("latest", 1)


def test_a_name_is_either_frozen_or_by_query(place):
    _, datasets, _ = place
    freeze(datasets, "muons", some("a"))
    datasets.keep_query("latest", query="/lhc", tree="", owner="anna")
    with pytest.raises(AlreadyExists):
        datasets.keep_query("muons", query="/lhc", tree="", owner="anna", replace=True)
    with pytest.raises(AlreadyExists):
        freeze(datasets, "latest", some("a"))
    with pytest.raises(AlreadyExists):
        datasets.keep_query("latest", query="/other", tree="", owner="anna")
    datasets.keep_query("latest", query="/other", tree="", owner="anna", replace=True)
    assert datasets.get("latest").query == "/other"
    with pytest.raises(BadRequest, match="no file"):
        freeze(datasets, "empty", [])
    assert datasets.versions("empty") == []


def test_a_list_that_breaks_off_leaves_nothing(place):
    _, datasets, _ = place

    def files():
        yield from some(*(f"{number:05d}" for number in range(12_000)))
        raise BadRequest("read the list", "line 12001")

    with pytest.raises(BadRequest, match="line 12001"):
        freeze(datasets, "muons", files())
    assert datasets.versions("muons") == []
    assert freeze(datasets, "muons", some("a")).version == 1


def test_many_files_are_read_in_pages(place):
    _, datasets, _ = place
    names = [f"{number * 7919 % 12_007:05d}" for number in range(12_007)]
    dataset = freeze(datasets, "many", iter(some(*names)))
    assert dataset.files == len(names)
    assert [file.lfn for _, file in datasets.files(dataset)] == [f"/lhc/{name}" for name in names]
    assert [file.lfn for file in datasets.files_by_name(dataset)] == [
        f"/lhc/{name}" for name in sorted(names)
    ]


def test_marks_are_kept(place):
    _, datasets, _ = place
    dataset = freeze(datasets, "muons", some("a", "b"))
    (first, _), (second, _) = datasets.files(dataset)
    datasets.mark(dataset, [Finding(first, True, None), Finding(second, False, 7)])
    assert [(file.corrupt, file.entries) for _, file in datasets.files(dataset)] == [(True, None), (False, 7)]
    datasets.mark(dataset, [Finding(first, False, 3)])
    assert datasets.corrupt_files(dataset) == 0
    assert datasets.get("muons").entries == 10


def test_two_at_once_get_two_versions(place):
    _, datasets, _ = place
    made = []
    together = threading.Barrier(4)

    def make():
        together.wait()
        made.append(freeze(datasets, "muons", some("a")).version)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [1, 2, 3, 4]


def register(catalogue, *names, **more):
    failed = catalogue.register([NewFile(Lfn(name), 10, 1, "SE", **more) for name in names]).failed
    assert not failed


def test_official_data_is_found_run_by_run(place):
    catalogue, _, selector = place
    runs = [139437, 139504, 139505, 139507, 139511]
    register(catalogue, *(AOD.format(run) for run in runs), "/alice/sim/LHC10d1/117222/001/AliESDs.root")
    register(catalogue, AOD.format(139505).replace("pass2", "pass1"))
    query = "Data;Period=LHC10h;Variant=AOD086;Run=139505-139510,139437;Pass=2"
    assert lfns(selector, query) == [AOD.format(run) for run in (139437, 139505, 139507)]
    assert lfns(selector, "Data;Period=LHC10h;Variant=AOD086;Pass=2") == [AOD.format(run) for run in runs]
    assert lfns(selector, "Sim;Period=LHC10d1;Variant=ESDs;Run=117222") == [
        "/alice/sim/LHC10d1/117222/001/AliESDs.root"
    ]
    asked, _ = selector.resolve(DatasetQuery.parse(query))
    assert asked.tree == "/aodTree"


def test_a_file_that_two_conventions_mean_is_found_once(place):
    catalogue, datasets, _ = place
    register(catalogue, "/x/B/1/a.root", "/x/B/2/a.root")
    both = VariantSettings(file="a.root", data=("/x/{period}/**/{file}", "/x/{period}/{run}/{file}"))
    selector = Selector(catalogue, datasets, DatasetSettings(variants={"V": both}))
    assert lfns(selector, "Data;Period=B;Variant=V;Run=1,2;Pass=1") == ["/x/B/1/a.root", "/x/B/2/a.root"]


def test_a_frozen_dataset_stays_what_it_was(place):
    catalogue, datasets, selector = place
    register(catalogue, "/lhc/a", "/lhc/b", contents=Contents("t", 4))
    files = [one.file for one in selector.select(DatasetQuery.parse("/lhc")).files]
    freeze(datasets, "d", files, tree="t")
    assert [(file.tree, file.entries) for file in files] == [("t", 4)] * 2
    register(catalogue, "/lhc/c")
    catalogue.remove([Lfn("/lhc/b")])
    found = list(selector.select(DatasetQuery.parse("d")).files)
    assert [(one.file.lfn, one.known, len(one.located.replicas)) for one in found] == [
        ("/lhc/a", True, 1),
        ("/lhc/b", False, 0),
    ]
    assert found[1].located.entry.size_bytes == 10
    other = next(selector.select(DatasetQuery.parse("d;Tree=other")).files)
    assert (other.tree, other.file.tree, other.file.entries) == ("other", "other", None)


def test_names_lead_to_queries_and_never_in_circles(place):
    catalogue, datasets, selector = place
    register(catalogue, "/lhc/a", "/lhc/b")
    datasets.keep_query("one", query="Find;BasePath=/lhc;FileName=a;Tree=t;Mode=local", tree="", owner="anna")
    datasets.keep_query("two", query="one;Mode=remote", tree="", owner="anna")
    assert lfns(selector, "two") == ["/lhc/a"]
    asked, _ = selector.resolve(DatasetQuery.parse("two"))
    assert (asked.tree, asked.mode) == ("t", "remote")
    datasets.keep_query("one", query="two", tree="", owner="anna", replace=True)
    with pytest.raises(BadQuery, match="circle"):
        selector.select(DatasetQuery.parse("one"))


def test_only_suspect_copies_make_a_file_corrupt(place):
    catalogue, _, selector = place
    from vse.catalogue.port import NewReplica

    register(catalogue, "/lhc/a")
    catalogue.add_replicas([NewReplica(Lfn("/lhc/a"), "SE", state=ReplicaState.SUSPECT)])
    assert [one.file.corrupt for one in selector.select(DatasetQuery.parse("/lhc")).files] == [True]
    catalogue.add_replicas([NewReplica(Lfn("/lhc/a"), "OTHER")])
    assert [one.file.corrupt for one in selector.select(DatasetQuery.parse("/lhc")).files] == [False]


class Far:
    """An upstream that counts what it is asked, and how much at once."""

    name = "far"

    def __init__(self, catalogue):
        self.catalogue = catalogue
        self.asked = []
        self.at_once = threading.Barrier(2)
        self.away = False

    def find(self, base, pattern):
        self.asked.append(base)
        if self.away:
            raise UpstreamUnavailable("ask far", "away")
        self.at_once.wait(timeout=10)  # breaks where the finds of a query are asked one after the other
        found = [Located(one.entry, one.replicas) for one in self.catalogue.find(base, pattern)]
        yield from found

    def resolve(self, names):
        self.asked.append(tuple(names))
        return BulkResult(failed={lfn: NoSuchEntry(f"locate {lfn}") for lfn in names})


def test_the_finds_of_a_query_are_asked_together_and_once(tmp_path, database, catalogue, clock):
    from vse.db import Database

    elsewhere = Database.open(f"sqlite:///{tmp_path}/far.db")
    far = Far(SqlCatalogue(elsewhere, clock))
    register(far.catalogue, *(AOD.format(run) for run in (1, 2)))
    datasets = Datasets(database, catalogue.rows, clock)
    selector = Selector(Lookup(catalogue, [far], clock), datasets, DatasetSettings(finds_at_once=2))
    query = DatasetQuery.parse("Data;Period=LHC10h;Variant=AOD086;Run=1-4;Pass=2")
    selection = selector.select(query)
    assert [one.file.lfn for one in selection.files] == [AOD.format(run) for run in (1, 2)]
    assert (selection.report.queries, len(far.asked)) == (4, 4)
    again = selector.select(query)
    assert [one.file.lfn for one in again.files] == [AOD.format(run) for run in (1, 2)]
    assert (again.report.queries, len(far.asked)) == (0, 4)
    far.away = True
    with pytest.raises(UpstreamUnavailable):
        selector.select(DatasetQuery.parse("Data;Period=LHC10h;Variant=AOD086;Run=7-9;Pass=2"))
    elsewhere.close()


def test_two_lists_are_compared_by_name():
    before = [
        DatasetFile(Lfn("/a"), 1, 5),
        DatasetFile(Lfn("/b"), 1, 5),
        DatasetFile(Lfn("/c"), -1, None),
        DatasetFile(Lfn("/z.zip"), 1, None, "t", 3, member="m"),
    ]
    after = [
        DatasetFile(Lfn("/a"), 1, None),
        DatasetFile(Lfn("/b"), 1, 6),
        DatasetFile(Lfn("/c"), 7, 1),
        DatasetFile(Lfn("/é"), 7, 1),
        DatasetFile(Lfn("/z.zip"), 1, None, "/t", 4, member="m"),
        DatasetFile(Lfn("/z.zip"), 1, None, member="n"),
    ]
    found = compare(sorted_by_name(reversed(before)), sorted_by_name(reversed(after)))
    assert [(one.kind, (one.before or one.after).label) for one in found] == [
        ("changed", "/b"),
        ("changed", "/z.zip#m"),
        ("added", "/z.zip#n"),
        ("added", "/é"),
    ]


KILLED = """
import os, signal, sys, time
from vse.catalogue.datasets import Datasets
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.model import DatasetFile, Lfn

database = Database.open(sys.argv[1])
datasets = Datasets(database, SqlCatalogue(database, time.time).rows, time.time)
fill = datasets._fill

def fill_and_die(connection, which, spool):
    fill(connection, which, spool)
    os.kill(os.getpid(), signal.SIGKILL)

datasets._fill = fill_and_die
files = (DatasetFile(Lfn(f"/lhc/{number}"), 1) for number in range(20_000))
datasets.freeze("muons", files, query="", tree="", owner="anna")
"""


@pytest.mark.slow
def test_killed_while_freezing_nothing_is_there(tmp_path, clock):
    from vse.db import Database

    url = f"sqlite:///{tmp_path}/vse.db"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), url], check=False, env=dict(os.environ), timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    database = Database.open(url)
    datasets = Datasets(database, SqlCatalogue(database, clock).rows, clock)
    assert list(datasets.list()) == []
    assert freeze(datasets, "muons", some("a")).version == 1
    database.close()
