"""The wide area of the demonstration: its rate and latency are what was asked for."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.door_site import MakeSite, Site
from vse.demo.wan import Line, WideArea


class HeldTime:
    """A clock that moves only when somebody sleeps, and then a little too far, as timers do."""

    def __init__(self, late_s: float) -> None:
        self.now_s = 1000.0
        self.late_s = late_s

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, wait_s: float) -> None:
        self.now_s = max(self.now_s, self.now_s + wait_s + self.late_s)


@pytest.mark.parametrize("late_s", [0.0, 0.002])
@pytest.mark.parametrize("rate", [1e5, 12.5e6, 1e9])
def test_the_rate_of_one_sender(rate: float, late_s: float) -> None:
    held = HeldTime(late_s)

    async def send() -> float:
        line = Line(rate, held.clock, held.sleep)
        begin_s, sent = held.now_s, 0
        while held.now_s - begin_s < 10:
            await line.take(line.piece_bytes)
            sent += line.piece_bytes
        return sent / (held.now_s - begin_s)

    assert asyncio.run(send()) == pytest.approx(rate, rel=0.03)


def test_a_pause_does_not_save_up_a_burst() -> None:
    held = HeldTime(0.0)

    async def send() -> float:
        line = Line(1e6, held.clock, held.sleep)
        await line.take(1000)
        held.now_s += 3600
        begin_s = held.now_s
        for _ in range(100):
            await line.take(10_000)
        return held.now_s - begin_s

    assert asyncio.run(send()) == pytest.approx(1.0, abs=0.03)


@pytest.fixture
def shaped(make_site: MakeSite) -> Site:
    site = make_site(None, None, middleware=lambda app: WideArea(app, 0.1, 8e6))
    (site.root / "file").write_bytes(bytes(2_000_000))
    return site


@pytest.mark.slow
def test_clients_share_the_line_fairly(shaped: Site) -> None:
    """Four clients, 8 MB over a line of 8 MB/s: one second in all, and all end at about the same time."""
    barrier = threading.Barrier(4)

    def get(_: int) -> tuple[float, float]:
        barrier.wait()
        begin_s = time.monotonic()
        assert len(shaped.ask("GET", "/data/file").body) == 2_000_000
        return begin_s, time.monotonic()

    with ThreadPoolExecutor(4) as pool:
        times = list(pool.map(get, range(4)))
    begin_s, ends = min(begin for begin, _ in times), [end for _, end in times]
    took_s = max(ends) - begin_s
    assert 0.97 <= took_s < 1.5  # a busy machine may be later, nothing may be earlier
    assert min(ends) - begin_s > 0.8 * took_s


@pytest.mark.slow
def test_uploads_and_ranges_are_paced_too(shaped: Site) -> None:
    begin_s = time.monotonic()
    assert shaped.ask("PUT", "/data/new", bytes(4_000_000)).status == 201
    assert time.monotonic() - begin_s > 0.45
    assert (shaped.root / "new").read_bytes() == bytes(4_000_000)
    assert shaped.ask("GET", "/data/file", Range="bytes=0-9,20-29").status == 206


def test_each_query_waits_once_and_nothing_else_does(shaped: Site) -> None:
    def took_s(method: str, path: str) -> float:
        begin_s = time.monotonic()
        shaped.ask(method, path)
        return time.monotonic() - begin_s

    assert took_s("POST", "/api/v1/catalogue/find") >= 0.1
    assert took_s("GET", "/api/v1/health") < 0.1
    assert took_s("HEAD", "/data/file") < 0.1
