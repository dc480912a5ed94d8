"""A site's own list of files as an upstream, in each of the forms it may come in."""

from __future__ import annotations

import gzip
import sqlite3

import pytest

from vse.catalogue.lookup import Believed, Lookup
from vse.catalogue.upstream import build
from vse.config.upstreams import UpstreamSettings
from vse.errors import NoSuchEntry, UpstreamGarbage, UpstreamUnavailable
from vse.model import Lfn

HEADER = ("lfn", "size", "adler32", "guid", "se", "url")
GUID = "09f43427-e02e-11e3-bde3-9bcb3904c079"
ROWS = [
    ("/lhc/data/1/a.root", 10, "0000000a", GUID, "FAR", "root://far//a"),
    ("/lhc/data/1/a.root", 10, "0000000a", GUID, "NEAR", ""),
    ("/lhc/data/1/b.txt", 20, "", "", "FAR", ""),
    ("/lhc/data/2/c.root", 30, "ff", "", "FAR", ""),
    ("/other/d.root", 40, "", "", "FAR", ""),
]


def as_csv(path, rows=ROWS, header=HEADER, delimiter=","):
    lines = [delimiter.join(map(str, row)) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def as_gzip(path, rows=ROWS):
    plain = as_csv(path.with_name("plain"), rows)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def as_sqlite(path, rows=ROWS):
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE dump ({', '.join(HEADER)})")
        database.executemany("INSERT INTO dump VALUES (?, ?, ?, ?, ?, ?)", rows)
    database.close()
    return path


def as_parquet(path, rows=ROWS):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {name: list(column) for name, column in zip(HEADER, zip(*rows, strict=True), strict=True)}
    parquet.write_table(pyarrow.table(columns), path)
    return path


FORMS = [("x.csv", as_csv), ("x.csv.gz", as_gzip), ("x.sqlite", as_sqlite), ("x.parquet", as_parquet)]


def upstream(path, **more):
    return build(UpstreamSettings(name="list", type="dump", url=str(path), **more))


def names(located):
    return [one.entry.lfn for one in located]


@pytest.mark.parametrize(("name", "write"), FORMS)
def test_every_form_tells_the_same(tmp_path, name, write):
    asked = upstream(write(tmp_path / name))
    found = list(asked.find(Lfn("/lhc"), "*.root"))
    assert names(found) == ["/lhc/data/1/a.root", "/lhc/data/2/c.root"]
    first, last = found
    assert (first.entry.size_bytes, first.entry.adler32, str(first.entry.uuid)) == (10, 10, GUID)
    assert [(copy.se, copy.url) for copy in first.replicas] == [("FAR", "root://far//a"), ("NEAR", None)]
    assert last.entry.adler32 == 255
    answer = asked.resolve([Lfn("/other/d.root"), Lfn("/nope"), Lfn("/lhc/data")])
    assert list(answer.ok) == ["/other/d.root"]
    assert [*map(type, answer.failed.values())] == [NoSuchEntry, NoSuchEntry]
    assert names(asked.find(Lfn("/"), "*")) == sorted({row[0] for row in ROWS})
    assert names(asked.find(Lfn("/lhc/data/1/b.txt"), "*")) == ["/lhc/data/1/b.txt"]
    assert names(asked.find(Lfn("/lhc/dat"), "*")) == []


def test_columns_are_named_by_the_settings_or_the_header(tmp_path):
    path = as_csv(tmp_path / "x.tsv", [("/a", 1, "S")], ("PFN_NAME", "Bytes", "RSE"), "\t")
    with pytest.raises(UpstreamGarbage, match=r"no column is the lfn .*PFN_NAME, Bytes, RSE"):
        list(upstream(path).find(Lfn("/"), "*"))
    (found,) = upstream(path, columns={"lfn": "pfn_name"}).find(Lfn("/"), "*")
    assert (found.entry.size_bytes, found.replicas[0].se) == (1, "S")
    with pytest.raises(UpstreamGarbage, match="no column 'where'"):
        list(upstream(path, columns={"lfn": "pfn_name", "se": "where"}).find(Lfn("/"), "*"))


def test_an_element_for_all_and_names_by_a_rule(tmp_path):
    path = as_csv(tmp_path / "x.csv", [("/store/a", 1)], ("path", "size"))
    asked = upstream(path, element="HERE", map=[{"upstream": "/store/{rest...}", "lfn": "/lhc/{rest...}"}])
    (found,) = asked.find(Lfn("/lhc"), "*")
    assert (found.entry.lfn, found.replicas[0].se) == ("/lhc/a", "HERE")


@pytest.mark.parametrize(("name", "write"), FORMS)
def test_equal_rows_are_one_and_rows_that_contradict_are_named(tmp_path, name, write):
    twice = upstream(write(tmp_path / f"1{name}", [*ROWS, ROWS[0], ROWS[2]]))
    assert len(list(twice.find(Lfn("/"), "*"))) == 4
    other_size = ("/lhc/data/2/c.root", 31, "ff", "", "NEAR", "")
    with pytest.raises(UpstreamGarbage, match=r"contradict each other: /lhc/data/2/c\.root \(rows \d, \d\)"):
        list(upstream(write(tmp_path / f"2{name}", [*ROWS, other_size])).find(Lfn("/"), "*"))
    other_url = (*ROWS[0][:5], "root://elsewhere//a")
    with pytest.raises(UpstreamGarbage, match=r"/lhc/data/1/a\.root \(rows"):
        upstream(write(tmp_path / f"3{name}", [*ROWS, other_url])).resolve([Lfn("/other/d.root")])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", "no column is the lfn"),
        (b"lfn,size\n/a,1\n/b,2", "ends in the middle of line 3: '/b,2'"),
        (b"lfn,size\n/a,1\n/b\n", "line 3 has 1 of 2 columns"),
        (b"lfn,size\n/a,big\n", r"row 2 \(/a\).*'big'"),
        (b"lfn,size\n/a,-4\n", r"its size is -4"),
        (b"lfn,size\n,4\n", "row 2 has no name"),
        (b"lfn,size,adler32\n/a,4,nonsense\n", "Adler-32 sum is 'nonsense'"),
        (b"lfn,size,guid\n/a,4,1234\n", "GUID is '1234'"),
        (b"lfn,size\n/\xff,4\n", "not in UTF-8|no CSV"),
        (b'lfn,size\n"/a,4\n/b,5\n', "no CSV"),
    ],
)
def test_a_bad_list_says_what_and_where(tmp_path, text, found):
    path = tmp_path / "x.csv"
    path.write_bytes(text)
    with pytest.raises(UpstreamGarbage, match=found):
        list(upstream(path).find(Lfn("/"), "*"))


