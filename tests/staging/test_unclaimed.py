"""What a killed stager published, and nobody wants any more, does not stay in the dark."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clock import Clock
from support.staging_site import StagingSite
from vse.model import Lfn, NewFile
from vse.staging.unclaimed import Unclaimed
from vse.transfer.lifecycle import State
from vse.transfer.shares import Slots

LEASE_S = 30.0
SLOTS = Slots(8, 8)


class Scene:
    """A file that a stager published before it was killed; then its request was cancelled."""

    def __init__(self, root: Path) -> None:
        self.clock = Clock(time.time())
        self.site = StagingSite(root, clock=self.clock)
        (self.lfn,) = self.site.add({"a.root": b"content"})
        request = self.site.ask()
        assert self.site.queue.claim("stager that dies", 1, SLOTS)
        self.path = self.site.local(self.lfn)
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"content")
        self.site.staging.cancel(request)
        assert self.site.queue.of_lfn(self.lfn)[0].state is State.CANCELLED
        self.unclaimed = Unclaimed(
            self.site.queue, self.site.catalogue, self.site.elements, LEASE_S, self.clock
        )

    def remove(self, later_s: float = LEASE_S + 1) -> int:
        self.clock.now_s += later_s
        return self.unclaimed.remove()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.site.close()


def test_it_goes_once_its_stager_cannot_be_at_work_any_more(scene: Scene) -> None:
    assert scene.remove(LEASE_S / 2) == 0
    assert scene.path.exists()
    assert scene.remove(LEASE_S) == 1
    assert not scene.path.exists()
    assert scene.remove() == 0


def test_it_goes_although_the_clock_was_ahead_before(scene: Scene) -> None:
    scene.clock.now_s += 86400
    assert scene.unclaimed.remove() == 1
    scene.clock.now_s -= 86400
    request = scene.site.ask()
    assert scene.site.queue.claim("stager that dies", 1, SLOTS)
    scene.path.write_bytes(b"content")
    scene.site.staging.cancel(request)
    assert scene.remove(LEASE_S / 2) == 0
    assert scene.remove(LEASE_S) == 1


def test_what_the_catalogue_knows_stays(scene: Scene) -> None:
    scene.site.add_replica(scene.lfn, b"content", "LOCAL")
    assert scene.remove() == 0
    assert scene.path.exists()


def test_what_is_wanted_again_stays(scene: Scene) -> None:
    scene.site.ask()
    assert scene.remove() == 0
    assert scene.path.exists()


def test_what_was_there_before_stays(scene: Scene) -> None:
    long_ago = scene.clock() - 86400
    os.utime(scene.path, (long_ago, long_ago))
    assert scene.remove() == 0
    assert scene.path.exists()


class InVain(Scene):
    """Here the name is removed instead, and the next stager finds that there is none any more."""

    def __init__(self, root: Path) -> None:
        self.clock = Clock(time.time())
        self.site = StagingSite(root, clock=self.clock, settings={"max_failures": 1})
        (self.lfn,) = self.site.add({"a.root": b"content"})
        self.request = self.site.ask()
        assert self.site.queue.claim("stager that dies", 1, SLOTS)
        self.path = self.site.local(self.lfn)
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"content")
        self.unclaimed = Unclaimed(
            self.site.queue, self.site.catalogue, self.site.elements, LEASE_S, self.clock
        )

    def fail(self) -> None:
        self.clock.now_s += 300.0  # the lease of the dead one is over
        self.site.work([self.request])
        assert self.site.queue.of_lfn(self.lfn)[0].state is State.FAILED


@pytest.fixture
def in_vain(tmp_path: Path) -> Iterator[InVain]:
    scene = InVain(tmp_path)
    yield scene
    scene.site.close()


def test_what_came_for_a_name_that_was_removed_goes(in_vain: InVain) -> None:
    in_vain.site.catalogue.remove([in_vain.lfn], forever=True).one(in_vain.lfn)
    in_vain.fail()
    assert in_vain.path.exists()
    assert in_vain.remove() == 1
    assert not in_vain.path.exists()


def test_what_came_for_a_name_that_was_changed_stays(in_vain: InVain) -> None:
    in_vain.site.catalogue.rename(in_vain.lfn, Lfn("/lhc/data/b.root"))
    in_vain.fail()
    assert in_vain.remove() == 0
    assert in_vain.path.exists()


def test_what_is_in_the_way_of_a_known_name_stays(in_vain: InVain) -> None:
    in_vain.path.write_bytes(b"another file")
    in_vain.fail()
    assert in_vain.remove() == 0
    assert in_vain.path.exists()


def test_a_stager_that_starts_does_it(scene: Scene) -> None:
    scene.clock.now_s += LEASE_S + 1
    other = Lfn("/lhc/data/other.root")
    scene.site.remote(other).write_bytes(b"other")
    scene.site.catalogue.register([NewFile(other, 5, se="REMOTE")])
    scene.site.stage("other.root")
    assert scene.site.local(other).exists()
    assert not scene.path.exists()
