"""The file driver: the conformance suite, and what only a file system can do to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.contract import CHUNK_BYTES
from vse.storage.drivers import linux
from vse.storage.drivers.file import FileDriver
from vse.storage.drivers.file_upload import PARTIAL_DIRECTORY
from vse.testing.drivers import DriverConformance, fetch, names_in, pattern, store


def driver_at(path: Path) -> FileDriver:
    return FileDriver(ProtocolSettings(Section="File", Path=str(path)))


def partials(directory: Path) -> list[Path]:
    return list((directory / PARTIAL_DIRECTORY).glob("*"))


class TestFileDriver(DriverConformance):
    server_name = "Linux"

    @pytest.fixture
    def driver(self, tmp_path: Path) -> FileDriver:
        return driver_at(tmp_path)

    @pytest.fixture
    def base(self, tmp_path: Path) -> str:
        return str(tmp_path)


class TestFileDriverWithoutRenameat2(TestFileDriver):
    """A C library or a file system (NFS) that cannot rename without replacing."""

    @pytest.fixture(autouse=True)
    def _posix_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(linux, "_libc", object())


def test_what_is_published_is_readable_and_leaves_no_partial(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        store(driver_at(tmp_path), f"{tmp_path}/d/a.bin", b"12345")
    finally:
        os.umask(before)
    assert (tmp_path / "d/a.bin").stat().st_mode & 0o777 == 0o644
    assert partials(tmp_path) == []


def test_rename_moves_directories_and_replaces_none(tmp_path: Path) -> None:
    for rename in (linux.rename_new, linux.rename_new_by_link):
        for name in ("old", "taken"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "in").write_text(name)
        with pytest.raises(FileExistsError):
            rename(tmp_path / "old", tmp_path / "taken")
        rename(tmp_path / "old", tmp_path / "new")
        assert (tmp_path / "new/in").read_text() == "old"
        (tmp_path / "new").rename(tmp_path / "old")


# -- leaving the storage -----------------------------------------------------------------------------


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A storage with links in it, next to a directory with a secret."""
    storage, outside = tmp_path / "storage", tmp_path / "storage-outside"
    for directory in (storage / "d", outside):
        directory.mkdir(parents=True)
    (outside / "secret").write_text("secret")
    (storage / "d/file").write_text("inside")
    (storage / "good").symlink_to("d/file")
    (storage / "away").symlink_to(outside)
    (storage / "secret").symlink_to(outside / "secret")
    (storage / "broken").symlink_to("nowhere")
    (storage / "loop").symlink_to("loop")
    return storage


@pytest.mark.parametrize("name", ["away/secret", "secret", "d/../../storage-outside/secret"])
def test_a_path_that_leaves_the_storage_is_refused(linked: Path, name: str) -> None:
    driver, path = driver_at(linked), f"{linked}/{name}"
    with pytest.raises(errors.Denied, match="outside"):
        driver.open(path)
    assert isinstance(driver.stat([path]).failed[path], errors.Denied)
    assert isinstance(driver.checksum([path], "adler32").failed[path], errors.Denied)
    assert (linked.parent / "storage-outside/secret").read_text() == "secret"


def test_nothing_outside_is_written_removed_or_renamed(linked: Path) -> None:
    driver = driver_at(linked)
    with pytest.raises(errors.Denied):
        driver.put(f"{linked}/away/new", 5)
    with pytest.raises(errors.Denied):
        driver.put(f"{linked}/away/deep/new", 5)
    with pytest.raises(errors.Denied):
        driver.rename(f"{linked}/away/secret", f"{linked}/mine")
    with pytest.raises(errors.Denied):
        driver.rename(f"{linked}/d/file", f"{linked}/away/file")
    failed = driver.remove([f"{linked}/away/secret"]).failed
    assert isinstance(failed[f"{linked}/away/secret"], errors.Denied)
    with pytest.raises(errors.Denied):
        list(driver.list(f"{linked}/away"))
    with pytest.raises(errors.AlreadyExists):
        driver.put(f"{linked}/broken", 5)
    assert [path.name for path in (linked.parent / "storage-outside").iterdir()] == ["secret"]


