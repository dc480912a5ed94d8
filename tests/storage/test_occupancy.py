"""How full is it? Reports of every kind, lies in them, and servers that do not answer."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from support.waiting import until
from vse.config.settings import ElementSettings
from vse.errors import BadSettings, Denied, NoSuchFile, ServerFault, SourceUnavailable, Stalled, VseError
from vse.model import Space
from vse.storage.element import StorageElement
from vse.storage.occupancy import UNKNOWN, Occupancies, measure, occupancy_of
from vse.storage.occupancy.reports import capped, plain, wlcg

SHARES = [
    {"name": "DISK", "totalsize": 1000, "usedsize": 400, "path": ["/vo"]},
    {"name": "USER", "totalsize": 100, "usedsize": 10, "freesize": 80, "path": ["/vo/user"]},
    {"name": "OTHER", "totalsize": 7, "usedsize": 7, "path": ["/vo/users"]},
    {"name": "NO-PATH", "totalsize": 5, "usedsize": 1},
]
REPORT = json.dumps({"storageservice": {"name": "site", "storageshares": SHARES}})


def element(directory: Path, **settings: object) -> StorageElement:
    section = {"Protocol": "file", "Path": str(directory)}
    return StorageElement(ElementSettings.model_validate({"Name": "DISK", **settings, "File": section}))


@contextmanager
def web(answer: bytes, status: int = 200, hold: threading.Event | None = None) -> Iterator[str]:
    """A web server that gives one answer, to each who asks, once ``hold`` is set."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if hold is not None:
                hold.wait(20)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/report.json"
    finally:
        if hold is not None:
            hold.set()
        server.shutdown()
        server.server_close()


def test_the_share_is_found_by_name_or_by_the_longest_path() -> None:
    assert wlcg(REPORT, "USER", "/elsewhere", "x") == Space(100, 80)
    assert wlcg(REPORT, "", "/vo/user/me", "x") == Space(100, 80)
    assert wlcg(REPORT, "", "/vo/userland", "x") == Space(1000, 600)
    assert wlcg(REPORT, "unknown", "/vo", "x") == Space(1000, 600)
    assert wlcg(REPORT, "", "/vo/users/", "x") == Space(7, 0)
    with pytest.raises(ServerFault, match="there are DISK, USER"):
        wlcg(REPORT, "", "/elsewhere", "x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        "[]",
        "{}",
        '{"Total": 5}',
        '{"Total": "5", "Free": 1}',
        '{"Total": true, "Free": 1}',
        '{"Total": NaN, "Free": 1}',
        '{"Total": 1e300, "Free": 1}',
        '{"storageservice": []}',
        '{"storageservice": {"storageshares": [1]}}',
        '{"storageservice": {"storageshares": [{"name": "A", "path": ["/"], "totalsize": null}]}}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_report_is_an_error_and_no_number(text: str | bytes) -> None:
    for read in (lambda: plain(text, "learn"), lambda: wlcg(text, "A", "/", "learn")):
        with pytest.raises(ServerFault) as raised:
            read()
        assert raised.value.found


def test_no_answer_is_beyond_what_can_be() -> None:
    assert plain('{"Total": 20, "Free": 10}', "x") == Space(20, 10)
    assert plain('{"Total": 20, "Free": 30}', "x") == Space(20, 20)
    assert plain('{"Total": -20, "Free": -1}', "x") == Space(0, 0)
    assert plain('{"Total": 2e3, "Free": 0.5}', "x") == Space(2000, 0)
    assert capped(None, 5) == Space(None, 5)


def test_a_mounted_storage_is_measured_by_the_system(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    for plugin in ({}, {"OccupancyPlugin": "StatVFS"}, {"OccupancyPlugin": "statvfs"}):
        space = measure(element(tmp_path, **plugin))
        assert space.total_bytes == status.f_blocks * status.f_frsize
        assert 0 < space.free_bytes <= space.total_bytes


def test_the_report_at_its_default_place_is_read_through_the_element(tmp_path: Path) -> None:
    (tmp_path / "lhcb").mkdir()
    (tmp_path / "lhcb/occupancy.json").write_text('{"Total": 20, "Free": 10}')
    (tmp_path / "there.json").write_text('{"Total": 40, "Free": 30}')
    assert measure(element(tmp_path, OccupancyPlugin="OccupancyJson"), "lhcb") == Space(20, 10)
    named = element(tmp_path, OccupancyPlugin="OccupancyJson", OccupancyLFN="/there.json")
    assert measure(named, "lhcb") == Space(40, 30)
    with pytest.raises(NoSuchFile, match="occupancy"):
        measure(element(tmp_path, OccupancyPlugin="OccupancyJson"), "another")


def test_a_wlcg_report_in_the_element_in_a_file_and_on_the_web(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(REPORT)
    with web(REPORT.encode()) as url:
        for plugin, where in (
            ("WLCGAccountingJson", "/report.json"),
            ("WLCGAccountingJson", (tmp_path / "report.json").as_uri()),
            ("WLCGAccountingHTTPJson", url),
        ):
            asked = element(tmp_path, OccupancyPlugin=plugin, OccupancyLFN=where, SpaceReservation="USER")
            assert measure(asked) == Space(100, 80), where


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NoSuchFile), (403, Denied), (500, ServerFault), (204, ServerFault)]
)
def test_a_web_server_that_refuses(tmp_path: Path, status: int, kind: type[VseError]) -> None:
    with web(b"", status) as url, pytest.raises(kind, match="report"):
        measure(element(tmp_path, OccupancyPlugin="WLCGAccountingHTTPJson", OccupancyLFN=url))


