"""The pool as an administrator has it: commands, and what `vse serve` does by itself."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest

from support.command_line import InProcess
from support.pool_site import DAY_S
from vse.app.init import init_site
from vse.app.pool import ClockJumped, Tended, Upkeep
from vse.app.site import Site
from vse.config.load import load
from vse.errors import VseError
from vse.model import Lfn, NewFile
from vse.staging.pool import Round
from vse.staging.pool_sync import Synced

SETTINGS = """
[pools.HERE]
size = "1kB"
young_s = 0

[replication]
destinations = ["HERE"]
reads = 2

[StorageElements.FAR]
BackendType = "local"
WriteAccess = false

[StorageElements.FAR.File]
Protocol = "file"
Path = "far"
Access = "local"

[StorageElements.HERE]
BackendType = "local"

[StorageElements.HERE.File]
Protocol = "file"
Path = "here"
Access = "local"
"""
NAMES = [f"/lhc/f{number}.dat" for number in range(10)]


@pytest.fixture
def vse(tmp_path: Path) -> InProcess:
    """A site with a pool of 1000 bytes, full of files that are elsewhere, too; f0 was read last."""
    root = tmp_path / "site"
    init_site(root, name="test")
    with (root / "vse.toml").open("a") as settings:
        settings.write(SETTINGS)
    with Site.open(load(root / "vse.toml", {"VSE_STAGER__DESTINATION": "HERE"})) as site:
        for se in ("far", "here"):
            for name in NAMES:
                path = root / se / name.lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(100))
            files = [NewFile(Lfn(name), 100, None, se.upper(), owner="anna") for name in NAMES]
            assert site.catalogue.register(files).failed == {}
        for age, name in enumerate(NAMES):
            site.catalogue.note_access([Lfn(name)], "HERE", site.clock() - age * DAY_S)
    return InProcess(root)


def site_of(vse: InProcess, clock: object = None) -> Site:
    loaded = load(vse.directory / "vse.toml", {"VSE_STAGER__DESTINATION": "HERE"})
    return Site.open(loaded, clock) if clock else Site.open(loaded)  # type: ignore[arg-type]


def here(vse: InProcess) -> list[str]:
    return sorted(path.name for path in (vse.directory / "here").rglob("*.dat"))


def test_a_pool_is_compared_shown_and_makes_room(vse):
    assert "10 files added" in vse("pool", "sync").out
    (state,) = [json.loads(line) for line in vse("pool", "show", "--json").lines]
    assert (state["used_bytes"], state["total_bytes"], state["files"]) == (1000, 1000, 10)
    would = vse("pool", "evict", "--dry-run")
    assert would.lines[0].startswith("would go /lhc/f9.dat (100 B): HERE was filled to 1 kB of 1 kB")
    assert len(here(vse)) == 10
    assert vse("pool", "evict").lines[-1] == "HERE: 200 B of 200 B freed"
    assert here(vse) == [f"f{number}.dat" for number in range(8)]
    assert vse("pool", "evict").lines == ["HERE: below its high watermark, nothing has to go"]
    log = [line.split("\t") for line in vse("pool", "log").lines]
    assert [(row[2], row[4]) for row in log] == [("done", "/lhc/f8.dat"), ("done", "/lhc/f9.dat")]
    why = vse("why", "/lhc/f9.dat").out
    assert "HERE, done: HERE was filled to 1 kB of 1 kB (high watermark 90%)" in why
    assert "may be thrown away when room is needed; another copy is at FAR" in vse("why", "/lhc/f0.dat").out


def test_what_is_staged_into_a_full_pool_takes_the_place_of_the_oldest(vse):
    assert vse("pool", "sync").code == 0
    (vse.directory / "far/lhc/new.dat").write_bytes(bytes(100))
    with site_of(vse) as site:
        assert not site.catalogue.register([NewFile(Lfn("/lhc/new.dat"), 100, None, "FAR")]).failed
    answer = vse("stage", "/lhc/new.dat", "--to", "HERE")
    assert answer.code == 0, answer.err
    assert here(vse) == [*(f"f{number}.dat" for number in range(7)), "new.dat"]
    (state,) = [json.loads(line) for line in vse("pool", "show", "--json").lines]
    assert (state["files"], state["used_bytes"], state["reserved_bytes"]) == (8, 800, 0)


def test_pins_are_set_shown_and_taken_away(vse):
    assert vse("pool", "sync").code == 0
    assert vse("pin", "/lhc/*.dat", "--for", "7d", "--se", "HERE").lines == ["10 files stay at HERE for 7d."]
    evicted = vse("pool", "evict")
    assert evicted.lines[-1] == "HERE: 0 B of 200 B freed"
    assert f"stays    /lhc/f9.dat (100 B): {getpass.getuser()} pinned it until" in evicted.out
    assert len(vse("pin", "list").lines) == 10
    assert vse("unpin", "/lhc/f9.dat", "--se", "HERE").lines == ["1 pin taken away."]
    assert vse("pool", "evict").lines[-1] == "HERE: 100 B of 200 B freed"
    assert vse("pin", "/lhc/f0.dat", "--for", "soon", "--se", "HERE").code == 2
    assert vse("unpin").code == 2


def test_quotas_are_set_shown_and_taken_away(vse):
    assert vse("quota", "set", "5kB", "--user", "anna").lines == [
        "The user anna may have 5.0 kB at each storage element."
    ]
    assert ["HERE", "user", "anna", "10", "1.0 kB", "0 B", "5.0 kB"] in [
        line.split("\t") for line in vse("quota", "show", "--se", "HERE").lines
    ]
    assert vse("quota", "rm", "--user", "anna").code == 0
    assert vse("quota", "rm", "--user", "anna").code == 2
    assert vse("quota", "set", "much", "--user", "anna").code == 2
    assert vse("quota", "set", "1TB", "--user", "anna", "--group", "physics").code == 2


def test_what_is_read_often_is_copied(vse):
    with site_of(vse) as site:
        site.catalogue.remove_replicas([Lfn(NAMES[0])], "HERE")
        site.accesses.note("FAR", [Lfn(NAMES[0])] * 3)
    would = vse("pool", "replicate", "--dry-run").lines
    assert would == ["would be asked for: /lhc/f0.dat at HERE, read 3 times, 100 B"]
    assert vse("pool", "replicate").code == 0
    (request,) = [json.loads(line) for line in vse("request", "list", "--json").lines]
    assert (request["owner"], request["destination"]) == ("replication", "HERE")


def test_upkeep_compares_makes_room_and_holds_off_when_the_clock_was_set(vse):
    news: list[Tended] = []
    now = [2e9, 0.0]
    with site_of(vse, lambda: now[0]) as site:
        site.pins.add("HERE", [Lfn(name) for name in NAMES], "anna", 3 * DAY_S)
        upkeep = Upkeep(site, news.append, lambda: now[1])
        upkeep.round()
        assert isinstance(news[0].what, Synced)
        assert isinstance(news[1].what, Round)
        assert news[1].what.short_bytes == 200
        now[0] += 10 * DAY_S  # nobody waited: the clock was set
        news.clear()
        upkeep.round()
        assert [type(one.what) for one in news] == [ClockJumped]
        now[0] -= 10 * DAY_S
        upkeep.round()
        assert len(here(vse)) == 10
        now[0] += 10 * DAY_S
        now[1] += 10 * DAY_S
        news.clear()
        upkeep.round()
        assert [len(one.what.evicted) for one in news if isinstance(one.what, Round)] == [2]
        assert len(here(vse)) == 8


def test_an_error_of_the_upkeep_is_told_once_and_stops_nothing(vse):
    news: list[Tended] = []
    settings = (
        (vse.directory / "vse.toml")
        .read_text()
        .replace('size = "1kB"', 'size = "1kB"\nhigh = 0.5\nlow = 0.4')
    )
    (vse.directory / "vse.toml").write_text(
        settings.replace("[StorageElements.HERE]", "[StorageElements.HERE]\nRemoveAccess = false")
    )
    with site_of(vse) as site:
        upkeep = Upkeep(site, news.append)
        upkeep.round()
        upkeep.round()
    errors = [one for one in news if isinstance(one.what, VseError)]
    assert len(errors) == 1
    assert len(here(vse)) == 10


def test_settings_with_the_watermarks_the_wrong_way_round_say_so(vse):
    text = (vse.directory / "vse.toml").read_text()
    (vse.directory / "vse.toml").write_text(
        text.replace('size = "1kB"', 'size = "1kB"\nhigh = 0.5\nlow = 0.7')
    )
    answer = vse("pool", "show")
    assert answer.code == 2
    assert "the low watermark (0.7) must be below the high one (0.5)" in answer.err
