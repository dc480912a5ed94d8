"""Requests over HTTP: tried again, sooner or later, and refused with words that help."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from support.command_line import Command, clean_environment, site_with_files_far

pytestmark = pytest.mark.slow
FILES = [f"/lhc/data/{number}.bin" for number in range(3)]
QUERY = "/lhc/data/*.bin"


class Door:
    """``vse serve`` without a stager, asked as a program would."""

    def __init__(self, root: Path) -> None:
        self.vse = site_with_files_far(root, FILES)
        toml = root / "vse.toml"
        toml.write_text(toml.read_text().replace('write = "none"', 'write = "token"'))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vse.cli", "serve", "--no-stager"],
            cwd=root,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().partition(" at ")[2].split()[0]
        self.token = (root / "var/door.token").read_text().strip()

    def __call__(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        data = None if body is None else json.dumps(body)
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = urllib3.request(method, f"{self.url}/api/v1/staging{path}", body=data, headers=headers)
        return answer.status, answer.json()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    one = Door(tmp_path / "site")
    yield one
    one.process.terminate()
    one.process.communicate(timeout=30)


def test_a_request_is_moved_forward_and_tried_again_as_by_a_command(door: Door, tmp_path: Path) -> None:
    status, made = door("POST", "/requests", {"query": QUERY})
    assert status == 201
    number = made["request"]
    assert door("POST", f"/requests/{number}/priority", {"priority": 2})[1]["priority"] == 2
    assert json.loads(door.vse("status", str(number), "--json").out)["priority"] == 2
    lost = tmp_path / "site/far" / FILES[0][1:]
    data = lost.read_bytes()
    lost.unlink()
    assert Command(tmp_path / "site")("stage", QUERY).code != 0
    told = door("GET", f"/requests/{number}?files=1&state=failed")[1]
    assert [one["lfn"] for one in told["items"]] == [FILES[0]]
    assert told["state"] == "failed"
    lost.write_bytes(data)
    assert door("POST", f"/requests/{number}/retry")[1]["state"] == "active"
    assert door.vse("stage", QUERY).code == 0
    assert door("GET", f"/requests/{number}")[1]["files"]["done"] == 3


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/requests/77/retry", None, 404, "no such request"),
        ("/requests/77/priority", {"priority": 2}, 404, "no such request"),
        ("/requests", [1], 400, "no object"),
        ("/requests", {"quer": QUERY}, 400, "lacks query"),
        ("/requests", {"query": QUERY, "prio": 1}, 400, "has prio as well"),
    ],
)
def test_what_cannot_be_names_what_is_wrong(
    door: Door, path: str, body: object, status: int, said: str
) -> None:
    code, error = door("POST", path, body)
    assert code == status
    assert said in error["found"]
    assert error["code"] != "vse"


def test_priorities_that_are_none_and_requests_that_have_ended_are_told_apart_from_unknown_ones(
    door: Door,
) -> None:
    number = door("POST", "/requests", {"query": QUERY})[1]["request"]
    assert door("POST", f"/requests/{number}/priority", {"priority": 12})[0] == 400
    assert door("POST", f"/requests/{number}/priority", {"priority": True})[0] == 400
    assert door("POST", f"/requests/{number}/cancel")[1]["state"] == "cancelled"
    status, error = door("POST", f"/requests/{number}/priority", {"priority": 1})
    assert (status, error["found"]) == (400, "it has ended")
