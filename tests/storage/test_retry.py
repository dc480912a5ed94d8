"""One wrapper tries again what is worth it: never a write, never a final error, only the failed items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from vse.config.settings import ProtocolSettings
from vse.errors import (
    BadRequest,
    ChecksumMismatch,
    Denied,
    NoSuchFile,
    ServerFault,
    ShortRead,
    SizeMismatch,
    SourceUnavailable,
    Stalled,
    StorageFull,
    VseError,
)
from vse.model import BulkResult, Checksum
from vse.storage.contract import CHUNK_BYTES, StoredFile
from vse.storage.drivers.file import FileDriver
from vse.storage.drivers.file_reader import FileReader
from vse.storage.drivers.file_upload import FileUpload
from vse.storage.drivers.retried import Patience, RetriedDriver, RetryPolicy, pause_after
from vse.testing.drivers import DriverConformance, fetch, names_in, pattern, store

POLICY = RetryPolicy(attempts=4, pause_s=1.0, pause_max_s=3.0, within_s=100.0)


class Time:
    """A clock that only sleeping moves on."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []

    def sleep(self, wait_s: float) -> None:
        self.slept.append(wait_s)
        self.now_s += wait_s


class Faults:
    """Errors to raise, one for each call of a name, None for a call that works; then all work."""

    def __init__(self) -> None:
        self.coming: dict[str, list[VseError | None]] = {}
        self.calls: list[tuple[str, object]] = []

    def __call__(self, name: str, argument: object) -> None:
        self.calls.append((name, argument))
        error = self.coming[name].pop(0) if self.coming.get(name) else None
        if error is not None:
            raise error


class FaultyReader(FileReader):
    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path)
        self._faults = faults

    def pread(self, offset: int, size_bytes: int) -> bytes:
        self._faults("pread", offset)
        return super().pread(offset, size_bytes)

    def stream(self, offset: int = 0) -> Iterator[memoryview]:
        for piece in super().stream(offset):
            self._faults("piece", offset)
            yield piece


class FaultyUpload(FileUpload):
    faults: Faults

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.faults("write", len(data))
        super().write(data)

    def commit(self) -> StoredFile:
        self.faults("commit", None)
        return super().commit()


class Faulty(FileDriver):
    """A storage on this machine whose answers get lost as `Faults` says."""

    def __init__(self, directory: Path) -> None:
        super().__init__(ProtocolSettings(Section="File", Path=str(directory)))
        self.faults = Faults()
        self.items: dict[str, list[VseError]] = {}
        self.lose_answers = False

    def _bulk(self, name: str, paths: Sequence[str], ask: Callable[[list[str]], BulkResult]) -> BulkResult:
        self.faults(name, tuple(paths))
        failed = {path: self.items[path].pop(0) for path in paths if self.items.get(path)}
        done = ask([path for path in paths if self.lose_answers or path not in failed])
        done.merge(BulkResult(failed=failed))
        return done

    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        return self._bulk("stat", paths, super().stat)

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        return self._bulk("remove", paths, super().remove)

    def open(self, path: str) -> FileReader:
        self.faults("open", path)
        super().open(path).close()
        return FaultyReader(Path(path), self.faults)

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> FileUpload:
        self.faults("put", path)
        upload = super().put(path, size_bytes, checksum)
        upload.__class__ = FaultyUpload
        upload.faults = self.faults
        return upload

    def list(self, path: str) -> Iterator[StoredFile]:
        for child in sorted(super().list(path)):
            self.faults("child", child.path)
            yield child

    def rename(self, source: str, target: str) -> None:
        self.faults("rename", source)
        super().rename(source, target)

    def make_directory(self, path: str) -> None:
        self.faults("make_directory", path)
        super().make_directory(path)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def faulty(tmp_path: Path) -> Faulty:
    return Faulty(tmp_path)


@pytest.fixture
def driver(faulty: Faulty, time: Time) -> RetriedDriver:
    return RetriedDriver(faulty, Patience(POLICY, lambda: time.now_s, time.sleep, lambda: 1.0))