def test_links_inside_are_files_and_others_are_not_listed(linked: Path) -> None:
    driver = driver_at(linked)
    assert names_in(driver, str(linked)) == ["d", "good"]
    assert fetch(driver, f"{linked}/good") == b"inside"
    assert driver.remove([f"{linked}/secret", f"{linked}/loop"]).ok.keys() == {
        f"{linked}/secret",
        f"{linked}/loop",
    }
    with pytest.raises(errors.VseError):
        driver.open(f"{linked}/loop")
    assert (linked.parent / "storage-outside/secret").exists()


def test_the_place_of_partial_files_is_nobody_elses(tmp_path: Path) -> None:
    driver = driver_at(tmp_path)
    with pytest.raises(errors.BadRequest, match="unfinished"):
        driver.put(f"{tmp_path}/{PARTIAL_DIRECTORY}/a.bin", 1)
    store(driver, f"{tmp_path}/d/{PARTIAL_DIRECTORY}/a.bin", b"1")
    assert fetch(driver, f"{tmp_path}/d/{PARTIAL_DIRECTORY}/a.bin") == b"1"


def test_a_storage_that_is_not_mounted_is_not_a_lost_file(tmp_path: Path) -> None:
    driver = driver_at(tmp_path / "mount")
    path = f"{tmp_path}/mount/a.bin"
    assert isinstance(driver.stat([path]).failed[path], errors.SourceUnavailable)
    with pytest.raises(errors.SourceUnavailable, match="mount"):
        driver.put(path, 1)
    assert not (tmp_path / "mount").exists()


def test_a_relative_path_is_refused() -> None:
    section = ProtocolSettings(Section="File", Path="/x").model_copy(update={"path": "storage"})
    with pytest.raises(errors.BadSettings, match="'storage'"):
        FileDriver(section)


def test_a_pipe_is_no_file_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.BadRequest, match="not a file"):
        driver_at(tmp_path).open(f"{tmp_path}/pipe")


# -- files that change -------------------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", [0, 5, 4999, 5001, 3 * CHUNK_BYTES])
def test_a_file_that_changes_its_size_while_open(tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(pattern(5000))
    with driver_at(tmp_path).open(str(path)) as reader:
        os.truncate(path, size_bytes)
        with pytest.raises(errors.SizeMismatch, match="5000"):
            reader.pread(4000, 1000)
        with pytest.raises(errors.SizeMismatch):
            reader.pread_many([(0, 1)])
        with pytest.raises(errors.SizeMismatch):
            list(reader.stream())


def test_closing_under_other_threads_never_reads_another_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"a" * 100_000)
    (tmp_path / "b.bin").write_bytes(b"b" * 100_000)
    driver = driver_at(tmp_path)
    for _ in range(50):
        reader = driver.open(f"{tmp_path}/a.bin")
        seen: list[bytes] = []

        def read(reader=reader, seen=seen) -> None:
            try:
                while True:
                    seen.append(reader.pread(0, 100))
            except errors.BadRequest:
                return

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        reader.close()
        other = driver.open(f"{tmp_path}/b.bin")
        for thread in threads:
            thread.join(10)
        other.close()
        assert set(seen) <= {b"a" * 100}


def test_aborting_under_a_writing_thread_never_writes_to_another_file(tmp_path: Path) -> None:
    driver = driver_at(tmp_path)
    for turn in range(30):
        upload = driver.put(f"{tmp_path}/a.bin", 10**9)
        began = threading.Event()

        def write(upload=upload, began=began) -> None:
            try:
                while True:
                    upload.write(b"a" * 1000)
                    began.set()
            except errors.BadRequest:
                return

        thread = threading.Thread(target=write)
        thread.start()
        assert began.wait(10)
        upload.abort()
        store(driver, f"{tmp_path}/{turn}.bin", b"b" * 1000)
        thread.join(10)
        assert fetch(driver, f"{tmp_path}/{turn}.bin") == b"b" * 1000
    assert partials(tmp_path) == []