@pytest.mark.parametrize("name", ["x.csv.gz", "x.parquet", "x.db", "x.doc"])
def test_what_is_not_what_its_name_says(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\0garbage\n" * 100)
    with pytest.raises((UpstreamGarbage, UpstreamUnavailable), match=name):
        list(upstream(path).find(Lfn("/"), "*"))


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(UpstreamUnavailable, match="is not there"):
        upstream(tmp_path / "x.csv").resolve([Lfn("/a")])


def test_answers_expire_when_the_list_changes_and_stay_while_it_is_bad(tmp_path, catalogue, clock):
    path = as_csv(tmp_path / "x.csv")
    lookup = Lookup(catalogue, [upstream(path)], clock, {"list": Believed(1000, 100)})
    assert len(list(lookup.find(Lfn("/"), "*"))) == 4
    assert lookup.queries == 1
    new = as_csv(tmp_path / "new", [*ROWS, ("/lhc/e.root", 50, "", "", "FAR", "")])
    new.replace(path)
    clock.now_s += 1
    assert "/lhc/e.root" in names(lookup.find(Lfn("/"), "*"))
    assert lookup.queries == 2
    path.write_text("lfn,size\n/half")
    clock.now_s += 1
    answer, report = lookup.find_with_report(Lfn("/"), "*")
    assert len(names(answer)) == 5
    assert isinstance(report.failed["list"], UpstreamGarbage)
    lookup.close()
    again = Lookup(catalogue, [upstream(as_csv(path))], clock, {"list": Believed(1000, 100)})
    clock.now_s += 1
    assert len(names(again.find(Lfn("/"), "*"))) == 4
    again.close()
