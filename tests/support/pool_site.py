"""A staging site whose local element is a pool, with a clock that the test holds."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from support.staging_site import BASE, StagingSite
from vse.config.pools import PoolSettings
from vse.db.tables_pool import evictions, holdings, reservations, usages
from vse.errors import VseError
from vse.model import Lfn, NewFile, Space
from vse.staging.capacity import Capacity
from vse.staging.pins import Pins
from vse.staging.pool import Pool
from vse.staging.pool_sync import PoolSync, Synced
from vse.staging.quotas import Quotas
from vse.staging.readers import Accesses
from vse.transfer.instance import new_owner

DAY_S = 86400.0
NOW_S = 1_800_000_000.0


class PoolSite(StagingSite):
    """``size``: bytes of the pool, 0 for what its storage tells. Files that come have no age of grace."""

    def __init__(self, root: Path, size: int = 1000, url: str = "", **options: Any) -> None:
        pool = options.pop("pool", {})
        self.now_s = NOW_S
        super().__init__(root, url=url, clock=options.pop("clock", lambda: self.now_s), **options)
        self.pools = {"LOCAL": PoolSettings.model_validate({"size": size, "young_s": 0, **pool})}
        self.forgotten: list[Lfn] = []
        capacity = Capacity(self.database, self.pools, self._space)
        self.pool = Pool(
            self.database,
            self.catalogue,
            self.elements,
            self.pools,
            capacity,
            self.clock,
            self.forgotten.append,
        )
        self.pins = Pins(self.database, self.clock)
        self.quotas = Quotas(self.database)
        self.accesses = Accesses(self.database, self.catalogue, self.elements, self.clock)
        self.holder = new_owner()

    def _space(self, element: str) -> Space:
        try:
            return self.elements.get(element).space()
        except VseError:
            return Space(None, None)

    def hold(self, name: str, size: int = 100, *, age_days: float = 1.0, remote: bool = True) -> Lfn:
        """Put a file into the pool as the stager does, read last so long ago; with a copy elsewhere."""
        lfn, data = Lfn.parse(f"{BASE}/{name}"), bytes([len(name)]) * size
        self.pool.reservations.reserve("LOCAL", lfn, size, "anna", "physics", "", self.holder)
        for path in (self.local(lfn), self.remote(lfn)) if remote else (self.local(lfn),):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for se in ("LOCAL", "REMOTE") if remote else ("LOCAL",):
            self.catalogue.register([NewFile(lfn, size, zlib.adler32(data), se)]).one(lfn)
        assert self.pool.reservations.turn_into_holding("LOCAL", lfn, self.clock() - age_days * DAY_S)
        return lfn

    def sync(self, *, check: bool = False) -> Synced:
        evict = self.pool.evict_orphans
        compared = PoolSync(self.database, self.catalogue, self.elements, self.clock, evict)
        return compared.sync("LOCAL", check=check)

    # -- what came of it -------------------------------------------------------------------------

    def held(self) -> dict[str, int]:
        return {row.lfn.rpartition("/")[2]: row.size_bytes for row in self.rows(holdings)}

    def used(self, kind: str = "element", name: str = "") -> tuple[int, int, int]:
        """Return files, bytes and reserved bytes of an account."""
        for row in self.rows(usages):
            if (row.element, row.kind, row.name) == ("LOCAL", kind, name):
                return row.files, row.size_bytes, row.reserved_bytes
        return 0, 0, 0

    def rows(self, table: sa.Table) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(sa.select(table)))

    def confirm_sound(self) -> None:
        """Holdings, catalogue, storage and accounts say the same; nothing is under way."""
        held = {row.lfn: row.size_bytes for row in self.rows(holdings)}
        there = {f"/{path.relative_to(self.root / 'local')}" for path in self.files()}
        known = {
            lfn for lfn in set(held) | there for one in self.replicas(lfn) if one == ("LOCAL", "available")
        }
        assert set(held) == there == known
        files, size_bytes, reserved_bytes = self.used()
        assert (files, size_bytes) == (len(held), sum(held.values()))
        assert reserved_bytes == sum(row.size_bytes for row in self.rows(reservations))
        assert not [row for row in self.rows(evictions) if row.state == "planned"]

    def files(self) -> list[Path]:
        return [path for path in (self.root / "local").rglob("*") if path.is_file()]

    def replicas(self, lfn: str) -> list[tuple[str, str]]:
        name = Lfn.parse(lfn)
        located = self.catalogue.resolve([name]).ok.get(name)
        return [(one.se, one.state.value) for one in located.replicas] if located else []


Make = Callable[..., PoolSite]
