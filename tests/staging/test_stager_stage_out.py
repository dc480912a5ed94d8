"""Writing back: files of this machine become files of the catalogue at a storage element."""

from __future__ import annotations

import json
import os
import threading
import zlib
from pathlib import Path

import pytest

from support.command_line import InProcess
from support.staging_site import DATA
from vse.app.init import init_site
from vse.app.site import Site
from vse.config.load import load
from vse.model import Contents, Lfn
from vse.transfer.lifecycle import State

OUT = """
[StorageElements.OUT]
BackendType = "local"

[StorageElements.OUT.File]
Protocol = "file"
Path = "out"
Access = "local"
"""
LFN = Lfn("/user/anna/result.dat")


@pytest.fixture
def vse(tmp_path: Path) -> InProcess:
    root = tmp_path / "site"
    init_site(root, name="test")
    with (root / "vse.toml").open("a") as settings:
        settings.write(OUT)
    (root / "out").mkdir()
    return InProcess(root)


def test_a_file_of_this_machine_is_written_back_and_registered_at_the_end(vse: InProcess) -> None:
    data = os.urandom(3_000_000)
    (vse.directory / "result.dat").write_bytes(data)
    asked = vse("stage-out", "./result.dat", "--to", "OUT", "--as", LFN, "--json")
    assert asked.code == 0, asked.err
    assert json.loads(asked.out)["state"] == "active"
    assert vse("stat", LFN).code != 0  # not in the catalogue before it is there
    again = vse("stage-out", "./result.dat", "--to", "OUT", "--as", LFN, "--wait", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["request"] == json.loads(asked.out)["request"]
    assert (vse.directory / f"out{LFN}").read_bytes() == data
    with Site.open(load(vse.directory / "vse.toml")) as site:
        file = site.catalogue.resolve([LFN]).one(LFN)
        assert (file.entry.size_bytes, file.entry.adler32) == (len(data), zlib.adler32(data))
        assert [one.se for one in file.replicas] == ["OUT"]
        (transfer,) = site.queue.of_lfn(LFN)
        assert transfer.state is State.DONE
        assert file.entry.owner == transfer.share


def test_a_file_that_vanished_or_changed_meanwhile_fails_with_its_reason(vse: InProcess) -> None:
    for name in ("gone", "changed"):
        (vse.directory / name).write_bytes(b"as it was asked for")
    asked = vse("stage-out", "./gone", "./changed", "--to", "OUT", "--as", "/user/anna/")
    assert asked.code == 0, asked.err
    (vse.directory / "gone").unlink()
    (vse.directory / "changed").write_bytes(b"as it was not asked")
    with Site.open(load(vse.directory / "vse.toml", None, {"stager.max_failures": "1"})) as site:
        ids = [one.id for one in site.staging.list()]
        site.stager().run(threading.Event(), ids)
        found = {item.lfn.name: str(item.error) for one in ids for item in site.staging.items(one)}
        assert site.catalogue.stat([Lfn("/user/anna/gone"), Lfn("/user/anna/changed")]).ok == {}
    assert "No such file" in found["gone"]
    assert str(vse.directory / "gone") in found["gone"]
    assert "adler32" in found["changed"]
    assert not (vse.directory / "out/user/anna/changed").exists()


def test_a_file_of_the_catalogue_gets_another_copy_or_another_name(vse: InProcess) -> None:
    (vse.directory / "a.dat").write_bytes(b"bytes")
    assert vse("cp", "./a.dat", "lfn:/lhc/a.dat").code == 0
    one = vse("stage-out", "/lhc/a.dat", "--to", "OUT", "--wait")
    assert one.code == 0, one.err
    other = vse("stage-out", "/lhc/a.dat", "--to", "OUT", "--as", "/user/anna/b.dat", "--wait")
    assert other.code == 0, other.err
    with Site.open(load(vse.directory / "vse.toml")) as site:
        found = site.catalogue.resolve([Lfn("/lhc/a.dat"), Lfn("/user/anna/b.dat")])
        places = {lfn: {copy.se for copy in file.replicas} for lfn, file in found.ok.items()}
    assert "OUT" in places["/lhc/a.dat"]
    assert len(places["/lhc/a.dat"]) == 2
    assert places["/user/anna/b.dat"] == {"OUT"}


def test_what_cannot_be_is_refused_before_anything_is_asked_for(vse: InProcess) -> None:
    (vse.directory / "a.dat").write_bytes(b"bytes")
    (vse.directory / "b.dat").write_bytes(b"other")
    assert vse("cp", "./b.dat", "lfn:/lhc/b.dat").code == 0
    for words, reason in [
        (("./nothing.dat", "--to", "OUT", "--as", LFN), "not there"),
        (("./a.dat", "--to", "NOWHERE", "--as", LFN), "NOWHERE"),
        (("./a.dat", "--to", "OUT"), "--as"),
        (("./a.dat", "./b.dat", "--to", "OUT", "--as", LFN), "directory"),
        (("./a.dat", "--to", "OUT", "--as", "/lhc/b.dat"), "another file"),
        (("lfn:/lhc/no.dat", "--to", "OUT"), "no.dat"),
    ]:
        answer = vse("stage-out", *words)
        assert answer.code != 0, words
        assert reason in answer.err, (words, answer.err)
    assert vse("request", "list", "--all", "--json").lines == []


@pytest.mark.slow
def test_a_root_file_is_looked_into_before_it_goes(vse: InProcess) -> None:
    good = (DATA / "uproot-Zmumu.root").read_bytes()
    (vse.directory / "good.root").write_bytes(good)
    (vse.directory / "half.root").write_bytes(good[: len(good) // 2])
    answer = vse("stage-out", "./good.root", "./half.root", "--to", "OUT", "--as", "/user/anna/", "--wait")
    assert answer.code != 0
    assert "half.root" in answer.err
    with Site.open(load(vse.directory / "vse.toml")) as site:
        files = site.catalogue.resolve([Lfn("/user/anna/good.root"), Lfn("/user/anna/half.root")])
    assert list(files.ok) == ["/user/anna/good.root"]
    assert files.ok[Lfn("/user/anna/good.root")].contents == Contents("events", 2304)
