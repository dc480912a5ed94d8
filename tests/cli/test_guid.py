"""AliEn's placement: a storage element that keeps files by GUID, through every command."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from support.command_line import Command, InProcess, TwoSites
from vse.app.site import Site
from vse.config.load import load
from vse.model import Adler32, Lfn, NewFile
from vse.storage.placement import guid_path

pytestmark = pytest.mark.slow

DATA = b"event data\n" * 20_000


def by_guid(site: Path) -> None:
    """Add ALICE, which keeps files by GUID, and ALSO-ALICE, another name of it."""
    (site / "alice").mkdir()
    with (site / "vse.toml").open("a") as file:
        file.write(
            '\n[StorageElements.ALICE.File]\nProtocol = "file"\nPath = "alice"\nPlacement = "guid"\n'
            '[StorageElements.ALSO-ALICE]\nAlias = "ALICE"\n'
        )


@pytest.fixture
def site(vse: Command) -> Command:
    by_guid(vse.directory)
    (vse.directory / "mine.dat").write_bytes(DATA)
    return InProcess(vse.directory)


def guid_of(site: Command, lfn: str) -> uuid.UUID:
    (row,) = (line for line in site("stat", lfn).lines if "guid" in line)
    return uuid.UUID(row.split()[-1])


def stored(site: Command, lfn: str) -> Path:
    return site.directory / "alice" / guid_path(guid_of(site, lfn).bytes)[1:]


def test_a_dataset_is_staged_to_it(two_sites: TwoSites, zmumu: list[Path]) -> None:
    by_guid(two_sites.local)
    vse = InProcess(two_sites.local)
    lfns = [two_sites.add(path, path.name) for path in zmumu[:2]]
    two_sites.publish()
    done = vse("stage", two_sites.query, "--to", "ALSO-ALICE")
    assert done.code == 0, done.err
    assert "2 of 2 files are here" in done.out
    for lfn, path in zip(lfns, zmumu, strict=False):
        kept = stored(vse, lfn)
        assert kept.read_bytes() == path.read_bytes()
        assert two_sites.link(lfn).resolve() == kept
    assert not (two_sites.local / "alice/lhc").exists()
    why = json.loads(vse("why", lfns[0], "--json").out)
    assert why["reads"][0]["url"] == f"file://{stored(vse, lfns[0])}"
    assert [one["usable"] for one in why["copies"]] == [True, True]
    again = json.loads(vse("stage", two_sites.query, "--to", "ALICE", "--json").out)
    assert again["files"]["here"] == 2
    two_sites.link(lfns[0]).unlink()
    assert "1 made" in vse("doctor", "--fix").err
    assert two_sites.link(lfns[0]).resolve() == stored(vse, lfns[0])
    got = vse("get", lfns[1], "out")
    assert got.code == 0, got.err
    assert (two_sites.local / "out" / zmumu[1].name).read_bytes() == zmumu[1].read_bytes()


def test_copies_come_and_go(site: Command) -> None:
    assert site("cp", "mine.dat", "/lhc/a.dat@ALICE").code == 0
    kept = stored(site, "/lhc/a.dat")
    assert kept.read_bytes() == DATA
    copied = site("cp", "/lhc/a.dat@ALSO-ALICE", "/lhc/a.dat@LOCAL-DISK")
    assert copied.code == 0, copied.err
    assert (site.directory / "storage/lhc/a.dat").read_bytes() == DATA
    assert site("checksum", "/lhc/a.dat").code == 0
    moved = site("mv", "/lhc/a.dat", "/lhc/b.dat")
    assert moved.code == 0, moved.err
    assert stored(site, "/lhc/b.dat") == kept
    assert (site.directory / "vse/lhc/b.dat").is_file()
    assert site("se", "check", "ALICE").code == 0
    assert site("rm", "/lhc/b.dat@ALICE").code == 0
    assert not kept.exists()
    assert site("cp", "/lhc/b.dat", "/lhc/b.dat@ALICE").code == 0
    assert stored(site, "/lhc/b.dat") == kept


def test_both_directions_resolve(site: Command) -> None:
    assert site("register", "mine.dat", "--to", "/lhc", "--se", "ALICE").code == 0
    kept = stored(site, "/lhc/mine.dat")
    assert kept.read_bytes() == DATA
    urls = json.loads(site("se", "url", "/lhc/mine.dat", "ALICE", "--json").out)
    assert {urls[one] for one in ("read", "write", "catalogue")} == {f"file://{kept}"}
    with Site.open(load(site.directory / "vse.toml")) as opened:
        place = opened.elements.get("ALICE").place_at(f"file://{kept}")
    assert place == (None, guid_of(site, "/lhc/mine.dat").bytes)
    # from the path, by way of the catalogue, to the name
    other = uuid.UUID(int=5)
    stray = site.directory / "alice" / guid_path(other.bytes)[1:]
    stray.parent.mkdir(parents=True)
    stray.write_bytes(DATA)
    found = site("register", "--scan", "/", "--se", "ALICE", "--json")
    assert json.loads(found.out)["ok"] == ["/lhc/mine.dat"]
    assert f"{stray} at ALICE: it is stored by GUID, and the catalogue has no name with this one" in found.err
    assert json.loads(site("register", "--scan", "/lhc", "--se", "ALICE", "--json").out)["failed"] == {}


def test_a_file_without_a_guid_is_given_one_by_its_copy(site: Command) -> None:
    (site.directory / "storage/old.dat").write_bytes(DATA)
    checksum = Adler32()
    checksum.update(DATA)
    old = NewFile(Lfn("/old.dat"), len(DATA), int(checksum.checksum.value, 16), se="LOCAL-DISK")
    with Site.open(load(site.directory / "vse.toml")) as opened:
        assert opened.catalogue.register([old]).ok
    refused = site("stage", "/old.dat", "--to", "ALICE")
    assert refused.code == 10
    assert "keeps files by GUID, and none is known for this name" in refused.err
    done = site("cp", "/old.dat", "/old.dat@ALICE")
    assert done.code == 0, done.err
    (kept,) = (path for path in (site.directory / "alice").rglob("*-*-*") if path.is_file())
    assert kept.read_bytes() == DATA
    assert site("checksum", "/old.dat").code == 0
    assert site("rm", "/old.dat@ALICE").code == 0
    assert not kept.exists()
