"""The live page of a running analysis: progress, workers, histograms so far; pause and stop.

Served on 127.0.0.1 only. The page itself holds nothing; every question and order needs the token, which is
in the fragment of the address that the command prints and so never in a log or a referrer. Nothing is
loaded from anywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from vse.analysis.report import left_out, place_text
from vse.analysis.report_effort import short_name
from vse.model import Closing

if TYPE_CHECKING:
    from vse.analysis.result import AnalysisResult, Progress

MOST_HISTOGRAMS = 24
MOST_BINS = 240
MOST_MAP_BINS = 40
MOST_WORKERS = 200
MOST_GONE = 10
MOST_REASONS = 50
MOST_PLACES = 3
MOST_HANGING = 10
DRAW_EVERY_S = 2.0
_WATCHED_S = 10.0
_MAX_ORDER_BYTES = 1000
ORDERS = ("pause", "resume", "stop")
State = Literal["running", "paused", "stopping", "done", "failed"]


class Rates:
    """How fast each of several counts grows, over the last few seconds."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._window_s = window_s
        self._seen: dict[str, deque[tuple[float, float]]] = {}

    def hear(self, now_s: float, counts: dict[str, float]) -> dict[str, float]:
        """Return the rate of each count, in units a second; 0 for those seen for the first time."""
        self._seen = {name: self._seen.get(name, deque()) for name in counts}
        return {name: self._rate(self._seen[name], now_s, count) for name, count in counts.items()}

    def _rate(self, seen: deque[tuple[float, float]], now_s: float, count: float) -> float:
        seen.append((now_s, count))
        while len(seen) > 2 and seen[1][0] <= now_s - self._window_s:
            seen.popleft()
        since_s, before = seen[0]
        return max(0.0, count - before) / (now_s - since_s) if now_s > since_s else 0.0


