"""The pool: who is thrown away, who is not, and that it can be stopped anywhere."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from servers.disk import small_disk
from support.pool_site import DAY_S, NOW_S, Make, PoolSite
from support.staging_site import BASE, file_element
from support.waiting import until
from vse.db.tables_pool import evictions, holdings, pins, readers, reads, reservations
from vse.errors import BadSettings, StorageFault, StorageFull
from vse.model import DatasetQuery, Lfn, ReplicaState
from vse.staging.open_files import is_open
from vse.staging.readers import Accesses
from vse.staging.values import Conditions


@pytest.fixture
def make(tmp_path: Path, database_url: str) -> Iterator[Make]:
    made: list[PoolSite] = []

    def one(size: int = 1000, **options: object) -> PoolSite:
        made.append(PoolSite(tmp_path, size, database_url, **options))
        return made[-1]

    yield one
    for site in made:
        site.close()


def full(site: PoolSite, number: int = 10) -> list[Lfn]:
    """Fill a pool of 1000 bytes with files of 100; f0 is the oldest."""
    return [site.hold(f"f{which}", age_days=number - which) for which in range(number)]


# -- what goes ---------------------------------------------------------------------------------------


def test_the_oldest_go_until_the_low_watermark_is_reached(make):
    site = make()
    full(site)
    done = site.pool.evict("LOCAL")
    assert [one.lfn for one in done.evicted] == [f"{BASE}/f0", f"{BASE}/f1"]
    assert sorted(site.held()) == [f"f{which}" for which in range(2, 10)]
    assert site.forgotten == [one.lfn for one in done.evicted]
    assert site.pool.state("LOCAL").fill.used_bytes == 800
    assert not site.pool.evict("LOCAL").evicted
    site.confirm_sound()


def test_what_was_read_is_not_the_oldest_any_more(make):
    site = make()
    lfns = full(site)
    site.accesses.note("LOCAL", [lfns[0], lfns[0]])
    site.now_s += 1
    assert [one.lfn for one in site.pool.evict("LOCAL").evicted] == lfns[1:3]
    (row,) = [row for row in site.rows(holdings) if row.lfn == lfns[0]]
    assert (row.reads, row.accessed_s) == (2, NOW_S)
    (day,) = site.rows(reads)
    assert (day.lfn, day.day, day.number, day.size_bytes) == (lfns[0], int(NOW_S // DAY_S), 2, 200)


def test_access_times_of_the_file_system_do_not_count(make):
    site = make()
    lfns = full(site)
    os.utime(site.local(lfns[0]), (NOW_S, NOW_S))
    assert site.pool.evict("LOCAL").evicted[0].lfn == lfns[0]


def test_a_dry_run_says_the_same_and_does_nothing(make):
    site = make()
    full(site)
    would = site.pool.evict("LOCAL", dry_run=True)
    assert len(site.held()) == 10
    assert not site.rows(evictions)
    done = site.pool.evict("LOCAL")
    assert [(one.lfn, one.reason) for one in would.evicted] == [(one.lfn, one.reason) for one in done.evicted]


def test_room_for_more_is_made_when_it_is_asked_for(make):
    site = make()
    full(site, 5)
    assert not site.pool.evict("LOCAL").goal_bytes
    done = site.pool.evict("LOCAL", 600)
    assert [one.lfn for one in done.evicted] == [f"{BASE}/f{which}" for which in range(3)]


def test_every_eviction_is_explained(make):
    site = make()
    lfns = full(site)
    site.pool.evict("LOCAL")
    for row in site.pool.log():
        assert row.state == "done"
        assert "filled to 1 kB of 1 kB (high watermark 90%)" in row.reason
        assert "never read since it came" in row.reason
    assert [one.lfn for one in site.pool.log(lfn=lfns[1])] == [lfns[1]]
    assert site.pool.explain(lfns[1]) == {}
    assert "another copy is at REMOTE" in site.pool.explain(lfns[5])["LOCAL"]


def test_an_element_that_is_no_pool_is_left_alone(make):
    with pytest.raises(BadSettings, match=r"pools\.REMOTE"):
        make().pool.evict("REMOTE")


# -- what stays --------------------------------------------------------------------------------------


def kept(site: PoolSite, lfn: Lfn) -> str:
    """Make room and return why ``lfn``, the oldest, stayed."""
    done = site.pool.evict("LOCAL")
    assert lfn not in [one.lfn for one in done.evicted]
    assert site.local(lfn).exists()
    assert ("LOCAL", "available") in site.replicas(lfn)
    assert done.evicted, "others go in its place"
    site.confirm_sound()
    return next(one.reason for one in done.kept if one.file.lfn == lfn)


def test_the_last_copy_stays(make):
    site = make()
    lfn = site.hold("alone", age_days=99, remote=False)
    full(site, 9)
    assert kept(site, lfn) == "it is the last copy that can be read"


def test_a_copy_elsewhere_that_is_not_there_does_not_count(make):
    site = make()
    lfns = full(site)
    site.remote(lfns[0]).unlink()
    assert kept(site, lfns[0]) == "it is the last copy: the one at REMOTE is not there"


def test_a_copy_elsewhere_of_another_size_does_not_count(make):
    site = make()
    lfns = full(site)
    site.remote(lfns[0]).write_bytes(b"short")
    assert "has 5 bytes instead of 100" in kept(site, lfns[0])


def test_a_copy_elsewhere_that_is_suspect_does_not_count(make):
    site = make()
    lfns = full(site)
    site.catalogue.mark_replicas([lfns[0]], "REMOTE", ReplicaState.SUSPECT)
    assert "last copy" in kept(site, lfns[0])


def test_a_copy_at_an_element_that_may_not_be_read_does_not_count(make, tmp_path):
    closed = file_element("REMOTE", tmp_path / "remote", ReadAccess=False)
    site = make(elements=[closed, file_element("LOCAL", tmp_path / "local")])
    full(site)
    done = site.pool.evict("LOCAL")
    assert not done.evicted
    assert done.short_bytes == 200
    assert all("cannot be read from here" in one.reason for one in done.kept)


def test_a_storage_that_does_not_answer_keeps_everything(make, monkeypatch):
    site = make()
    full(site)

    def down(*_: object) -> None:
        raise StorageFault("ask REMOTE", "it is down")

    monkeypatch.setattr(site.elements.get("REMOTE"), "stat", down)
    done = site.pool.evict("LOCAL")
    assert not done.evicted
    assert all("could not be asked" in one.reason for one in done.kept)


def test_what_is_pinned_stays_until_the_pin_expires(make):
    site = make()
    lfns = full(site)
    site.pins.add("LOCAL", [lfns[0]], "berta", DAY_S)
    site.pins.add("LOCAL", [lfns[0]], "anna", 2 * DAY_S)
    assert kept(site, lfns[0]).startswith("anna pinned it until 2027-01-17")
    site.now_s += 2 * DAY_S + 1
    site.hold("more", age_days=0)
    site.hold("still", age_days=0)
    assert site.pool.evict("LOCAL").evicted[0].lfn == lfns[0]
    site.now_s += DAY_S
    assert site.pins.forget_expired() == 2
    assert not site.rows(pins)


def test_a_clock_that_was_ahead_for_a_while_has_let_no_pin_go(make):
    site = make()
    lfns = full(site)
    site.pins.add("LOCAL", [lfns[0]], "anna", 3600.0)
    site.now_s += 20 * 3600
    assert site.pins.forget_expired() == 0
    assert site.pins.all() == []
    site.now_s -= 20 * 3600
    assert kept(site, lfns[0]).startswith("anna pinned it")


def test_a_pin_is_taken_away_by_its_owner_only(make):
    site = make()
    lfns = full(site)
    assert site.pins.add("LOCAL", lfns, "berta", None) == 10
    assert site.pins.remove("LOCAL", lfns, "anna") == 0
    assert not site.pool.evict("LOCAL").evicted
    assert site.pins.remove("LOCAL", lfns[:1], "berta") == 1
    assert [one.lfn for one in site.pool.evict("LOCAL").evicted] == lfns[:1]


def test_what_an_open_request_wants_stays_and_what_a_request_pins_stays_longer(make):
    site = make()
    lfns = full(site)
    query = DatasetQuery.parse(lfns[0])
    here = site.staging.request(query, "berta", "LOCAL", Conditions(pin_s=DAY_S))
    assert here.is_over  # it is here: nothing to wait for
    assert kept(site, lfns[0]) == f"berta wants it (request {here.id})"
    (pin,) = site.pins.of_requests()
    assert (pin.request_id, pin.expires_s) == (here.id, NOW_S + DAY_S)
    site.pins.remove_request(here.id, "berta")
    site.now_s += 1
    site.hold("more", age_days=0)
    site.hold("still", age_days=0)
    assert site.pool.evict("LOCAL").evicted[0].lfn == lfns[0]


def test_files_of_a_request_stay_until_the_whole_request_is_over(make):
    site = make()
    lfns = full(site)
    site.add({"far": b"x" * 100})
    request = site.staging.request(DatasetQuery.parse(f"{BASE}/*"), "berta", "LOCAL")
    done = site.pool.evict("LOCAL")
    assert not done.evicted
    assert {one.reason for one in done.kept} == {f"berta wants it (request {request.id})"}
    site.staging.cancel(request.id)
    assert [one.lfn for one in site.pool.evict("LOCAL").evicted] == lfns[:2]


def test_what_is_young_stays(make):
    site = make(pool={"young_s": 3600})
    lfns = full(site)
    site.accesses.note("LOCAL", lfns)
    site.now_s += 600
    assert site.pool.evict("LOCAL").kept[0].reason == "it came or was read 10 min ago"
    site.now_s += 3600
    assert len(site.pool.evict("LOCAL").evicted) == 2


def test_what_is_being_written_stays(make):
    site = make()
    lfns = full(site)
    row = {
        "element": "LOCAL",
        "lfn": lfns[0],
        "size_bytes": 100,
        "owner": "anna",
        "owner_group": "",
        "dataset": "",
        "holder": site.holder,
        "until_s": NOW_S,
    }
    with site.database.write() as connection:
        connection.execute(sa.insert(reservations), row)
    site.sync()
    done = site.pool.evict("LOCAL")
    assert done.kept[0].reason == "it is being written: space is kept for it"
    assert [one.lfn for one in done.evicted] == lfns[1:4]


def test_what_is_open_on_this_machine_stays_whoever_opened_it(make):
    site = make()
    lfns = full(site)
    script = "import sys, mmap; f = open(sys.argv[1]); print(); sys.stdin.read()"
    mapped = (
        "import sys, mmap, os; d = os.open(sys.argv[1], 0); m = mmap.mmap(d, 0, access=1); os.close(d); "
        "print(); sys.stdin.read()"
    )
    for program, lfn in ((script, lfns[0]), (mapped, lfns[1])):
        with subprocess.Popen(
            [sys.executable, "-uc", program, site.local(lfn)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as reader:
            reader.stdout.readline()
            assert is_open(site.local(lfn))
            assert site.pool.explain(lfn) == {"LOCAL": "stays: somebody on this machine has it open"}
            reader.stdin.close()
            reader.wait()
        assert is_open(site.local(lfn)) is False
    with site.local(lfns[0]).open("rb"):
        assert kept(site, lfns[0]) == "somebody on this machine has it open"


def test_a_program_that_opens_a_file_while_it_is_looked_at_is_not_disturbed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    program = "import sys; [open(sys.argv[1], 'rb').read() for _ in range(3000)]; print('all')"
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as reader:
        while reader.poll() is None:
            is_open(path)
        assert reader.stdout.read() == b"all\n"


def test_what_a_program_says_it_reads_stays_as_long_as_it_lives(make):
    site = make()
    lfns = full(site)
    with site.accesses.reading({"LOCAL": lfns[:1]}):
        assert kept(site, lfns[0]).startswith("it is being read")
    assert not site.rows(readers)
    gone = subprocess.run(
        [sys.executable, "-c", "from vse.transfer.instance import new_owner; print(new_owner())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    row = {"element": "LOCAL", "lfn": lfns[0], "holder": gone, "until_s": NOW_S + DAY_S}
    with site.database.write() as connection:
        connection.execute(sa.insert(readers), row)
    site.hold("more", age_days=0)
    site.hold("still", age_days=0)
    assert site.pool.evict("LOCAL").evicted[0].lfn == lfns[0]
    site.accesses.forget_dead()
    assert not site.rows(readers)


def test_what_a_program_reads_for_days_stays(make):
    site = make()
    lfns = full(site)
    with site.accesses.reading({"LOCAL": lfns[:1]}):
        site.now_s += 2 * DAY_S
        site.accesses.forget_dead()
        assert kept(site, lfns[0]).startswith("it is being read")


def test_what_a_program_on_another_machine_reads_for_days_stays(make, monkeypatch):
    site = make()
    lfns = full(site)
    monkeypatch.setattr("vse.staging.readers.instance.new_owner", lambda: "another boot/1/1/1/1")
    accesses = Accesses(site.database, site.catalogue, site.elements, lambda: site.now_s, renew_s=0.01)
    with accesses.reading({"LOCAL": lfns[:1]}):
        site.now_s += 2 * DAY_S
        until(lambda: "it is being read" in site.pool.explain(lfns[0])["LOCAL"])
    assert not site.rows(readers)


def test_what_is_pinned_between_the_plan_and_the_deed_stays(make, monkeypatch):
    site = make()
    lfns = full(site)
    mark = site.catalogue.mark_replicas

    def pin_then_mark(some, *args, **more):
        site.pins.add("LOCAL", [lfns[0]], "berta", None)
        return mark(some, *args, **more)

    monkeypatch.setattr(site.catalogue, "mark_replicas", pin_then_mark)
    assert "berta pinned it" in kept(site, lfns[0])
    assert [row.state for row in site.rows(evictions) if row.lfn == lfns[0]] == ["kept"]


def test_two_pools_do_not_throw_away_the_last_two_copies(make, tmp_path, monkeypatch):
    site = make(
        elements=[file_element("REMOTE", tmp_path / "remote"), file_element("LOCAL", tmp_path / "local")]
    )
    (lfn,) = full(site, 1)
    mark = site.catalogue.mark_replicas

    def both(some, se, *args, **more):
        if se == "LOCAL":  # the other pool marks its copy at the same time
            mark(some, "REMOTE", ReplicaState.DELETING)
        return mark(some, se, *args, **more)

    monkeypatch.setattr(site.catalogue, "mark_replicas", both)
    site.pool.evict("LOCAL", 1000)
    assert site.local(lfn).exists()
    assert ("LOCAL", "available") in site.replicas(lfn)


def test_what_the_storage_will_not_remove_is_told_and_stays(make, monkeypatch):
    site = make()
    lfns = full(site)
    remove = site.elements.get("LOCAL").remove

    def stubborn(some, guids):
        result = remove([one for one in some if one != lfns[0]], guids)
        result.failed[lfns[0]] = StorageFault(f"remove {lfns[0]}", "the disk says no")
        return result

    monkeypatch.setattr(site.elements.get("LOCAL"), "remove", stubborn)
    done = site.pool.evict("LOCAL")
    assert [(one.lfn, one.state) for one in done.evicted] == [
        (lfns[0], "failed"),
        (lfns[1], "done"),
        *([(lfns[2], "done")] if len(done.evicted) > 2 else []),
    ]
    assert "the disk says no" in site.pool.log(lfn=lfns[0])[0].reason
    site.confirm_sound()


# -- clocks ------------------------------------------------------------------------------------------


def test_after_the_clock_was_set_back_the_order_stays_and_nothing_is_young_for_ever(make):
    site = make(pool={"young_s": 3600})
    site.now_s += 400 * DAY_S
    lfns = [site.hold(f"f{which}", age_days=(10 - which) / 24) for which in range(10)]
    site.now_s -= 400 * DAY_S
    site.pool.evict("LOCAL")  # times of the future become now
    site.now_s += 3601
    assert [one.lfn for one in site.pool.evict("LOCAL").evicted] == lfns[:2]


# -- the accounts against the catalogue --------------------------------------------------------------


def test_what_came_and_went_without_the_stager_is_found(make):
    site = make()
    lfns = full(site, 4)
    site.add({"other": b"x" * 70}, "LOCAL", write=False)
    site.local(f"{BASE}/other").write_bytes(b"x" * 70)
    site.catalogue.remove_replicas([lfns[0]], "LOCAL")
    site.local(lfns[0]).unlink()
    site.catalogue.remove([lfns[1]])
    site.local(lfns[1]).unlink()
    site.now_s += 1
    synced = site.sync()
    assert (synced.added, synced.removed, synced.vanished) == (1, 2, 0)
    assert site.held() == {"f2": 100, "f3": 100, "other": 70}
    assert site.used() == (3, 270, 0)
    assert site.used("user", "root") == (1, 70, 0)
    site.confirm_sound()
    assert site.sync()[:4] == (0, 0, 0, 0)


def test_copies_that_the_storage_has_lost_are_forgotten_when_it_is_asked(make):
    site = make()
    lfns = full(site, 4)
    site.local(lfns[0]).unlink()
    site.now_s += 1
    assert site.sync()[:4] == (0, 0, 0, 0)
    assert site.sync(check=True)[:4] == (0, 0, 1, 1)
    assert site.replicas(lfns[0]) == [("REMOTE", "available")]
    site.confirm_sound()


def test_accounts_that_went_wrong_are_counted_anew(make):
    site = make()
    full(site, 4)
    with site.database.write() as connection:
        connection.exec_driver_sql("UPDATE usages SET size_bytes = 7, reserved_bytes = 3, files = 9")
    synced = site.sync()
    assert (synced.before.files, synced.after.files) == (9, 4)
    site.confirm_sound()
    assert site.used("group", "physics") == (4, 400, 0)


# -- a real disk -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_makes_room_for_what_comes(make, tmp_path):
    (tmp_path / "local").mkdir()
    with small_disk(tmp_path / "local", 10_000_000):
        site = make(0)
        lfns = [site.hold(f"f{which}", 1_000_000, age_days=10 - which) for which in range(9)]
        fill = site.pool.state("LOCAL").fill
        assert fill.total_bytes == pytest.approx(10_000_000, rel=1e-3)
        assert fill.used_bytes >= 9_000_000
        (tmp_path / "local" / "foreign").write_bytes(b"x" * 700_000)
        site.pool.reservations.reserve("LOCAL", Lfn("/new"), 3_000_000, "anna", holder=site.holder)
        assert not any(site.local(lfn).exists() for lfn in lfns[:3])
        site.local(Lfn("/new")).write_bytes(b"x" * 3_000_000)
        site.pins.add("LOCAL", lfns, "anna", None)
        with pytest.raises(StorageFull, match=r"/more.*nothing more may be thrown away"):
            site.pool.reservations.reserve("LOCAL", Lfn("/more"), 6_000_000, "anna", holder=site.holder)
        (tmp_path / "local" / "foreign").unlink()
        (tmp_path / "local" / "new").unlink()
        site.pool.reservations.release("LOCAL", [Lfn("/new")])
        site.confirm_sound()


# -- kill -9 -----------------------------------------------------------------------------------------


def _evict_and_die(root: Path, url: str, at_call: int) -> None:
    """Make room in a process that is killed at its ``at_call``-th call of a function."""
    site = PoolSite(root, 1000, url)
    calls = 0

    def count(_frame, event, _arg):
        nonlocal calls
        if event in ("call", "c_call"):
            calls += 1
            if calls == at_call:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    site.pool.evict("LOCAL")
    sys.setprofile(None)
    os._exit(0)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [25])
def test_killed_at_any_moment_the_next_one_goes_on(tmp_path, database_url, kills):
    site = PoolSite(tmp_path, 1000, database_url)
    chance = random.Random(5)
    killed, before = 0, 0
    longest = 6000
    for _ in range(kills):
        site.now_s += 1
        while site.used()[1] < 1000:
            before += 1
            site.hold(f"f{before}", age_days=1000 - before / 100)
        site.database.close()
        child = os.fork()
        if not child:
            _evict_and_die(tmp_path, database_url, chance.randrange(1, longest))
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
            assert os.WTERMSIG(status) == signal.SIGKILL
        else:
            longest = max(500, longest * 9 // 10)
        for lfn in (f"{BASE}/{name}" for name in site.held()):
            assert site.remote(lfn).exists()
        site.pool.resume("LOCAL")
        site.confirm_sound()
        site.pool.evict("LOCAL")
        site.confirm_sound()
        assert site.used() == (8, 800, 0)
    site.close()
    assert killed > kills / 3
