"""``vse tag``, and ``vse find`` with a condition, as a user has them."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def tagged(vse):
    for directory in ("LHC13d", "LHC13e"):
        place = vse.directory / "storage/lhc" / directory
        place.mkdir(parents=True)
        for name in ("1.txt", "2.txt", "3.dat"):
            (place / name).write_text(name * 1000)
    assert vse("register", "--scan", "/lhc").code == 0
    done = vse("tag", "schema", "/lhc", "run=integer", "pass=text", "taken=time", "--note", "run=Its number")
    assert done.code == 0
    assert done.lines[1] == "run\tinteger\t/lhc\tIts number"
    done = vse("tag", "set", "/lhc/LHC13d", "run=195682", "pass=muon", "taken=2013-05-01")
    assert done.code == 0, done.err
    return vse


def test_files_are_found_by_their_tags(tagged):
    condition = 'run >= 195682 and pass = "muon"'
    assert tagged("find", "/lhc", condition, "--name", "*.txt").lines == [
        "/lhc/LHC13d/1.txt",
        "/lhc/LHC13d/2.txt",
    ]
    assert tagged("find", "/lhc/*.dat", condition).lines == ["/lhc/LHC13d/3.dat"]
    assert tagged("find", "/lhc/*.txt", condition, "--name", "2*").lines == ["/lhc/LHC13d/2.txt"]
    assert tagged("find", "/lhc", condition, "--limit", "2", "--long").lines == [
        f"5.0 kB\t-\tLOCAL-DISK\t/lhc/LHC13d/{name}.txt" for name in (1, 2)
    ]
    assert tagged("find", "/lhc", f"not ({condition}) or run is null", "--count").out == "3\n"
    assert json.loads(tagged("find", "/lhc", "run exists", "--count", "--json").out) == {"count": 3}
    assert tagged("find", "/lhc", "taken < 2013-01-01").err.startswith("No file matches ")


def test_values_are_shown_with_where_they_come_from(tagged):
    assert tagged("tag", "set", "/lhc/LHC13d/1.txt", "/lhc/LHC13e", "run=7").code == 0
    assert tagged("tag", "show", "/lhc/LHC13d/1.txt").lines == [
        "/lhc/LHC13d/1.txt\tpass\tmuon\ttext\t/lhc/LHC13d",
        "/lhc/LHC13d/1.txt\trun\t7\tinteger\t/lhc/LHC13d/1.txt",
        "/lhc/LHC13d/1.txt\ttaken\t2013-05-01T00:00:00Z\ttime\t/lhc/LHC13d",
    ]
    assert "tag  pass = muon  (from /lhc/LHC13d)" in tagged("stat", "/lhc/LHC13d/1.txt").out
    told = json.loads(tagged("stat", "/lhc/LHC13d/1.txt", "--json").out)["tags"]
    assert told["run"] == {"value": 7, "type": "integer", "origin": "/lhc/LHC13d/1.txt"}
    assert tagged("tag", "unset", "/lhc/LHC13d/1.txt", "run").code == 0
    assert (
        json.loads(tagged("tag", "show", "/lhc/LHC13d/1.txt", "--json").out)["tags"]["run"]["value"] == 195682
    )


MISTAKES = [
    (["find", "/lhc", "rum = 5"], 2, "did you mean 'run'?\n  rum = 5\n  ^"),
    (["find", "/lhc", "run >> 5"], 2, "column 6: a value"),
    (["find", "/lhc", "--name", "a/b"], 2, "it cannot hold '/'"),
    (["tag", "set", "/lhc", "rum=5"], 2, "Did you mean 'run'?"),
    (["tag", "set", "/lhc", "run=x"], 2, "'x' is not a 64-bit integer"),
    (["tag", "set", "/nowhere", "run=5"], 3, "/nowhere"),
    (["tag", "set", "lhc", "run=5"], 2, "neither a name nor TAG=VALUE"),
    (["tag", "set", "/lhc"], 2, "names and values are needed"),
    (["tag", "unset", "/lhc", "run"], 3, "unset run of /lhc"),
    (["tag", "schema", "/lhc", "x=float"], 2, "integer, number, text, time, boolean"),
    (["tag", "schema", "/lhc/LHC13d", "run=text"], 4, "it is integer in /lhc"),
    (["tag", "schema", "/lhc", "--remove", "run"], 4, "/lhc/LHC13d"),
]


def test_what_is_wrong_is_said(tagged):
    for words, code, message in MISTAKES:
        answer = tagged(*words)
        assert (answer.code, answer.err[:14]) == (code, "error: cannot "), words
        assert message in answer.err


def test_a_bulk_call_does_what_it_can_and_names_what_it_cannot(tagged):
    answer = tagged("tag", "set", "/lhc/LHC13e", "/no", "/where", "run=5", "--json")
    assert answer.code == 3
    told = json.loads(answer.out)
    assert told["ok"] == ["/lhc/LHC13e"]
    assert sorted(told["failed"]) == ["/no", "/where"]
    assert len(answer.err.strip().splitlines()) == 2
    assert tagged("find", "/lhc", "run = 5", "--count").out == "3\n"
