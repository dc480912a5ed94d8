"""The driver of the root protocol against Debian's XRootD."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest

from servers.certificates import make_certificates
from servers.xrootd import XrootdServer, free_port, xrootd
from support.waiting import until
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.model import Checksum
from vse.storage.contract import CHUNK_BYTES
from vse.storage.drivers.xroot import XrootDriver
from vse.storage.drivers.xroot_client import MEANINGS
from vse.testing.drivers import NAMES, DriverConformance, adler32, fetch, is_there, names_in, pattern, store


@pytest.fixture(scope="module")
def server() -> Iterator[XrootdServer]:
    with xrootd(make_certificates()) as running:
        yield running


@pytest.fixture(scope="module")
def second() -> Iterator[XrootdServer]:
    with xrootd(make_certificates()) as running:
        yield running


def driver_of(server: XrootdServer, no_progress_s: float = 10.0) -> XrootDriver:
    return XrootDriver(section(Host="127.0.0.1", Port=server.port, Path="/data"), no_progress_s)


def section(**settings: object) -> ProtocolSettings:
    return ProtocolSettings.model_validate({"Section": "XROOT", **settings})


@pytest.fixture
def driver(server: XrootdServer) -> Iterator[XrootDriver]:
    driver = driver_of(server)
    yield driver
    driver.close()


@pytest.fixture
def base(driver: XrootDriver) -> str:
    path = f"/data/{uuid.uuid4().hex}"
    driver.make_directory(path)
    return path


@pytest.mark.slow
class TestXrootDriver(DriverConformance):
    server_name = "XRootD"

    names = (*(name for name in NAMES if "?" not in name), "number#sign&amp=equal+plus.root")

    @pytest.fixture
    def other(self, second: XrootdServer) -> Iterator[tuple[XrootDriver, str]]:
        driver = driver_of(second)
        path = f"/data/{uuid.uuid4().hex}"
        driver.make_directory(path)
        yield driver, path
        driver.close()

    refused = ("a?b", "a?", "line\nfeed", "a\x00b", "\x7f")


@pytest.mark.slow
class TestXrootSpecifics:
    def test_urls_and_their_synonyms(self, driver: XrootDriver, server: XrootdServer) -> None:
        assert driver.url("/data/a.root") == f"root://127.0.0.1:{server.port}//data/a.root"
        for url in (f"root://127.0.0.1:{server.port}//data/a", f"xroot://127.0.0.1:{server.port}//data/a"):
            assert driver.path_of(url) == "/data/a"
        for url in (
            f"roots://127.0.0.1:{server.port}//data/a",
            "root://127.0.0.1//data/a",
            f"root://other:{server.port}//data/a",
            f"root://127.0.0.1:{server.port}//data/a?authz=x",
            "root://127.0.0.1:99999999//data",
        ):
            with pytest.raises(errors.BadRequest):
                driver.path_of(url)

    def test_vectors_beyond_the_limits_of_one_request(self, driver: XrootDriver, base: str) -> None:
        data = pattern(9 * CHUNK_BYTES)
        store(driver, f"{base}/a.bin", data)
        many = [(offset, 7) for offset in range(0, 3000 * 64, 64)]
        long = [(1, 5 * CHUNK_BYTES), (0, len(data)), (8 * CHUNK_BYTES, 3)]
        with driver.open(f"{base}/a.bin") as reader:
            for ranges in (many, long):
                found = reader.pread_many(ranges)
                assert found == [data[offset : offset + size] for offset, size in ranges]
            assert reader.pread(3, 8 * CHUNK_BYTES) == data[3 : 3 + 8 * CHUNK_BYTES]

    def test_a_file_that_changes_its_size_while_open(
        self, driver: XrootDriver, server: XrootdServer, base: str
    ) -> None:
        store(driver, f"{base}/a.bin", pattern(5000))
        with driver.open(f"{base}/a.bin") as reader:
            os.truncate(server.data.parent / f"{base}/a.bin"[1:], 4000)
            for read in (
                lambda: reader.pread(3500, 1000),
                lambda: reader.pread_many([(0, 10), (4500, 10)]),
                lambda: list(reader.stream()),
            ):
                with pytest.raises(errors.SizeMismatch, match="5000"):
                    read()

    def test_what_the_server_keeps_is_held_against_the_checksum(
        self, driver: XrootDriver, server: XrootdServer, base: str
    ) -> None:
        """A disk that flips a bit between the upload and the rename."""
        data = pattern(10_000)
        upload = driver.put(f"{base}/a.bin", len(data), adler32(data))
        upload.write(data)
        upload._send()
        while upload._pending:
            upload._await_oldest()
        (partial,) = (server.data / ".vse-partial").glob("*.upload")
        with partial.open("r+b") as file:
            file.write(b"\xff\x00\xff\x00")
        with pytest.raises(errors.ChecksumMismatch, match="the server's bytes"):
            upload.commit()
        assert not is_there(driver, f"{base}/a.bin")
        assert not list((server.data / ".vse-partial").iterdir())

    def test_other_checksums_are_held_against_the_bytes(self, driver: XrootDriver, base: str) -> None:
        right = Checksum.parse("md5:827ccb0eea8a706c4c34a16891f84e7b")
        assert store(driver, f"{base}/a.bin", b"12345", right).size_bytes == 5
        with pytest.raises(errors.ChecksumMismatch):
            store(driver, f"{base}/b.bin", b"12346", right)
        assert names_in(driver, base) == ["a.bin"]

    def test_a_lock_left_by_the_dead_is_broken(
        self, driver: XrootDriver, server: XrootdServer, base: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from vse.storage.drivers import xroot_names

        monkeypatch.setattr(xroot_names, "_LOCK_WAIT_S", 0.1)
        with driver._names._locked(f"{base}/a.bin", "test"):
            with pytest.raises(errors.SourceUnavailable, match="another upload"):
                store(driver, f"{base}/a.bin", b"12345")
            (lock,) = (server.data / ".vse-partial").glob("*.lock")
            os.utime(lock, (1e9, 1e9))
            store(driver, f"{base}/a.bin", b"12345")
        assert fetch(driver, f"{base}/a.bin") == b"12345"

    def test_one_process_of_many_wins(self, server: XrootdServer, driver: XrootDriver, base: str) -> None:
        script = (
            "import sys\n"
            "from vse.config.settings import ProtocolSettings\n"
            "from vse.errors import AlreadyExists\n"
            "from vse.storage.drivers.xroot import XrootDriver\n"
            f"driver = XrootDriver(ProtocolSettings.model_validate("
            f"{{'Host': '127.0.0.1', 'Port': {server.port}, 'Path': '/data'}}))\n"
            f"upload = driver.put('{base}/a.bin', 1)\n"
            "upload.write(sys.argv[1].encode())\n"
            "print('ready', flush=True)\n"
            "sys.stdin.readline()\n"
            "try:\n    upload.commit()\nexcept AlreadyExists:\n    print('lost')\nelse:\n    print('won')\n"
        )
        running = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(4)
        ]
        for one in running:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in running:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        said = [one.communicate(timeout=30)[0].strip() for one in running]
        assert sorted(said) == ["lost", "lost", "lost", "won"]
        assert fetch(driver, f"{base}/a.bin") == str(said.index("won")).encode()


@pytest.mark.slow
def test_a_server_that_is_down_silent_or_dies_in_mid_file_fails_in_seconds() -> None:
    started_s = time.monotonic()
    nobody = XrootDriver(section(Host="127.0.0.1", Port=free_port()), 5.0)
    with pytest.raises(errors.SourceUnavailable, match="Connection error"):
        nobody.stat(["/data"]).one("/data")
    unknown = XrootDriver(section(Host="no-such-host.invalid"), 5.0)
    with pytest.raises(errors.SourceUnavailable, match="address"):
        unknown.open("/data/a")
    with xrootd(make_certificates()) as server:
        driver = driver_of(server, 1.0)
        data = pattern(40 * CHUNK_BYTES)
        (server.data / "a.bin").write_bytes(data)
        reader, stream = driver.open("/data/a.bin"), driver.open("/data/a.bin").stream()
        next(stream)
        upload = driver.put("/data/b.bin", 40 * CHUNK_BYTES)
        server.pause(signal.SIGSTOP)
        with pytest.raises(errors.Stalled):
            reader.pread(0, 10)
        with pytest.raises(errors.Stalled):
            driver.stat(["/data"]).one("/data")
        server.pause(signal.SIGCONT)
        assert reader.pread(0, 10) == data[:10]
        server.stop()
        with pytest.raises(errors.StorageError):
            list(stream)
        with pytest.raises(errors.StorageError), upload:
            upload.write(data)
            upload.commit()
        server.start()

        def size_bytes() -> int | None:
            with suppress(errors.SourceUnavailable):
                return driver.stat(["/data/a.bin"]).one("/data/a.bin").size_bytes
            return None

        assert until(size_bytes) == len(data)
        assert not is_there(driver, "/data/b.bin")
    assert time.monotonic() - started_s < 25


@pytest.mark.slow
def test_a_server_that_forbids_to_write() -> None:
    with xrootd(make_certificates(), "all.export /data r/o") as server:
        driver = driver_of(server)
        (server.data / "a.bin").write_bytes(b"12345")
        assert fetch(driver, "/data/a.bin") == b"12345"
        for attempt in (
            lambda: store(driver, "/data/b.bin", b"1"),
            lambda: driver.remove(["/data/a.bin"]).one("/data/a.bin"),
            lambda: driver.make_directory("/data/d"),
        ):
            with pytest.raises(errors.Denied):
                attempt()
        with pytest.raises(errors.VseError):
            driver.stat(["/elsewhere"]).one("/elsewhere")


@pytest.mark.slow
def test_what_a_killed_upload_left_is_dropped_by_the_server() -> None:
    with xrootd(make_certificates(), "ofs.persist auto hold 1") as server:
        script = (
            "import os\n"
            "from vse.config.settings import ProtocolSettings\n"
            "from vse.storage.drivers.xroot import XrootDriver\n"
            "section = ProtocolSettings.model_validate(\n"
            f"    {{'Host': '127.0.0.1', 'Port': {server.port}, 'Path': '/data'}})\n"
            "upload = XrootDriver(section).put('/data/a.bin', 10**7)\n"
            "upload.write(b'1' * 5000000)\n"
            "os.kill(os.getpid(), 9)\n"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
        until(lambda: not list((server.data / ".vse-partial").iterdir()))
        assert not (server.data / "a.bin").exists()


def test_settings_that_cannot_be() -> None:
    for bad in (section(), section(Host="h", Protocol="http"), section(Host="h", TokenFile="/t")):
        with pytest.raises(errors.BadSettings):
            XrootDriver(bad)


def test_without_the_library_the_message_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['XRootD'] = sys.modules['XRootD.client'] = None\n"
        "from vse.config.settings import ProtocolSettings\n"
        "from vse.storage.drivers.xroot import XrootDriver\n"
        "try:\n    XrootDriver(ProtocolSettings.model_validate({'Host': 'h'})).open('/a')\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.startswith("Unsupported ")
    assert "Pip install 'virtual-storage-element[xrootd]'" in said


def test_the_table_of_errors_has_no_gap() -> None:
    assert set(range(3000, 3035)) <= set(MEANINGS)
