"""Files that go while they are analysed, and one among a thousand that is unlike the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import uproot

from support.analysis_site import run
from support.command_line import Command, InProcess, TwoSites
from support.databases import ensure_sqlite
from vse.analysis.engine import AnalysisOptions, InputFile
from vse.analysis.result import AnalysisResult, Progress
from vse.analysis.script import Script
from vse.app.analyse import Missing, analyse_dataset, locate
from vse.app.init import init_site
from vse.app.site import Site
from vse.config.load import load
from vse.db.tables_pool import readers
from vse.demo import remote
from vse.model import DatasetQuery

pytestmark = pytest.mark.slow
Write = Callable[[str], Script]

FILES, ENTRIES = 24, 100
BASE = remote.REAL_BASE
ALL = DatasetQuery.parse(f"{BASE}/*.root")
DAY_S = 86400.0
SEEN = """
import time
branches = ["x"]
def process(events):
    time.sleep(2e-3 * len(events))
    return {"n": len(events), "seen": events.x.to_list()}
"""


def write_file(path: Path, first: int, entries: int = ENTRIES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        file.mktree("events", {"x": "int64"})
        file["events"].extend({"x": np.arange(first, first + entries)})
    return path


@pytest.fixture
def site_directory(tmp_path: Path) -> Iterator[Path]:
    """A site whose own storage is a pool that holds the dataset; another serves a copy of each file."""
    far, near = tmp_path / "remote", tmp_path / "site"
    for root in (far, near):
        ensure_sqlite(root / "var/vse.db")
    remote.make_remote(far)
    init_site(near, name="test", remote=remote.as_remote(far))
    with (near / "vse.toml").open("a") as settings:
        settings.write('\n[pools.LOCAL-DISK]\nsize = "1GB"\nyoung_s = 0\n')
    sites = TwoSites(far, near, InProcess(near))
    for number in range(FILES):
        sites.add(write_file(tmp_path / f"{number:02}.root", number * ENTRIES), f"{number:02}.root")
    sites.publish()
    with remote.RemoteProcess(far, remote.WideAreaLink(0.0, 1e9)):
        staged = sites.vse("stage", str(ALL))
        assert staged.code == 0, staged.err
        assert len(here(near)) == FILES
        yield near


def here(site_directory: Path) -> set[str]:
    return {f"{BASE}/{path.name}" for path in (site_directory / f"storage{BASE}").glob("*.root")}


def evict(site_directory: Path) -> set[str]:
    """Have another process make as much room as it may; return what went."""
    before = here(site_directory)
    done = Command(site_directory)("pool", "evict", "--need", "900MB")
    assert done.code == 0, done.err
    return before - here(site_directory)


def evict_tomorrow(site_directory: Path) -> set[str]:
    """The same by a pool that does not know of readers any more: a backup of its database was put back."""
    before = here(site_directory)
    with Site.open(load(site_directory / "vse.toml"), clock=lambda: time.time() + 1.1 * DAY_S) as site:
        with site.database.write() as connection:
            connection.execute(sa.delete(readers))
        for name in site.pool.names:
            site.pool.evict(name, 900_000_000)
    return before - here(site_directory)


def expect_told(result: AnalysisResult) -> None:
    """What is not in the output is named, and nothing is in it twice."""
    left_out = {lfn for lfn, _ in result.broken} | {lfn for lfn, _ in result.missing}
    partly = {
        (item.lfn, entry)
        for item in result.failed
        if item.lfn not in left_out
        for entry in range(item.start, item.stop)
    }
    assert not partly
    done = {file.lfn: file.entries_done for file in result.files}
    assert {lfn for lfn in done if done[lfn] != ENTRIES} <= left_out
    seen = result.output["seen"] if result.output else []
    assert len(seen) == len(set(seen)) == result.entries_processed == sum(done.values())
    for number in range(FILES):
        lfn = f"{BASE}/{number:02}.root"
        there = sum(1 for one in seen if number * ENTRIES <= one < (number + 1) * ENTRIES)
        assert there == done.get(lfn, 0)


def test_what_is_being_analysed_is_not_evicted_until_it_is_over(
    client: Any, site_directory: Path, write_script: Write
) -> None:
    went: list[set[str]] = []

    def make_room(progress: Progress) -> None:
        if not went and progress.entries_done > 200:
            went.append(evict(site_directory))

    with Site.open(load(site_directory / "vse.toml")) as site:
        dataset, _ = locate(site, ALL)
        options = AnalysisOptions(packet_entries=20, progress_every_s=0.02)
        script = write_script(SEEN)
        result = analyse_dataset(
            site, dataset, script, client, options, missing=Missing.SKIP, on_progress=make_room
        )
    assert went == [set()]
    assert result.complete
    assert sorted(result.output["seen"]) == list(range(FILES * ENTRIES))
    assert evict(site_directory), "nothing could have gone"


@pytest.mark.parametrize("missing", [Missing.SKIP, Missing.STAGE])
def test_what_was_evicted_in_mid_analysis_is_named_and_comes_back_by_itself(
    client: Any, site_directory: Path, write_script: Write, missing: Missing
) -> None:
    went: list[set[str]] = []

    def make_room(progress: Progress) -> None:
        if not went and progress.entries_done > 200:
            went.append(evict_tomorrow(site_directory))

    script = write_script(SEEN)
    options = AnalysisOptions(packet_entries=20, progress_every_s=0.02)
    with Site.open(load(site_directory / "vse.toml")) as site:
        dataset, _ = locate(site, ALL)
        result = analyse_dataset(
            site, dataset, script, client, options, missing=missing, on_progress=make_room
        )
    assert went
    assert went[0], "nothing was evicted"
    expect_told(result)
    assert 200 < result.entries_processed < FILES * ENTRIES
    broken = dict(result.broken)
    assert set(broken) <= went[0], "what stayed was read"
    assert all("No such file" in reason for reason in broken.values())
    with Site.open(load(site_directory / "vse.toml")) as site:
        dataset, _ = locate(site, ALL)
        whole = analyse_dataset(site, dataset, script, client, options, missing=missing)
    expect_told(whole)
    if missing is Missing.STAGE:
        assert whole.complete
        assert sorted(whole.output["seen"]) == list(range(FILES * ENTRIES))
    else:
        assert {lfn for lfn, _ in whole.missing} == went[0]
        assert all("was not asked to be staged" in reason for _, reason in whole.missing)


def test_what_goes_between_the_look_and_the_start_is_named(
    client: Any, site_directory: Path, write_script: Write
) -> None:
    assert InProcess(site_directory)("pin", f"{BASE}/0?.root").code == 0
    with Site.open(load(site_directory / "vse.toml")) as site:
        dataset, _ = locate(site, ALL)
        went = evict(site_directory)
        assert went == {f"{BASE}/{number}.root" for number in range(10, FILES)}
        options = AnalysisOptions(packet_entries=20)
        result = analyse_dataset(site, dataset, write_script(SEEN), client, options, missing=Missing.SKIP)
    expect_told(result)
    assert {lfn for lfn, _ in result.broken} == went
    assert result.entries_processed == 10 * ENTRIES


MANY = 1000
FEW = 5


def thousand_files(directory: Path, odd: Path) -> list[InputFile]:
    """Small files, each under a name of its own, and one that is not like the others in their midst."""
    common = write_file(directory / "common.root", 0, FEW)
    paths = [directory / f"many/{number}.root" for number in range(MANY)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        os.link(odd if number == MANY // 3 else common, path)
    return [
        InputFile(f"/lhc/{path.name}", str(path), "events", size_bytes=path.stat().st_size) for path in paths
    ]


ODD = f"/lhc/{MANY // 3}.root"


def expect_all_but_one(result: AnalysisResult, named: Sequence[str]) -> None:
    assert list(named) == [ODD]
    assert result.output == result.entries_processed == FEW * (MANY - 1)
    assert sum(file.entries_done == FEW for file in result.files) == MANY - 1
    assert not result.complete
    assert not result.drained
    assert result.workers_lost == 0
    assert result.wall_s < 60


def test_a_tree_missing_in_one_file_of_a_thousand(client: Any, write_script: Write, tmp_path: Path) -> None:
    odd = tmp_path / "odd.root"
    with uproot.recreate(odd) as file:
        file.mktree("other", {"x": "int64"})
        file["other"].extend({"x": np.arange(FEW)})
    script = write_script("def process(events):\n    return len(events)\n")
    result = run(script, thousand_files(tmp_path, odd), client)
    expect_all_but_one(result, [lfn for lfn, _ in result.broken])
    assert "no such tree (trees: other)" in result.broken[0][1]


@pytest.mark.parametrize("branches", ["", 'branches = ["x"]\n'])
def test_a_branch_missing_in_one_file_of_a_thousand(
    client: Any, write_script: Write, tmp_path: Path, branches: str
) -> None:
    odd = tmp_path / "odd.root"
    with uproot.recreate(odd) as file:
        file.mktree("events", {"y": "int64"})
        file["events"].extend({"y": np.arange(FEW)})
    body = "def process(events):\n    return len(events) + 0 * int(events.x[0])\n"
    result = run(write_script(branches + body), thousand_files(tmp_path, odd), client)
    failed = {(item.lfn, entry) for item in result.failed for entry in range(item.start, item.stop)}
    expect_all_but_one(result, sorted({lfn for lfn, _ in failed}))
    assert failed == {(ODD, entry) for entry in range(FEW)}
    assert all("x" in item.failure.message for item in result.failed)
