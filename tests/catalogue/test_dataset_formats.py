"""Lists of files in and out: text, JSON lines, coffea filesets, and what ROOT wrote."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from vse.catalogue.dataset_formats import ListedFile, OutFile, read_list, write_list
from vse.errors import BadRequest

COLLECTION = Path(__file__).parent / "data" / "collection.root"
AOD = "/alice/data/2010/LHC10h/000139510/ESDs/pass2/AOD086"


def listed(tmp_path, text, **options):
    path = tmp_path / "list"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_list(path, **options).files)


def test_a_collection_that_root_wrote():
    assert list(read_list(COLLECTION, name="dataset").files) == [
        ListedFile(
            (f"root://caf.example.org/{AOD}/0001/AliAOD.root", f"alien://{AOD}/0001/AliAOD.root"),
            "", 1001, None, "/aodTree", 51, staged=True,
        ),
        ListedFile(
            (f"root://caf.example.org/{AOD}/0002/AliAOD.root", f"alien://{AOD}/0002/AliAOD.root"),
            "", 1002, None, "/aodTree", 52, corrupt=True,
        ),
        ListedFile(
            ("alien:///alice/sim/LHC10d1/117222/001/root_archive.zip",),
            "AliESDs.root", None, None, "/aodTree",
        ),
    ]  # fmt: skip
    assert list(read_list(COLLECTION, name="few").files) == [
        ListedFile(("http://data.example.org:8443/lhc/a%20b.root",), "", 1004, None, "/events", 7)
    ]


def test_one_of_several_collections_must_be_chosen():
    with pytest.raises(BadRequest, match=r"several: dataset, few\. Name one with --key"):
        read_list(COLLECTION)
    with pytest.raises(BadRequest, match="holds no 'other'"):
        read_list(COLLECTION, name="other")


@pytest.mark.parametrize("size_bytes", [100, 900, 3000])
def test_a_broken_collection_is_an_error(tmp_path, size_bytes):
    with pytest.raises(BadRequest, match="cannot be read"):
        listed(tmp_path, COLLECTION.read_bytes()[:size_bytes], name="dataset")


def test_text_as_root_reads_it(tmp_path):
    text = """# a comment

    alien:///alice/a.root
    root://se.example.org//lhc/b.root alien:///lhc/b.root sz:1234 tree:/aodTree,5 md5:00 idx:3
    /lhc/with blanks.root
    /lhc/c.zip#inside.root
    /lhc/odd#name.root sz:-1 tree:t
    """
    assert listed(tmp_path, text) == [
        ListedFile(("alien:///alice/a.root",)),
        ListedFile(
            ("root://se.example.org//lhc/b.root", "alien:///lhc/b.root"), "", 1234, None, "/aodTree", 5
        ),
        ListedFile(("/lhc/with blanks.root",)),
        ListedFile(("/lhc/c.zip",), "inside.root"),
        ListedFile(("/lhc/odd#name.root",), tree="t"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("/lhc/a.root\n\nnot a name\n", 3),
        ("/lhc/a.root\nroot://h//a sz:big\n", 2),
        ("sz:12\n", 1),
        (b"/lhc/a.root\n\xff\xfe\n", 2),
        ('{"lfn": "/a"}\n{"lfn": 3\n', 2),
        ('{"lfn": "/a"}\n{"name": "/b"}\n', 2),
        ('{"lfn": "/a"}\n{"lfn": "/b", "size_bytes": -2}\n', 2),
        ('{"lfn": "/a"}\n{"lfn": "/b", "checksum": "adler32:xyz"}\n', 2),
        ('{"lfn": "/a"}\n["/b"]\n', 2),
    ],
)
def test_what_is_wrong_is_told_by_its_line(tmp_path, text, line):
    with pytest.raises(BadRequest, match=f"line {line}: ") as caught:
        listed(tmp_path, text)
    assert "nothing was kept" in caught.value.todo


@pytest.mark.parametrize(
    "fileset",
    [
        {"z": ["/a.root", "root://h//b.root"]},
        {"z": {"files": ["/a.root", "root://h//b.root"], "metadata": {"x": 1}}},
        {"z": {"files": {"/a.root": None, "root://h//b.root": None}}},
        {"z": {"/a.root": None, "root://h//b.root": None}},
    ],
)
def test_filesets_of_every_shape(tmp_path, fileset):
    wanted = [ListedFile(("/a.root",)), ListedFile(("root://h//b.root",))]
    assert listed(tmp_path, json.dumps(fileset, indent=1)) == wanted
    assert listed(tmp_path, gzip.compress(json.dumps(fileset, indent=1).encode())) == wanted


def test_trees_and_entries_of_a_fileset(tmp_path):
    fileset = {
        "y": [],
        "z": {
            "files": {
                "/a.root": "Events",
                "zip://in.root::/b.zip": {"object_path": "Runs", "num_entries": 3, "steps": [[0, 3]]},
                "/c.root": None,
            },
            "treename": "old",
        },
    }
    assert listed(tmp_path, json.dumps(fileset), name="z") == [
        ListedFile(("/a.root",), tree="Events"),
        ListedFile(("/b.zip",), "in.root", tree="Runs", entries=3),
        ListedFile(("/c.root",), tree="old"),
    ]
    with pytest.raises(BadRequest, match="several: y, z"):
        listed(tmp_path, json.dumps(fileset), kind="coffea")


@pytest.mark.parametrize(
    "text",
    ["{", '{"z": 3}', '{"z": {"files": 3}}', "{}", '{"z": {"a.root": 7}}', '{"z": {"files": {"a": [1]}}}'],
)
def test_a_bad_fileset_is_said(tmp_path, text):
    with pytest.raises(BadRequest, match="fileset"):
        listed(tmp_path, text, kind="coffea")


def test_no_such_file_and_no_such_format(tmp_path):
    with pytest.raises(BadRequest, match="nowhere"):
        read_list(tmp_path / "nowhere")
    with pytest.raises(BadRequest, match="there are jsonl, text, coffea, root"):
        listed(tmp_path, "/a\n", kind="yaml")
    with pytest.raises(BadRequest, match="jsonl, text, coffea"):
        write_list("root", "z", [], io.StringIO())


def test_text_and_filesets_come_back_as_they_went_out(tmp_path):
    files = [
        OutFile("root://h//a.root", 12, "t", 5, {}),
        OutFile("root://h//b%20c.zip#in.root", None, "", None, {}),
        OutFile("/lhc/with blank.root", 3, "t", None, {}),
    ]
    out = io.StringIO()
    assert write_list("text", "z", files, out) == 3
    first, second, third = listed(tmp_path, out.getvalue())
    assert first == ListedFile(("root://h//a.root",), "", 12, None, "t", 5)
    assert second == ListedFile(("root://h//b%20c.zip",), "in.root")
    assert third == ListedFile(("/lhc/with blank.root",))
    out = io.StringIO()
    assert write_list("coffea", "z", files, out) == 3
    again = listed(tmp_path, out.getvalue())
    assert [one.urls[0] for one in again] == [
        "root://h//a.root",
        "root://h//b%20c.zip",
        "/lhc/with blank.root",
    ]
    assert [one.member for one in again] == ["", "in.root", ""]
