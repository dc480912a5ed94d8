"""The SQL catalogue against a model that anyone can check: one dict of files, one set of directories."""

from __future__ import annotations

import fnmatch
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from support.databases import ensure_sqlite
from vse.catalogue.port import NewReplica
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.errors import AlreadyExists, BadRequest, NoSuchEntry, NoSuchReplica, NotEmpty
from vse.model import Lfn, NewFile
from vse.testing.names import by_directory

pytestmark = pytest.mark.slow

parts = st.sampled_from(["a", "A", "b", "a!", "a0", "ü x", "*", "[a]"])
lfns = st.lists(parts, min_size=1, max_size=4).map(lambda names: Lfn("/" + "/".join(names)))
places = st.lists(parts, max_size=3).map(lambda names: Lfn("/" + "/".join(names)))
sizes = st.integers(0, 1)
elements = st.sampled_from(["S1", "S2"])
patterns = st.sampled_from(["*", "a*", "?", "[a]", "[!a]", "*]", "ü*", "a", "[ab]*"])


def ancestors(lfn):
    while lfn != "/":
        lfn = lfn.parent
        yield lfn


class Tree(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.catalogue = SqlCatalogue(
            Database.open(ensure_sqlite(Path(self.place.name) / "x.db")), lambda: 1.0
        )
        self.files: dict[Lfn, tuple[int, set[str]]] = {}
        self.directories: set[Lfn] = {Lfn("/")}

    def teardown(self):
        self.catalogue.database.close()
        self.place.cleanup()

    @rule(wanted=st.lists(st.tuples(lfns, sizes, st.none() | elements), max_size=5))
    def register(self, wanted):
        ok, failed = set(), set()
        for lfn, size, se in wanted:
            above = set(ancestors(lfn))
            known = self.files.get(lfn)
            if lfn in self.directories or above & self.files.keys() or (known and known[0] != size):
                failed.add(lfn)
                continue
            self.files.setdefault(lfn, (size, set()))[1].update({se} - {None})
            self.directories |= above
            ok.add(lfn)
        result = self.catalogue.register([NewFile(lfn, size, se=se) for lfn, size, se in wanted])
        assert result.failed.keys() == failed
        assert result.ok.keys() == ok - failed
        assert all(isinstance(error, AlreadyExists) for error in result.failed.values())

    @rule(wanted=st.lists(lfns, max_size=3), se=elements)
    def add_replicas(self, wanted, se):
        result = self.catalogue.add_replicas([NewReplica(lfn, se) for lfn in wanted])
        assert result.ok.keys() == set(wanted) & self.files.keys()
        for lfn in result.ok:
            self.files[lfn][1].add(se)

    @rule(wanted=st.lists(lfns, max_size=3), se=elements)
    def remove_replicas(self, wanted, se):
        there = {lfn for lfn in wanted if lfn in self.files and se in self.files[lfn][1]}
        result = self.catalogue.remove_replicas(wanted, se)
        assert result.ok.keys() == there
        assert all(isinstance(error, NoSuchReplica) for error in result.failed.values())
        for lfn in there:
            self.files[lfn][1].remove(se)

    @rule(wanted=st.lists(lfns, max_size=4))
    def remove(self, wanted):
        failed = {}
        for lfn in wanted:
            if self.files.pop(lfn, None) is None and lfn not in self.directories:
                failed[lfn] = NoSuchEntry
        gone = set(wanted) - self.directories - failed.keys()
        for lfn in sorted(set(wanted) & self.directories, key=lambda name: -name.count("/")):
            if any(name.parent == lfn for name in (*self.files, *self.directories) if name != "/"):
                failed[lfn] = NotEmpty
            else:
                self.directories.remove(lfn)
                gone.add(lfn)
        failed = {lfn: error for lfn, error in failed.items() if lfn not in gone}
        result = self.catalogue.remove(wanted)
        assert {lfn: type(error) for lfn, error in result.failed.items()} == failed
        assert result.ok.keys() == gone

    @rule(source=lfns, to=lfns)
    def rename(self, source, to):
        above = set(ancestors(to))
        try:
            self.catalogue.rename(source, to)
        except BadRequest:
            assert to != source
            assert to.is_below(source)
            return
        except NoSuchEntry:
            assert source not in self.files.keys() | self.directories
            return
        except AlreadyExists:
            assert to in self.files.keys() | self.directories or above & self.files.keys()
            return
        assert source in self.files.keys() | self.directories
        assert to not in self.files.keys() | self.directories
        assert not above & self.files.keys()

        def moved(lfn):
            return Lfn(to + lfn.removeprefix(source)) if lfn.is_below(source) else lfn

        self.files = {moved(lfn): held for lfn, held in self.files.items()}
        self.directories = {moved(lfn) for lfn in self.directories} | above

    @rule(base=places, pattern=patterns)
    def find(self, base, pattern):
        found = [
            (located.entry.lfn, located.entry.size_bytes, {copy.se for copy in located.replicas})
            for located in self.catalogue.find(base, pattern)
        ]
        matching = [
            lfn for lfn in self.files if lfn.is_below(base) and fnmatch.fnmatchcase(lfn.name, pattern)
        ]
        assert found == [(lfn, *self.files[lfn]) for lfn in sorted(matching, key=by_directory)]

    @precondition(lambda self: self.directories)
    @rule(data=st.data())
    def list_directory(self, data):
        directory = data.draw(st.sampled_from(sorted(self.directories)))
        inside = [
            sorted((name for name in group if name != "/" and name.parent == directory), key=str.encode)
            for group in (self.directories, self.files)
        ]
        assert [entry.lfn for entry in self.catalogue.list(directory)] == inside[0] + inside[1]

    @rule(wanted=st.lists(lfns, max_size=6))
    def stat_and_resolve(self, wanted):
        assert self.catalogue.resolve(wanted).ok.keys() == set(wanted) & self.files.keys()
        known = {lfn: entry.kind for lfn, entry in self.catalogue.stat(wanted).ok.items()}
        assert known == {
            lfn: "file" if lfn in self.files else "directory"
            for lfn in wanted
            if lfn in self.files or lfn in self.directories
        }

    @invariant()
    def rows_fit_together(self):
        driver = self.catalogue.database.reader()
        paths = {row[0]: row[1:] for row in driver.execute("SELECT id, path, parent_id FROM directories")}
        assert {path for path, _ in paths.values()} == self.directories
        for path, parent_id in paths.values():
            assert path == "/" or paths[parent_id][0] == Lfn(path).parent


Tree.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestTree = Tree.TestCase