class LivePage(Closing):
    """The page of one analysis, from `hear` to `finish`. `order` is called with ``pause`` and so on."""

    def __init__(
        self, title: str, dataset: str, order: Callable[[str], None] = lambda _: None, port: int = 0
    ) -> None:
        self._token = secrets.token_urlsafe(24)
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {"title": title, "dataset": dataset, "state": "running"}
        self._order = order
        self._rates, self._bytes = Rates(), Rates()
        self._drawn_s = self._listed_s = self._asked_s = -math.inf
        self._told_end = threading.Event()
        page = _page()
        handler = type("Handler", (_Handler,), {"live": self, "page": page, "policy": _policy(page)})
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The address to open, with the token. Show it to the user only."""
        return f"http://127.0.0.1:{self.port}/#{self._token}"

    def hear(self, news: Progress) -> None:
        """Take a moment of the analysis; its histograms are looked at only while somebody watches."""
        now_s = time.monotonic()
        state = progress_as_dict(news)
        if now_s - self._listed_s > DRAW_EVERY_S:
            self._listed_s = now_s
            state |= _left_out(news)
        state["hanging"] = [
            {"place": place_text(one.lfn, one.start, one.stop), "reason": one.failure.message}
            for one in news.hanging[-MOST_HANGING:]
        ]
        state["byte_rate"] = self._bytes.hear(now_s, {"": float(news.read_bytes)})[""]
        rates = self._rates.hear(now_s, {name: float(count) for name, count in news.workers.items()})
        state["workers"], state["more_workers"] = _workers(news, rates)
        watched = now_s - self._asked_s < _WATCHED_S
        if news.output is not None and watched and now_s - self._drawn_s > DRAW_EVERY_S:
            self._drawn_s = now_s
            state["histograms"] = drawable(news.output)
        if news.stopping or news.paused:
            self.change("stopping" if news.stopping else "paused")
        elif self._state["state"] == "paused":
            self.change("running")
        with self._lock:
            self._state |= state

    def change(self, state: State, note: str = "") -> None:
        """Say that the analysis is paused, stopping or going on; it does not change after its end."""
        with self._lock:
            if self._state["state"] not in ("done", "failed"):
                self._state |= {"state": state, "note": note}

    def finish(self, result: AnalysisResult | None, note: str = "") -> None:
        """Show the end: with a result, or without one."""
        if result is None:
            self.change("failed", note)
            return
        histograms = drawable(result.output)
        end = {
            "histograms": histograms,
            "hanging": [],
            "complete": result.complete,
            "too_big": result.too_big,
            **_left_out(result),
            "entries_done": result.entries_processed,
            "entries_failed": result.entries_failed,
            "elapsed_s": result.wall_s,
            "rate": result.rate,
            "eta_s": None,
        }
        self.change("done", note)
        with self._lock:
            self._state |= end

    def close(self) -> None:
        """Stop serving; a page that is open gets the end before, for which up to two seconds are given."""
        if time.monotonic() - self._asked_s < _WATCHED_S:
            self._told_end.wait(2.0)
        self._server.shutdown()
        self._server.server_close()

    # What the handler asks for

    def admits(self, authorization: str | None) -> bool:
        given = (authorization or "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), self._token.encode())

    def is_meant(self, host: str | None) -> bool:
        """Whether the request was addressed to us: a foreign name that leads to 127.0.0.1 is none of ours."""
        return host in (f"127.0.0.1:{self.port}", f"localhost:{self.port}")

    def state(self) -> bytes:
        self._asked_s = time.monotonic()
        with self._lock:
            ended = self._state["state"] in ("done", "failed")
            body = json.dumps(self._state).encode()
        if ended:
            self._told_end.set()
        return body

    def take_order(self, body: bytes) -> bool:
        name = body.decode(errors="replace")
        if name not in ORDERS:
            return False
        self._order(name)
        return True


class _Handler(BaseHTTPRequestHandler):
    """One request. Everything but the empty page is denied without the token."""

    live: LivePage
    page: bytes
    policy: str
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "vse", ""
    timeout = 30

    def do_GET(self) -> None:
        if not self.live.is_meant(self.headers.get("Host")):
            self._answer(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            self._answer(HTTPStatus.OK, self.page, "text/html; charset=utf-8")
        elif not self.live.admits(self.headers.get("Authorization")):
            self._answer(HTTPStatus.FORBIDDEN)
        elif self.path == "/state":
            self._answer(HTTPStatus.OK, self.live.state(), "application/json")
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        self.close_connection = True
        if not self.live.is_meant(self.headers.get("Host")) or not self.live.admits(
            self.headers.get("Authorization")
        ):
            self._answer(HTTPStatus.FORBIDDEN)
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/order" or not re.fullmatch(r"\d{1,4}", length) or int(length) > _MAX_ORDER_BYTES:
            self._answer(HTTPStatus.BAD_REQUEST)
            return
        taken = self.live.take_order(self.rfile.read(int(length)))
        self._answer(HTTPStatus.NO_CONTENT if taken else HTTPStatus.BAD_REQUEST)

    def _answer(self, status: HTTPStatus, body: bytes = b"", kind: str = "text/plain") -> None:
        if status >= HTTPStatus.BAD_REQUEST:
            body = f"{status.phrase}\n".encode()
        self.send_response(status)
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        for name, value in (
            ("Content-Security-Policy", self.policy),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing: the terminal belongs to the command."""


def _page() -> bytes:
    return resources.files("vse.analysis").joinpath("templates/live.html").read_bytes()


