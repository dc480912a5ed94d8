"""The fsspec driver: memory, local files, a real SFTP server, and HTTP (VSE's own door)."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.sftp import SftpServer, sftp
from support.served_door import TOKEN, Served
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.drivers.fsspec import FsspecDriver
from vse.testing.drivers import DriverConformance, fetch, pattern, store


@pytest.fixture(scope="module")
def server() -> Iterator[SftpServer]:
    with sftp() as running:
        yield running


def over_sftp(server: SftpServer, **changes: object) -> FsspecDriver:
    given: dict[str, object] = {
        "Section": "Fsspec",
        "Protocol": "sftp",
        "Host": "127.0.0.1",
        "Port": server.port,
        "Path": str(server.directory),
        "Options": {"username": server.user, "key_filename": str(server.key_file), "look_for_keys": False},
    }
    return FsspecDriver(ProtocolSettings(**given | changes), 10.0)


class TestMemory(DriverConformance):
    server_name = "memory"

    @pytest.fixture
    def driver(self) -> FsspecDriver:
        return FsspecDriver(ProtocolSettings(Section="Fsspec", Protocol="memory", Path="/vse"))

    @pytest.fixture
    def base(self, driver: FsspecDriver) -> str:
        path = f"/vse/{uuid.uuid4().hex}"
        driver.make_directory(path)
        return path


class TestLocalFiles(DriverConformance):
    server_name = "Linux"

    @pytest.fixture
    def driver(self, tmp_path: Path) -> FsspecDriver:
        return FsspecDriver(ProtocolSettings(Section="Fsspec", Protocol="file", Path=str(tmp_path)))

    @pytest.fixture
    def base(self, tmp_path: Path) -> str:
        (tmp_path / "base").mkdir()
        return str(tmp_path / "base")


@pytest.mark.slow
class TestSftp(DriverConformance):
    server_name = "OpenSSH"

    @pytest.fixture
    def driver(self, server: SftpServer) -> Iterator[FsspecDriver]:
        driver = over_sftp(server)
        yield driver
        driver.close()

    @pytest.fixture
    def base(self, server: SftpServer) -> str:
        path = server.directory / uuid.uuid4().hex
        path.mkdir()
        return str(path)


@pytest.mark.slow
def test_sftp_leaves_no_partial_file_and_never_replaces(server: SftpServer) -> None:
    driver = over_sftp(server)
    directory = server.directory / uuid.uuid4().hex
    store(driver, f"{directory}/a", b"first")
    with pytest.raises(errors.AlreadyExists), driver.put(f"{directory}/b", 3) as upload:
        upload.write(b"abc")
        (directory / "b").write_bytes(b"came meanwhile")
        upload.commit()
    assert (directory / "b").read_bytes() == b"came meanwhile"
    assert list((server.directory / ".vse-partial").iterdir()) == []
    driver.close()


@pytest.mark.slow
def test_http_is_read_and_nothing_else(served: Served) -> None:
    data = pattern(300_000)
    (served.directory / "a #1.bin").write_bytes(data)
    section = served.section(Section="Fsspec", Protocol="http", TokenFile=None)
    options = {"client_kwargs": {"headers": {"Authorization": f"Bearer {TOKEN}"}}}
    driver = FsspecDriver(section.model_copy(update={"options": options}), 10.0)
    assert driver.stat(["/data/a #1.bin"]).one("/data/a #1.bin").size_bytes == len(data)
    assert fetch(driver, "/data/a #1.bin") == data
    with driver.open("/data/a #1.bin") as reader:
        ranges = [(0, 10), (5, 0), (299_990, 100), (100_000, 50_000)]
        assert reader.pread_many(ranges) == [data[start : start + size] for start, size in ranges]
    with pytest.raises(errors.NoSuchFile):
        driver.open("/data/none")
    with pytest.raises(errors.Unsupported):
        driver.put("/data/new", 5)
    with pytest.raises(errors.Unsupported):
        list(driver.list("/data"))
    driver.close()


@pytest.mark.slow
def test_a_server_that_is_down_or_refuses_the_key(server: SftpServer, tmp_path: Path) -> None:
    with pytest.raises(errors.SourceUnavailable):
        over_sftp(server, Port=9).stat(["/a"]).one("/a")
    options = {"username": server.user, "password": "none", "look_for_keys": False, "allow_agent": False}
    with pytest.raises(errors.VseError) as caught:
        over_sftp(server, Options=options).stat(["/a"]).one("/a")
    assert "none" not in str(caught.value)


def test_settings_that_name_no_file_system() -> None:
    with pytest.raises(errors.BadSettings, match="no Protocol"):
        FsspecDriver(ProtocolSettings(Section="Fsspec"))
    with pytest.raises(errors.BadSettings, match="gopher"):
        FsspecDriver(ProtocolSettings(Section="Fsspec", Protocol="gopher")).stat(["/a"]).one("/a")
    bad = ProtocolSettings(Section="Fsspec", Protocol="sftp", Options={"nonsense": 1})
    with pytest.raises(errors.BadSettings):
        FsspecDriver(bad).stat(["/a"]).one("/a")


def test_without_the_library_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    driver = FsspecDriver(ProtocolSettings(Section="Fsspec", Protocol="memory"))
    with pytest.raises(errors.BadSettings, match=r"virtual-storage-element\[fsspec\]"):
        driver.stat(["/a"]).one("/a")
