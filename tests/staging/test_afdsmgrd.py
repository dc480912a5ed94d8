"""A directory of lists looked after as afdsmgrd did, its scripts untouched."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from support.staging_site import StagingSite
from vse.config.settings import AfdsmgrdSettings
from vse.errors import NoSuchEntry, StorageFault
from vse.model import Contents, Lfn, NewFile
from vse.staging.afdsmgrd import Repository
from vse.transfer.lifecycle import Failed, State, Succeeded
from vse.transfer.queue import Report
from vse.transfer.shares import Slots

SLOTS = Slots(100, 100)
COLLECTION = Path(__file__).resolve().parents[1] / "catalogue" / "data"


class Lists:
    """A site with a directory of lists."""

    def __init__(self, root: Path, **settings: object) -> None:
        self.site = StagingSite(root, settings={"max_failures": 1})
        self.directory = root / "datasets"
        self.directory.mkdir()
        rules = [{"regex": "alien://(.*)$", "subst": "/storage$1"}]
        given = {"repository": self.directory, "url_rules": rules, **settings}
        self.settings = AfdsmgrdSettings.model_validate(given)
        self.told: list[tuple[str, dict[str, object]]] = []
        self.repository = self.again()

    def again(self) -> Repository:
        """Another daemon on the same directory."""
        return Repository(
            settings=self.settings,
            directory=self.directory,
            destination="LOCAL",
            database=self.site.database,
            queue=self.site.queue,
            catalogue=self.site.catalogue,
            clock=self.site.clock,
            tell=lambda event, *_, **values: self.told.append((event, values)),
        )

    def write(self, name: str, *lines: str, age_s: float = 100.0) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
        then_s = self.site.clock() - age_s
        os.utime(path, (then_s, then_s))
        return path

    def status(self, path: Path) -> list[dict[str, object]]:
        text = path.with_name(path.name + ".status.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def queued(self) -> dict[str, str | None]:
        claimed = self.site.queue.claim("me", 1000, SLOTS)
        self.claimed = {one.lfn: one for one in claimed}
        return {one.lfn: one.given_source for one in claimed}

    def end(self, lfn: str, good: bool) -> None:
        """The command brought a file, or failed."""
        one = self.claimed[Lfn(lfn)]
        if good:
            new = NewFile(Lfn(lfn), 1234, None, "LOCAL", "root://server//x", contents=Contents("/aodTree", 9))
            assert not self.site.catalogue.register([new]).failed
        event = Succeeded(None, 1234) if good else Failed(NoSuchEntry("find it"))
        self.site.queue.report("me", [Report(one.id, one.attempts, event)])


@pytest.fixture
def lists(tmp_path):
    one = Lists(tmp_path)
    yield one
    one.site.close()


def test_what_is_missing_is_queued_once_and_told_of(lists):
    first = lists.write(
        "default/anna/one.txt", "alien:///alice/a.root tree:/aodTree", "alien:///alice/b.root"
    )
    second = lists.write("default/ben/two.txt", "alien:///alice/b.root", "http://elsewhere/c.root")
    lists.repository.scan()
    lists.again().scan()
    assert lists.queued() == {
        "/alice/a.root": "/storage/alice/a.root",
        "/alice/b.root": "/storage/alice/b.root",
    }
    assert lists.claimed[Lfn("/alice/a.root")].tree == "/aodTree"
    lists.end("/alice/a.root", good=True)
    lists.end("/alice/b.root", good=False)
    lists.repository.scan()
    good, bad = lists.status(first)
    assert (good["staged"], good["corrupt"], good["state"]) == (True, False, "staged")
    assert (good["tree"], good["entries"], good["size_bytes"]) == ("/aodTree", 9, 1234)
    assert good["endpoint"] == "root://server//x"
    assert (bad["staged"], bad["corrupt"]) == (False, True)
    assert "cannot find it" in str(bad["error"])
    also_bad, unmatched = lists.status(second)
    assert also_bad["corrupt"]  # in all the lists that hold it
    assert unmatched["error"] == "no afdsmgrd.url_rules matches it"
    one, two = lists.repository.figures
    assert (one.name, one.files, one.staged, one.corrupt) == ("/default/anna/one", 2, 1, 1)
    assert (one.tree, one.entries, one.size_bytes) == ("/aodTree", 9, 1234)
    assert (two.name, two.files, two.corrupt) == ("/default/ben/two", 2, 2)
    lists.repository.scan()
    assert lists.queued() == {}


def test_the_lists_themselves_are_not_touched(lists):
    path = lists.write("one.txt", "alien:///alice/a.root")
    before = path.read_bytes(), path.stat().st_mtime_ns
    lists.repository.scan()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_who_writes_a_list_anew_has_its_failures_tried_again(lists):
    lists.write("one.txt", "alien:///alice/a.root")
    lists.repository.scan()
    lists.queued()
    lists.end("/alice/a.root", good=False)
    lists.repository.scan()
    assert lists.queued() == {}
    lists.write("one.txt", "alien:///alice/a.root", age_s=-5)
    lists.repository.scan()
    assert lists.queued() == {"/alice/a.root": "/storage/alice/a.root"}


def test_a_list_that_vanishes_leaves_nothing_queued_but_what_others_want(lists):
    path = lists.write("one.txt", "alien:///alice/a.root", "alien:///alice/b.root")
    lists.write("two.txt", "alien:///alice/b.root")
    lists.repository.scan()
    path.unlink()
    lists.repository.scan()
    assert set(lists.queued()) == {"/alice/b.root"}


def test_also_where_it_vanished_while_no_daemon_ran(lists):
    path = lists.write("one.txt", "alien:///alice/a.root")
    lists.repository.scan()
    path.unlink()
    lists.again().scan()
    assert lists.queued() == {}


def test_a_finished_list_is_removed_only_where_asked_and_only_without_failures(tmp_path):
    lists = Lists(tmp_path, purge=True)
    good = lists.write("good.txt", "alien:///alice/a.root")
    bad = lists.write("bad.txt", "alien:///alice/a.root", "alien:///alice/b.root")
    lists.repository.scan()
    lists.queued()
    lists.repository.scan()
    assert good.exists()  # nothing has come yet
    lists.end("/alice/a.root", good=True)
    lists.end("/alice/b.root", good=False)
    lists.repository.scan()
    lists.repository.scan()
    assert not good.exists()
    assert not good.with_name("good.txt.status.jsonl").exists()
    assert bad.exists()
    assert ("dataset.removed", {"dataset": "/good", "files": 1}) in lists.told
    lists.site.close()


def test_lists_that_cannot_be_read_are_told_of_once_and_stop_nobody(lists):
    lists.write("broken.root", "root but not really")
    (lists.directory / "broken.root").write_bytes(b"root\0" + bytes(100))
    lists.write("garbage.txt", "this is no list")
    lists.write("good.txt", "alien:///alice/a.root")
    lists.repository.scan()
    lists.repository.scan()
    told = [values["dataset"] for event, values in lists.told if event == "dataset.unreadable"]
    assert told == ["/broken", "/garbage"]
    assert set(lists.queued()) == {"/alice/a.root"}


def test_a_bad_line_is_told_beside_the_list_and_takes_nothing_out_of_the_queue(lists):
    path = lists.write("run.txt", "alien:///alice/a.root")
    lists.repository.scan()
    lists.write("run.txt", "alien:///alice/a.root", "this is no list", age_s=50.0)
    lists.repository.scan()
    (row,) = lists.status(path)
    assert (row["state"], row["staged"], row["corrupt"]) == ("unreadable", False, False)
    assert "line 2: 'this' is no URL" in str(row["error"])
    assert [one.state for one in lists.site.queue.of_lfn(Lfn("/alice/a.root"))] == [State.QUEUED]
    lists.write("run.txt", "alien:///alice/b.root", age_s=20.0)
    lists.repository.scan()
    assert [row["state"] for row in lists.status(path)] == ["coming"]
    assert set(lists.queued()) == {"/alice/b.root"}


def test_a_directory_that_is_not_there_is_said(lists):
    lists.directory.rmdir()
    with pytest.raises(StorageFault, match="afdsmgrd"):
        lists.repository.scan()


def test_a_list_of_proof_itself(lists):
    """A TFileCollection as ROOT wrote it: its flags are heeded."""
    sources = sorted(COLLECTION.glob("*.root"))
    assert sources, "no TFileCollection among the test data"
    from vse.catalogue.dataset_formats import read_list

    source = sources[0]
    names = list(read_list(source, name="dataset").files)
    lists.settings = AfdsmgrdSettings.model_validate({"repository": lists.directory})
    (lists.directory / "proof.root").write_bytes(source.read_bytes())
    repository = lists.again()
    repository.scan()
    (figures,) = repository.figures
    assert figures.files == len(names)
    assert figures.corrupt == sum(one.corrupt for one in names)
    assert figures.staged == sum(one.staged for one in names)
    assert len(lists.queued()) == len(names) - figures.corrupt - figures.staged


def test_idle_lists_cost_a_look_each_not_a_reading(lists, monkeypatch):
    for number in range(50):
        lists.write(f"{number}.txt", f"alien:///alice/{number}.root")
    lists.repository.scan()
    lists.queued()
    for number in range(50):
        lists.end(f"/alice/{number}.root", good=True)
    lists.repository.scan()
    read: list[Path] = []
    monkeypatch.setattr("vse.staging.afdsmgrd.read_list", lambda path: read.append(path))
    lists.repository.scan()
    assert read == []


def test_states_of_a_stager_are_those_of_the_lists(lists):
    """While files come, their list says so."""
    path = lists.write("one.txt", "alien:///alice/a.root")
    lists.repository.scan()
    (row,) = lists.status(path)
    assert (row["state"], row["staged"], row["corrupt"]) == ("coming", False, False)
    assert stat.S_ISREG(path.stat().st_mode)
    (transfer,) = lists.site.queue.of_lfn(Lfn("/alice/a.root"))
    assert (transfer.state, transfer.share) == (State.QUEUED, "afdsmgrd")
