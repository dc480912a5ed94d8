"""The live page: what it shows, and that nobody sees or orders anything without the token."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hist
import pytest

from vse.analysis.live import LivePage, Rates, drawable
from vse.analysis.report_effort import Effort
from vse.analysis.result import Progress


class Visitor:
    """A browser's requests, with a token or without."""

    def __init__(self, page: LivePage) -> None:
        self.port = page.port
        self.token = page.url.partition("#")[2]

    def ask(
        self, path: str, body: str | None = None, *, token: str | None = None, host: str = ""
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        if host:
            headers["Host"] = host
        try:
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def state(self) -> Any:
        status, body, _ = self.ask("/state")
        assert status == 200
        return json.loads(body)


def moment(done: int, output: Any = None, **more: Any) -> Progress:
    effort = Effort()
    for name in ("tls://127.0.0.1:4001", "tls://127.0.0.1:4002"):
        effort.joined(name, 0.0)
    effort.answered("tls://127.0.0.1:4001", "/a", done, 0.5, 1000 * done, True)
    efforts = tuple(effort.workers.values())
    return Progress(
        done, 3, 1000, 4, 2, False, 1000 * done, 2.0, done / 2, 1.0, {"tls://127.0.0.1:4001": done}, output,
        efforts=efforts, **more,
    )  # fmt: skip


@pytest.fixture
def orders() -> list[str]:
    return []


@pytest.fixture
def page(orders: list[str]) -> Iterator[LivePage]:
    with LivePage("Dimuon <b>masses</b>", "/lhc/*.root", orders.append) as live:
        yield live


def test_progress_workers_and_histograms_are_told(page: LivePage) -> None:
    visitor = Visitor(page)
    assert visitor.state()["state"] == "running"
    mass = (
        hist.Hist.new.Reg(60, 60, 120, name="mass", label=r"$m_{\mu\mu}$ [GeV]").Double().fill([91.0, 92.0])
    )
    page.hear(moment(400, {"dy": {"mass": mass}}))
    state = visitor.state()
    assert (state["entries_done"], state["entries_expected"], state["entries_failed"]) == (400, 1000, 3)
    assert [worker["name"] for worker in state["workers"]] == ["127.0.0.1:4001", "127.0.0.1:4002"]
    assert [worker["read_bytes"] for worker in state["workers"]] == [400_000, 0]
    drawn = state["histograms"][0]
    assert (drawn["name"], drawn["label"], drawn["total"]) == ("dy/mass", "mµµ [GeV]", 2.0)
    assert len(drawn["edges"]) == len(drawn["values"]) + 1 == 61
    page.hear(moment(500, None, paused=True))
    assert visitor.state()["state"] == "paused"
    page.hear(moment(500))
    assert visitor.state()["state"] == "running"
    page.finish(None, "the script raised")
    assert (visitor.state()["state"], visitor.state()["note"]) == ("failed", "the script raised")


def test_histograms_are_left_alone_while_nobody_looks(page: LivePage) -> None:
    class Untouchable(dict[str, Any]):
        def items(self) -> Any:
            raise AssertionError("it was looked at")

    page.hear(moment(1, Untouchable(a=1)))
    Visitor(page).state()
    with pytest.raises(AssertionError, match="it was looked at"):
        page.hear(moment(2, Untouchable(a=1)))


@pytest.mark.parametrize("path", ["/state", "/nothing", "/../etc/passwd", "/order"])
@pytest.mark.parametrize("token", ["", "wrong", "Bearer"])
def test_without_the_token_there_is_nothing(page: LivePage, path: str, token: str) -> None:
    status, body, _ = Visitor(page).ask(path, token=token)
    assert (status, body) == (403, b"Forbidden\n")


def test_the_empty_page_tells_nothing_and_loads_nothing(page: LivePage) -> None:
    page.hear(moment(400))
    status, body, headers = Visitor(page).ask("/", token="")
    text = body.decode()
    assert status == 200
    for secret in ("Dimuon", "4001", page.url.partition("#")[2]):
        assert secret not in text
    assert not re.findall(r"(?:src|href)=", text)
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert "innerHTML" not in text
    assert "prefers-color-scheme: dark" in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"


def test_a_foreign_name_for_this_machine_is_refused(page: LivePage) -> None:
    visitor = Visitor(page)
    for host in ("evil.example", f"evil.example:{page.port}", "127.0.0.1"):
        assert visitor.ask("/state", host=host)[0] == 403
        assert visitor.ask("/", host=host)[0] == 403
        assert visitor.ask("/order", "stop", host=host)[0] == 403
    assert visitor.ask("/state", host=f"localhost:{page.port}")[0] == 200


def test_orders_are_taken_from_who_has_the_token(page: LivePage, orders: list[str]) -> None:
    visitor = Visitor(page)
    assert visitor.ask("/order", "stop", token="wrong")[0] == 403
    assert orders == []
    assert [visitor.ask("/order", name)[0] for name in ("pause", "resume", "stop")] == [204, 204, 204]
    assert orders == ["pause", "resume", "stop"]
    for bad in ("format", "", "stop\n", "x" * 5000):
        assert visitor.ask("/order", bad)[0] == 400
    assert visitor.ask("/elsewhere", "stop")[0] == 400
    assert len(orders) == 3


def test_it_is_reached_from_this_machine_only(page: LivePage) -> None:
    assert page.url.startswith("http://127.0.0.1:")
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), page.port, socket.AF_INET)}
    for address in addresses - {"127.0.0.1"}:
        with pytest.raises(OSError), socket.create_connection((str(address), page.port), timeout=2):
            pass


