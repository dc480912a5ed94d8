"""Branches as records: what is in them, and that their size and depth do not matter."""

from __future__ import annotations

import pytest

from support.scripted import Scripted, located
from vse.catalogue.branch_making import BranchMaker
from vse.catalogue.branch_records import Branch
from vse.catalogue.lookup import Believed, Lookup
from vse.catalogue.metadata import Metadata
from vse.catalogue.port import NewReplica
from vse.catalogue.sql import SqlCatalogue
from vse.db import Database
from vse.db.prepared import chunks
from vse.model import AccessEntry, Lfn, NewAccess, NewFile

ROOT = Lfn("/")


def records(catalogue, base=ROOT):
    return [*Branch(catalogue, Metadata(catalogue), base).records()]


def test_what_an_upstream_told_is_not_in_it(catalogue, clock):
    up = Scripted("up", located("/lhc/theirs"), located("/lhc/both", 10, 1))
    catalogue.register([NewFile(Lfn("/lhc/both"), 10, 1, "HERE"), NewFile(Lfn("/lhc/ours"), 1)])
    lookup = Lookup(catalogue, [up], clock, {"up": Believed(1000, 100)})
    known = {file.entry.lfn: [one.se for one in file.replicas] for file in lookup.find(Lfn("/lhc"), "*")}
    assert known == {"/lhc/both": ["FAR", "HERE"], "/lhc/ours": [], "/lhc/theirs": ["FAR"]}
    files = {one["lfn"]: one["replicas"] for one in records(catalogue) if one["kind"] == "file"}
    assert {lfn: [copy["se"] for copy in copies] for lfn, copies in files.items()} == {
        "/lhc/both": ["HERE"],
        "/lhc/ours": [],
    }


@pytest.mark.slow
def test_many_names_and_deep_ones_are_made_again(catalogue, tmp_path, clock):
    deep = Lfn("/" + "/".join("d" * 900))
    catalogue.register([NewFile(Lfn(f"/wide/{number:05d}"), number, se="HERE") for number in range(5000)])
    catalogue.register([NewFile(Lfn(f"{deep}/{number}"), number) for number in range(3)])
    lists = (AccessEntry("user", "bob", 6), AccessEntry("mask", "", 6))
    catalogue.change_access(
        [NewAccess(Lfn("/wide"), defaults=lists), NewAccess(Lfn("/wide/00007"), entries=lists)]
    )
    catalogue.add_replicas([NewReplica(Lfn("/wide/04999"), "FAR")])
    told = records(catalogue)
    assert told[-1] == {"kind": "end", "records": len(told) - 2}
    database = Database.open(f"sqlite:///{tmp_path}/other.db")
    other = SqlCatalogue(database, clock)
    failed = {}
    maker = BranchMaker(other, Metadata(other), failed.__setitem__)
    for some in chunks(told, 700):
        maker.make(some)
    assert failed == {}
    assert (maker.files, maker.others) == (5003, 902)
    assert records(other) == told, "default lists were given after the files were made"
    database.close()
