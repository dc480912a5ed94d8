"""The pools of a site: built from the settings, and tended by whoever serves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from vse.app.namespace import relink
from vse.app.site import Site
from vse.errors import Denied, VseError
from vse.model import Clock, Identity, Lfn, Space
from vse.staging.capacity import Capacity
from vse.staging.pool import Pool, Round
from vse.staging.pool_sync import PoolSync, Synced
from vse.staging.replication import Asked
from vse.storage.occupancy import UNKNOWN, Occupancies

_JUMP_S = 600.0
_DAY_S = 86400.0


class ClockJumped(NamedTuple):
    """The clock was set by so many seconds: nothing is thrown away in this round."""

    by_s: float


class Tended(NamedTuple):
    """News of the upkeep of one storage element (empty: of the site)."""

    element: str
    what: Round | Synced | Asked | ClockJumped | VseError


def build_pool(site: Site) -> Pool:
    """Return the pools of the settings, by the elements' own names; `NoSuchElement` for one that is none."""
    pools = {site.elements.get(name).name: settings for name, settings in site.settings.pools.items()}
    occupancies = Occupancies(site.settings.site.vo, fresh_s=0.0)

    def ask(name: str) -> Space:
        found = occupancies.of(site.elements.get(name))
        return UNKNOWN if found.error is not None else found.space

    def forgotten(lfn: Lfn) -> None:
        relink(site, lfn)

    capacity = Capacity(site.database, pools, ask)
    return Pool(site.database, site.catalogue, site.elements, pools, capacity, site.clock, forgotten)


def synchronise(site: Site, element: str, *, check: bool = False) -> Synced:
    """Compare the accounts of a storage element with the catalogue (``check``: and with the storage).

    Throws away what was brought to a pool and is under no name any more.
    """
    evict = site.pool.evict_orphans
    compared = PoolSync(site.database, site.catalogue, site.elements, site.clock, evict)
    return compared.sync(element, check=check)


def require_administrator(site: Site, wanted: str) -> None:
    """Raise `Denied` unless this process is an administrator's, or root's."""
    name = Identity.of_process().name
    if name != "root" and name not in site.administrators:
        raise Denied(wanted, f"{name} is no administrator of this site", "ask one of them")


class ClockWatch:
    """Tells by how much the clock was set, by comparing it with one that nobody can set."""

    def __init__(self, clock: Clock, steady: Clock = time.monotonic) -> None:
        self._clock = clock
        self._steady = steady
        self._difference_s = clock() - steady()

    def jumped_s(self) -> float:
        """Return by how much since the last call; 0 for less than ten minutes."""
        difference_s = self._clock() - self._steady()
        by_s, self._difference_s = difference_s - self._difference_s, difference_s
        return by_s if abs(by_s) > _JUMP_S else 0.0


class Upkeep:
    """What is done for the pools from time to time. Every round can be killed at any moment."""

    def __init__(self, site: Site, tell: Callable[[Tended], None], steady: Clock = time.monotonic) -> None:
        self._site = site
        self._tell = tell
        self._steady = steady
        self._watch = ClockWatch(site.clock, steady)
        self._due_s: dict[str, float] = {}
        self._told: dict[str, str] = {}

    def round(self) -> None:
        """Do what is due: record reads, compare, make room, end evidence, copy what is read often."""
        self._try("", self._common)
        by_s = self._watch.jumped_s()
        if by_s:
            self._tell(Tended("", ClockJumped(by_s)))
        for name in self._names():
            self._try(name, partial(self._pool, name, calm=not by_s))
        if not by_s and self._due("quarantine", self._site.settings.upkeep.expire_every_s):
            self._try("", self._site.quarantine.trim_all)
        settings = self._site.settings.replication
        if settings.destinations and not by_s and self._due("", settings.every_s):
            self._try("", self._replicate)

    def _names(self) -> list[str]:
        names: list[str] = []
        self._try("", lambda: names.extend(self._site.pool.names))
        return names

    def _common(self) -> None:
        self._site.noted.flush()
        self._site.pins.forget_expired()
        self._site.accesses.forget_dead()
        keep_s = (self._site.settings.replication.days + 30) * _DAY_S
        self._site.accesses.forget(self._site.clock() - keep_s)

    def _pool(self, name: str, *, calm: bool) -> None:
        pool = self._site.pool
        pool.reservations.free_dead(name)
        pool.resume(name)
        if self._due(name, pool.settings(name).sync_every_s):
            synced = synchronise(self._site, name)
            if synced.added or synced.resized or synced.removed:
                self._tell(Tended(name, synced))
        if calm:
            done = pool.evict(name)
            if done.goal_bytes:
                self._tell(Tended(name, done))

    def _replicate(self) -> None:
        asked = self._site.replication.run()
        if asked.requests:
            self._tell(Tended("", asked))

    def _due(self, what: str, every_s: float) -> bool:
        now_s = self._steady()
        if now_s < self._due_s.get(what, now_s):
            return False
        self._due_s[what] = now_s + every_s
        return True

    def _try(self, name: str, work: Callable[[], None]) -> None:
        """Do something; an error is told when it is not the one of the last time."""
        try:
            work()
        except VseError as error:
            if self._told.get(name) != str(error):
                self._told[name] = str(error)
                self._tell(Tended(name, error))
        else:
            if name:
                self._told.pop(name, None)


def tend(site: Site, stop: threading.Event, tell: Callable[[Tended], None]) -> None:
    """Tend the pools every ``upkeep.pool_every_s`` until ``stop``; ``tell`` hears what was done."""
    upkeep = Upkeep(site, tell)
    while not stop.is_set():
        upkeep.round()
        stop.wait(site.settings.upkeep.pool_every_s)
    site.noted.flush()
