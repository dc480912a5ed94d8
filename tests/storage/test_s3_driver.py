"""The S3 driver against a real Ceph cluster of one with its gateway, and against rclone's server."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.s3 import S3Server, ceph, rclone
from vse import errors
from vse.config.settings import ProtocolSettings
from vse.storage.drivers.s3 import S3Driver
from vse.storage.drivers.s3_signing import Keys
from vse.testing.drivers import DriverConformance, adler32, fetch, is_there, names_in, pattern, store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with ceph() as running:
        yield running


def section(server: S3Server, **changes: object) -> ProtocolSettings:
    given: dict[str, object] = {
        "Section": "S3",
        "Host": "127.0.0.1",
        "Port": server.port,
        "Path": f"/{server.bucket}/data",
        "SecureConnection": False,
        "Aws_access_key_id": server.access_key,
        "Aws_secret_access_key": server.secret_key,
    }
    return ProtocolSettings(**given | changes)


@pytest.fixture
def driver(server: S3Server) -> Iterator[S3Driver]:
    driver = S3Driver(section(server), 10.0)
    yield driver
    driver.close()


@pytest.fixture
def base(server: S3Server, driver: S3Driver) -> str:
    path = f"/{server.bucket}/data/{uuid.uuid4().hex}"
    driver.make_directory(path)
    return path


class TestS3Driver(DriverConformance):
    server_name = "Ceph"

    @pytest.fixture
    def driver(self, server: S3Server) -> Iterator[S3Driver]:
        driver = S3Driver(section(server), 10.0)
        yield driver
        driver.close()

    @pytest.fixture
    def base(self, server: S3Server, driver: S3Driver) -> str:
        path = f"/{server.bucket}/data/{uuid.uuid4().hex}"
        driver.make_directory(path)
        return path


def test_a_large_file_streams_and_is_write_once(driver: S3Driver, base: str) -> None:
    data = pattern(20 << 20)
    with driver.put(f"{base}/new/large #1.bin", len(data), adler32(data)) as upload:
        for start in range(0, len(data), 1 << 20):
            upload.write(data[start : start + (1 << 20)])
        assert not is_there(driver, f"{base}/new/large #1.bin")
        # Somebody else was asked to write the same name, and is first.
        rival = driver.put(f"{base}/new/large #1.bin", len(data), adler32(data))
        rival.write(data)
        upload.commit()
    with pytest.raises(errors.AlreadyExists):
        rival.commit()
    assert fetch(driver, f"{base}/new/large #1.bin") == data
    with driver.open(f"{base}/new/large #1.bin") as reader:
        assert b"".join(bytes(piece) for piece in reader.stream(3)) == data[3:]
    checksums = driver.checksum([f"{base}/new/large #1.bin"], "adler32")
    assert checksums.one(f"{base}/new/large #1.bin") == adler32(data)


@pytest.mark.parametrize("changed", [b"x", b""])
def test_a_large_file_that_is_not_the_declared_one_leaves_nothing(
    driver: S3Driver, base: str, changed: bytes
) -> None:
    data = pattern(6 << 20)
    sent = data[:-1] + changed
    with pytest.raises(errors.IntegrityError), driver.put(f"{base}/a", len(data), adler32(data)) as upload:
        upload.write(sent)
        upload.commit()
    assert names_in(driver, base) == []


def test_an_undeclared_checksum_of_a_large_file_is_not_made_up(driver: S3Driver, base: str) -> None:
    store(driver, f"{base}/a", bytes(5 << 20))
    with pytest.raises(errors.Unsupported, match="no adler32 was stored"):
        driver.checksum([f"{base}/a"], "adler32").one(f"{base}/a")


def test_more_than_one_put_can_hold_is_refused_at_once(driver: S3Driver, base: str) -> None:
    with pytest.raises(errors.Unsupported, match="one conditional PUT"):
        driver.put(f"{base}/a", 6 << 30)


def test_bucket_as_an_option_of_its_own(server: S3Server, driver: S3Driver, base: str) -> None:
    store(driver, f"{base}/a", b"12345")
    there = S3Driver(section(server, Bucket=server.bucket, Path="/data"), 10.0)
    path = base.removeprefix(f"/{server.bucket}") + "/a"
    assert fetch(there, path) == b"12345"
    assert there.path_of(driver.url(f"{base}/a")) == path
    with pytest.raises(errors.BadSettings, match="names a bucket"):
        S3Driver(section(server, Path="/"))


def test_keys_from_files_are_never_shown(
    server: S3Server, tmp_path: Path, base: str, capfd: pytest.CaptureFixture[str]
) -> None:
    access, secret = tmp_path / "access", tmp_path / "secret"
    access.write_text(f"{server.access_key}\n")
    secret.write_text("not-the-right-one\n")
    files = {"AccessKeyFile": str(access), "SecretKeyFile": str(secret)}
    plain = {"Aws_access_key_id": None, "Aws_secret_access_key": None}
    driver = S3Driver(section(server, **files, **plain), 10.0)
    for call in (
        lambda: driver.stat([base]).one(base),
        lambda: list(driver.list(base)),
        lambda: driver.put(f"{base}/a", 1),
        lambda: driver.make_directory(f"{base}/b"),
    ):
        with pytest.raises(errors.Denied, match="AccessKeyFile") as caught:
            call()
        for text in (str(caught.value), repr(caught.value.__cause__), driver.url(base)):
            assert "not-the-right-one" not in text
            assert server.access_key not in text
    secret.write_text(server.secret_key)
    driver.close()
    assert driver.stat([base]).one(base).is_directory
    secret.unlink()
    driver.close()
    with pytest.raises(errors.Denied, match="Put the storage's key there"):
        driver.stat([base]).one(base)
    assert "secret" not in repr(Keys("a", "secret"))
    assert server.secret_key not in "".join(capfd.readouterr())


def test_a_server_that_is_down(server: S3Server) -> None:
    driver = S3Driver(section(server, Port=9), 2.0)
    path = f"/{server.bucket}/a"
    with pytest.raises(errors.SourceUnavailable, match="no connection"):
        driver.stat([path]).one(path)
    with pytest.raises(errors.SourceUnavailable):
        driver.put(path, 5)


def test_a_server_that_would_overwrite_is_not_written_to() -> None:
    with rclone() as server:
        driver = S3Driver(section(server), 10.0)
        path = f"/{server.bucket}/a"
        with pytest.raises(errors.Unsupported, match="If-None-Match"):
            driver.put(path, 5)
        assert names_in(driver, f"/{server.bucket}") == []


def test_without_the_library_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    driver = S3Driver(section(S3Server(9)))
    with pytest.raises(errors.BadSettings, match=r"virtual-storage-element\[s3\]"):
        driver.stat(["/vse-bucket/a"]).one("/vse-bucket/a")
