"""Requests over HTTP: asked for, looked at, explained, cancelled; with the token only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.command_line import add_element
from support.door_site import TOKEN, Site, files_of
from vse.app.desk import SiteDesk
from vse.app.init import init_site
from vse.app.site import Site as WholeSite
from vse.config.load import load
from vse.doors.http.access import DoorAccess
from vse.doors.http.app import create_app
from vse.model import Lfn, NewFile
from vse.testing.door import running_door

PATH = "/api/v1/staging"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[tuple[Site, WholeSite]]:
    root = tmp_path / "site"
    init_site(root, name="test")
    add_element(root, "FAR", "far", writable=False)
    with ExitStack() as stack:
        whole = stack.enter_context(WholeSite.open(load(root / "vse.toml")))
        files = [NewFile(Lfn(f"/lhc/f{number}.dat"), 10, 655361, "FAR") for number in range(3)]
        assert whole.catalogue.register(files).failed == {}
        app = create_app(DoorAccess("token", "token", TOKEN), files_of(tmp_path), desk=SiteDesk(whole))
        yield Site(stack.enter_context(running_door(app)), tmp_path), whole


def told(site: Site, method: str, path: str, body: object = None, status: int = 200) -> dict[str, Any]:
    data = b"" if body is None else json.dumps(body).encode()
    answer = site.ask(method, PATH + path, data) if data else site.ask(method, PATH + path)
    assert answer.status == status, answer
    found: dict[str, Any] = json.loads(answer.body)
    return found


QUERY = "Find;BasePath=/lhc;FileName=*.dat"


def test_a_request_is_made_looked_at_and_cancelled(door: tuple[Site, WholeSite]) -> None:
    site, whole = door
    made = told(site, "POST", "/requests", {"query": QUERY, "priority": 3, "note": "a talk"}, 201)
    assert (made["state"], made["priority"], made["note"]) == ("active", 3, "a talk")
    (listed,) = told(site, "GET", "/requests")["requests"]
    assert listed["files"]["waiting"] == 3
    assert listed["eta"] is None
    assert "nothing moves" in listed["reason"]
    shown = told(site, "GET", f"/requests/{made['request']}?files=1&state=waiting")
    assert [one["lfn"] for one in shown["items"]] == [f"/lhc/f{number}.dat" for number in range(3)]
    ended = told(site, "POST", f"/requests/{made['request']}/cancel")
    assert ended["state"] == "cancelled"
    assert told(site, "GET", "/requests")["requests"] == []
    assert [one["state"] for one in told(site, "GET", "/requests?all=1")["requests"]] == ["cancelled"]
    assert whole.staging.get([made["request"]])[0].is_over


def test_why_tells_the_same_as_the_command(door: tuple[Site, WholeSite]) -> None:
    site, whole = door
    told(site, "POST", "/requests", {"query": QUERY}, 201)
    why = told(site, "GET", "/why?lfn=/lhc/f1.dat")
    assert why["copies"][0]["se"] == "FAR"
    (transfer,) = why["transfers"]
    assert transfer["position"] == 2
    assert "slots are free" in transfer["reason"]
    assert why["transfers"] == whole.explainer.explain(Lfn("/lhc/f1.dat")).to_dict()["transfers"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/requests/77", None, 404),
        ("POST", "/requests/77/cancel", None, 404),
        ("GET", "/requests/x", None, 400),
        ("GET", "/requests?limit=0", None, 400),
        ("GET", "/why", None, 400),
        ("GET", "/why?lfn=/no/such", None, 404),
        ("POST", "/requests", {"query": "Find;BasePath=/lhc;FileName=nothing"}, 404),
        ("POST", "/requests", {"query": "Find;nonsense"}, 400),
        ("POST", "/requests", {"priority": 1}, 400),
        ("POST", "/requests", {"query": QUERY, "priority": "high"}, 400),
        ("POST", "/requests", {"query": QUERY, "priority": 11}, 400),
        ("POST", "/requests", {"query": QUERY, "pin_s": "long"}, 400),
        ("POST", "/requests", {"query": QUERY, "destination": 7}, 400),
        ("PUT", "/requests", None, 405),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    door: tuple[Site, WholeSite], method: str, path: str, body: object, status: int
) -> None:
    site, whole = door
    error = told(site, method, path, body, status)
    assert error["wanted"]
    assert error["found"]
    assert whole.staging.list() == []
