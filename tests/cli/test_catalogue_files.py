"""``vse catalogue load|dump``: everything comes back as it was, and a bad row says where it is."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from support.command_line import Command
from support.databases import ensure_sqlite
from vse.app.catalogue_files import dump_catalogue, load_catalogue
from vse.app.init import init_site
from vse.app.site import Site
from vse.catalogue.dumps import COLUMNS
from vse.catalogue.port import NewReplica
from vse.config.load import load
from vse.errors import BadRequest, VseError
from vse.model import (
    AccessEntry,
    Checksum,
    Contents,
    Lfn,
    NewAccess,
    NewFile,
    NewLink,
    ReplicaState,
)
from vse.model.tags import TagDefinition, TagType

FILES = [
    NewFile(Lfn("/a/plain.root"), 10),
    NewFile(
        Lfn("/a/odd \",'é.root"),
        2**40,
        adler32=0x00040001,
        se="LOCAL-DISK",
        guid=bytes(range(16)),
        owner="anna",
        group="alice",
        mode=0o640,
        modified_s=1234567890.25,
        contents=Contents("Events", 2304),
    ),
    NewFile(Lfn("/b/two.root"), 0, se="LOCAL-DISK", url="root://far.example:1094//b/two.root"),
]


def site_at(directory: Path) -> Site:
    if not (directory / "vse.toml").exists():
        ensure_sqlite(directory / "var/vse.db")
        init_site(directory, name="test")
    return Site.open(load(directory / "vse.toml", {}, {}))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    with site_at(tmp_path / "one") as site:
        assert not site.catalogue.register(FILES).failed
        site.catalogue.add_replicas([NewReplica(Lfn("/b/two.root"), "FAR", state=ReplicaState.SUSPECT)])
    return tmp_path / "one"


def names(site: Site) -> list[tuple]:
    return [
        (located.entry._replace(created_s=0.0, modified_s=0.0), located.replicas, located.contents)
        for located in site.catalogue.find(Lfn("/"), "*")
    ]


@pytest.mark.parametrize(
    "name", ["all.csv", "all.csv.gz", pytest.param("all.parquet", marks=pytest.mark.slow)]
)
def test_what_is_dumped_and_loaded_is_the_same(filled, tmp_path, name):
    with site_at(filled) as site:
        assert dump_catalogue(site, tmp_path / name) == 4
        before = names(site)
    with site_at(tmp_path / "two") as other:
        loaded = load_catalogue(other, tmp_path / name)
        assert (loaded.rows, loaded.failed) == (4, {})
        assert names(other) == before
        modified = other.catalogue.stat([FILES[1].lfn]).one(FILES[1].lfn).modified_s
        assert modified == FILES[1].modified_s
        load_catalogue(other, tmp_path / name)
        assert names(other) == before, "loading twice changes nothing"


def test_a_part_of_the_catalogue(filled, tmp_path):
    with site_at(filled) as site:
        assert dump_catalogue(site, tmp_path / "b.csv", Lfn("/b")) == 2


@pytest.fixture
def furnished(filled: Path) -> Path:
    """The same with everything that a name can have beside it."""
    with site_at(filled) as site:
        catalogue, tags = site.catalogue, site.metadata
        sums = (Checksum("md5", "0" * 32), Checksum("sha256", "f" * 64))
        assert not catalogue.register([NewFile(Lfn("/b/sums"), 3, 7, "LOCAL-DISK", checksums=sums)]).failed
        copies = [
            NewReplica(Lfn("/b/sums"), "LOCAL-DISK", source="root://far//b/sums", master=True),
            NewReplica(Lfn("/b/sums"), "FAR", "root://far//elsewhere", ReplicaState.LOST),
        ]
        assert not catalogue.add_replicas(copies).failed
        catalogue.make_directories([Lfn("/empty/deep")], "bob", "lhc")
        links = {"/a/up": "../b", "/far": "/a/up/sums", "/a/loose": "nowhere", "/b/me": "/b/me"}
        assert not catalogue.make_links(
            [NewLink(Lfn(lfn), target, "bob", "lhc") for lfn, target in links.items()]
        ).failed
        catalogue.put_collection(
            Lfn("/best"), map(Lfn, ("/b/sums", "/a/none", "/a/plain.root")), "bob", "lhc"
        )
        bob, mask = AccessEntry("user", "bob", 5), AccessEntry("mask", "", 7)
        assert not catalogue.change_access(
            [
                NewAccess(Lfn("/"), mode=0o1777),
                NewAccess(Lfn("/empty"), owner="anna", mode=0o750),
                NewAccess(Lfn("/a"), entries=(bob,), defaults=(AccessEntry("group", "cms", 6), mask)),
                NewAccess(Lfn("/a/plain.root"), owner="bob", mode=0o600, entries=(bob,)),
                NewAccess(Lfn("/best"), mode=0o660, entries=(bob, mask)),
            ]
        ).failed
        catalogue.register([NewFile(Lfn("/a/heir"), 1)])
        kinds = {"run": TagType.INTEGER, "x": TagType.NUMBER, "note": TagType.TEXT, "at": TagType.TIME}
        tags.define(Lfn("/"), [TagDefinition("good", TagType.BOOLEAN, Lfn("/"), "how it looks")])
        tags.define(Lfn("/b"), [TagDefinition(name, kind, Lfn("/b")) for name, kind in kinds.items()])
        values = {"run": 2**62, "x": 1.0, "note": "7 'é", "at": 0.5, "good": False}
        assert not tags.set([Lfn("/b/sums")], values).failed
        assert not tags.set([Lfn("/b"), Lfn("/a")], {"good": True}).failed
    return filled


def everything(site: Site) -> dict[str, tuple]:
    """All that can be asked of each name, without the times at which rows were made."""
    catalogue, known, places = site.catalogue, {}, [Lfn("/")]
    while places:
        place = places.pop()
        for entry in (*catalogue.stat([place]).ok.values(), *catalogue.list(place)):
            lfn = entry.lfn
            if lfn not in known and entry.kind == "directory":
                places.append(lfn)
            modified_s = entry.modified_s if lfn == FILES[1].lfn else 0.0
            access = None if entry.kind == "link" else catalogue.access([lfn]).one(lfn)
            told = (entry._replace(created_s=0.0, modified_s=modified_s), access)
            if entry.kind == "collection":
                told += ([*catalogue.members(lfn)],)
            if entry.kind == "file":
                details, located = catalogue.details([lfn]).one(lfn), catalogue.resolve([lfn]).one(lfn)
                origins = [one._replace(made_s=0.0) for one in details.origins]
                told += (located.replicas, located.contents, details.checksums, origins)
            if entry.kind in ("file", "directory"):
                told += (site.metadata.show([lfn]).one(lfn),)
            if entry.kind == "directory":
                told += (site.metadata.schema(lfn),)
            known[lfn] = told
    return known


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
def test_a_whole_dump_makes_the_same_namespace_elsewhere(furnished, tmp_path, name):
    with site_at(furnished) as site:
        count, before = dump_catalogue(site, tmp_path / name), everything(site)
    with site_at(tmp_path / "two") as other:
        loaded = load_catalogue(other, tmp_path / name)
        assert (loaded.rows, loaded.failed) == (count, {})
        assert {one[0].kind for one in before.values()} == {"directory", "file", "link", "collection"}
        assert everything(other) == before
        assert loaded.files + loaded.others == len(before)
        again = load_catalogue(other, tmp_path / name)
        assert (again.failed, again.files, again.others) == ({}, loaded.files, loaded.others)
        assert everything(other) == before, "loading twice changes nothing"
        other.catalogue.remove([Lfn("/far")])
        other.catalogue.make_links([NewLink(Lfn("/far"), "/b")])
        other.catalogue.put_collection(Lfn("/best"), [], "root", "root")
        other.catalogue.change_access([NewAccess(Lfn("/a"), entries=())])
        differing = everything(other)
        assert [*load_catalogue(other, tmp_path / name).failed] == ["/far", "/best"]
        assert everything(other) == differing, "what is there is left as it is"


def test_a_branch_alone_takes_along_what_holds_for_it(furnished, tmp_path):
    with site_at(furnished) as site:
        dump_catalogue(site, tmp_path / "b.jsonl", Lfn("/b"))
    with site_at(tmp_path / "two") as other:
        assert load_catalogue(other, tmp_path / "b.jsonl").failed == {}
        assert [entry.lfn for entry in other.catalogue.list(Lfn("/"))] == ["/b"]
        assert {tag.name for tag in other.metadata.schema(Lfn("/b"))} == {"at", "good", "note", "run", "x"}
        tags = {tag.name: tag.value for tag in other.metadata.show([Lfn("/b/sums")]).one("/b/sums")}
        assert tags == {"run": 2**62, "x": 1.0, "note": "7 'é", "at": 0.5, "good": False}


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda lines: lines[:-1], "breaks off after"),
        (lambda lines: [*lines[:5], *lines[6:]], "breaks off after"),
        (lambda lines: lines[1:], "no dump of a catalogue"),
        (lambda lines: [lines[0].replace('"version":1', '"version":2'), *lines[1:]], "version 2"),
        (lambda lines: [*lines[:3], "{", *lines[3:]], "line 4"),
        (lambda lines: [*lines[:3], "[]", *lines[3:]], "line 4 is no JSON object"),
        (lambda lines: [*lines[:3], '{"kind":"door"}', *lines[3:]], "no record of the kind 'door'"),
        (lambda lines: [*lines[:3], '{"kind":"file"}', *lines[3:]], "of the kind file is not as it should"),
        (lambda lines: [*lines[:3], lines[1].replace('"/"', '"x"'), *lines[3:]], "does not start with '/'"),
        (lambda _: [], "no dump of a catalogue"),
    ],
)
def test_a_whole_dump_that_is_not_whole(furnished, tmp_path, spoil, complaint):
    with site_at(furnished) as site:
        dump_catalogue(site, tmp_path / "all.jsonl")
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    (tmp_path / "bad.jsonl").write_text("".join(line + "\n" for line in spoil(lines)))
    with site_at(tmp_path / "two") as other, pytest.raises(BadRequest, match=complaint) as told:
        load_catalogue(other, tmp_path / "bad.jsonl")
    assert "bad.jsonl" in str(told.value)


def table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_bad_row_is_named_and_the_chunks_before_it_are_in(tmp_path):
    bad = table(tmp_path / "bad.csv", "path,size", "/a,1", "relative,2", "/b,3")
    with site_at(tmp_path / "site") as site:
        with pytest.raises(BadRequest, match=r"row 2 of .*bad\.csv: it does not start with '/'") as told:
            load_catalogue(site, bad)
        assert "--skip-bad" in told.value.todo
        loaded = load_catalogue(site, bad, skip_bad=True)
        assert (loaded.files, [*loaded.failed]) == (2, ["row 2"])


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("/a,-1,,", "size_bytes is -1"),
        ("/a,many,,", "many"),
        ("/a,1,123456789,", "8 hex digits"),
        ("/a,1,,not-a-guid", "hexadecimal"),
        ("/a,1", "2 columns instead of 4"),
        ("/a/../b,1,,", r"'\.\.' is not allowed"),
    ],
)
def test_every_kind_of_bad_cell(tmp_path, row, complaint):
    bad = table(tmp_path / "bad.csv", "lfn,size_bytes,adler32,guid", row)
    with site_at(tmp_path / "site") as site, pytest.raises(BadRequest, match=complaint):
        load_catalogue(site, bad)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "it is empty"),
        (b"lfn,sizes\n", "Did you mean size_bytes"),
        (b"lfn\n", "no column size_bytes"),
        (b"lfn,size,size_bytes\n", "twice"),
        (b"lfn,size\n\xff\xfe,1\n", "utf-8"),
    ],
)
def test_headers_and_encodings(tmp_path, content, complaint):
    (tmp_path / "bad.csv").write_bytes(content)
    with site_at(tmp_path / "site") as site, pytest.raises(BadRequest, match=complaint):
        load_catalogue(site, tmp_path / "bad.csv")


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "some.txt", "cut.csv.gz", "no.parquet"])
def test_files_that_are_no_tables(tmp_path, name):
    (tmp_path / "some.txt").write_text("lfn,size\n/a,1\n")
    (tmp_path / "no.parquet").write_bytes(b"no parquet")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"lfn,size\n" + b"/a,1\n" * 5000)[:-40])
    with site_at(tmp_path / "site") as site, pytest.raises(VseError, match=name):
        load_catalogue(site, tmp_path / name)


def test_a_file_that_differs_fails_alone(tmp_path):
    with site_at(tmp_path / "site") as site:
        site.catalogue.register([NewFile(Lfn("/a"), 1)])
        loaded = load_catalogue(site, table(tmp_path / "t.csv", "lfn,size", "/a,2", "/b,3"))
        assert (loaded.files, [*loaded.failed]) == (1, ["/a"])
        assert site.catalogue.stat([Lfn("/a")]).one("/a").size_bytes == 1


def test_a_dump_that_fails_leaves_the_old_one(filled, tmp_path, monkeypatch):
    target = tmp_path / "all.csv"
    target.write_text("the old one")
    with site_at(filled) as site:

        def broken(*_):
            yield from list(type(site.catalogue).find(site.catalogue, Lfn("/"), "*"))[:1]
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(site.catalogue, "find", broken)
        with pytest.raises(VseError, match="No space left"):
            dump_catalogue(site, target)
    assert target.read_text() == "the old one"
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_the_commands(vse: Command):
    (vse.directory / "one").write_bytes(b"one")
    assert vse("register", "one", "--to", "/data").code == 0
    shown = vse("catalogue", "dump", "-")
    rows = list(csv.reader(shown.lines))
    assert tuple(rows[0]) == COLUMNS
    assert rows[1][:2] == ["/data/one", "3"]
    assert vse("catalogue", "dump", "all.parquet").code == 0
    assert vse("catalogue", "load", "all.parquet").err.startswith("1 file of 1 row loaded")
    (vse.directory / "bad.csv").write_text("lfn,size\nx,1\n")
    bad = vse("catalogue", "load", "bad.csv", "--skip-bad", "--json")
    assert bad.code == 1
    assert json.loads(bad.out)["failures"] == 1
    assert vse("catalogue", "dump", "all.jsonl").code == 0
    assert "1 file and 2 other names" in vse("catalogue", "load", "all.jsonl").err
