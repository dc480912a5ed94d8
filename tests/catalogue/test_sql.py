"""What the SQL catalogue does over and above its contract: pages, bulk, memory, what rows are touched."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc

import pytest

from vse.catalogue import sql, sql_reading
from vse.catalogue.port import NewReplica
from vse.catalogue.sql import SqlCatalogue
from vse.db.prepared import Prepared
from vse.errors import NoSuchEntry, VseError
from vse.model import AccessEntry, Lfn, NewAccess, NewFile, NewLink


def tree(directories, files, base="/lhc"):
    return [
        NewFile(Lfn(f"{base}/{d:04d}/{f:05d}.root"), f, f, "HERE")
        for d in range(directories)
        for f in range(files)
    ]


@pytest.mark.parametrize("page", [1, 2, 3, 7])
def test_pages_join_without_a_seam(catalogue, monkeypatch, page):
    monkeypatch.setattr(sql_reading, "PAGE_FILES", page)
    files = [*tree(3, 5), NewFile(Lfn("/lhc/loose"), 1)]
    catalogue.register(files)
    catalogue.add_replicas([NewReplica(file.lfn, se) for file in files for se in ("A", "B")])
    wanted = ["/lhc/loose", *(file.lfn for file in files[:-1])]
    for pattern in ("*", "*[0-9e]*", "?*"):
        found = list(catalogue.find(Lfn("/lhc"), pattern))
        assert [located.entry.lfn for located in found] == wanted
        assert {len(located.replicas) for located in found[1:]} == {3}
    assert [entry.lfn for entry in catalogue.list(Lfn("/lhc"))] == [
        "/lhc/0000", "/lhc/0001", "/lhc/0002", "/lhc/loose",
    ]  # fmt: skip
    assert len(list(catalogue.list(Lfn("/lhc/0001")))) == 5


def test_bulk_calls_of_any_length(catalogue, monkeypatch):
    monkeypatch.setattr(sql_reading, "BULK_NAMES", 10)
    monkeypatch.setattr(sql, "CHUNK_FILES", 7)
    files = tree(5, 11)
    lfns = [file.lfn for file in files]
    assert len(catalogue.register(files + files).ok) == 55
    assert list(catalogue.resolve(lfns).ok) == lfns
    assert len(catalogue.stat([*lfns, Lfn("/lhc")]).ok) == 56
    assert len(catalogue.add_replicas([NewReplica(lfn, "B") for lfn in lfns]).ok) == 55
    assert len(catalogue.remove_replicas(lfns, "B").ok) == 55


def test_a_name_that_fails_in_any_batch_of_a_call_stands_as_failed(catalogue, monkeypatch):
    monkeypatch.setattr(sql, "CHUNK_FILES", 1)
    good, other = NewFile(Lfn("/a"), 1), NewFile(Lfn("/a"), 2)
    for files in ([good, other, good], [good, other]):
        result = catalogue.register(files)
        assert (set(result.ok), set(result.failed)) == (set(), {"/a"})


def test_reading_while_a_find_goes_on_sees_what_was_written_since(catalogue):
    catalogue.register(tree(2, 3))
    answer = catalogue.find(Lfn("/"), "*")
    next(answer)
    catalogue.register([NewFile(Lfn("/new"), 1)])
    assert catalogue.stat([Lfn("/new")]).ok
    assert len(list(answer)) == 5


@pytest.mark.slow
def test_a_find_takes_no_more_memory_for_more_files(catalogue):
    catalogue.register(tree(300, 100))
    peaks = []
    for base in ("/lhc/0000", "/lhc"):
        list(catalogue.find(Lfn("/lhc/0001"), "*"))
        tracemalloc.start()
        count = sum(1 for _ in catalogue.find(Lfn(base), "*.root"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert count == 30_000
    assert peaks[1] < 5_000_000
    assert len(tree(300, 100)) * 400 > 2 * peaks[1], "the whole answer would be larger"


@pytest.mark.slow
def test_renaming_a_directory_touches_no_row_of_a_file(catalogue, database):
    catalogue.register(tree(200, 100))
    with database.write() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER untouched BEFORE UPDATE ON files BEGIN SELECT RAISE(FAIL, 'a file row'); END"
        )
    catalogue.rename(Lfn("/lhc"), Lfn("/somewhere/else"))
    assert sum(1 for _ in catalogue.find(Lfn("/somewhere/else"), "*")) == 20_000
    assert list(catalogue.find(Lfn("/lhc"), "*")) == []


def test_removing_files_removes_what_belongs_to_them(catalogue, database):
    catalogue.register(tree(1, 10))
    catalogue.remove([file.lfn for file in tree(1, 10)])
    driver = database.reader()
    for table in ("files", "replicas", "contents"):
        assert driver.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)  # noqa: S608


def test_directories_know_when_their_names_changed(catalogue, clock):
    def modified_s(path):
        return catalogue.stat([Lfn(path)]).one(path).modified_s

    catalogue.register([NewFile(Lfn("/a/b/c"), 1)])
    before = clock.now_s
    clock.now_s += 10
    catalogue.register([NewFile(Lfn("/a/x"), 1)])
    assert (modified_s("/a"), modified_s("/a/b")) == (before + 10, before)
    clock.now_s += 10
    catalogue.remove([Lfn("/a/b/c")])
    catalogue.rename(Lfn("/a/x"), Lfn("/y"))
    assert (modified_s("/a/b"), modified_s("/")) == (before + 20, before + 20)


def test_names_added_by_another_object_are_known(catalogue, database, clock):
    other = SqlCatalogue(database, clock)
    other.register([NewFile(Lfn("/a"), 1, se="NEW", owner="somebody", group="else")])
    located = catalogue.resolve([Lfn("/a")]).one("/a")
    assert (located.entry.owner, located.entry.group) == ("somebody", "else")
    assert located.replicas[0].se == "NEW"


def test_threads_share_a_catalogue(catalogue):
    errors = []

    def work(me):
        try:
            for turn in range(10):
                files = [NewFile(Lfn(f"/{turn % 3}/{me}-{turn}-{i}"), 1, se=f"S{me}") for i in range(20)]
                assert len(catalogue.register(files).ok) == 20
                assert len(catalogue.resolve([file.lfn for file in files]).ok) == 20
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(1 for _ in catalogue.find(Lfn("/"), "*")) == 800


def test_a_pattern_made_to_take_for_ever_does_not(catalogue):
    catalogue.register([NewFile(Lfn("/" + "a" * 255), 1)])
    assert list(catalogue.find(Lfn("/"), "*a" * 40 + "b")) == []


@pytest.mark.slow
def test_a_hundred_thousand_files_are_renamed_in_one_step(catalogue, database):
    """All or nothing, in the time of the directories: links, trash and files themselves are not touched."""
    catalogue.register(tree(1000, 100))
    catalogue.make_links([NewLink(Lfn("/in"), "/lhc/0007"), NewLink(Lfn("/lhc/0007/out"), "00001.root")])
    keeping = SqlCatalogue(database, catalogue.clock, trash_s=100)
    keeping.remove([Lfn("/lhc/0003/00001.root")])
    with database.write() as connection:
        for table in ("files", "special_names", "trash"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER untouched_{table} BEFORE UPDATE ON {table} "
                "BEGIN SELECT RAISE(FAIL, 'a row that stays'); END"
            )
        # a rename that fails in its last row
        connection.exec_driver_sql(
            "CREATE TRIGGER last BEFORE UPDATE ON directories WHEN OLD.path = '/lhc/0999' "
            "BEGIN SELECT RAISE(FAIL, 'on the way'); END"
        )
    with pytest.raises(VseError, match="on the way"):
        catalogue.rename(Lfn("/lhc"), Lfn("/new/place"))
    assert isinstance(catalogue.stat([Lfn("/new")]).failed["/new"], NoSuchEntry)
    assert sum(1 for _ in catalogue.find(Lfn("/lhc"), "*")) == 99_999
    with database.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER last")
        connection.exec_driver_sql("DROP TRIGGER untouched_files")
    began = time.perf_counter()
    catalogue.rename(Lfn("/lhc"), Lfn("/new/place"))
    assert time.perf_counter() - began < 5
    assert sum(1 for _ in catalogue.find(Lfn("/new/place"), "*")) == 99_999
    assert list(catalogue.find(Lfn("/lhc"), "*")) == []
    through = Lfn("/new/place/0007/out")
    assert catalogue.resolve([through]).one(through).entry.lfn == "/new/place/0007/00001.root"
    assert catalogue.resolve([Lfn("/in/00001.root")]).failed, "what a link says is not changed"
    assert [one.lfn for one in keeping.trash()] == ["/lhc/0003/00001.root"]


def test_a_call_that_registers_many_is_one_row_of_the_audit(catalogue, database):
    catalogue.register(tree(3, 500))
    rows = list(database.reader().execute("SELECT action, lfn, detail FROM audit"))
    assert [row[:2] for row in rows] == [("register", "/lhc")]
    assert json.loads(rows[0][2]) == {"se": "HERE", "count": 1500}
    catalogue.remove([file.lfn for file in tree(3, 500)])
    assert database.reader().execute("SELECT count(*) FROM audit").fetchone() == (2,)


def test_an_id_used_again_has_nothing_of_the_one_before(catalogue, database):
    """Upstreams' answers take files away without asking: what was beside them must not be inherited."""
    lfn, entries = Lfn("/a/x"), (AccessEntry("user", "bob", 7),)
    catalogue.register([NewFile(lfn, 1)])
    catalogue.change_access([NewAccess(lfn, entries=entries), NewAccess(lfn.parent, entries=entries)])
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM files")
        connection.exec_driver_sql("DELETE FROM directories WHERE path = '/a'")
    other = Lfn("/b/y")
    catalogue.register([NewFile(other, 1)])
    assert {one.entries for one in catalogue.access([other, other.parent]).ok.values()} == {()}


def test_plain_names_cost_what_they_did_before_links(catalogue, database, monkeypatch):
    """One statement for a file, whatever special names there are elsewhere."""
    catalogue.register(tree(2, 10))
    catalogue.make_links([NewLink(Lfn(f"/l/{number}"), "/lhc") for number in range(50)])
    asked = []
    run = Prepared.rows

    def counting(self, driver, *values):
        asked.append(self.sql)
        return run(self, driver, *values)

    monkeypatch.setattr(Prepared, "rows", counting)
    lfns = [file.lfn for file in tree(2, 10)]
    for call in (catalogue.stat, catalogue.resolve):
        for wanted in (lfns[:1], lfns):
            asked.clear()
            assert not call(wanted).failed
            assert len(asked) == 1
