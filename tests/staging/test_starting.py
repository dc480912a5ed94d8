"""A service that is started while it cannot work: when it tries again, and what it says meanwhile."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vse.app.starting import when_right
from vse.errors import BadSettings, DatabaseBusy, Denied, VseError
from vse.monitor.events import Events


class Told(Events):
    """Keeps what is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def tell(self, event: str, error: VseError | None = None, /, **values: object) -> None:
        self.told.append(f"{event}: {error}")


class Building:
    """Fails with each of ``errors``, then works."""

    def __init__(self, *errors: VseError) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "built"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "vse.toml"
    path.write_text("bad")
    return path


def test_what_can_pass_by_itself_is_tried_again_though_the_file_is_the_same(path: Path) -> None:
    told = Told()
    busy = DatabaseBusy("open the database", "it does not answer")
    assert when_right(Building(busy), path, threading.Event(), told, look_s=0.01) == "built"
    assert told.told == [f"service.paused: {busy}"]


def test_what_stays_wrong_is_told_once_and_what_is_wrong_next_too(path: Path) -> None:
    told, stop = Told(), threading.Event()
    first, second = BadSettings("use a", "it is wrong"), BadSettings("use b", "it is wrong")

    class Mended(Building):
        def __call__(self) -> str:
            path.write_text(path.read_text() + "x")  # while it is read: it is read again
            return super().__call__()

    assert when_right(Mended(first, first, second), path, stop, told, look_s=0.01) == "built"
    assert told.told == [f"service.paused: {first}", f"service.paused: {second}"]


def test_other_errors_end_it(path: Path) -> None:
    with pytest.raises(Denied):
        when_right(Building(Denied("do it", "no")), path, threading.Event(), Told())


def test_systemd_is_told_that_it_waits_and_that_it_works(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        busy = DatabaseBusy("open the database", "it does not answer")
        when_right(Building(busy), path, threading.Event(), Told(), look_s=0.01)
        assert systemd.recv(4000).decode() == f"READY=1\nSTATUS=paused: {busy}"
        assert systemd.recv(4000) == b"STATUS=working"