# -- a full disk -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; needs the right to mount."""
    where = tmp_path / "small"
    where.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount; test_a_limit_on_file_sizes stands in")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "vse-test", str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def test_a_file_that_cannot_fit_is_refused_at_once(small_disk: Path) -> None:
    driver = driver_at(small_disk)
    with pytest.raises(errors.StorageFull, match="Make room"):
        driver.put(f"{small_disk}/a.bin", 10 * CHUNK_BYTES)
    assert partials(small_disk) == []
    store(driver, f"{small_disk}/b.bin", pattern(500_000))
    with pytest.raises(errors.StorageFull):
        driver.put(f"{small_disk}/c.bin", 700_000)
    assert names_in(driver, str(small_disk)) == ["b.bin"]


def test_a_disk_that_fills_up_while_writing(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file system that cannot reserve (NFS), and others that write meanwhile.
    monkeypatch.setattr(linux, "reserve", lambda _descriptor, _size_bytes: False)
    driver = driver_at(small_disk)
    with pytest.raises(errors.StorageFull), driver.put(f"{small_disk}/a.bin", 900_000) as upload:
        (small_disk / "other").write_bytes(bytes(600_000))
        for _ in range(9):
            upload.write(bytes(100_000))
    assert partials(small_disk) == []
    assert names_in(driver, str(small_disk)) == ["other"]


_LIMITED = """
import resource, sys
from vse.config.settings import ProtocolSettings
from vse.errors import StorageFull
from vse.storage.drivers.file import FileDriver
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
driver = FileDriver(ProtocolSettings(Section="File", Path=sys.argv[1]))
try:
    with driver.put(sys.argv[1] + "/a.bin", 1_000_000) as upload:
        for _ in range(10):
            upload.write(bytes(100_000))
except StorageFull as error:
    print("full:", error)
"""


@pytest.mark.slow
def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("full: cannot write")
    assert partials(tmp_path) == []
    assert not (tmp_path / "a.bin").exists()


# -- a killed writer ---------------------------------------------------------------------------------

_WRITER = """
import sys, time
from vse.config.settings import ProtocolSettings
from vse.storage.drivers.file import FileDriver
driver = FileDriver(ProtocolSettings(Section="File", Path=sys.argv[1]))
upload = driver.put(sys.argv[1] + "/d/a.bin", 1_000_000)
upload.write(bytes(500_000))
print("half", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_only_a_partial_that_the_sweep_clears(tmp_path: Path) -> None:
    driver = driver_at(tmp_path)
    with (
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as writer,
        driver.put(f"{tmp_path}/mine.bin", 10) as mine,
    ):
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        now_s = time.time()
        assert len(partials(tmp_path)) == 2
        assert driver.sweep_partials(0, now_s + 1e6) == 0, "partial files of living writers were removed"
        writer.send_signal(signal.SIGKILL)
        writer.wait(30)

        assert names_in(driver, str(tmp_path)) == []
        assert not (tmp_path / "d").exists()
        assert driver.sweep_partials(3600, now_s - 10) == 0, "one that was made just now was removed"
        assert driver.sweep_partials(3600, now_s + 10) == 1
        assert partials(tmp_path) == [mine.partial_path()]
        mine.write(b"0123456789")
        mine.commit()
    store(driver, f"{tmp_path}/d/a.bin", b"again")


_MANY = """
import sys
from vse.config.settings import ProtocolSettings
from vse.storage.drivers.file import FileDriver
driver = FileDriver(ProtocolSettings(Section="File", Path=sys.argv[1]))
for number in range(100_000):
    with driver.put(f"{sys.argv[1]}/{sys.argv[2]}/{number}.bin", 100_000) as upload:
        for _ in range(10):
            upload.write(bytes([number % 256]) * 10_000)
        upload.commit()
    print(number, flush=True)
"""


@pytest.mark.slow
def test_whenever_a_writer_is_killed_every_final_name_is_a_whole_file(tmp_path: Path) -> None:
    driver = driver_at(tmp_path)
    for turn in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", _MANY, str(tmp_path), str(turn)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(1 + turn):
                last = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            writer.wait(30)
        found = list(driver.list(f"{tmp_path}/{turn}"))
        assert len(found) > last
        for file in found:
            number = int(Path(file.path).stem)
            assert fetch(driver, file.path) == bytes([number % 256]) * 100_000
    driver.sweep_partials(0, time.time() + 10)
    assert partials(tmp_path) == []


def test_a_sweep_of_nothing(tmp_path: Path) -> None:
    assert driver_at(tmp_path).sweep_partials(0, time.time()) == 0
