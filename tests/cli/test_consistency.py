"""``vse consistency`` over a real directory: reported first, mended only when told, never too much."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from support.clock import Clock
from support.command_line import Command
from support.databases import ensure_sqlite
from vse.app.consistency import check
from vse.app.init import init_site
from vse.app.site import Site
from vse.catalogue.consistency import Verdict
from vse.config.load import load
from vse.model import Lfn, NewFile, ReplicaState

DAY = 86400.0
LONG_AGO = time.time() - 30 * DAY


@pytest.fixture
def clock() -> Clock:
    return Clock(LONG_AGO)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    ensure_sqlite(tmp_path / "var/vse.db")
    init_site(tmp_path, name="test")
    return tmp_path


def opened(place: Path, clock: Clock, **settings: float) -> Site:
    flags = {f"consistency.{name}": str(value) for name, value in settings.items()}
    return Site.open(load(place / "vse.toml", {}, flags), clock)


def fill(site: Site, number: int) -> list[Lfn]:
    """Register ``number`` files of seven bytes that the storage really holds."""
    lfns = [Lfn(f"/data/f{index}") for index in range(number)]
    for lfn in lfns:
        write(site, lfn, b"content")
    element = site.destination.name
    site.catalogue.register([NewFile(lfn, 7, se=element) for lfn in lfns])
    return lfns


def write(site: Site, lfn: str, data: bytes) -> Path:
    path = site.destination.local_path(Lfn(lfn))
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def found(site: Site, run: int) -> dict[str, Verdict]:
    from vse.app.evidence import Evidence

    return {one.path.rpartition("/")[2]: one.verdict for one in Evidence(site.database).findings(run)}


def spoil(site: Site, lfns: list[Lfn]) -> None:
    """One lost, one of another size, one dark."""
    site.destination.local_path(lfns[0]).unlink()
    write(site, lfns[1], b"longer content")
    write(site, "/data/dark", b"dark")


def states(site: Site, lfns: list[Lfn]) -> list[ReplicaState]:
    return [site.catalogue.resolve([lfn]).one(lfn).replicas[0].state for lfn in lfns]


def test_a_site_in_order(place, clock):
    with opened(place, clock) as site:
        fill(site, 5)
        clock.now_s += 10 * DAY
        checked = check(site, site.destination.name)
        assert checked.consistent
        assert (checked.tally.known, checked.tally.held) == (5, 5)


def test_a_report_changes_nothing(place, clock):
    with opened(place, clock) as site:
        lfns = fill(site, 100)
        spoil(site, lfns)
        clock.now_s += 10 * DAY
        checked = check(site, site.destination.name)
        assert found(site, checked.run) == {
            "f0": Verdict.LOST,
            "f1": Verdict.DIFFERING,
            "dark": Verdict.DARK,
        }
        assert states(site, lfns[:3]) == [ReplicaState.AVAILABLE] * 3
        assert site.destination.local_path(Lfn("/data/dark")).exists()


def test_lost_and_differing_are_marked_and_found_again(place, clock):
    with opened(place, clock) as site:
        lfns = fill(site, 100)
        spoil(site, lfns)
        clock.now_s += 10 * DAY
        assert check(site, site.destination.name, commit=True).marked == 2
        assert states(site, lfns[:3]) == [ReplicaState.LOST, ReplicaState.SUSPECT, ReplicaState.AVAILABLE]
        write(site, lfns[0], b"content")
        checked = check(site, site.destination.name, commit=True)
        assert found(site, checked.run)["f0"] is Verdict.FOUND
        assert states(site, lfns[:1]) == [ReplicaState.AVAILABLE]


def test_dark_files_are_removed_only_after_two_runs_far_enough_apart(place, clock):
    with opened(place, clock) as site:
        lfns = fill(site, 100)
        spoil(site, lfns)
        dark = site.destination.local_path(Lfn("/data/dark"))
        clock.now_s += 10 * DAY
        first = check(site, site.destination.name, commit=True)
        assert (first.removed, first.waiting) == (0, 1)
        clock.now_s += 6 * DAY
        assert check(site, site.destination.name, commit=True).waiting == 1, "seen twice, but too soon"
        clock.now_s += 2 * DAY
        last = check(site, site.destination.name, commit=True)
        assert (last.removed, last.removed_bytes, last.waiting) == (1, 4, 0)
        assert not dark.exists()


def test_a_dark_file_that_was_known_in_between_waits_anew(place, clock):
    with opened(place, clock) as site:
        fill(site, 100)
        dark = Lfn("/data/dark")
        write(site, dark, b"dark")
        clock.now_s += 10 * DAY
        se = site.destination.name
        check(site, se)
        site.catalogue.register([NewFile(dark, 4, se=se)])
        clock.now_s += 8 * DAY
        check(site, se)
        site.catalogue.remove_replicas([dark], se)
        clock.now_s += 1 * DAY
        checked = check(site, se, commit=True)
        assert (checked.removed, checked.waiting) == (0, 1)


def test_copies_of_what_is_in_the_trash_are_not_dark(place, clock):
    with opened(place, clock, most_dark_fraction=1, dark_age_s=0, grace_s=0) as site:
        lfn, gone = fill(site, 10)[:2]
        site.catalogue.remove([lfn, gone])
        site.destination.local_path(gone).unlink()
        for _ in range(2):
            clock.now_s += DAY
            done = check(site, site.destination.name, commit=True)
            assert (done.tally.dark, done.tally.lost, done.removed) == (0, 0, 0)
        assert site.destination.local_path(lfn).exists()
        trashed = [one.id for one in site.catalogue.trash() if one.lfn == lfn]
        assert site.catalogue.undelete(trashed).ok
        site.catalogue.forget_trash([one.id for one in site.catalogue.trash()])
        site.catalogue.remove([lfn], forever=True)
        clock.now_s += DAY
        assert check(site, site.destination.name).tally.dark == 1, "it is nobody's any more"


def test_nothing_is_done_above_the_fraction(place, clock):
    with opened(place, clock, most_lost_fraction=0.02, most_dark_fraction=0.005, dark_age_s=0) as site:
        lfns = fill(site, 100)
        spoil(site, lfns)
        site.destination.local_path(lfns[2]).unlink()
        clock.now_s += 10 * DAY
        for _ in range(2):
            checked = check(site, site.destination.name, commit=True)
        assert set(checked.refused) == {Verdict.DARK, Verdict.LOST, Verdict.DIFFERING}
        assert (checked.marked, checked.removed) == (0, 0)
        assert (
            "a fraction of 0.030, more than consistency.most_lost_fraction (0.02)"
            in checked.refused[Verdict.LOST]
        )
        assert site.destination.local_path(Lfn("/data/dark")).exists()


def test_what_is_recent_is_never_called_lost(place, clock):
    with opened(place, clock) as site:
        lfns = fill(site, 3)
        site.destination.local_path(lfns[0]).unlink()
        clock.now_s += 0.5 * DAY
        assert check(site, site.destination.name).consistent


def test_a_storage_that_is_not_there_is_not_called_lost(place, clock):
    """A mount that is missing is one fault, and no reason to forget what is behind it."""
    with opened(place, clock, most_lost_fraction=1) as site:
        lfns = fill(site, 3)
        element = site.destination
        mount = Path(element.stored_path(Lfn("/")))
        mount.rename(mount.with_name("elsewhere"))
        clock.now_s += 10 * DAY
        checked = check(site, element.name, commit=True)
        assert not checked.consistent
        assert [*checked.unlisted] == [str(mount)]
        assert (checked.tally.lost, checked.marked) == (0, 0)
        assert states(site, lfns) == [ReplicaState.AVAILABLE] * 3


def test_an_empty_mount_is_refused(place, clock):
    with opened(place, clock) as site:
        lfns = fill(site, 3)
        for lfn in lfns:
            site.destination.local_path(lfn).unlink()
        clock.now_s += 10 * DAY
        checked = check(site, site.destination.name, commit=True)
        assert "3 of 3 copies are lost or differ" in checked.refused[Verdict.LOST]
        assert states(site, lfns) == [ReplicaState.AVAILABLE] * 3


@pytest.mark.slow
def test_the_command(vse: Command):
    for name in ("one", "two", "three"):
        (vse.directory / name).write_bytes(name.encode())
    assert vse("register", "one", "two", "three", "--to", "/data").code == 0
    wanted = ("--set", "consistency.grace_s=0", "--set", "consistency.dark_age_s=0")
    wanted += ("--set", "consistency.most_dark_fraction=1", "--set", "consistency.most_lost_fraction=1")
    assert vse(*wanted, "consistency", "LOCAL-DISK").code == 0
    stored = [path for path in vse.directory.rglob("data/one") if path.is_file() and not path.is_symlink()]
    assert stored
    stored[0].with_name("dark").write_bytes(b"dark")
    stored[0].unlink()
    report = vse(*wanted, "consistency", "LOCAL-DISK")
    assert report.code == 1
    assert "1 dark, 1 lost, 0 of another size" in report.out
    assert "Nothing was changed" in report.out
    committed = vse(*wanted, "consistency", "LOCAL-DISK", "--commit", "--json")
    answer = json.loads(committed.out)
    assert (answer["marked"], answer["removed"], answer["waiting"]) == (1, 1, 0)
    assert not stored[0].with_name("dark").exists()
    assert len(vse(*wanted, "consistency", "LOCAL-DISK", "--runs", "--json").lines) == 3


@pytest.mark.slow
def test_a_listing_of_the_site(vse: Command):
    (vse.directory / "one").write_bytes(b"one")
    assert vse("register", "one", "--to", "/data").code == 0
    path = next(path for path in vse.directory.rglob("data/one") if not path.is_symlink())
    listing = vse.directory / "listing.txt"
    base = str(path).removesuffix("/data/one")
    listing.write_text(f"{path} 3 100\n{base}/data/with a blank - -\n")
    answer = vse(
        "--set", "consistency.grace_s=0", "consistency", "LOCAL-DISK", "--listing", "listing.txt", "--json"
    )
    assert [one["path"] for one in json.loads(answer.out)["findings"]] == [f"{base}/data/with a blank"]
    listing.write_text("/x three\n")
    bad = vse("consistency", "LOCAL-DISK", "--listing", "listing.txt")
    assert bad.code not in (0, 1)
    assert "line 1" in bad.err
    listing.write_text("/elsewhere/data/one 3 100\n/elsewhere/data/two - -\n")
    for more in ((), ("--base", "/data")):
        other = vse("consistency", "LOCAL-DISK", "--listing", "listing.txt", *more)
        assert (other.code, other.out) == (2, "")
        assert f"no line of it is below {base}/, where" in other.err
        assert "the first is of /elsewhere/data/one" in other.err
    listing.write_text(f"{path} 3 100\n")
    assert vse("consistency", "LOCAL-DISK", "--listing", "listing.txt", "--base", "/nothing").code == 0
    missing = vse("consistency", "LOCAL-DISK", "--listing", "missing.txt")
    assert (missing.code, "No such file or directory. Name a file" in missing.err) == (2, True)