def test_a_web_server_that_is_not_there(tmp_path: Path) -> None:
    with web(b"") as url:
        pass
    with pytest.raises(SourceUnavailable):
        measure(element(tmp_path, OccupancyPlugin="WLCGAccountingHTTPJson", OccupancyLFN=url))


def test_an_unknown_plugin_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"'BDII'.*WLCGAccountingJson"):
        measure(element(tmp_path, OccupancyPlugin="BDII"))


# -- never blocking ------------------------------------------------------------------------------------


def test_a_slow_server_yields_unknown_in_time_and_its_answer_later(tmp_path: Path) -> None:
    hold = threading.Event()
    with web(REPORT.encode(), hold=hold) as url:
        slow = element(
            tmp_path, OccupancyPlugin="WLCGAccountingHTTPJson", OccupancyLFN=url, SpaceReservation="USER"
        )
        known = Occupancies(wait_s=0.1)
        started = time.monotonic()
        first = known.of(slow)
        assert time.monotonic() - started < 2
        assert first.space == UNKNOWN
        assert isinstance(first.error, Stalled)
        hold.set()
        until(lambda: known.of(slow).error is None)
        assert known.of(slow).space == Space(100, 80)


class Scripted:
    """Answers, or raises, one after the other; counts how often it was asked."""

    def __init__(self, *answers: Space | VseError) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, _element: object, _vo: str) -> Space:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, VseError):
            raise answer
        return answer


def test_answers_are_kept_for_their_time_and_survive_failures(tmp_path: Path) -> None:
    now = [1000.0]
    script = Scripted(Space(10, 5), SourceUnavailable("ask", "down"), Space(10, 4))
    known = Occupancies(fresh_s=60.0, clock=lambda: now[0], wait_s=10.0, ask=script)
    disk = element(tmp_path)
    assert known.of(disk).space == Space(10, 5)
    now[0] += 59
    assert known.of(disk) == (Space(10, 5), 1000.0, None)
    assert script.asked == 1
    now[0] += 2
    failed = known.of(disk)
    assert failed.space == Space(10, 5)
    assert failed.measured_s == 1000.0
    assert isinstance(failed.error, SourceUnavailable)
    assert known.of(disk) == failed
    assert script.asked == 2  # a server that is down is not asked at every turn either
    now[0] += 61
    assert known.of(disk) == (Space(10, 4), now[0], None)


def test_a_server_is_not_asked_again_while_it_is_asked(tmp_path: Path) -> None:
    hold = threading.Event()
    asked: list[str] = []

    def ask(one: object, _vo: str) -> Space:
        asked.append(one.name)
        hold.wait(20)
        return Space(1, 1)

    known = Occupancies(wait_s=0.01, ask=ask)
    disk = element(tmp_path)
    assert {known.of(disk).space for _ in range(20)} == {UNKNOWN}
    assert asked == ["DISK"]
    hold.set()


def test_the_simple_question(tmp_path: Path) -> None:
    assert occupancy_of(element(tmp_path)).total_bytes > 0
