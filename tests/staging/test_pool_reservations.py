"""Space is kept before a file comes, and no limit is ever passed."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.pool_site import DAY_S, NOW_S, Make, PoolSite
from support.staging_site import BASE
from vse.config.pools import ReplicationSettings
from vse.db.tables import requests
from vse.db.tables_pool import evictions, holdings, reads, reservations
from vse.errors import BadRequest, QuotaExceeded, StorageFull, VseError
from vse.model import FindQuery, Lfn
from vse.staging.quotas import Quota
from vse.staging.replication import Replication
from vse.staging.reservations import Reservations
from vse.transfer.instance import ended, new_owner


@pytest.fixture
def make(tmp_path: Path, database_url: str) -> Iterator[Make]:
    made: list[PoolSite] = []

    def one(size: int = 1000, **options: object) -> PoolSite:
        made.append(PoolSite(tmp_path, size, database_url, **options))
        return made[-1]

    yield one
    for site in made:
        site.close()


def keep(site: PoolSite, name: str, size: int = 100, owner: str = "anna", **more: str) -> Lfn:
    lfn = Lfn.parse(f"{BASE}/{name}")
    site.pool.reservations.reserve("LOCAL", lfn, size, owner, **{"holder": site.holder, **more})
    return lfn


def test_a_reservation_counts_until_it_is_released_or_the_file_is_there(make):
    site = make()
    first, second = keep(site, "a"), keep(site, "b", group="physics", dataset="muons")
    assert site.used() == (0, 0, 200)
    assert site.used("dataset", "muons") == (0, 0, 100)
    site.pool.reservations.release("LOCAL", [first])
    site.pool.reservations.release("LOCAL", [first])
    assert site.pool.reservations.turn_into_holding("LOCAL", second, NOW_S)
    assert not site.pool.reservations.turn_into_holding("LOCAL", second, NOW_S)
    assert site.used() == site.used("user", "anna") == site.used("dataset", "muons") == (1, 100, 0)


def test_reserving_again_changes_nothing_also_where_the_file_is_there_already(make):
    site = make()
    lfn = keep(site, "a")
    keep(site, "a")
    assert site.used() == (0, 0, 100)
    site.pool.reservations.turn_into_holding("LOCAL", lfn, NOW_S)
    keep(site, "a")
    assert site.used() == (1, 100, 0)
    keep(site, "a", 300, owner="berta")  # it comes anew, of another size
    assert site.used() == (0, 0, 300)
    assert site.used("user", "anna") == (0, 0, 0)


def test_what_does_not_fit_is_refused_and_nothing_is_kept_for_it(make):
    site = make()
    keep(site, "a", 900)
    with pytest.raises(StorageFull, match="900 B of 1 kB are taken") as refused:
        keep(site, "b", 101)
    assert refused.value.retryable
    assert site.used() == (0, 0, 900)
    keep(site, "b", 100)


def test_room_is_made_for_a_reservation_but_not_by_files_that_must_stay(make):
    site = make()
    lfns = [site.hold(f"f{which}", age_days=10 - which) for which in range(10)]
    site.pins.add("LOCAL", lfns[1:], "berta", None)
    keep(site, "new")
    assert [row.lfn for row in site.rows(evictions)] == [lfns[0]]
    assert site.used() == (9, 900, 100)
    with pytest.raises(StorageFull):
        keep(site, "more")


def test_a_file_that_is_being_thrown_away_is_not_written_at_the_same_time(make):
    site = make()
    lfn = site.hold("f0")
    row = {
        "when_s": NOW_S,
        "element": "LOCAL",
        "lfn": lfn,
        "size_bytes": 100,
        "state": "planned",
        "reason": "",
        "holder": f"other/0/{os.getpid()}/0/0",
    }
    with site.database.write() as connection:
        connection.execute(sa.insert(evictions), row)
    with pytest.raises(StorageFull, match="being thrown away there at this moment"):
        keep(site, "f0")


# -- quotas ------------------------------------------------------------------------------------------


def test_nobody_gets_more_than_the_quota(make):
    site = make()
    site.quotas.set(Quota("*", "user", "anna", 250))
    keep(site, "a")
    keep(site, "b")
    with pytest.raises(
        QuotaExceeded, match="the user anna has 200 B there or on the way, and may have 250 B"
    ):
        keep(site, "c")
    keep(site, "c", owner="berta")
    assert site.used("user", "anna") == (0, 0, 200)


@pytest.mark.parametrize(
    ("kind", "more"), [("group", {"group": "physics"}), ("dataset", {"dataset": "muons"})]
)
def test_groups_and_datasets_have_quotas_too(make, kind, more):
    site = make()
    site.quotas.set(Quota("LOCAL", kind, next(iter(more.values())), 100))
    keep(site, "a", **more)
    keep(site, "b")
    with pytest.raises(QuotaExceeded, match=f"the {kind} "):
        keep(site, "c", **more)


def test_group_and_dataset_are_found_where_they_are_not_told(make):
    site = make()
    user = pwd.getpwuid(os.getuid())
    lfn = site.add({"a": b"x" * 100})[0]
    site.staging.request(FindQuery(base=lfn), user.pw_name, "LOCAL")
    with site.database.write() as connection:  # asked for by the name of a dataset
        connection.execute(sa.update(requests).values(query="muons@2"))
    keep(site, "a", owner=user.pw_name)
    (row,) = site.rows(reservations)
    assert (row.owner_group, row.dataset) == (grp.getgrgid(user.pw_gid).gr_name, "muons")
    keep(site, "b", owner="nobody-of-this-machine")
    assert site.used("dataset", "muons") == (0, 0, 100)


def test_the_most_particular_quota_holds(make):
    site = make()
    site.quotas.set(Quota("*", "user", "*", 50))
    site.quotas.set(Quota("LOCAL", "user", "*", 100))
    site.quotas.set(Quota("*", "user", "anna", 200))
    limits = {one.name: one.limit_bytes for one in site.quotas.shares("LOCAL")}
    assert limits == {"anna": 200}
    keep(site, "a", 200)
    keep(site, "b", 100, owner="berta")
    with pytest.raises(QuotaExceeded):
        keep(site, "c", 1, owner="berta")
    site.quotas.remove("LOCAL", "user", "*")
    with pytest.raises(QuotaExceeded, match="may have 50 B"):
        keep(site, "d", 51, owner="clara")
    with pytest.raises(BadRequest):
        site.quotas.remove("LOCAL", "user", "*")


def test_somebody_over_the_quota_loses_old_files_of_their_own_and_of_nobody_else(make):
    site = make()
    mine = [site.hold(f"mine{which}", age_days=5 - which) for which in range(3)]
    with site.database.write() as connection:
        connection.execute(sa.update(holdings).where(holdings.c.lfn == mine[0]).values(owner="berta"))
    site.sync()
    site.quotas.set(Quota("LOCAL", "user", "anna", 200))
    keep(site, "new")
    assert [row.lfn for row in site.rows(evictions)] == [mine[1]]
    assert "the user anna had reached its quota at LOCAL" in site.pool.log()[0].reason


def test_elements_that_are_no_pools_keep_accounts_only_where_there_is_a_quota(make):
    site = make()
    kept = site.pool.reservations
    kept.reserve("REMOTE", Lfn("/a"), 10**15, "anna", holder=site.holder)
    assert not site.rows(reservations)
    site.quotas.set(Quota("REMOTE", "user", "*", 10))
    with pytest.raises(QuotaExceeded):
        kept.reserve("REMOTE", Lfn("/a"), 11, "anna", holder=site.holder)


# -- many at once ------------------------------------------------------------------------------------


def test_thirty_transfers_at_once_do_not_pass_the_limit(make):
    site = make()
    site.quotas.set(Quota("*", "user", "anna", 700))
    begin, errors = threading.Barrier(30), []

    def transfer(number: int) -> None:
        begin.wait()
        try:
            keep(site, f"f{number}", owner="anna" if number % 2 else "berta")
        except (QuotaExceeded, StorageFull) as error:
            errors.append(error)

    threads = [threading.Thread(target=transfer, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 20
    assert site.used()[2] == 1000
    assert site.used("user", "anna")[2] <= 700
    assert sum(row.size_bytes for row in site.rows(reservations)) == 1000


@pytest.mark.slow
def test_processes_that_reserve_at_once_do_not_pass_the_limit_and_what_they_leave_is_freed(
    make, tmp_path, database_url
):
    site = make()
    program = (
        "import sys; from pathlib import Path; from support.pool_site import PoolSite;"
        "from vse.model import Lfn; from vse.errors import StorageFull\n"
        "site = PoolSite(Path(sys.argv[1]), 1000, sys.argv[2])\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for number in range(10):\n"
        "    lfn = Lfn(f'/{sys.argv[3]}/{number}')\n"
        "    try: site.pool.reservations.reserve('LOCAL', lfn, 100, 'anna', holder=site.holder)\n"
        "    except StorageFull: pass\n"
        "print('done', flush=True); sys.stdin.readline()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, tmp_path, database_url, str(number)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    for step in ("ready\n", "done\n"):
        assert [process.stdout.readline() for process in running] == [step] * len(running)
        if step == "ready\n":
            for process in running:
                process.stdin.write("\n")
                process.stdin.flush()
    assert site.used() == (0, 0, 1000)
    for process in running:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    assert site.used() == (0, 0, 1000)
    keep(site, "new", 1000)  # frees what the dead left
    assert site.used() == (0, 0, 1000)
    assert [row.lfn for row in site.rows(reservations)] == [f"{BASE}/new"]


def test_a_reservation_of_another_machine_is_freed_after_a_day_unless_its_transfer_runs(make):
    site = make()
    away = "another-boot/1/1/1/1"
    keep(site, "a", holder=away)
    lfn = site.add({"b": b"x" * 100})[0]
    site.staging.request(FindQuery(base=lfn), "anna", "LOCAL")
    keep(site, "b", holder=away)
    with site.database.write() as connection:
        connection.exec_driver_sql("UPDATE transfers SET state = 'running'")
    assert site.pool.reservations.free_dead("LOCAL") == 0
    site.now_s += 2 * DAY_S
    assert site.pool.reservations.free_dead("LOCAL") == 1
    assert [row.lfn for row in site.rows(reservations)] == [lfn]
    assert site.used() == (0, 0, 100)


def test_what_was_kept_before_a_reboot_for_files_that_were_cancelled_is_free_soon(make):
    site = make()
    before = "the boot before/1/1/1/1"
    cancelled, queued = (site.add({name: b"x" * 100})[0] for name in "ab")
    ids = [site.staging.request(FindQuery(base=lfn), "anna", "LOCAL").id for lfn in (cancelled, queued)]
    for name in "abc":
        keep(site, name, holder=before)
    site.staging.cancel(ids[0])
    assert site.pool.reservations.free_dead("LOCAL") == 0  # whoever moves it may not have noticed
    site.now_s += 1000
    assert site.pool.reservations.free_dead("LOCAL") == 1
    assert site.used() == (0, 0, 200)
    keep(site, "a", holder=before)  # somebody brings it after all
    assert site.pool.reservations.free_dead("LOCAL") == 0


def test_a_clock_that_jumps_frees_nothing_of_a_process_that_lives(make):
    site = make()
    keep(site, "a")
    for jump_s in (-1000 * DAY_S, 2000 * DAY_S):
        site.now_s += jump_s
        site.pool.reservations.free_dead("LOCAL")
        assert site.used() == (0, 0, 100)


def test_what_a_part_of_a_living_process_left_is_freed_when_that_has_ended(make):
    site, holder = make(), new_owner()
    site.pool.reservations.reserve("LOCAL", Lfn("/a"), 100, "anna", holder=holder)
    assert site.pool.reservations.free_dead("LOCAL") == 0
    ended(holder)
    assert site.pool.reservations.free_dead("LOCAL") == 1
    assert site.used() == (0, 0, 0)


# -- replication -------------------------------------------------------------------------------------


def replication(site: PoolSite, **settings: object) -> Replication:
    given = {"destinations": "LOCAL", "reads": 3, "days": 7, "budget": 250, **settings}
    return Replication(
        site.database,
        site.catalogue,
        site.elements,
        site.staging,
        ReplicationSettings.model_validate(given),
        site.clock,
    )


def test_files_read_often_are_copied_within_the_budget_and_asked_for_once(make):
    site = make()
    lfns = site.add({f"f{which}": bytes([which]) * 100 for which in range(5)})
    for which, lfn in enumerate(lfns):
        site.accesses.note("REMOTE", [lfn] * (which + 1))
    copies = replication(site)
    would = copies.run(dry_run=True)
    assert not would.requests
    assert not site.staging.list()
    done = copies.run()
    assert done.plan == would.plan
    assert [(one.lfn, one.reads, place) for one, place in done.plan.copies] == [
        (lfns[4], 5, "LOCAL"),
        (lfns[3], 4, "LOCAL"),
    ]
    assert [one.lfn for one, _ in done.plan.left_out] == [lfns[2]]
    (request, _) = done.requests
    assert (request.owner, request.priority) == ("replication", 8)
    assert request.note == "read 5 times within 7 days"
    again = copies.run()
    assert not again.requests
    assert [one.lfn for one, _ in again.plan.left_out] == [lfns[2]]
    site.now_s += DAY_S + 1
    assert [one.lfn for one, _ in copies.run().plan.copies] == [lfns[2]]
    site.work([one.id for one in site.staging.list(open_only=True)])
    assert sorted(path.name for path in site.files()) == ["f2", "f3", "f4"]
    assert not copies.run().plan.copies


def test_reads_that_are_too_long_ago_do_not_count_and_are_forgotten(make):
    site = make()
    (lfn,) = site.add({"f": b"x" * 100})
    site.accesses.note("REMOTE", [lfn] * 5)
    site.now_s += 7 * DAY_S
    assert not replication(site).plan().copies
    assert site.accesses.forget(site.now_s) == 1
    assert not site.rows(reads)


# -- speed -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_reserving_does_not_get_slower_with_what_is_there(make):
    site = make(10**12)

    def pass_through(number: int, first: int) -> float:
        began_s = time.perf_counter()
        for which in range(first, first + number):
            lfn = keep(site, f"{which}")
            site.pool.reservations.turn_into_holding("LOCAL", lfn, NOW_S)
        return (time.perf_counter() - began_s) / number

    early_s = min(pass_through(20, 0), pass_through(20, 20))
    pass_through(200, 100)
    assert min(pass_through(20, 1000), pass_through(20, 2000)) < 4 * early_s + 0.01


def test_an_error_of_the_storage_keeps_no_space(make):
    site = make()
    assert isinstance(site.pool.reservations, Reservations)
    with pytest.raises(VseError):
        keep(site, "large", 10**6)
    assert site.used() == (0, 0, 0)
