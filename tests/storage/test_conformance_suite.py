"""The conformance suite itself: it finds the faults it is there to find."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from vse.config.settings import ProtocolSettings
from vse.errors import AlreadyExists, Unsupported, VseError
from vse.model import BulkResult, Checksum, Space
from vse.storage.contract import Capabilities, Note, StoredFile
from vse.storage.drivers.file import FileDriver
from vse.storage.drivers.file_reader import FileReader
from vse.storage.drivers.file_upload import FileUpload
from vse.testing.drivers import DriverConformance


class ReadOnlyDriver(FileDriver):
    """Declares nothing, and does nothing but read."""

    capabilities = Capabilities()

    def _refuse(self, *_: object) -> Unsupported:
        return Unsupported("do more than read", "this driver only reads")

    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> FileUpload:
        raise self._refuse()

    def list(self, path: str) -> Iterator[StoredFile]:
        raise self._refuse()

    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        raise self._refuse()

    def rename(self, source: str, target: str) -> None:
        raise self._refuse()

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        return BulkResult(failed={path: self._refuse() for path in paths})

    def space(self, path: str) -> Space:
        raise self._refuse()

    def local_path(self, path: str) -> Path:
        raise self._refuse()

    def make_directory(self, path: str) -> None:
        raise self._refuse()

    def link(self, existing: str, path: str) -> None:
        raise self._refuse()


class TestReadOnlyDriver(DriverConformance):
    """A driver without capabilities passes as one."""

    @pytest.fixture
    def driver(self, tmp_path: Path) -> ReadOnlyDriver:
        return ReadOnlyDriver(ProtocolSettings(Section="File", Path=str(tmp_path)))

    @pytest.fixture
    def base(self, tmp_path: Path) -> str:
        return str(tmp_path)

    def seed(self, driver: object, path: str, data: bytes) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(data)


class DeclaresTooMuch(ReadOnlyDriver):
    capabilities = Capabilities(space=True)


class DoesMoreThanItDeclares(FileDriver):
    capabilities = Capabilities(write=True, remove=True, list=True, rename=True, local_paths=True)


class RenameReplaces(FileDriver):
    def rename(self, source: str, target: str) -> None:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(IsADirectoryError):
            Path(source).replace(target)


class ShowsPartials(FileDriver):
    def list(self, path: str) -> Iterator[StoredFile]:
        for child in Path(path).iterdir():
            yield StoredFile(str(child), child.stat().st_size, 0.0)


class RemovesFullDirectories(FileDriver):
    def remove(self, paths: Sequence[str]) -> BulkResult[None]:
        for path in paths:
            for below in [*Path(path).rglob("*")]:
                below.unlink()
        return super().remove(paths)


class ForgetsTheMissing(FileDriver):
    def stat(self, paths: Sequence[str]) -> BulkResult[StoredFile]:
        found = super().stat(paths)
        return BulkResult(found.ok, {})


class _Careless(FileUpload):
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        with self._target.open("ab") as file:
            file.write(data)

    def commit(self) -> StoredFile:
        return StoredFile(self._path, self._declared.size_bytes, 0.0)


class WritesUnderTheFinalName(FileDriver):
    def put(self, path: str, size_bytes: int, checksum: Checksum | None = None) -> FileUpload:
        super().put(path, size_bytes, checksum).abort()
        return _Careless(Path(path).parents[0], path, Path(path), size_bytes, checksum)


class _OneShort(FileReader):
    def pread(self, offset: int, size_bytes: int) -> bytes:
        return super().pread(offset, size_bytes)[: max(1, size_bytes - 1)]


class ReadsShort(FileDriver):
    def open(self, path: str) -> FileReader:
        super().open(path).close()
        return _OneShort(Path(path))


class EscapesNothing(FileDriver):
    def url(self, path: str) -> str:
        return f"file://{path}"


class LinksReplace(FileDriver):
    def link(self, existing: str, path: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if not Path(path).is_dir() and existing != path:
            Path(path).unlink(missing_ok=True)
            Path(path).hardlink_to(existing)


class LinksAreSoft(FileDriver):
    """The second name is lost with the first."""

    def link(self, existing: str, path: str) -> None:
        super().link(existing, path)
        Path(path).unlink()
        Path(path).symlink_to(existing)


class MakesDirectoriesOnce(FileDriver):
    def make_directory(self, path: str) -> None:
        if Path(path).is_dir():
            raise AlreadyExists(f"make {path}", "it is there")
        super().make_directory(path)


class LeavesZerosOut(FileDriver):
    """XRootD once printed 40001 for 00040001."""

    def checksum(self, paths: Sequence[str], algorithm: str) -> BulkResult[Checksum]:
        answer = super().checksum(paths, algorithm)
        answer.ok = {path: Checksum(one.algorithm, one.value.lstrip("0")) for path, one in answer.ok.items()}
        return answer


class PullsBlindly(FileDriver):
    """Copies whatever is there, and looks at nothing."""

    capabilities = dataclasses.replace(FileDriver.capabilities, pull=frozenset({"file"}))

    def pull(
        self, source_url: str, path: str, size_bytes: int, checksum: Checksum | None, note: Note
    ) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path_of(source_url), path)
        with contextlib.suppress(VseError):
            note(size_bytes)


class StagesNothing(FileDriver):
    capabilities = dataclasses.replace(FileDriver.capabilities, stage=True)


def test_a_faulty_third_party_copy_is_found_out(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    section = ProtocolSettings(Section="File", Path=str(tmp_path))
    other = (FileDriver(section), str(tmp_path / "there"))
    with pytest.raises(AssertionError):
        DriverConformance().test_pull(PullsBlindly(section), str(tmp_path / "here"), other)
    with pytest.raises(AssertionError, match="fixture 'other'"):
        DriverConformance().test_pull(PullsBlindly(section), str(tmp_path / "here"), None)


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        (LinksReplace, "test_link_is_a_second_name"),
        (LinksAreSoft, "test_link_is_a_second_name"),
        (MakesDirectoriesOnce, "test_make_directory"),
        (LeavesZerosOut, "test_checksums_are_canonical"),
        (StagesNothing, "test_stage_poll_and_release"),
        (DeclaresTooMuch, "test_space"),
        (DoesMoreThanItDeclares, "test_space"),
        (RenameReplaces, "test_rename_never_replaces"),
        (ShowsPartials, "test_list_shows_no_upload_under_way"),
        (RemovesFullDirectories, "test_remove_answers_each"),
        (ForgetsTheMissing, "test_stat_tells_size_and_kind_of_each"),
        (WritesUnderTheFinalName, "test_abort_leaves_nothing"),
        (WritesUnderTheFinalName, "test_bytes_that_are_not_the_declared_ones_leave_nothing"),
        (WritesUnderTheFinalName, "test_of_many_that_write_one_name_one_wins"),
        (ReadsShort, "test_ranges_at_every_edge"),
        (ReadsShort, "test_many_ranges_at_once"),
        (EscapesNothing, "test_urls_come_back_as_paths"),
    ],
)
def test_a_faulty_driver_is_found_out(driver: type[FileDriver], name: str, tmp_path: Path) -> None:
    faulty = driver(ProtocolSettings(Section="File", Path=str(tmp_path)))
    with pytest.raises((AssertionError, VseError, KeyError)):
        getattr(TestReadOnlyDriver() if driver is DeclaresTooMuch else DriverConformance(), name)(
            faulty, str(tmp_path)
        )