class TestRetriedDriver(DriverConformance):
    """What is wrapped keeps the whole contract."""

    @pytest.fixture
    def driver(self, tmp_path: Path) -> RetriedDriver:
        return RetriedDriver(FileDriver(ProtocolSettings(Section="File", Path=str(tmp_path))))

    @pytest.fixture
    def base(self, tmp_path: Path) -> str:
        return str(tmp_path)


def lost() -> SourceUnavailable:
    return SourceUnavailable("ask", "the connection was closed")


def test_the_decision() -> None:
    policy = RetryPolicy(attempts=4, pause_s=1.0, pause_max_s=3.0, within_s=10.0)
    assert [pause_after(lost(), n, 0.0, policy, 1.0) for n in (1, 2, 3, 4)] == [1.0, 2.0, 3.0, None]
    assert pause_after(lost(), 1, 0.0, policy, 0.0) == 0.5
    assert pause_after(lost(), 1, 9.0, policy, 1.0) == 1.0
    assert pause_after(lost(), 1, 9.1, policy, 1.0) is None
    for kind in (ServerFault, Stalled, ShortRead, SourceUnavailable):
        assert pause_after(kind("x"), 1, 0.0, policy, 0.0) is not None
    for kind in (StorageFull, ChecksumMismatch, SizeMismatch, Denied, NoSuchFile, BadRequest):
        assert pause_after(kind("x"), 1, 0.0, policy, 0.0) is None


def test_a_server_that_comes_back_is_waited_for(driver, faulty, time, tmp_path) -> None:
    store(faulty, f"{tmp_path}/a", b"12345")
    faulty.faults.coming["open"] = [lost(), ServerFault("ask", "503"), None]
    assert fetch(driver, f"{tmp_path}/a") == b"12345"
    assert time.slept == [1.0, 2.0]


def test_one_that_does_not_is_given_up_with_its_own_words(driver, faulty, time, tmp_path) -> None:
    faulty.faults.coming["stat"] = [lost()] * 10
    with pytest.raises(SourceUnavailable, match="connection was closed"):
        driver.stat([f"{tmp_path}/a"])
    assert time.slept == [1.0, 2.0, 3.0]
    assert len(faulty.faults.calls) == 4


def test_a_final_error_is_asked_once(driver, faulty, time, tmp_path) -> None:
    faulty.faults.coming["open"] = [Denied("read", "not yours")]
    with pytest.raises(Denied):
        driver.open(f"{tmp_path}/a")
    assert time.slept == []
    assert len(faulty.faults.calls) == 1


def test_a_server_silent_for_a_minute_is_not_asked_again(faulty, time, tmp_path) -> None:
    def silent(_: str, __: object) -> None:
        time.now_s += 60.0
        raise Stalled("ask", "silent for 60 s")

    faulty.faults = silent
    patient = RetriedDriver(faulty, Patience(RetryPolicy(within_s=30.0), lambda: time.now_s, time.sleep))
    with pytest.raises(Stalled):
        patient.stat([f"{tmp_path}/a"])
    assert time.now_s == 60.0


def test_only_the_items_that_failed_are_asked_again(driver, faulty, time, tmp_path) -> None:
    paths = [f"{tmp_path}/{name}" for name in "abcd"]
    for path in paths[:3]:
        store(faulty, path, b"12345")
    faulty.items = {paths[1]: [lost(), lost()], paths[2]: [lost()] * 9}
    answer = driver.stat(paths)
    assert set(answer.ok) == {paths[0], paths[1]}
    assert isinstance(answer.failed[paths[2]], SourceUnavailable)
    assert isinstance(answer.failed[paths[3]], NoSuchFile)
    asked = [set(argument) for name, argument in faulty.faults.calls if name == "stat"]
    assert asked == [set(paths), {paths[1], paths[2]}, {paths[1], paths[2]}, {paths[2]}]


