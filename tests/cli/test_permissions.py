"""Permissions, links, collections and the trash on the command line, also as somebody who is not root."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command_line import Answer, Command, InProcess, add_element
from support.other_user import as_nobody, open_to_all
from vse.app.site import Site
from vse.config.load import load
from vse.errors import Stalled
from vse.model import DatasetQuery, Lfn, Located, NewFile

pytestmark = pytest.mark.slow
DATA = b"bytes\n" * 1000


@pytest.fixture
def site(vse: Command) -> Command:
    (vse.directory / "a.dat").write_bytes(DATA)
    site = InProcess(vse.directory)
    assert site("cp", "a.dat", "/lhc/d/a.dat").code == 0
    return site


def rows(answer: Answer) -> list[dict]:
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.lines]


def test_removed_names_can_be_had_back_until_the_trash_is_emptied(site: Command) -> None:
    stored, link = site.directory / "storage/lhc/d/a.dat", site.directory / "vse/lhc/d/a.dat"
    assert "to the trash" in site("rm", "-n", "/lhc/d/a.dat").out
    assert site("rm", "/lhc/d/a.dat").code == 0
    assert site("stat", "/lhc/d/a.dat").code == 3
    assert stored.read_bytes() == DATA
    assert not os.path.lexists(link)
    (held,) = rows(site("trash", "list", "--json"))
    assert (held["lfn"], held["kind"]) == ("/lhc/d/a.dat", "file")
    assert held["expires_s"] - held["removed_s"] == 604800
    assert site("trash", "empty").code == 0
    assert stored.exists(), "it has not expired"
    assert "is back" in site("trash", "restore", "/lhc/d/a.dat").out
    assert link.read_bytes() == DATA
    assert site("cat", "/lhc/d/a.dat").out.encode() == DATA
    assert site("trash", "restore", "/lhc/d/a.dat").code == 2
    site("rm", "/lhc/d/a.dat")
    (held,) = rows(site("trash", "list", "--json"))
    assert site("trash", "empty", str(held["id"])).code == 0
    assert not stored.exists()
    assert site("trash", "list").out == ""


def test_for_ever_takes_the_copies_along(site: Command) -> None:
    assert site("rm", "--forever", "/lhc/d/a.dat").code == 0
    assert not (site.directory / "storage/lhc/d/a.dat").exists()
    assert site("trash", "list").out == ""
    assert [one["action"] for one in rows(site("audit", "/lhc/d/a.dat", "--json"))][-1] == "remove"


def test_emptying_spares_a_copy_that_a_living_name_has_now(site: Command) -> None:
    stored = site.directory / "storage/lhc/d/a.dat"
    site("rm", "/lhc/d/a.dat")
    assert site("register", "--scan", "/lhc/d").code == 0
    assert site("trash", "empty", "--all").code == 0
    assert stored.read_bytes() == DATA
    assert site("cat", "/lhc/d/a.dat").out.encode() == DATA


def test_what_cannot_be_deleted_stays_in_the_trash(site: Command) -> None:
    site("rm", "/lhc/d/a.dat")
    text = (site.directory / "vse.toml").read_text()
    element = next(line for line in text.splitlines() if line.startswith("[StorageElements."))
    (site.directory / "vse.toml").write_text(text.replace(element, f'{element}\nRemoveAccess = "Banned"', 1))
    answer = site("trash", "empty", "--all")
    assert answer.code != 0
    assert "RemoveAccess" in answer.err
    assert len(rows(site("trash", "list", "--json"))) == 1
    (site.directory / "vse.toml").write_text(text)
    assert site("trash", "empty", "--all").code == 0
    assert site("trash", "list").out == ""


def test_links_are_made_listed_followed_and_removed(site: Command) -> None:
    assert site("ln", "-s", "../d", "/lhc/way/down").code == 0
    assert site("ln", "-s", "/lhc/d/a.dat", "/lhc/file").code == 0
    assert site("cat", "/lhc/way/down/a.dat").out.encode() == DATA
    assert site("cat", "/lhc/file").out.encode() == DATA
    assert site("ls", "/lhc/way/down").lines == ["a.dat"]
    (line,) = site("ls", "-l", "/lhc/way").lines
    assert line.startswith("lrwxrwxrwx")
    assert line.endswith("down -> ../d")
    assert rows(site("stat", "/lhc/file", "--json"))[0]["target"] == "/lhc/d/a.dat"
    assert site("cp", "a.dat", "/lhc/way/down/b.dat").code == 0
    assert (site.directory / "storage/lhc/d/b.dat").read_bytes() == DATA
    assert site("register", "a.dat", "--to", "/lhc/way/down").code == 4
    assert site("mv", "/lhc/way/down/b.dat", "/lhc/way/down/c.dat").code == 0
    assert (site.directory / "storage/lhc/d/c.dat").read_bytes() == DATA
    assert site("mv", "/lhc/file", "/lhc/moved").code == 0
    assert (site.directory / "storage/lhc/d/a.dat").read_bytes() == DATA
    assert site("rm", "--forever", "/lhc/moved", "/lhc/way/down").code == 0
    assert site("ls", "/lhc/d").lines == ["a.dat", "c.dat"]
    site("ln", "-s", "/lhc/round", "/lhc/round")
    around = site("cat", "/lhc/round")
    assert around.code == 3
    assert "more than 40 links" in around.err


def test_collections_hold_names_in_order(site: Command) -> None:
    refused = site("collection", "put", "/lhc/best", "/lhc/none", "/lhc/d/a.dat", "--strict")
    assert refused.code == 3 and "/lhc/none" in refused.err
    assert site("collection", "show", "/lhc/best").code == 3, "nothing was made"
    made = site("collection", "put", "/lhc/best", "/lhc/none", "/lhc/d/a.dat")
    assert made.code == 0
    assert made.err == ("warning: the member /lhc/none cannot be found: it is not in the catalogue\n")
    added = site("collection", "add", "/lhc/best", "/lhc/d/a.dat", "/lhc/more", "--json")
    assert json.loads(added.out)["missing"] == ["/lhc/more"], "those before are not looked at again"
    assert site("collection", "add", "/lhc/best", "/lhc/d", "--strict").err == ""
    assert site("collection", "remove", "/lhc/best", "/lhc/d").code == 0
    assert site("collection", "show", "/lhc/best").lines == ["/lhc/none", "/lhc/d/a.dat", "/lhc/more"]
    assert site("collection", "remove", "/lhc/best", "/lhc/none").code == 0
    assert site("find", "/lhc/best").lines == ["/lhc/d/a.dat"]
    assert site("ls", "-l", "/lhc").lines[-1].startswith("crw-r--r--")
    assert site("collection", "remove", "/lhc/best", "/lhc/none").code == 3
    assert site("collection", "show", "/lhc/d/a.dat").code == 2


def test_modes_owners_and_access_lists(site: Command) -> None:
    assert site("chmod", "u=rwx,g+w,o=", "/lhc/d").code == 0
    assert site("chown", "alice:lhc", "/lhc/d").code == 0
    assert site("acl", "/lhc/d", "-m", "user:bob:r-x").code == 0
    assert site("acl", "/lhc/d", "-d", "-m", "group:cms:rwx").code == 0
    (shown,) = rows(site("acl", "/lhc/d", "--json"))
    assert shown == {
        "lfn": "/lhc/d",
        "owner": "alice",
        "group": "lhc",
        "mode": "0770",
        "entries": ["user:bob:r-x", "mask::rwx"],
        "defaults": ["group:cms:rwx", "mask::rwx"],
    }
    assert site("ls", "-l", "/lhc").lines[0].split("\t")[:3] == ["drwxrwx---+", "alice", "lhc"]
    assert site("acl", "/lhc/d", "-x", "user:bob").code == 0
    assert site("acl", "/lhc/d").lines[:4] == [
        "# /lhc/d", "owner:alice:rwx", "owning group:lhc:rwx", "others::---",
    ]  # fmt: skip
    assert site("chmod", "888", "/lhc/d").code == 2
    assert site("acl", "/lhc/d", "-m", "bob").code == 2
    told = [one["action"] for one in rows(site("audit", "/lhc/d", "--json"))]
    assert told.count("access") == 5


def open_to_readers(place: Path) -> None:
    place.parent.chmod(0o755)
    for path in (place, *place.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def as_reader(place: Path, *words: str) -> Answer:
    return as_nobody(place, *words, writing=False)


@pytest.fixture
def two_files(shared: Path) -> Path:
    """One that everybody may see, and one in a closed directory."""
    root = InProcess(shared)
    (shared / "a.dat").write_bytes(DATA)
    for name in ("pub/a", "secret/b"):
        assert root("cp", "a.dat", f"/lhc/{name}.dat").code == 0
    assert root("chmod", "0700", "/lhc/secret").code == 0
    return shared


@pytest.fixture
def read_by_all(two_files: Path) -> Path:
    """A site that nobody but root may write."""
    assert InProcess(two_files)("dataset", "create", "d", "/lhc/pub/*.dat").code == 0
    open_to_readers(two_files)
    return two_files


def test_who_may_not_write_the_database_reads_all_the_same(read_by_all: Path) -> None:
    assert [path.name for path in (read_by_all / "var").glob("vse.db*")] == ["vse.db"]
    assert as_reader(read_by_all, "ls", "/lhc").lines == ["pub/", "secret/"]
    assert as_reader(read_by_all, "find", "/lhc/pub").lines == ["/lhc/pub/a.dat"]
    assert as_reader(read_by_all, "find", "/lhc").code == 5, "permissions of the catalogue hold"
    (told,) = rows(as_reader(read_by_all, "stat", "/lhc/pub/a.dat", "--json"))
    assert told["size_bytes"] == len(DATA)
    assert "storage/lhc/pub/a.dat" in as_reader(read_by_all, "why", "/lhc/pub/a.dat").out
    assert as_reader(read_by_all, "cat", "/lhc/pub/a.dat").out.encode() == DATA
    assert as_reader(read_by_all, "stat", "/lhc/pub/none").code == 3
    for words in (("status",), ("dataset", "show", "d"), ("request", "list")):
        answer = as_reader(read_by_all, *words)
        assert answer.code == 0, (words, answer)
    for words in (("mkdir", "/lhc/new"), ("dataset", "create", "e", "/lhc/pub/*.dat"), ("stage", "/lhc/pub")):
        refused = as_reader(read_by_all, *words)
        assert refused.code == 5 and "nobody may only read the database" in refused.err, (words, refused)


def test_readers_see_what_a_running_service_has_written(read_by_all: Path) -> None:
    log = read_by_all / "var/vse.db-wal"
    with Site.open(load(read_by_all / "vse.toml", {}, {})) as site:
        site.catalogue.register([NewFile(Lfn("/lhc/pub/later"), 1)])
        assert as_reader(read_by_all, "ls", "/lhc/pub").lines == ["a.dat", "later"]
        left_by_a_kill = log.read_bytes()
        assert left_by_a_kill
    log.write_bytes(left_by_a_kill)
    torn = as_reader(read_by_all, "ls", "/lhc/pub")
    assert torn.code == 7 and "was not closed properly" in torn.err, torn
    assert InProcess(read_by_all)("ls", "/lhc/pub").code == 0
    assert as_reader(read_by_all, "ls", "/lhc/pub").lines == ["a.dat", "later"]


def test_commands_honour_who_runs_them(two_files: Path) -> None:
    shared, root = two_files, InProcess(two_files)
    assert root("mkdir", "/lhc/free").code == 0
    assert root("chmod", "1777", "/lhc/free").code == 0
    open_to_all(shared)
    assert as_nobody(shared, "ls", "/lhc").lines == ["free/", "pub/", "secret/"]
    for words in (
        ("ls", "/lhc/secret"),
        ("stat", "/lhc/secret/b.dat"),
        ("rm", "/lhc/pub/a.dat"),
        ("rm", "--forever", "/lhc/pub/a.dat"),
        ("mv", "/lhc/pub/a.dat", "/lhc/free/a.dat"),
        ("mkdir", "/lhc/pub/new"),
        ("chmod", "0777", "/lhc/pub"),
        ("chown", "nobody", "/lhc/pub"),
        ("register", "a.dat", "--to", "/lhc/pub"),
        ("cp", "a.dat", "/lhc/pub/c.dat"),
        ("ln", "-s", "/lhc", "/lhc/pub/l"),
        ("cat", "/lhc/secret/b.dat"),
        ("get", "/lhc/secret/*.dat"),
        ("stage", "/lhc/secret/*.dat"),
        ("dataset", "create", "mine", "/lhc/secret/*.dat"),
        ("tag", "schema", "/lhc/pub", "run=integer"),
        ("tag", "set", "/lhc/pub/a.dat", "run=7"),
        ("tag", "show", "/lhc/secret/b.dat"),
    ):
        answer = as_nobody(shared, *words)
        assert answer.code == 5, (words, answer)
        assert "has mode 0" in answer.err
        assert "nobody" in answer.err
    assert sorted(path.name for path in (shared / "storage/lhc").rglob("*.dat")) == ["a.dat", "b.dat"]
    found = as_nobody(shared, "find", "/lhc")
    assert found.lines == ["/lhc/pub/a.dat"]
    assert "left out" in found.err
    assert "/lhc/secret has mode 0700" in found.err
    assert found.code == 5
    assert as_nobody(shared, "mkdir", "/lhc/free/mine").code == 0
    (mine,) = rows(as_nobody(shared, "stat", "/lhc/free/mine", "--json"))
    assert (mine["owner"], mine["group"]) == ("nobody", "nogroup")
    assert as_nobody(shared, "rm", "/lhc/free/mine").code == 0
    assert [one["removed_by"] for one in rows(as_nobody(shared, "trash", "list", "--json"))] == ["nobody"]
    assert as_nobody(shared, "trash", "restore", "/lhc/free/mine").code == 0


def test_bytes_need_read_on_the_file_itself(shared: Path) -> None:
    root = InProcess(shared)
    (shared / "a.dat").write_bytes(DATA)
    assert root("cp", "a.dat", "/lhc/a.dat").code == 0
    assert root("chmod", "0600", "/lhc/a.dat").code == 0
    open_to_all(shared)
    assert as_nobody(shared, "stat", "/lhc/a.dat").code == 0
    for words in (("cat", "/lhc/a.dat"), ("get", "/lhc/a.dat", "storage")):
        answer = as_nobody(shared, *words)
        assert answer.code == 5 and "/lhc/a.dat has mode 0600" in answer.err
        assert not answer.out
    assert root("cat", "/lhc/a.dat").out.encode() == DATA


@pytest.mark.parametrize("again", ["cp", "register"])
def test_a_name_that_is_taken_again_gets_its_place_from_the_trash(site: Command, again: str) -> None:
    stored = site.directory / "storage/lhc/d/a.dat"
    assert site("cp", "a.dat", "/lhc/d/other.dat").code == 0
    assert site("rm", "/lhc/d/a.dat", "/lhc/d/other.dat").code == 0
    (site.directory / "a.dat").write_bytes(b"other bytes")
    to = ("/lhc/d/a.dat",) if again == "cp" else ("--to", "/lhc/d")
    done = site(again, "a.dat", *to)
    assert done.code == 0, done.err
    assert "removed for good" in done.err
    assert stored.read_bytes() == b"other bytes"
    assert [one["lfn"] for one in rows(site("trash", "list", "--json"))] == ["/lhc/d/other.dat"]
    assert (site.directory / "storage/lhc/d/other.dat").read_bytes() == DATA
    refused = site(again, "a.dat", *to)
    assert refused.code == 4
    assert site("cat", "/lhc/d/a.dat").out == "other bytes"


@pytest.fixture
def far(shared: Path) -> Path:
    """A site that knows two files it may give to anybody, and two that not everybody may have."""
    add_element(shared, "FAR", "far", writable=False)
    root = InProcess(shared)
    for name in ("pub/a", "pub/closed", "secret/b", "z/c"):
        stored = shared / f"far/lhc/{name}.dat"
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(DATA)
    assert root("register", "--scan", "/lhc", "--se", "FAR").code == 0
    assert root("chmod", "0600", "/lhc/pub/closed.dat").code == 0
    assert root("chmod", "0700", "/lhc/secret").code == 0
    open_to_all(shared)
    return shared


def staged(place: Path) -> list[str]:
    return sorted(path.stem for path in (place / "storage/lhc").rglob("*.dat"))


def test_only_what_one_may_read_is_staged_for_one(far: Path) -> None:
    for query in ("/lhc/pub/closed.dat", "/lhc/secret/*.dat", "/lhc/secret/b.dat"):
        refused = as_nobody(far, "stage", query)
        assert refused.code == 5 and "has mode 0" in refused.err, refused
    assert rows_of_requests(far) == []
    some = as_nobody(far, "stage", "Find;BasePath=/lhc;FileName=*.dat")
    assert some.code == 5, some
    assert "2 of 2 files are here" in some.out
    assert "/lhc/pub/closed.dat has mode 0600" in some.err
    assert "/lhc/secret has mode 0700" in some.err
    assert staged(far) == ["a", "c"]
    assert InProcess(far)("dataset", "create", "all", "/lhc/*.dat").code == 0
    of_dataset = as_nobody(far, "stage", "all", "--no-wait")
    assert of_dataset.code == 5 and "0 files to come, 2 here" in of_dataset.out, of_dataset
    assert staged(far) == ["a", "c"]
    assert InProcess(far)("stage", "all").code == 0
    assert staged(far) == ["a", "b", "c", "closed"]


def rows_of_requests(place: Path) -> list[dict]:
    return rows(InProcess(place)("request", "list", "--all", "--json"))


def test_a_service_that_goes_on_for_somebody_honours_who_asked(far: Path) -> None:
    def broken() -> Iterator[Located]:
        raise Stalled("list the files", "whoever asked is gone")
        yield

    query = DatasetQuery.parse("/lhc/*.dat")
    with Site.open(load(far / "vse.toml", {}, {})) as site:
        for owner in ("nobody", "xrootd"):
            with pytest.raises(Stalled):
                site.staging.request(query, owner, site.destination.name, files=broken())
        found = {
            one.owner: [item.lfn.rpartition("/")[2] for item in site.staging.items(one.id)]
            for one in site.staging.resume()
        }
    assert found == {
        "nobody": ["a.dat", "c.dat"],
        "xrootd": ["a.dat", "closed.dat", "b.dat", "c.dat"],
    }
