"""Whatever happened before: once every answer has expired, the lookup tells what is true now."""

from __future__ import annotations

import fnmatch
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from support.databases import ensure_sqlite
from support.scripted import Scripted, located
from vse.catalogue.lookup import Believed, Lookup
from vse.catalogue.port import NewReplica
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.errors import UpstreamUnavailable
from vse.model import Lfn, NewFile

pytestmark = pytest.mark.slow

lfns = st.sampled_from([Lfn(f"/{d}/{f}") for d in ("a", "a/b", "a!", "c") for f in ("x.root", "y.root", "z")])
sizes = st.integers(1, 2)
bases = st.sampled_from(["/", "/a", "/a/b", "/c", "/none", "/a/x.root"]).map(Lfn)
patterns = st.sampled_from(["*", "*.root", "[xz]*", "z"])
sides = st.sampled_from(["first", "second"])


class Held:
    """What we hold of a name: its size, whether we own it, whether a copy is here."""

    def __init__(self, size, own):
        self.size, self.own, self.copy = size, own, True


class Site(RuleBasedStateMachine):
    ups = ("first",)

    def __init__(self):
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.now_s = 1000.0
        self.upstreams = {name: Scripted(name) for name in self.ups}
        database = Database.open(ensure_sqlite(Path(self.place.name) / "x.db"))
        self.catalogue = SqlCatalogue(database, lambda: self.now_s)
        expiries = dict.fromkeys(self.ups, Believed(1000, 100))
        self.lookup = Lookup(self.catalogue, [*self.upstreams.values()], lambda: self.now_s, expiries)
        self.held: dict[Lfn, Held] = {}

    def teardown(self):
        self.catalogue.database.close()
        self.place.cleanup()

    def up(self, side):
        return self.upstreams.get(side, self.upstreams["first"])

    @rule(side=sides, lfn=lfns, size=sizes, copies=st.booleans())
    def tell(self, side, lfn, size, copies):
        size = size if len(self.ups) == 1 else 1
        self.up(side).files[lfn] = located(lfn, size, None, se=f"SE-{self.up(side).name}", copies=copies)

    @rule(side=sides, lfn=lfns)
    def untell(self, side, lfn):
        self.up(side).files.pop(lfn, None)

    @rule(lfn=lfns, size=sizes)
    def own(self, lfn, size):
        size = size if len(self.ups) == 1 else 1
        if self.catalogue.register([NewFile(lfn, size, se="HERE")]).ok:
            self.held[lfn] = Held(size, own=True)

    @rule(lfn=lfns)
    def copy(self, lfn):
        if self.catalogue.add_replicas([NewReplica(lfn, "HERE")]).ok:
            size = self.catalogue.stat([lfn]).one(lfn).size_bytes
            self.held.setdefault(lfn, Held(size, own=False)).copy = True

    @rule(lfn=lfns)
    def drop_copy(self, lfn):
        if self.catalogue.remove_replicas([lfn], "HERE").ok:
            self.held[lfn].copy = False
            if not self.held[lfn].own:
                del self.held[lfn]

    @rule(base=bases, pattern=patterns, side=sides, how=st.sampled_from(["well", "down", "breaks off"]))
    def ask(self, base, pattern, side, how):
        """A question at any time, perhaps while an upstream fails: it may raise, it may be stale."""
        up = self.up(side)
        up.error = UpstreamUnavailable("ask", "down") if how == "down" else None
        up.breaks_after = 0 if how == "breaks off" else None
        try:
            list(self.lookup.find(base, pattern))
        except Exception as error:
            assert how != "well", error
        up.error = up.breaks_after = None

    @rule(wanted=st.lists(lfns, max_size=4), wait_s=st.sampled_from([0, 50, 200]))
    def ask_names(self, wanted, wait_s):
        self.now_s += wait_s
        assert len(self.lookup.resolve(wanted).failed) <= len(wanted)

    def truth(self, lfn):
        """(size, elements) of a name as it should be told now; None if it is not there."""
        held = self.held.get(lfn)
        told = [up.files[lfn] for up in self.upstreams.values() if lfn in up.files]
        if held is None and not told:
            return None
        size = held.size if held else told[0].entry.size_bytes
        far = {copy.se for file in told if file.entry.size_bytes == size for copy in file.replicas}
        return size, far | ({"HERE"} if held and held.copy else set())

    def told(self, file):
        return file.entry.size_bytes, {copy.se for copy in file.replicas}

    @rule(base=bases, pattern=patterns)
    def find_when_all_has_expired(self, base, pattern):
        self.now_s += 2000
        found = {file.entry.lfn: self.told(file) for file in self.lookup.find(base, pattern)}
        everything = {*self.held, *(lfn for up in self.upstreams.values() for lfn in up.files)}
        assert found == {
            lfn: self.truth(lfn)
            for lfn in everything
            if lfn.is_below(base) and fnmatch.fnmatchcase(lfn.name, pattern)
        }

    @rule(wanted=st.lists(lfns, min_size=1, max_size=6))
    def resolve_when_all_has_expired(self, wanted):
        self.now_s += 2000
        before = self.lookup.queries
        result = self.lookup.resolve(wanted)
        assert self.lookup.queries - before <= len(self.ups)
        assert {lfn: self.told(result.ok[lfn]) if lfn in result.ok else None for lfn in wanted} == {
            lfn: self.truth(lfn)
            if lfn not in self.held or not self.held[lfn].own
            else self.told(result.ok[lfn])
            for lfn in wanted
        }


class SiteOfTwo(Site):
    ups = ("first", "second")


_SETTINGS = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
Site.TestCase.settings = SiteOfTwo.TestCase.settings = _SETTINGS
TestSite = Site.TestCase
TestSiteOfTwo = SiteOfTwo.TestCase