def test_a_page_that_is_open_gets_the_end_before_the_server_goes() -> None:
    page = LivePage("a", "b")
    visitor = Visitor(page)
    visitor.state()
    page.finish(None, "over")
    seen: list[str] = []
    watcher = threading.Thread(target=lambda: seen.append(visitor.state()["state"]))
    watcher.start()
    page.close()
    watcher.join()
    assert seen == ["failed"]
    with pytest.raises(OSError):
        visitor.state()


def test_many_bins_become_few_and_nothing_is_lost() -> None:
    fine = hist.Hist.new.Log(1201, 0.3, 200, name="m").Double()
    fine.fill([0.5, 91.0, 91.1, 199.0])
    plane = (
        hist.Hist.new.Reg(101, 0, 1, name="x").Reg(7, 0, 1, name="y").Double().fill([0.99, 0.1], [0.5, 0.1])
    )
    cube = hist.Hist.new.Reg(2, 0, 1).Reg(2, 0, 1).Reg(2, 0, 1).Double()
    spectrum, drawn = drawable({"fine": fine, "plane": plane, "cube": cube})
    assert spectrum["log"]
    assert len(spectrum["values"]) <= 240
    assert len(spectrum["edges"]) == len(spectrum["values"]) + 1
    assert sum(spectrum["values"]) == spectrum["total"] == 4
    assert len(drawn["values"]) <= 40
    assert sum(map(sum, drawn["values"])) == 2


def test_rates_are_those_of_the_last_seconds() -> None:
    rates = Rates(window_s=5.0)
    for second in range(11):
        told = rates.hear(float(second), {"steady": second * 100.0, "stuck": min(second, 2) * 100.0})
    assert told == {"steady": pytest.approx(100.0), "stuck": 0.0}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no browser")
def test_a_browser_shows_it(page: LivePage, tmp_path: Path) -> None:
    page.state()
    mass = hist.Hist.new.Reg(60, 60, 120, name="mass", label="mass [GeV]").Double().fill([91.0] * 50)
    page.hear(moment(400, {"mass": mass}))
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
         "--virtual-time-budget=4000", "--dump-dom", page.url],
        capture_output=True, timeout=60, check=True,
    ).stdout.decode()  # fmt: skip
    assert "Dimuon &lt;b&gt;masses&lt;/b&gt;" in done
    assert 'class="running">Running.<' in done
    assert "127.0.0.1:4001" in done
    assert 'class="data" d="M' in done
    assert "50 entries" in done
