"""The stager at work: requests in, files out, through stops, kills and company."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
import zlib
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.staging_site import BASE, StagingSite, file_element, start_stager
from support.waiting import until
from vse.db.tables import attempts, replicas, request_items, transfers
from vse.errors import BadRequest, Interrupted, NoSuchElement, NoSuchEntry
from vse.model import DatasetQuery, Lfn
from vse.staging.values import FileStaged, ItemState, Moved, RequestState
from vse.storage.element import Elements, ReadSource
from vse.transfer.lifecycle import State
from vse.transfer.shares import Slots


def many(count: int, size_bytes: int = 2000) -> dict[str, bytes]:
    return {f"d{number % 3}/f{number:03}.dat": os.urandom(size_bytes) for number in range(count)}


class Gate(Elements):
    """Sources that open only when they are let."""

    def __init__(self, real: Elements) -> None:
        super().__init__(list(real))
        self.let_go = threading.Event()
        self.asked = threading.Semaphore(0)

    def open(self, source: ReadSource):
        self.asked.release()
        assert self.let_go.wait(30)
        return super().open(source)


def test_a_dataset_comes_whole_and_tells_so(site: StagingSite) -> None:
    files = many(30)
    lfns = site.add(files)
    request = site.stage()
    (status,) = site.progress.status(site.staging.get([request]))
    assert status.request.state is RequestState.DONE
    assert (status.here_files, status.total_files, status.eta) == (30, 30, None)
    assert status.here_bytes == status.total_bytes == 30 * 2000
    assert status.rate_bytes_s is not None
    assert status.rate_bytes_s > 0
    for lfn in lfns:
        assert site.local(lfn).read_bytes() == files[lfn.removeprefix(f"{BASE}/")]
        assert site.places(lfn) == ["LOCAL", "REMOTE"]
    assert sorted(one.lfn for one in site.staged()) == sorted(lfns)
    assert all(one == FileStaged(one.lfn, site.local(one.lfn), 2000, None) for one in site.staged())


def test_what_is_here_is_done_at_once_without_a_transfer(site: StagingSite) -> None:
    site.add(many(5))
    site.stage()
    again = site.staging.get([site.ask(owner="ben")])[0]
    assert again.state is RequestState.DONE
    (status,) = site.progress.status([again])
    assert status.files[ItemState.HERE] == 5
    assert site.queue.tallies()[State.DONE].files == 5


def test_the_same_open_request_is_one_and_gains_files_that_match_by_now(site: StagingSite) -> None:
    site.add({"a.dat": b"a"})
    first = site.ask()
    site.add({"b.dat": b"b"})
    assert site.ask() == first
    assert site.ask(owner="ben") != first
    (status,) = site.progress.status(site.staging.get([first]))
    assert status.files[ItemState.WAITING] == 2
    assert site.queue.tallies()[State.QUEUED].files == 2


def test_asking_while_the_stager_works_counts_what_came_once(site: StagingSite) -> None:
    site.add({"a.dat": b"a", "b.dat": b"b"})
    first = site.ask()
    (claimed,) = site.queue.claim("somebody", 1, Slots(9, 9))
    assert site.ask() == first
    assert site.queue.get([claimed.id])[claimed.id].state is State.RUNNING


@pytest.mark.parametrize(("text", "kind"), [("/lhc/data/*.nothing", NoSuchEntry), ("/no/such", NoSuchEntry)])
def test_a_query_that_matches_nothing_leaves_no_request(
    site: StagingSite, text: str, kind: type[Exception]
) -> None:
    site.add({"a.dat": b"a"})
    with pytest.raises(kind, match="no file matches it"):
        site.staging.request(DatasetQuery.parse(text), "anna", "LOCAL")
    assert site.staging.list() == []


def test_unknown_names_are_refused_before_anything_is_written(site: StagingSite) -> None:
    site.add({"a.dat": b"a"})
    with pytest.raises(NoSuchElement):
        site.staging.request(DatasetQuery.parse(BASE), "anna", "NOWHERE")
    with pytest.raises(BadRequest, match="find request 77"):
        site.staging.get([77])
    with pytest.raises(BadRequest):
        site.staging.cancel(77)
    assert site.staging.list() == []


@pytest.mark.slow
def test_a_request_that_broke_off_while_it_gathered_goes_on(site: StagingSite) -> None:
    site.add(many(2500, 1))

    class Breaks:
        def find(self, base: Lfn, pattern: str):
            for number, file in enumerate(site.catalogue.find(base, pattern)):
                if number == 1700:
                    raise ConnectionResetError
                yield file

    site.staging._names = Breaks()  # type: ignore[assignment]
    with pytest.raises(ConnectionResetError):
        site.ask()
    (left,) = site.staging.list(open_only=True)
    assert left.state is RequestState.GATHERING
    site.staging._names = site.catalogue
    assert site.ask() == left.id
    (status,) = site.progress.status(site.staging.get([left.id]))
    assert status.request.state is RequestState.ACTIVE
    assert status.files[ItemState.WAITING] == 2500


def test_a_cancelled_request_takes_out_only_what_nobody_else_wants(site: StagingSite) -> None:
    site.add({"a.dat": b"a", "b.dat": b"b"})
    mine, theirs = site.ask(), site.ask("a.dat", owner="ben")
    cancelled = site.staging.cancel(mine)
    assert cancelled.state is RequestState.CANCELLED
    assert site.staging.cancel(mine) == cancelled
    site.work([theirs])
    assert [one.lfn.name for one in site.staged()] == ["a.dat"]
    assert site.queue.tallies()[State.CANCELLED].files == 1
    assert site.staging.get([theirs])[0].state is RequestState.DONE


def test_a_running_file_that_is_cancelled_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vse.staging.stager._BEAT_S", 0.05)
    site = StagingSite(tmp_path)
    gate = site.elements = Gate(site.elements)
    (lfn,) = site.add({"a.dat": b"a"})
    request = site.ask()
    worker = threading.Thread(target=site.work, args=([request],))
    worker.start()
    assert gate.asked.acquire(timeout=10)
    site.staging.cancel(request)
    until(lambda: site.queue.of_lfn(lfn)[0].state is State.CANCELLED or not worker.is_alive())
    gate.let_go.set()
    worker.join(60)
    assert not worker.is_alive()
    assert not site.local(lfn).exists() or site.places(lfn) == ["LOCAL", "REMOTE"]
    assert site.partials() == []
    site.close()


def test_a_stop_puts_running_files_back_without_a_failure(tmp_path: Path) -> None:
    site = StagingSite(tmp_path)
    gate = site.elements = Gate(site.elements)
    site.add(many(6))
    request = site.ask()
    stop = threading.Event()
    worker = threading.Thread(target=site.stager().run, args=(stop,))
    worker.start()
    for _ in range(4):
        assert gate.asked.acquire(timeout=10)
    stop.set()
    threading.Timer(0.3, gate.let_go.set).start()
    worker.join(20)
    assert not worker.is_alive()
    assert site.partials() == []
    assert site.queue.tallies()[State.QUEUED].files == 6
    for transfer in site.queue.get(range(1, 7)).values():
        assert transfer.failures == 0
        assert all(isinstance(one.error, Interrupted) for one in site.queue.attempts_of(transfer.id))
    site.work([request])
    assert len(site.staged()) == 6
    site.close()


def test_back_off_is_waited_for_by_the_clock_of_the_site(tmp_path: Path) -> None:
    now_s = 1000.0
    failed = threading.Semaphore(0)
    site = StagingSite(tmp_path, settings={"backoff_s": 60, "backoff_max_s": 600}, clock=lambda: now_s)
    (lfn,) = site.add({"a.dat": b"good"})
    site.remote(lfn).write_bytes(b"evil")
    request = site.ask()
    site.news = Told(failed)
    stager = site.stager()
    worker = threading.Thread(target=stager.run, args=(threading.Event(), [request]))
    worker.start()
    assert failed.acquire(timeout=10)
    (transfer,) = site.queue.of_lfn(lfn)
    assert (transfer.failures, transfer.not_before_s) == (1, 1060.0)
    now_s = 1059.0
    stager.wake()
    assert not failed.acquire(timeout=0.3)
    now_s = 1060.0
    stager.wake()
    assert failed.acquire(timeout=10)
    (transfer,) = site.queue.of_lfn(lfn)
    assert (transfer.failures, transfer.not_before_s) == (2, 1060.0 + 120)
    site.remote(lfn).write_bytes(b"good")
    now_s = 1180.0
    stager.wake()
    worker.join(10)
    assert site.staging.get([request])[0].state is RequestState.DONE
    assert [bool(one.error) for one in site.queue.attempts_of(transfer.id)] == [True, True, False]
    site.close()


class Told(list):  # type: ignore[type-arg]
    """A list of news that counts failures as they come."""

    def __init__(self, failed: threading.Semaphore) -> None:
        super().__init__()
        self._failed = failed

    def append(self, news: object) -> None:
        super().append(news)
        if type(news).__name__ == "FileFailed":
            self._failed.release()


def test_an_idle_stager_takes_up_what_comes_when_it_is_woken(site: StagingSite) -> None:
    site.add({"a.dat": b"a"})
    stop, stager = threading.Event(), site.stager()
    worker = threading.Thread(target=stager.run, args=(stop,))
    worker.start()
    site.ask()
    stager.wake()
    until(site.staged)
    stop.set()
    worker.join(10)
    assert not worker.is_alive()


def test_a_stager_for_one_request_leaves_the_files_of_others_alone(site: StagingSite) -> None:
    site.add({"a.dat": b"a", "b.dat": b"b"})
    site.ask("a.dat")
    mine = site.ask("b.dat")
    site.work([mine])
    assert [one.lfn.name for one in site.staged()] == ["b.dat"]
    assert site.queue.tallies()[State.QUEUED].files == 1


def test_a_transfer_to_an_element_that_the_settings_lost_fails_alone(tmp_path: Path) -> None:
    places = {name: file_element(name, tmp_path / name.lower()) for name in ("REMOTE", "LOCAL", "OLD")}
    site = StagingSite(tmp_path, settings={"max_failures": 1}, elements=list(places.values()))
    site.add({"a.dat": b"a", "b.dat": b"b"})
    lost = site.staging.request(DatasetQuery.parse(f"{BASE}/a.dat"), "anna", "OLD").id
    request = site.ask("b.dat")
    site.elements = Elements([places["REMOTE"], places["LOCAL"]])
    site.work([lost, request])
    assert [one.state for one in site.staging.get([lost, request])] == [
        RequestState.FAILED,
        RequestState.DONE,
    ]
    (broken,) = site.staging.items(lost, [ItemState.FAILED])
    assert "OLD" in str(broken.error)
    site.close()


def test_a_file_that_the_catalogue_forgot_meanwhile_leaves_no_dark_copy(tmp_path: Path) -> None:
    site = StagingSite(tmp_path)
    gate = site.elements = Gate(site.elements)
    (lfn,) = site.add({"a.dat": b"a"})
    request = site.ask()
    worker = threading.Thread(target=site.work, args=([request],))
    worker.start()
    assert gate.asked.acquire(timeout=10)
    assert site.catalogue.remove([lfn]).failed == {}
    gate.let_go.set()
    worker.join(10)
    assert site.staging.get([request])[0].state is RequestState.FAILED
    assert not site.local(lfn).exists()
    assert site.partials() == []
    site.close()


def test_bytes_are_told_while_a_file_comes(tmp_path: Path) -> None:
    """A reader that stops in the middle until the news of the first half has come."""
    site = StagingSite(tmp_path)
    (lfn,) = site.add({"big.dat": bytes(4_000_000)})
    heard = threading.Event()

    class Halting(Elements):
        def open(self, source: ReadSource):
            reader = super().open(source)
            pieces = type(reader).stream

            def stream(offset: int = 0):
                for number, piece in enumerate(pieces(reader, offset)):
                    yield piece
                    if number == 1:
                        assert heard.wait(10)

            reader.stream = stream  # type: ignore[method-assign]
            return reader

    class Listening(list):  # type: ignore[type-arg]
        def append(self, news: object) -> None:
            super().append(news)
            if isinstance(news, Moved) and news.bytes_done > 0:
                heard.set()

    site.elements = Halting(list(site.elements))
    site.news = Listening()
    site.stage()
    moved = [one for one in site.news if isinstance(one, Moved)]
    assert moved[0] == Moved(lfn, moved[0].bytes_done, 4_000_000)
    assert 0 < moved[0].bytes_done < 4_000_000
    assert site.news[-1] == FileStaged(lfn, site.local(lfn), 4_000_000, None)
    site.close()


# -- company and kills ---------------------------------------------------------------------------


def start(root: Path, **settings: object) -> subprocess.Popen[bytes]:
    return start_stager(root, settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_two_processes_that_stage_the_same_dataset_move_each_file_once(tmp_path: Path) -> None:
    site = StagingSite(tmp_path)
    files = many(200)
    site.add(files)
    children = [start(tmp_path) for _ in range(2)]
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors.decode()
    with site.database.read() as connection:
        tried = connection.execute(sa.select(attempts.c.transfer_id, attempts.c.error)).all()
    assert {error for _, error in tried} == {None}
    assert len(tried) == 200
    for name, data in files.items():
        assert site.local(f"{BASE}/{name}").read_bytes() == data
    (request,) = site.staging.list()  # the same owner asked for the same: one request
    assert request.state is RequestState.DONE
    site.close()


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_doubles_and_breaks_nothing(tmp_path: Path) -> None:
    site = StagingSite(tmp_path)
    sizes = random.Random(7)
    files = {f"d{n % 5}/f{n:04}.dat": os.urandom(sizes.randrange(0, 400_000)) for n in range(400)}
    lfns = site.add(files)
    sums = {lfn: zlib.adler32(files[lfn.removeprefix(f"{BASE}/")]) for lfn in lfns}
    moments = random.Random(int.from_bytes(os.urandom(4)))
    killed = 0
    while killed < 15:
        child = start(tmp_path)
        assert child.stdout is not None
        assert child.stderr is not None
        if killed % 5 == 4:  # anywhere: starting, asking, gathering
            time.sleep(moments.uniform(0.2, 0.8))
        else:  # while it moves files; the moment is chosen by chance, not waited for
            child.stdout.readline()
            time.sleep(moments.uniform(0.0, 0.12))
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()
        killed += 1
        for path in (tmp_path / "local" / "lhc").rglob("*"):
            if path.is_file():  # whatever has its name is whole
                lfn = Lfn("/" + str(path.relative_to(tmp_path / "local")))
                assert zlib.adler32(path.read_bytes()) == sums[lfn]
    request = site.stage()
    assert site.staging.get([request])[0].state is RequestState.DONE
    for lfn in lfns:
        assert zlib.adler32(site.local(lfn).read_bytes()) == sums[lfn]
        assert site.places(lfn) == ["LOCAL", "REMOTE"]
    with site.database.read() as connection:
        rows = connection.execute(sa.select(transfers.c.state, transfers.c.failures)).all()
        assert rows == [(State.DONE, 0)] * 400
        counts = [
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (request_items, replicas)
        ]
    done = site.staging.list()
    assert counts[1] == 800
    assert counts[0] == 400 * len(done)
    assert all(one.state is RequestState.DONE for one in done)
    site.elements.get("LOCAL").sweep_partials(0.0, time.time() + 10)
    assert site.partials() == []
    site.close()


@pytest.mark.slow
def test_ctrl_c_puts_everything_back_and_leaves_no_partial_file(tmp_path: Path) -> None:
    site = StagingSite(tmp_path)
    site.add({f"f{number:03}.dat": bytes(1_000_000) for number in range(300)})
    child = start(tmp_path)
    assert child.stdout is not None
    child.stdout.readline()
    until(lambda: site.queue.tallies()[State.DONE].files >= 3, process=child)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    tallies = site.queue.tallies()
    assert tallies[State.RUNNING].files == 0
    assert tallies[State.QUEUED].files > 0
    assert site.partials() == []
    assert all(one.failures == 0 for one in site.queue.get(range(1, 301)).values())
    site.close()


def test_a_transfer_whose_end_was_not_recorded_ends_when_its_file_is_found_here(site: StagingSite) -> None:
    """Killed between the catalogue's row and the queue's: another request must not be kept waiting."""
    (lfn,) = site.add({"a.dat": b"one"})
    first = site.ask()
    site.queue.claim("a stager that was killed then", 1, Slots(9, 9))
    site.local(lfn).parent.mkdir(parents=True)
    site.local(lfn).write_bytes(b"one")
    site.add_replica(lfn, b"one", "LOCAL")
    second = site.ask(owner="ben")
    assert [one.state for one in site.staging.get([first, second])] == [RequestState.DONE] * 2
    (transfer,) = site.queue.of_lfn(lfn)
    assert (transfer.state, transfer.lease_owner) == (State.DONE, None)


def test_partials_of_a_dead_stager_are_swept_when_the_next_one_starts(tmp_path: Path) -> None:
    site = StagingSite(tmp_path, settings={"no_progress_s": 1, "verify_timeout_s": 1})
    left = tmp_path / "local" / ".vse-partial" / "1-dead.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    site.add({"a.dat": b"a"})
    site.stage()
    assert not left.exists()
    site.close()


@pytest.mark.slow
def test_five_hundred_tiny_files_come_at_a_good_pace(tmp_path: Path) -> None:
    site = StagingSite(
        tmp_path,
        elements=[
            file_element("REMOTE", tmp_path / "remote"),
            file_element("LOCAL", tmp_path / "local"),
        ],
        settings={"slots": 8},
    )
    site.add(many(500))
    request = site.ask()
    began_s = time.monotonic()
    site.work([request])
    per_s = 500 / (time.monotonic() - began_s)
    print(f"{per_s:.0f} files/s")
    assert per_s > 30  # measured 630 on two quiet cores; a loaded machine must not fail the test
    site.close()
