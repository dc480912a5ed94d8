"""`vse why`: who moved a file's bytes, in text, in JSON and over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command_line import InProcess, site_with_files_far
from support.door_site import TOKEN, files_of
from support.door_site import Site as Asking
from vse.app.desk import SiteDesk
from vse.app.site import Site
from vse.config.load import load
from vse.doors.http.access import DoorAccess
from vse.doors.http.app import create_app
from vse.testing.door import running_door

LFN = "/lhc/f.dat"
WAY = "streamed through this machine"


@pytest.fixture
def vse(tmp_path: Path) -> InProcess:
    """A site whose only file is elsewhere."""
    return site_with_files_far(tmp_path / "site", [LFN])


def test_each_attempt_tells_its_source_and_who_moved_the_bytes(vse: InProcess) -> None:
    good = (vse.directory / f"far{LFN}").read_bytes()
    (vse.directory / f"far{LFN}").write_bytes(b"0123456789")
    assert vse("--set", "stager.max_failures=1", "stage", LFN, "--json").code == 10
    (vse.directory / f"far{LFN}").write_bytes(good)
    assert vse("stage", LFN, "--json").code == 0

    (queued,) = json.loads(vse("why", LFN, "--json").out)["transfers"]
    failed, came = queued["attempts"]
    assert (failed["error"]["code"], failed["way"]) == ("checksum-mismatch", None)
    assert (came["error"], came["way"]) == (None, WAY)

    lines = vse("why", LFN).lines
    (first,) = [line for line in lines if "attempt 1:" in line]
    (second,) = [line for line in lines if "attempt 2:" in line]
    assert "adler32" in first
    assert WAY not in first
    assert second.endswith(f"good: 10 B from file://{vse.directory}/far{LFN}, {WAY}")

    with Site.open(load(vse.directory / "vse.toml")) as site:
        app = create_app(DoorAccess("token", "token", TOKEN), files_of(vse.directory), desk=SiteDesk(site))
        with running_door(app) as url:
            answer = Asking(url, vse.directory).ask("GET", f"/api/v1/staging/why?lfn={LFN}")
    (told,) = json.loads(answer.body)["transfers"]
    assert [one["way"] for one in told["attempts"]] == [None, WAY]
