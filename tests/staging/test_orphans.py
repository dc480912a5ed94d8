"""What the site brought to a pool, and nobody's name leads to any more, does not stay in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.pool_site import PoolSite
from support.staging_site import BASE
from vse.model import FindQuery, Lfn, NewFile
from vse.staging.eviction_log import PLANNED, plan
from vse.staging.orphans import REASON
from vse.staging.pool_plan import Candidate, Eviction

NAMES = ("a.dat", "b.dat")


class Scene:
    """A pool that two files were brought to."""

    def __init__(self, root: Path, url: str) -> None:
        self.site = PoolSite(root, url=url, settings={"slots": 1})
        self.a, self.b = self.site.add({name: name.encode() * 20 for name in NAMES})
        request = self.site.staging.request(FindQuery("", base=Lfn(BASE), pattern="*"), "anna", "LOCAL")
        self.site.work([request.id])
        self.site.sync()
        self.later()

    def later(self, more_s: float = 100.0) -> None:
        self.site.now_s += more_s

    def sync(self) -> int:
        """Compare; return how many were removed from the accounts."""
        self.later()
        return self.site.sync().removed

    def here(self, lfn: Lfn) -> bool:
        return self.site.local(lfn).exists()


@pytest.fixture
def scene(tmp_path: Path, database_url: str) -> Iterator[Scene]:
    scene = Scene(tmp_path, database_url)
    assert scene.here(scene.a)
    assert scene.site.held() == dict.fromkeys(NAMES, 100)
    yield scene
    scene.site.close()


def test_a_file_whose_name_was_removed_for_good_goes_and_the_log_says_why(scene):
    scene.site.catalogue.remove([scene.a], forever=True).one(scene.a)
    assert scene.sync() == 1
    assert not scene.here(scene.a)
    assert scene.site.held() == {"b.dat": 100}
    (evicted,) = scene.site.pool.log(lfn=scene.a)
    assert (evicted.state, evicted.reason) == ("done", REASON)
    assert scene.site.forgotten == [scene.a]
    assert scene.sync() == 0
    scene.site.confirm_sound()


def test_so_it_is_with_thousands_in_one_call(scene):
    more = scene.site.add({f"more/{number}": b"x" for number in range(1200)}, write=False)
    scene.site.catalogue.remove([*more, scene.a], forever=True)
    assert scene.sync() == 1
    assert not scene.here(scene.a)
    assert scene.here(scene.b)


def test_what_is_in_the_trash_stays_where_it_is(scene):
    scene.site.catalogue.trash_s = 1e6
    scene.site.catalogue.remove([scene.a]).one(scene.a)
    scene.sync()
    assert scene.here(scene.a)


def test_what_has_another_name_now_stays(scene):
    """Its place is that of the old name, as a storage that cannot rename leaves it."""
    scene.site.catalogue.rename(scene.a, Lfn(f"{BASE}/new/c.dat"))
    scene.sync()
    assert scene.here(scene.a)


def test_what_is_the_copy_of_another_name_stays(scene):
    url = scene.site.local(scene.a).as_uri()
    other = NewFile(Lfn(f"{BASE}/other.dat"), 100, None, "LOCAL", url)
    scene.site.catalogue.register([other]).one(other.lfn)
    scene.site.catalogue.remove([scene.a], forever=True).one(scene.a)
    scene.sync()
    assert scene.here(scene.a)


def test_what_was_put_there_by_others_stays(scene):
    lfn = scene.site.hold("own.dat", remote=False)
    scene.site.catalogue.remove([lfn], forever=True).one(lfn)
    assert scene.sync() == 1  # it counts for nobody any more: `vse consistency` shows it
    assert scene.here(lfn)


def test_what_has_another_size_by_now_stays(scene):
    scene.site.local(scene.a).chmod(0o644)
    scene.site.local(scene.a).write_bytes(b"something else")
    scene.site.catalogue.remove([scene.a], forever=True).one(scene.a)
    scene.sync()
    assert scene.here(scene.a)


def test_what_is_pinned_or_open_stays_as_long_and_counts(scene):
    scene.site.pins.add("LOCAL", [scene.a], "anna", 1000.0)
    scene.site.catalogue.remove([scene.a, scene.b], forever=True)
    with scene.site.local(scene.b).open("rb"):
        assert scene.sync() == 0
    assert scene.site.held() == dict.fromkeys(NAMES, 100)
    scene.later(2000)
    assert scene.sync() == 2
    assert not scene.here(scene.a)
    assert not scene.here(scene.b)


def test_where_a_process_died_in_between_the_next_one_goes_on(scene):
    dead = "/".join([*scene.site.holder.split("/")[:2], "999999", "1", "1"])
    scene.site.catalogue.remove([scene.a], forever=True).one(scene.a)
    with scene.site.database.write() as connection:
        chosen = [Eviction(Candidate(scene.a, 100, 0.0), REASON)]
        plan(connection, "LOCAL", chosen, scene.site.now_s, dead)
    scene.site.local(scene.a).unlink()
    scene.site.pool.resume("LOCAL")
    assert [one.state for one in scene.site.pool.log() if one.state == PLANNED] == []
    assert scene.sync() == 1
    scene.site.confirm_sound()


def test_an_unknown_name_that_nobody_removed_says_nothing(scene):
    """As of a catalogue that was put back from a copy of last week."""
    scene.site.catalogue.remove([scene.a], forever=True).one(scene.a)
    with scene.site.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM audit")
    scene.sync()
    assert scene.here(scene.a)