def test_a_write_is_never_repeated_once_bytes_went(driver, faulty, time, tmp_path) -> None:
    faulty.faults.coming["put"] = [lost(), None]
    with driver.put(f"{tmp_path}/a", 5) as upload:  # its beginning is
        upload.write(b"12345")
        upload.commit()
    assert time.slept == [1.0]
    for moment in ("write", "commit"):
        faulty.faults.coming[moment] = [lost()]
        faulty.faults.calls.clear()
        with pytest.raises(SourceUnavailable), driver.put(f"{tmp_path}/b", 5) as upload:
            upload.write(b"12345")
            upload.commit()
        assert [name for name, _ in faulty.faults.calls].count(moment) == 1
    assert names_in(driver, str(tmp_path)) == ["a"]
    assert time.slept == [1.0]


def test_a_rename_whose_answer_is_lost_is_not_repeated(driver, faulty, time, tmp_path) -> None:
    store(faulty, f"{tmp_path}/a", b"1")
    faulty.faults.coming["rename"] = [lost()]
    with pytest.raises(SourceUnavailable):
        driver.rename(f"{tmp_path}/a", f"{tmp_path}/b")
    assert time.slept == []


def test_a_remove_whose_answer_is_lost_ends_well(driver, faulty, time, tmp_path) -> None:
    paths = [f"{tmp_path}/a", f"{tmp_path}/none"]
    store(faulty, paths[0], b"1")
    faulty.items = {paths[0]: [lost()]}
    faulty.lose_answers = True
    answer = driver.remove(paths)
    assert set(answer.ok) == {paths[0]}
    assert isinstance(answer.failed[paths[1]], NoSuchFile)
    assert not Path(paths[0]).exists()


def test_what_ends_the_same_is_repeated(driver, faulty, time, tmp_path) -> None:
    faulty.faults.coming["make_directory"] = [lost(), lost()]
    driver.make_directory(f"{tmp_path}/d")
    assert (tmp_path / "d").is_dir()


def test_a_stream_goes_on_where_it_broke_off(driver, faulty, time, tmp_path) -> None:
    data = pattern(6 * CHUNK_BYTES + 5)
    store(faulty, f"{tmp_path}/a", data)
    cut = ShortRead("read", "closed in mid-file")
    # Seven breaks, never four without a piece between them: a slow, steady source is read to its end.
    faulty.faults.coming["piece"] = [None, cut, cut, cut, None, cut, cut, None, None, cut, cut, None, None]
    assert fetch(driver, f"{tmp_path}/a") == data


def test_a_file_that_changed_meanwhile_is_not_read_on(driver, faulty, time, tmp_path) -> None:
    store(faulty, f"{tmp_path}/a", pattern(100))
    with driver.open(f"{tmp_path}/a") as reader:
        faulty.faults.coming["pread"] = [lost()]
        (tmp_path / "a").unlink()
        (tmp_path / "a").write_bytes(pattern(99))
        with pytest.raises(SizeMismatch):
            reader.pread(0, 10)


def test_closing_a_reader_ends_the_attempts(faulty, time, tmp_path) -> None:
    store(faulty, f"{tmp_path}/a", pattern(100))
    reader = None

    def close_meanwhile(_: float) -> None:
        assert reader is not None
        reader.close()

    patient = RetriedDriver(faulty, Patience(POLICY, lambda: 0.0, close_meanwhile))
    reader = patient.open(f"{tmp_path}/a")
    faulty.faults.coming["pread"] = [lost()] * 10
    with pytest.raises(BadRequest, match="closed"):
        reader.pread(0, 10)
    assert [name for name, _ in faulty.faults.calls].count("pread") == 1


def test_a_listing_tells_of_each_child_once(driver, faulty, time, tmp_path) -> None:
    for number in range(5):
        store(faulty, f"{tmp_path}/{number}", b"1")
    faulty.faults.coming["child"] = [None, None, lost(), None, None, None, None, lost()]
    assert names_in(driver, str(tmp_path)) == [str(number) for number in range(5)]
