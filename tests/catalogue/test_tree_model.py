"""Names of every kind and the trash against a model that anyone can check: one dict."""

from __future__ import annotations

import posixpath
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from support.databases import ensure_sqlite
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.errors import AlreadyExists, BadRequest, LinkLoop, NoSuchEntry, NotEmpty
from vse.model import Lfn, NewFile, NewLink

pytestmark = pytest.mark.slow

parts = st.sampled_from(["a", "b", "l"])
lfns = st.lists(parts, min_size=1, max_size=3).map(lambda names: Lfn("/" + "/".join(names)))
targets = st.one_of(
    lfns, st.lists(st.sampled_from(["a", "b", "l", ".."]), min_size=1, max_size=3).map("/".join)
)
DIRECTORY = ("directory", None)


class Loop(Exception):
    pass


class Kinds(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        database = Database.open(ensure_sqlite(Path(self.place.name) / "x.db"))
        self.catalogue = SqlCatalogue(database, lambda: 1.0, trash_s=10)
        self.names: dict[str, tuple] = {"/": DIRECTORY}
        self.trash: list[tuple[str, tuple]] = []
        self.size = 0

    def teardown(self):
        self.catalogue.database.close()
        self.place.cleanup()

    # -- the model --------------------------------------------------------------------------------

    def real(self, lfn, follow_last, hops=0):
        """Walk down from the root as a kernel does; None where a part is missing."""
        at = "/"
        names = [part for part in lfn.split("/") if part]
        for place, part in enumerate(names):
            at = posixpath.join(at, part)
            kind, target = self.names.get(at, (None, None))
            last = place == len(names) - 1
            if kind == "link" and (follow_last or not last):
                if hops == 40:
                    raise Loop
                led = posixpath.normpath(posixpath.join(posixpath.dirname(at), target))
                return self.real(posixpath.join(led, *names[place + 1 :]), follow_last, hops + 1)
        return at

    def reals(self, lfn, follow_last):
        try:
            return self.real(lfn, follow_last)
        except Loop:
            return None

    def room_for(self, lfn):
        """Return the real name that ``lfn`` would get; None where it is taken or something is in its way."""
        real = self.reals(lfn, False)
        if real is None or real in self.names:
            return None
        above = posixpath.dirname(real)
        while above not in self.names:
            above = posixpath.dirname(above)
        return real if self.names[above][0] == "directory" else None

    def put(self, real, what):
        above = posixpath.dirname(real)
        while above not in self.names:
            self.names[above] = DIRECTORY
            above = posixpath.dirname(above)
        self.names[real] = what

    def below(self, real):
        return [name for name in self.names if name.startswith(real.rstrip("/") + "/") and name != real]

    # -- rules ------------------------------------------------------------------------------------

    @rule(lfn=lfns)
    def register(self, lfn):
        self.size += 1
        real = self.room_for(lfn)
        result = self.catalogue.register([NewFile(lfn, self.size)])
        assert bool(result.ok) == (real is not None)
        if real is not None:
            self.put(real, ("file", self.size))
        else:
            assert isinstance(result.failed[lfn], AlreadyExists | LinkLoop)

    @rule(lfn=lfns, data=st.data())
    def link_to_a_link(self, lfn, data):
        links = [name for name, what in self.names.items() if what[0] == "link"]
        if links:
            self.link(lfn, data.draw(st.sampled_from(links)))

    @rule(lfn=lfns, to=targets)
    def link_anywhere(self, lfn, to):
        self.link(lfn, to)

    def link(self, lfn, to):
        real = self.room_for(lfn)
        result = self.catalogue.make_links([NewLink(lfn, to)])
        assert bool(result.ok) == (real is not None)
        if real is not None:
            self.put(real, ("link", to))

    @rule(lfn=lfns, data=st.data())
    def link_to_what_is_there(self, lfn, data):
        self.link(lfn, data.draw(st.sampled_from(sorted(self.names))))

    @rule(lfn=lfns)
    def make_directory(self, lfn):
        real = self.reals(lfn, False)
        there = real is not None and self.names.get(real) == DIRECTORY
        new = self.room_for(lfn)
        result = self.catalogue.make_directories([lfn], "o", "g")
        assert bool(result.ok) == (there or new is not None)
        if new is not None:
            self.put(new, DIRECTORY)

    @rule(lfn=lfns, forever=st.booleans())
    def remove(self, lfn, forever):
        real = self.reals(lfn, False)
        result = self.catalogue.remove([lfn], forever=forever)
        if real is None:
            assert isinstance(result.failed[lfn], LinkLoop)
        elif real == "/":
            assert isinstance(result.failed[lfn], BadRequest)
        elif real not in self.names:
            assert isinstance(result.failed[lfn], NoSuchEntry)
        elif self.below(real):
            assert isinstance(result.failed[lfn], NotEmpty)
        else:
            assert result.ok.keys() == {lfn}
            what = self.names.pop(real)
            if not forever:
                self.trash.append((real, what))

    @rule(data=st.data())
    def undelete(self, data):
        held = list(self.catalogue.trash())
        assert [(one.lfn, one.kind) for one in held] == [(lfn, what[0]) for lfn, what in self.trash]
        if not held:
            return
        place = data.draw(st.integers(0, len(held) - 1))
        lfn, what = self.trash[place]
        above = posixpath.dirname(lfn)
        while above not in self.names:
            above = posixpath.dirname(above)
        possible = lfn not in self.names and self.names[above] == DIRECTORY
        assert bool(self.catalogue.undelete([held[place].id]).ok) == possible
        if possible:
            del self.trash[place]
            self.put(lfn, what)

    @rule(data=st.data())
    def empty(self, data):
        held = list(self.catalogue.expired(11.0))
        assert [one.trashed.lfn for one in held] == [lfn for lfn, _ in self.trash]
        if held:
            place = data.draw(st.integers(0, len(held) - 1))
            self.catalogue.forget_trash([held[place].trashed.id])
            del self.trash[place]

    @rule(source=lfns, to=lfns)
    def rename(self, source, to):
        old, new = self.reals(source, False), self.reals(to, False)
        try:
            self.catalogue.rename(source, to)
        except LinkLoop:
            assert old is None or new is None
            return
        except BadRequest:
            assert old == "/" or (new != old and (new + "/").startswith(old + "/"))
            return
        except NoSuchEntry:
            assert old not in self.names
            return
        except AlreadyExists:
            assert self.room_for(to) is None
            return
        moved = {name: self.names.pop(name) for name in [*self.below(old), old]}
        self.put(new, moved[old])
        self.names.update((new + name[len(old) :], what) for name, what in moved.items())

    # -- what is the same -------------------------------------------------------------------------

    @rule(wanted=st.lists(lfns, max_size=4), data=st.data())
    def asked(self, wanted, data):
        links = [name for name, what in self.names.items() if what[0] == "link"]
        if links:
            through = data.draw(st.sampled_from(links))
            wanted = [*wanted, Lfn(through), *(Lfn(f"{through}/{part}") for part in ("a", "b", "l"))]
        stats, located = self.catalogue.stat(wanted), self.catalogue.resolve(wanted)
        for lfn in wanted:
            real = self.reals(lfn, False)
            known = self.names.get(real) if real else None
            if known is None:
                error = stats.failed[lfn]
                assert isinstance(error, NoSuchEntry | LinkLoop)
                assert isinstance(error, LinkLoop) == (real is None)
            else:
                entry = stats.ok[lfn]
                assert (entry.lfn, entry.kind) == (real, known[0])
                assert (entry.target if known[0] == "link" else entry.size_bytes) == known[1]
            end = self.reals(lfn, True)
            if end is not None and self.names.get(end, ("",))[0] == "file":
                assert located.ok[lfn].entry.lfn == end
            else:
                assert isinstance(located.failed[lfn], LinkLoop) == (end is None)

    @rule(base=lfns | st.just(Lfn("/")))
    def find(self, base):
        real = self.reals(base, True)
        try:
            found = {one.entry.lfn for one in self.catalogue.find(base, "*")}
        except LinkLoop:
            assert real is None
            return
        files = [name for name, what in self.names.items() if what[0] == "file"]
        assert found == {lfn for lfn in files if real and (lfn + "/").startswith(real.rstrip("/") + "/")}

    @invariant()
    def the_same_names(self):
        listed, queue = {"/": "directory"}, [Lfn("/")]
        while queue:
            for entry in self.catalogue.list(queue.pop()):
                listed[entry.lfn] = entry.kind
                if entry.kind == "directory":
                    queue.append(entry.lfn)
        assert listed == {name: what[0] for name, what in self.names.items()}


Kinds.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestKinds = Kinds.TestCase
