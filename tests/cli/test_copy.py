"""Copying, removing, renaming, comparing: as a user does it, judged by the files on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from servers.certificates import make_certificates
from servers.xrootd import xrootd
from support.command_line import Command, InProcess

pytestmark = pytest.mark.slow

DATA = b"event data\n" * 20_000


@pytest.fixture
def site(vse: Command) -> Command:
    """A site with two more storage elements: one to write to, one that only lets itself be read."""
    text = (vse.directory / "vse.toml").read_text()
    for name, access in (("SECOND", ""), ("FROZEN", 'WriteAccess = "Banned"\nRemoveAccess = "Banned"\n')):
        (vse.directory / name.lower()).mkdir()
        text += f"\n[StorageElements.{name}]\n{access}[StorageElements.{name}.File]\n"
        text += f'Protocol = "file"\nPath = "{name.lower()}"\n'
    text += "\n[catalogue]\ntrash_s = 0\n"
    (vse.directory / "vse.toml").write_text(text)
    return InProcess(vse.directory)


@pytest.fixture
def mine(site: Command) -> Path:
    path = site.directory / "mine.dat"
    path.write_bytes(DATA)
    return path


def files_below(directory: Path) -> list[str]:
    return sorted(
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and ".vse-partial" not in path.parts
    )


def copies(site: Command, lfn: str) -> list[str]:
    return sorted(one["se"] for one in json.loads(site("why", lfn, "--json").out)["copies"])


def test_a_file_goes_in_is_replicated_and_comes_out(site: Command, mine: Path) -> None:
    put = site("cp", "mine.dat", "/lhc/user/a.dat")
    assert put.code == 0, put.err
    assert "streamed through this machine" in put.out
    assert (site.directory / "storage/lhc/user/a.dat").read_bytes() == DATA
    assert (site.directory / "vse/lhc/user/a.dat").read_bytes() == DATA
    entry = json.loads(site("stat", "/lhc/user/a.dat", "--json").out)
    assert entry["size_bytes"] == len(DATA)
    assert site("cp", "/lhc/user/a.dat", "/lhc/user/a.dat@SECOND").code == 0
    assert (site.directory / "second/lhc/user/a.dat").read_bytes() == DATA
    assert len(copies(site, "/lhc/user/a.dat")) == 2
    assert site("cp", "/lhc/user/a.dat@SECOND", "/lhc/other/b.dat").code == 0
    assert site("cp", "lfn:/lhc/other/b.dat", "out.dat").code == 0
    assert (site.directory / "out.dat").read_bytes() == DATA
    (site.directory / "results").mkdir()
    assert site("cp", "/lhc/other/b.dat", "results").code == 0
    assert site("cp", "mine.dat", "/lhc/other").code == 0
    assert site("ls", "/lhc/other").lines == ["b.dat", "mine.dat"]
    assert files_below(site.directory / "results") == ["b.dat"]


def test_urls_on_either_side(site: Command, mine: Path) -> None:
    site("cp", "mine.dat", "/lhc/a.dat")
    stored = (site.directory / "storage/lhc/a.dat").as_uri()
    assert site("cp", stored, "/lhc/from-url.dat", "--json").code == 0
    outside = site.directory / "outside.dat"
    answer = json.loads(site("cp", "/lhc/a.dat", outside.as_uri(), "--json").out)
    assert answer["size_bytes"] == len(DATA)
    assert answer["checksum"].startswith("adler32:")
    assert outside.read_bytes() == DATA
    unknown = site("cp", "gopher://host/a", "/lhc/c.dat")
    assert unknown.code == 2
    assert "gopher" in unknown.err


def test_a_copy_from_a_remote_door_by_url_and_by_name(two_sites, zmumu) -> None:
    lfn = two_sites.add(zmumu[0], "a.root")
    two_sites.publish()
    vse = two_sites.vse
    assert vse("cp", lfn, "/lhc/mine/a.root").code == 0
    assert (two_sites.local / "storage/lhc/mine/a.root").read_bytes() == zmumu[0].read_bytes()
    assert vse("cp", lfn, lfn).code == 0  # a copy here of a file elsewhere
    assert two_sites.here(lfn).read_bytes() == zmumu[0].read_bytes()
    assert two_sites.link(lfn).is_symlink()
    url = next(
        one["url"] for one in json.loads(vse("why", lfn, "--json").out)["reads"] if "http" in one["url"]
    )
    assert vse("cp", url, "/lhc/mine/b.root").code == 0
    assert (two_sites.local / "storage/lhc/mine/b.root").read_bytes() == zmumu[0].read_bytes()
    denied = vse("cp", "/lhc/mine/a.root", url)
    assert denied.code == 6
    assert "WriteAccess" in denied.err
    refused = vse("rm", lfn)
    assert refused.code == 5
    assert "belongs to" in refused.err


def test_nothing_is_ever_replaced(site: Command, mine: Path) -> None:
    site("cp", "mine.dat", "/lhc/a.dat")
    other = site.directory / "other.dat"
    other.write_bytes(b"other")
    for target in ("/lhc/a.dat", "/lhc/a.dat@SECOND", "mine.dat"):
        answer = site("cp", "other.dat", target)
        assert answer.code == 4, target
        assert len(answer.err.strip().splitlines()) == 1
    assert site("cp", "/lhc/a.dat", "/lhc/a.dat").code == 4
    (site.directory / "second/lhc").mkdir()
    (site.directory / "second/lhc/b.dat").write_bytes(b"unknown to the catalogue")
    answer = site("cp", "mine.dat", "/lhc/b.dat@SECOND")
    assert answer.code == 4
    assert "catalogue does not know" in answer.err
    assert (site.directory / "second/lhc/b.dat").read_bytes() == b"unknown to the catalogue"
    assert site("stat", "/lhc/b.dat").code == 3
    assert (site.directory / "storage/lhc/a.dat").read_bytes() == DATA


def test_what_an_interrupted_copy_left_is_taken_in(site: Command, mine: Path) -> None:
    (site.directory / "storage/lhc").mkdir()
    (site.directory / "storage/lhc/a.dat").write_bytes(DATA)
    answer = site("cp", "mine.dat", "/lhc/a.dat")
    assert answer.code == 0
    assert "was there already" in answer.out
    assert site("cat", "/lhc/a.dat").out.encode() == DATA


def test_a_damaged_source_leaves_nothing_behind(site: Command, mine: Path) -> None:
    site("cp", "mine.dat", "/lhc/a.dat")
    stored = site.directory / "storage/lhc/a.dat"
    stored.write_bytes(DATA[:-5] + b"rot!\n")
    for target in ("/lhc/b.dat", "/lhc/a.dat@SECOND", "out.dat"):
        answer = site("cp", "/lhc/a.dat", target)
        assert answer.code == 8, target
        assert "adler32" in answer.err
    assert files_below(site.directory / "second") == []
    assert not (site.directory / "out.dat").exists()
    assert site("stat", "/lhc/b.dat").code == 3
    assert not list(site.directory.glob(".out.dat*"))


def test_what_is_meant_is_asked_where_it_is_not_clear(site: Command, mine: Path, tmp_path: Path) -> None:
    absolute = str(mine)
    assert site("cp", absolute, "/lhc/a.dat").code == 0  # no LFN of this name: the path is meant
    assert site("cp", "mine.dat", f"lfn:{absolute}").code == 0
    both = site("cp", absolute, "/lhc/b.dat")
    assert both.code == 2
    assert f"file:{absolute}" in both.err
    assert site("cp", f"file:{absolute}", "/lhc/b.dat").code == 0
    target = tmp_path / "out" / "c.dat"
    target.parent.mkdir()
    assert site("cp", "/lhc/a.dat", str(target)).code == 0
    assert target.read_bytes() == DATA


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["cp", "/nowhere", "out.dat"], 3, "/nowhere"),
        (["cp", "nowhere.dat", "/lhc/x"], 2, "it is not there"),
        (["cp", "mine.dat", "/lhc/x@SECNOD"], 3, "Did you mean SECOND"),
        (["cp", "mine.dat", "/lhc/x@FROZEN"], 6, "WriteAccess"),
        (["cp", "storage", "/lhc/x"], 2, "not a file"),
        (["rm", "/nowhere"], 3, "/nowhere"),
        (["rm", "relative"], 2, "does not start with"),
        (["mv", "/nowhere", "/x"], 3, "/nowhere"),
        (["mkdir", "/a/../b"], 2, "'..' is not allowed"),
        (["checksum", "/nowhere"], 3, "/nowhere"),
        (["se", "space", "SECNOD"], 3, "SECOND"),
        (["se", "check", "SECNOD"], 3, "SECOND"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(site: Command, mine: Path, words, code, message) -> None:
    answer = site(*words)
    assert answer.code == code, answer.err
    assert message in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert "Traceback" not in answer.err
    assert files_below(site.directory / "storage") == []


def test_removing_a_file_a_copy_and_never_the_last(site: Command, mine: Path) -> None:
    site("cp", "mine.dat", "/lhc/a.dat")
    site("cp", "/lhc/a.dat", "/lhc/a.dat@SECOND")
    link, first = site.directory / "vse/lhc/a.dat", site.directory / "storage/lhc/a.dat"
    local = json.loads(site("why", "/lhc/a.dat", "--json").out)["copies"]
    name = next(one["se"] for one in local if one["se"] != "SECOND")
    dry = site("rm", "-n", "/lhc/a.dat")
    assert dry.code == 0
    assert len(dry.lines) == 3
    assert all(line.startswith("would remove") for line in dry.lines)
    assert first.exists()
    assert site("rm", f"/lhc/a.dat@{name}").code == 0
    assert not first.exists()
    assert copies(site, "/lhc/a.dat") == ["SECOND"]
    assert link.resolve() == site.directory / "second/lhc/a.dat"
    last = site("rm", "/lhc/a.dat@SECOND")
    assert last.code == 5
    assert "--last-copy" in last.err
    assert (site.directory / "second/lhc/a.dat").exists()
    assert site("rm", "/lhc/a.dat").code == 0
    assert files_below(site.directory / "second") == []
    assert not os.path.lexists(link)
    assert site("stat", "/lhc/a.dat").code == 3
    assert site("rm", "/lhc").code == 0
    assert site("ls", "/").out == ""


def test_the_last_copy_goes_when_that_is_said(site: Command, mine: Path) -> None:
    site("cp", "mine.dat", "/lhc/a.dat@SECOND")
    assert site("rm", "/lhc/a.dat@SECOND", "--last-copy").code == 0
    assert files_below(site.directory / "second") == []
    assert site("stat", "/lhc/a.dat").code == 0
    assert copies(site, "/lhc/a.dat") == []
    assert not os.path.lexists(site.directory / "vse/lhc/a.dat")


def test_nothing_goes_where_one_copy_must_stay(site: Command, mine: Path) -> None:
    site("cp", "mine.dat", "/lhc/a.dat")
    (site.directory / "frozen/lhc").mkdir()
    (site.directory / "frozen/lhc/a.dat").write_bytes(DATA)
    assert site("register", "--scan", "/lhc", "--se", "FROZEN").code == 0
    answer = site("rm", "/lhc/a.dat")
    assert answer.code == 6
    assert "RemoveAccess" in answer.err
    assert len(copies(site, "/lhc/a.dat")) == 2
    assert (site.directory / "storage/lhc/a.dat").exists()
    assert site("mv", "/lhc/a.dat", "/lhc/b.dat").code == 0  # the frozen copy keeps its place
    assert site("cp", "/lhc/b.dat@FROZEN", "out.dat").code == 0
    assert (site.directory / "out.dat").read_bytes() == DATA
    assert files_below(site.directory / "storage") == ["lhc/b.dat"]


def test_a_copy_that_is_gone_already_is_forgotten(site: Command, mine: Path) -> None:
    site("cp", "mine.dat", "/lhc/a.dat")
    (site.directory / "storage/lhc/a.dat").unlink()
    assert site("rm", "/lhc/a.dat").code == 0
    assert site("stat", "/lhc/a.dat").code == 3


def test_renaming_files_and_directories(site: Command, mine: Path) -> None:
    site("cp", "mine.dat", "/lhc/d/a.dat")
    site("cp", "/lhc/d/a.dat", "/lhc/d/a.dat@SECOND")
    site("cp", "mine.dat", "/lhc/d/e/b.dat")
    assert site("mv", "/lhc/d/a.dat", "/lhc/d/c.dat").code == 0
    assert files_below(site.directory / "storage") == ["lhc/d/c.dat", "lhc/d/e/b.dat"]
    assert files_below(site.directory / "second") == ["lhc/d/c.dat"]
    assert site("mv", "/lhc/d", "/new/place").code == 0
    assert files_below(site.directory / "storage") == ["new/place/c.dat", "new/place/e/b.dat"]
    assert files_below(site.directory / "second") == ["new/place/c.dat"]
    assert (site.directory / "vse/new/place/e/b.dat").read_bytes() == DATA
    assert not os.path.lexists(site.directory / "vse/lhc/d/c.dat")
    assert site("cat", "/new/place/c.dat").out.encode() == DATA
    taken = site("mv", "/new/place/c.dat", "/new/place/e/b.dat")
    assert taken.code == 4
    assert site("mv", "/new", "/new/place/e").code == 2
    assert site("mkdir", "/archive").code == 0
    assert site("mv", "/new/place/c.dat", "/archive").code == 0
    assert site("ls", "/archive").lines == ["c.dat"]


def test_a_rename_that_one_storage_refuses_changes_nothing(site: Command, mine: Path) -> None:
    site("cp", "mine.dat", "/lhc/a.dat")
    site("cp", "/lhc/a.dat", "/lhc/a.dat@SECOND")
    (site.directory / "storage/lhc/b.dat").write_bytes(b"in the way")
    (site.directory / "second/lhc/c.dat").write_bytes(b"in the way")
    for target in ("/lhc/b.dat", "/lhc/c.dat"):
        assert site("mv", "/lhc/a.dat", target).code == 4
        assert site("cat", "/lhc/a.dat").code == 0
        assert (site.directory / "storage/lhc/a.dat").exists()
        assert (site.directory / "second/lhc/a.dat").exists()


def test_directories_are_made(site: Command, mine: Path) -> None:
    assert site("mkdir", "/lhc/user/me", "/lhc/other@SECOND").code == 0
    assert site("mkdir", "/lhc/user/me").code == 0
    assert site("ls", "/lhc").lines == ["other/", "user/"]
    assert (site.directory / "second/lhc/other").is_dir()
    site("cp", "mine.dat", "/lhc/a.dat")
    answer = site("mkdir", "/lhc/a.dat", "/lhc/good", "/lhc/a.dat/below")
    assert answer.code == 4
    assert answer.lines == ["/lhc/good"]


def test_checksums_side_by_side(site: Command, mine: Path) -> None:
    site("cp", "mine.dat", "/lhc/a.dat")
    site("cp", "/lhc/a.dat", "/lhc/a.dat@SECOND")
    good = site("checksum", "/lhc/a.dat")
    assert good.code == 0
    rows = [line.split("\t") for line in good.lines]
    assert len(rows) == 2
    assert len({value for row in rows for value in row[2:]}) == 1
    assert all(len(row[2]) == 8 for row in rows)
    (site.directory / "second/lhc/a.dat").write_bytes(DATA[:-1] + b"!")
    bad = site("checksum", "/lhc/a.dat", "--json")
    assert bad.code == 8
    assert "/lhc/a.dat" in bad.err
    told = json.loads(bad.out)
    assert told["differ"]
    computed = {one["se"]: one["computed"] for one in told["copies"]}
    assert computed.pop("SECOND") != told["catalogue"]
    assert set(computed.values()) == {told["catalogue"]}
    (site.directory / "second/lhc/a.dat").unlink()
    gone = site("checksum", "/lhc/a.dat")
    assert gone.code == 3
    assert "(no-such-file)" in gone.out


def test_space_of_each_element(site: Command) -> None:
    answer = site("se", "space", "--json")
    assert answer.code == 0
    found = {one["name"]: one for one in map(json.loads, answer.lines)}
    assert {"SECOND", "FROZEN"} < set(found)
    status = os.statvfs(site.directory)
    assert found["SECOND"]["total_bytes"] == status.f_blocks * status.f_frsize
    (site.directory / "second").rmdir()
    broken = site("se", "space")
    assert broken.code == 0
    assert "SECOND" in broken.err
    assert site("se", "space", "SECOND").code == 7


def test_an_element_proves_what_it_declares_and_nothing_is_left(site: Command) -> None:
    (site.directory / "second/keep").write_text("keep")
    answer = site("se", "check", "SECOND", "--json")
    assert answer.code == 0, answer.err
    proofs = {one["capability"]: one for one in map(json.loads, answer.lines)}
    for capability in (
        "write",
        "read",
        "read ranges",
        "list",
        "rename",
        "link",
        "make directory",
        "checksum",
    ):
        assert proofs[capability]["works"] is True, proofs[capability]
    assert proofs["pull"]["declared"] is False
    assert proofs["tape"]["works"] is None
    assert files_below(site.directory / "second") == ["keep"]
    assert [path.name for path in (site.directory / "second").iterdir() if path.name != ".vse-partial"] == [
        "keep"
    ]
    frozen = site("se", "check", "FROZEN")
    assert frozen.code == 0
    assert "WriteAccess" in frozen.out
    assert list((site.directory / "frozen").iterdir()) == []


def test_an_element_that_does_not_hold_what_it_declares_is_found_out(site: Command) -> None:
    (site.directory / "second").rmdir()
    answer = site("se", "check", "SECOND")
    assert answer.code == 7
    assert "NO" in answer.out
    assert "cannot be reached" in answer.err
    assert len(answer.err.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["cp", "rm", "mv", "mkdir", "checksum", "se space", "se check"])
def test_every_command_explains_itself(site: Command, command: str) -> None:
    answer = site(*command.split(), "--help")
    assert answer.code == 0
    assert "Example" in answer.out
    assert f"vse {command}" in answer.out
    assert "--json" in answer.out


def test_the_same_in_a_process(vse: Command) -> None:
    (vse.directory / "mine.dat").write_bytes(DATA)
    assert vse("cp", "mine.dat", "/lhc/a.dat").code == 0
    assert vse("checksum", "/lhc/a.dat").code == 0
    assert vse("rm", "/lhc/a.dat").code == 0
    assert vse("rm", "/lhc/a.dat").code == 3


def test_several_volumes_are_one_element(site: Command, mine: Path) -> None:
    text = (site.directory / "vse.toml").read_text()
    text += '\n[StorageElements.MANY.VOLUMES]\nPath = "/"\n'
    for number in (1, 2):
        (site.directory / f"disk{number}").mkdir()
        text += f'[[StorageElements.MANY.VOLUMES.Volumes]]\nPath = "disk{number}"\nSize_bytes = 300_000\n'
    (site.directory / "vse.toml").write_text(text)
    assert len(DATA) == 220_000
    for name in "ab":
        assert site("cp", "mine.dat", f"/lhc/{name}.dat@MANY").code == 0
    assert (site.directory / "disk1/lhc/a.dat").read_bytes() == DATA
    assert (site.directory / "disk2/lhc/b.dat").read_bytes() == DATA
    assert (site.directory / "vse/lhc/b.dat").resolve() == site.directory / "disk2/lhc/b.dat"
    full = site("cp", "mine.dat", "/lhc/c.dat@MANY")
    assert full.code == 7
    assert "no volume has so many left" in full.err
    assert site("stat", "/lhc/c.dat").code == 3
    space = json.loads(site("se", "space", "MANY", "--json").out)
    assert (space["total_bytes"], space["free_bytes"]) == (600_000, 160_000)
    assert site("rm", "/lhc/b.dat").code == 0
    assert site("cp", "mine.dat", "/lhc/c.dat@MANY").code == 0
    assert site("cp", "/lhc/c.dat@MANY", "out.dat").code == 0
    assert (site.directory / "out.dat").read_bytes() == DATA
    assert site("se", "check", "MANY").code == 0
    assert files_below(site.directory / "disk1") == ["lhc/a.dat"]
    assert files_below(site.directory / "disk2") == ["lhc/c.dat"]


def test_expired_files_go_and_what_came_by_hand_is_counted(site: Command, mine: Path) -> None:
    text = (site.directory / "vse.toml").read_text()
    (site.directory / "disk").mkdir()
    text += '\n[StorageElements.MANY.VOLUMES]\nPath = "/"\n[[StorageElements.MANY.VOLUMES.Volumes]]\n'
    (site.directory / "vse.toml").write_text(
        text + 'Path = "disk"\nSize_bytes = 900_000\nLifetime_s = 0.001\n'
    )
    for target in ("/lhc/a.dat@MANY", "/lhc/b.dat@MANY"):
        assert site("cp", "mine.dat", target).code == 0
    assert site("cp", "/lhc/a.dat", "/lhc/a.dat@SECOND").code == 0
    link = site.directory / "vse/lhc/a.dat"
    assert link.resolve() == site.directory / "disk/lhc/a.dat"
    done = site("se", "space", "MANY", "--expire")
    assert done.code == 0
    assert "2 expired files erased" in done.err
    assert files_below(site.directory / "disk") == []
    assert copies(site, "/lhc/a.dat") == ["SECOND"]
    assert copies(site, "/lhc/b.dat") == []
    assert link.resolve() == site.directory / "second/lhc/a.dat"
    assert not os.path.lexists(site.directory / "vse/lhc/b.dat")
    (site.directory / "disk/by hand").write_bytes(DATA)
    done = site("se", "space", "MANY", "--recount", "--json")
    assert "1 file," in done.err
    assert json.loads(done.out)["free_bytes"] == 900_000 - len(DATA)
    assert site("se", "space", "--recount").code == 2
    assert site("se", "space", "SECOND", "--recount").code == 6


def test_the_storages_copy_by_themselves_where_they_can(site: Command, mine: Path) -> None:
    """Two storages that can take from each other; the answer says that they did."""
    text = (site.directory / "vse.toml").read_text()
    for name in ("ONE", "TWO"):
        (site.directory / name.lower()).mkdir()
        text += f'\n[StorageElements.{name}]\nAccessProtocols = "file"\nWriteProtocols = "file"\n'
        text += f'[StorageElements.{name}.GFAL2]\nProtocol = "file"\nPath = "{name.lower()}"\n'
    (site.directory / "vse.toml").write_text(text)
    assert site("cp", "mine.dat", "/lhc/a.dat@ONE").code == 0
    answer = site("cp", "/lhc/a.dat@ONE", "/lhc/a.dat@TWO")
    assert answer.code == 0, answer.err
    assert "third-party pull by file, from ONE" in answer.out
    assert (site.directory / "two/lhc/a.dat").read_bytes() == DATA


def test_two_xrootd_servers(site: Command, mine: Path) -> None:
    """A real third-party copy, a check that leaves nothing, checksums as the servers tell them."""
    certificates = make_certificates()
    with xrootd(certificates) as one, xrootd(certificates) as two:
        text = (site.directory / "vse.toml").read_text()
        for name, server in (("ONE", one), ("TWO", two)):
            text += f'\n[StorageElements.{name}.XROOT]\nProtocol = "root"\nHost = "127.0.0.1"\n'
            text += f'Port = {server.port}\nPath = "/data"\n'
        (site.directory / "vse.toml").write_text(text)
        assert site("cp", "mine.dat", "/lhc/a.dat@ONE").code == 0
        answer = site("cp", "/lhc/a.dat@ONE", "/lhc/a.dat@TWO")
        assert answer.code == 0, answer.err
        assert "third-party" in answer.out
        assert (two.data / "lhc/a.dat").read_bytes() == DATA
        assert site("checksum", "/lhc/a.dat").code == 0
        checked = site("se", "check", "TWO")
        assert checked.code == 0, checked.err
        assert files_below(two.data) == ["lhc/a.dat"]
        assert site("mv", "/lhc/a.dat", "/lhc/b.dat").code == 0
        assert site("rm", "/lhc/b.dat").code == 0
        assert files_below(one.data) == files_below(two.data) == []
        assert site("se", "space", "ONE").code == 0
