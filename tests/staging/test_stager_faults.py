"""Every fault of the field: sources that lie, stall and die, full disks, broken files."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.lying_files import LyingServer, lying_server
from support.staging_site import BASE, DATA, StagingSite, file_element, http_element
from support.waiting import until
from vse.errors import (
    ChecksumMismatch,
    GivenUp,
    NoSuchFile,
    ServerFault,
    SizeMismatch,
    Stalled,
    StorageFault,
    StorageFull,
    Unreadable,
    VseError,
)
from vse.model import Contents, Lfn, ReplicaState
from vse.staging.values import ItemState, RequestState
from vse.storage.element import Elements, ReadSource
from vse.testing.postgresql import fresh_database, start_postgresql, stop_postgresql
from vse.transfer.lifecycle import State

GOOD = os.urandom(3_000_000)
LIAR = f"{BASE}/liar.dat"
HONEST = f"{BASE}/honest.dat"


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with lying_server({LIAR: GOOD, HONEST: GOOD}, {}) as one:
        yield one


def web_site(tmp_path: Path, server: LyingServer, **settings: float) -> StagingSite:
    site = StagingSite(
        tmp_path,
        elements=[
            http_element("WEB", server.port, settings.get("no_progress_s", 60.0)),
            file_element("REMOTE", tmp_path / "remote", WriteAccess=False),
            file_element("LOCAL", tmp_path / "local"),
        ],
        settings=settings,
    )
    site.add({"liar.dat": GOOD, "honest.dat": GOOD}, "WEB", write=False)
    return site


def reasons(site: StagingSite, lfn: str) -> list[VseError]:
    (transfer,) = site.queue.of_lfn(Lfn(lfn))
    return [one.error for one in site.queue.attempts_of(transfer.id) if one.error]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lie", "kind", "attempts"),
    [
        ("500", ServerFault, 3),
        ("dies", VseError, 3),
        ("damaged", ChecksumMismatch, 3),
        ("shorter", SizeMismatch, 3),
        ("gone", NoSuchFile, 1),
        ("stalls", Stalled, 3),
    ],
)
def test_a_source_that_lies_costs_its_own_file_and_no_other(
    tmp_path: Path, server: LyingServer, lie: str, kind: type[VseError], attempts: int
) -> None:
    server.lies[LIAR] = lie
    site = web_site(tmp_path, server, no_progress_s=0.4)
    request = site.stage()
    (status,) = site.progress.status(site.staging.get([request]))
    assert status.request.state is RequestState.FAILED
    assert (status.files[ItemState.DONE], status.files[ItemState.FAILED]) == (1, 1)
    assert site.local(HONEST).read_bytes() == GOOD
    assert not site.local(LIAR).exists()
    assert site.partials() == []
    (broken,) = status.broken
    assert broken.lfn == LIAR
    assert isinstance(broken.error, GivenUp)
    assert "liar.dat" in str(broken.error)
    assert "\n" not in str(broken.error)
    found = reasons(site, LIAR)
    assert len(found) == attempts
    assert all(isinstance(error, kind) for error in found), found
    assert [one.final for one in site.failed()] == [False] * (attempts - 1) + [True]
    assert site.places(Lfn(LIAR)) == ["WEB"]
    site.close()


@pytest.mark.slow
@pytest.mark.parametrize("lie", ["500", "dies", "damaged", "stalls", "gone"])
def test_another_source_is_read_in_the_same_attempt(tmp_path: Path, server: LyingServer, lie: str) -> None:
    server.lies[LIAR] = lie
    with lying_server({LIAR: GOOD}, {}) as honest:
        site = StagingSite(
            tmp_path,
            elements=[
                http_element("LYING", server.port),
                http_element("TRUE", honest.port),  # read after LYING, by its name
                file_element("LOCAL", tmp_path / "local"),
            ],
            settings={"no_progress_s": 0.4},
        )
        site.add({"liar.dat": GOOD}, "LYING", write=False)
        site.add({"liar.dat": GOOD}, "TRUE", write=False)
        request = site.stage()
        assert server.asked[LIAR] >= 1
        assert site.staging.get([request])[0].state is RequestState.DONE
        assert site.local(LIAR).read_bytes() == GOOD
        (transfer,) = site.queue.of_lfn(Lfn(LIAR))
        assert (transfer.state, transfer.attempts, transfer.failures) == (State.DONE, 1, 0)
        assert transfer.source == f"http://127.0.0.1:{honest.port}{LIAR}"
        site.close()


@pytest.mark.slow
def test_an_attempt_that_takes_too_long_is_ended_although_bytes_come(tmp_path: Path) -> None:
    """A source that drips: never silent for long, never through."""
    site = StagingSite(tmp_path, settings={"timeout_s": 0.5, "max_failures": 1})
    site.elements = Dripping(site.elements)
    site.add({"slow.dat": GOOD})
    request = site.stage()
    assert site.staging.get([request])[0].state is RequestState.FAILED
    (reason,) = reasons(site, f"{BASE}/slow.dat")
    assert isinstance(reason, Stalled)
    assert "longer than the 0.5 s" in str(reason)
    assert site.partials() == []
    site.close()


class Dripping(Elements):
    """A faulty wrapper: readers that give a few bytes at a time, and wait in between."""

    def __init__(self, real: Elements) -> None:
        super().__init__(list(real))

    def open(self, source: ReadSource):
        reader = super().open(source)
        whole = reader.pread(0, reader.size_bytes)
        pause = threading.Event()

        def drip(offset: int = 0) -> Iterator[memoryview]:
            for start in range(offset, len(whole), 100):
                pause.wait(0.02)
                yield memoryview(whole)[start : start + 100]

        reader.stream = drip  # type: ignore[method-assign]
        return reader


class Hanging(Elements):
    """A faulty wrapper: a read that never returns, whatever is closed, until it is let go."""

    def __init__(self, real: Elements) -> None:
        super().__init__(list(real))
        self.reached, self.let_go = threading.Event(), threading.Event()

    def open(self, source: ReadSource):
        if "hangs" in source.url:
            self.reached.set()
            self.let_go.wait()
        return super().open(source)


@pytest.mark.slow
def test_a_read_that_never_returns_keeps_no_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vse.staging.stager._GRACE_S", 0.3)
    site = StagingSite(tmp_path, settings={"slots": 1, "no_progress_s": 0.3, "max_failures": 1})
    site.elements = Hanging(site.elements)
    site.add({"a-hangs.dat": GOOD, "b-fine.dat": GOOD})
    request = site.stage()
    assert site.local(f"{BASE}/b-fine.dat").read_bytes() == GOOD
    assert isinstance(reasons(site, f"{BASE}/a-hangs.dat")[0], Stalled)
    site.elements.let_go.set()
    until(lambda: not site.partials(), what="the read that came back leaves nothing behind")
    assert not site.local(f"{BASE}/a-hangs.dat").exists()
    assert site.staging.get([request])[0].state is RequestState.FAILED
    site.close()


@pytest.mark.slow
def test_what_a_stager_had_in_hand_when_its_database_went_away_is_taken_over(
    tmp_path: Path, own_postgresql: str
) -> None:
    """It ends with the error; it must not go on telling that it lives."""
    with fresh_database(own_postgresql) as url:
        site = StagingSite(tmp_path, settings={"slots": 1}, url=url)
        site.elements = hanging = Hanging(site.elements)
        site.add({"hangs.dat": GOOD})
        request = site.ask()
        with ThreadPoolExecutor(1) as other:
            ended = other.submit(site.work, [request])
            assert hanging.reached.wait(60)
            stop_postgresql(url)
            hanging.let_go.set()
            assert isinstance(ended.exception(60), StorageFault)
        start_postgresql(url)
        site.work([request])
        (transfer,) = site.queue.of_lfn(Lfn(f"{BASE}/hangs.dat"))
        assert (transfer.state, transfer.attempts, transfer.failures) == (State.DONE, 2, 0)
        assert site.local(f"{BASE}/hangs.dat").read_bytes() == GOOD
        site.close()


@pytest.mark.slow
def test_root_files_are_proven_readable_before_they_appear(tmp_path: Path) -> None:
    whole = (DATA / "uproot-Zmumu.root").read_bytes()
    site = StagingSite(tmp_path, settings={"verify": "contents"})
    site.add(
        {
            "good.root": whole,
            "truncated.root": whole[: len(whole) // 2],  # registered as it is: size and checksum fit
            "page.root": b"<html>please log in</html>",
            "notes.txt": b"no ROOT file, and none expected",
        }
    )
    request = site.stage()
    (status,) = site.progress.status(site.staging.get([request]))
    assert (status.files[ItemState.DONE], status.files[ItemState.FAILED]) == (2, 2)
    assert site.contents(Lfn(f"{BASE}/good.root")) == Contents("events", 2304)
    assert site.contents(Lfn(f"{BASE}/notes.txt")) is None
    for name in ("truncated.root", "page.root"):
        assert not site.local(f"{BASE}/{name}").exists()
        assert all(isinstance(one, Unreadable) for one in reasons(site, f"{BASE}/{name}"))
    assert site.partials() == []
    assert {one.lfn.name: one.contents for one in site.staged()}["good.root"] == Contents("events", 2304)
    site.close()


@pytest.mark.slow
def test_the_tree_of_the_query_is_the_one_that_is_looked_for(tmp_path: Path) -> None:
    site = StagingSite(tmp_path, settings={"verify": "contents", "max_failures": 1})
    site.add({"good.root": (DATA / "uproot-Zmumu.root").read_bytes()})
    site.stage(tree="aodTree")
    assert "no tree 'aodTree' (it has events)" in str(reasons(site, f"{BASE}/good.root")[0])
    request = site.stage(tree="events")
    assert site.staging.get([request])[0].state is RequestState.DONE
    site.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.slow
def test_a_full_disk_says_so_leaves_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    small = tmp_path / "local"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", small], check=True)
    try:
        site = StagingSite(tmp_path)
        site.add({"a.dat": GOOD, "b.dat": GOOD, "c.dat": b"little"})
        request = site.stage()
        (status,) = site.progress.status(site.staging.get([request]))
        assert status.files[ItemState.DONE] == 2  # one big one, and the little one
        (broken,) = status.broken
        assert "make room" in str(broken.error).lower()
        assert all(isinstance(one, StorageFull) for one in reasons(site, broken.lfn))
        assert site.partials() == []
        assert not site.local(broken.lfn).exists()
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        again = site.stage()
        assert site.staging.get([again])[0].state is RequestState.DONE
        assert site.local(broken.lfn).read_bytes() == GOOD
        site.close()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_a_file_that_was_published_but_not_recorded_is_adopted_without_reading_a_source(
    site: StagingSite,
) -> None:
    (lfn,) = site.add({"a.dat": GOOD})
    site.remote(lfn).unlink()
    site.local(lfn).parent.mkdir(parents=True)
    site.local(lfn).write_bytes(GOOD)
    request = site.stage()
    assert site.staging.get([request])[0].state is RequestState.DONE
    assert site.places(lfn) == ["LOCAL", "REMOTE"]


def test_another_file_under_the_name_is_left_alone_and_reported(site: StagingSite) -> None:
    (lfn,) = site.add({"a.dat": GOOD})
    site.local(lfn).parent.mkdir(parents=True)
    site.local(lfn).write_bytes(bytes(len(GOOD)))
    request = site.stage()
    assert site.staging.get([request])[0].state is RequestState.FAILED
    assert site.local(lfn).read_bytes() == bytes(len(GOOD))
    assert isinstance(reasons(site, lfn)[0], ChecksumMismatch)
    assert site.places(lfn) == ["REMOTE"]


def test_a_source_that_vanished_fails_with_the_reason_and_comes_when_it_is_back(site: StagingSite) -> None:
    lfns = site.add({"a.dat": b"one", "b.dat": b"two"})
    site.remote(lfns[0]).unlink()
    request = site.stage()
    (status,) = site.progress.status(site.staging.get([request]))
    assert [one.lfn for one in status.broken] == [lfns[0]]
    assert site.local(lfns[1]).read_bytes() == b"two"
    site.remote(lfns[0]).write_bytes(b"one")
    again = site.stage()
    assert again != request
    assert site.staging.get([again])[0].state is RequestState.DONE
    assert site.local(lfns[0]).read_bytes() == b"one"


def test_a_staged_file_that_vanished_is_fetched_again(site: StagingSite) -> None:
    (lfn,) = site.add({"a.dat": GOOD})
    site.stage()
    site.local(lfn).unlink()
    request = site.ask()
    assert site.places(lfn) == ["REMOTE"]  # the lost copy is forgotten at once
    site.work([request])
    assert site.local(lfn).read_bytes() == GOOD
    assert site.places(lfn) == ["LOCAL", "REMOTE"]


def test_without_any_other_copy_the_reason_is_told(site: StagingSite) -> None:
    site.add({"a.dat": GOOD}, "LOCAL")
    request = site.stage()
    (status,) = site.progress.status(site.staging.get([request]))
    assert "no other copy of it is known" in str(status.broken[0].error)


def test_a_suspect_copy_is_not_read(site: StagingSite) -> None:
    from vse.catalogue.port import NewReplica

    (lfn,) = site.add({"a.dat": GOOD})
    site.catalogue.add_replicas([NewReplica(lfn, "REMOTE", None, ReplicaState.SUSPECT)])
    request = site.stage()
    (status,) = site.progress.status(site.staging.get([request]))
    assert "suspect" in str(status.broken[0].error)
