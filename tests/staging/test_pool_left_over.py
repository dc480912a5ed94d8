"""What a pool had begun when its database went away, in a process that goes on: the next pool ends it."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from support.pool_site import PoolSite
from vse.app.init import init_site
from vse.app.site import Site
from vse.catalogue.sql import SqlCatalogue
from vse.config.load import load
from vse.db.tables_pool import evictions
from vse.errors import StorageFault
from vse.model import BulkResult, Lfn
from vse.transfer.instance import dead


def test_an_eviction_that_was_broken_off_is_ended_by_the_next_pool_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = PoolSite(tmp_path)
    lfns = [site.hold(f"f{which}", age_days=10 - which) for which in range(10)]

    def hang_up(*_given: object) -> BulkResult[None]:
        raise StorageFault("forget a copy", "the server has hung up")

    with monkeypatch.context() as patched, pytest.raises(StorageFault):
        patched.setattr(SqlCatalogue, "remove_replicas", hang_up)
        site.pool.evict("LOCAL")
    assert not site.local(lfns[0]).exists()
    same_process = PoolSite(tmp_path)
    assert same_process.pool.resume("LOCAL") == 0  # the other one may be at it
    site.pool.close()
    assert same_process.pool.resume("LOCAL") > 0
    same_process.confirm_sound()
    assert Lfn(lfns[0]).name not in same_process.held()
    same_process.close()
    site.close()


def test_an_eviction_of_before_the_machine_was_started_anew_is_ended_after_a_while(tmp_path: Path) -> None:
    """Nothing tells it from one of another machine, which may be at it."""
    site = PoolSite(tmp_path)
    lfn = site.hold("f0")
    row = {"element": "LOCAL", "lfn": lfn, "size_bytes": 100, "state": "planned", "reason": "it was full"}
    with site.database.write() as connection:
        values = {**row, "when_s": site.now_s, "holder": "an-earlier-boot/1/1/1/1"}
        connection.execute(sa.insert(evictions), values)
    site.local(lfn).unlink()
    site.now_s += 600
    assert site.pool.resume("LOCAL") == 0
    site.now_s += 3600
    assert site.pool.resume("LOCAL") == 1
    assert site.held() == {}
    site.confirm_sound()
    site.pool.reservations.reserve("LOCAL", lfn, 100, "anna", holder=site.holder)  # it may come again
    site.close()


def test_a_site_that_is_closed_closes_its_pools(tmp_path: Path) -> None:
    init_site(tmp_path / "site", name="test")
    site = Site.open(load(tmp_path / "site" / "vse.toml"))
    holder = site.pool.holder
    assert dead([holder]) == []
    site.close()
    assert dead([holder]) == [holder]