def _policy(page: bytes) -> str:
    """Allow the page's own style and script, by what they are, and questions to its own server."""
    sources = {}
    for tag in ("style", "script"):
        found = re.search(rb"<" + tag.encode() + rb">(.*?)</" + tag.encode() + rb">", page, re.DOTALL)
        digest = hashlib.sha256(found[1] if found else b"").digest()
        sources[tag] = f"'sha256-{base64.b64encode(digest).decode()}'"
    return (
        f"default-src 'none'; style-src {sources['style']}; script-src {sources['script']}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def progress_as_dict(news: Progress) -> dict[str, Any]:
    """Return the numbers of a moment, for JSON."""
    return {
        "entries_done": news.entries_done,
        "entries_failed": news.entries_failed,
        "entries_expected": news.entries_expected,
        "files": news.files,
        "files_done": news.files_done,
        "more_files": news.more_files,
        "read_bytes": news.read_bytes,
        "elapsed_s": news.elapsed_s,
        "rate": news.rate,
        "eta_s": news.eta_s,
    }


def _left_out(news: AnalysisResult | Progress) -> dict[str, Any]:
    """Return what is not in the result, by its reason, as far as the page shows it."""
    reasons = left_out(news)
    told = [
        {
            "amount": one.amount,
            "reason": one.reason,
            "places": one.places[:MOST_PLACES],
            "more": max(0, len(one.places) - MOST_PLACES),
        }
        for one in reasons[:MOST_REASONS]
    ]
    return {"left_out": told, "more_reasons": max(0, len(reasons) - MOST_REASONS)}


def _workers(news: Progress, rates: dict[str, float]) -> tuple[list[dict[str, Any]], int]:
    """Return the workers to show, first those that are there, then those that went; and how many more."""
    known = {effort.name: effort for effort in news.efforts}
    names = sorted({*news.workers, *known})
    gone = [name for name in names if name in known and known[name].left_s is not None]
    there = sorted({*names} - {*gone})
    shown = [*there[:MOST_WORKERS], *sorted(gone, key=lambda name: -known[name].entries)[:MOST_GONE]]
    rows = []
    for name in shown:
        effort = known.get(name)
        rows.append(
            {
                "name": short_name(name),
                "entries": effort.entries if effort else news.workers[name],
                "rate": rates.get(name, 0.0),
                "read_bytes": effort.read_bytes if effort else None,
                "failures": effort.failures if effort else 0,
                "left": effort is not None and effort.left_s is not None,
                "drained": effort.drained if effort else "",
            }
        )
    return rows, len(names) - len(shown)


def drawable(output: Any) -> list[dict[str, Any]]:
    """Return the first histograms of an output as numbers to draw: of one axis, or maps of two."""
    from vse.analysis.plots import histograms

    drawn: list[dict[str, Any]] = []
    for name, histogram in histograms(output):
        if histogram.ndim <= 2 and len(drawn) < MOST_HISTOGRAMS:
            try:
                found = _spectrum(histogram) if histogram.ndim == 1 else _map(histogram)
            except Exception as error:  # whatever a histogram is made of, the analysis goes on
                found = {"kind": "none", "note": f"cannot be drawn: {error}", "total": 0.0}
            drawn.append({"name": name, **found})
    return drawn


def _plain_label(axis: Any) -> str:
    """The label of an axis without TeX, which a browser does not draw."""
    label = str(axis.label or axis.name or "")
    for tex, sign in (("\\mu", "µ"), ("\\eta", "η"), ("\\phi", "φ"), ("\\Delta", "Δ")):
        label = label.replace(tex, sign)
    return re.sub(r"[$\\{}_^]", "", label)


def _spectrum(histogram: Any) -> dict[str, Any]:
    import numpy as np

    axis = histogram.axes[0]
    values = np.asarray(histogram.values(), float)
    edges = np.asarray(axis.edges, float)
    factor = -(-len(values) // MOST_BINS)
    kept = -(-len(values) // factor) * factor
    values = np.pad(values, (0, kept - len(values))).reshape(-1, factor).sum(axis=1)
    edges = np.unique(np.append(edges[:-1:factor], edges[-1]))
    return {
        "kind": "spectrum",
        "label": _plain_label(axis),
        "edges": _finite(edges),
        "values": _finite(values),
        "total": float(np.nan_to_num(values).sum()),
        "log": bool(edges[0] > 0 and edges[-1] / edges[0] > 20),
    }


def _map(histogram: Any) -> dict[str, Any]:
    import numpy as np

    values = np.asarray(histogram.values(), float)
    for side in (0, 1):
        factor = -(-values.shape[side] // MOST_MAP_BINS)
        starts = np.arange(0, values.shape[side], factor)
        values = np.add.reduceat(values, starts, axis=side)
    across, up = histogram.axes
    return {
        "kind": "map",
        "label": _plain_label(across),
        "up": _plain_label(up),
        "edges": _finite(np.asarray(across.edges, float)[[0, -1]]),
        "up_edges": _finite(np.asarray(up.edges, float)[[0, -1]]),
        "values": [_finite(column) for column in values],
        "total": float(np.nan_to_num(values).sum()),
    }


def _finite(values: Any) -> list[float]:
    return [float(value) if math.isfinite(value) else 0.0 for value in values]
