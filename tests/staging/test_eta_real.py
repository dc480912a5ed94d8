"""Expected times of a real run: files through our own HTTP door over a line of a given width."""

from __future__ import annotations

import functools
import threading
import time
from pathlib import Path

import pytest

from support.door_site import TOKEN, files_of
from support.staging_site import BASE, StagingSite, file_element
from support.waiting import until
from vse.config.settings import DataManagement, ElementSettings
from vse.demo.wan import WideArea
from vse.doors.http.access import DoorAccess
from vse.doors.http.app import create_app
from vse.model import Lfn
from vse.staging.eta import Estimate, covered
from vse.storage.element import StorageElement
from vse.testing.door import running_door
from vse.transfer.lifecycle import State

LINE_BYTES_S = 4e6
FILES = 200


def door_element(url: str, token_file: Path) -> StorageElement:
    port = int(url.rsplit(":", 1)[1])
    section = {"Protocol": "http", "PluginName": "HTTP", "Host": "127.0.0.1", "Port": port, "Path": "/data"}
    section["TokenFile"] = str(token_file)
    settings = {"Name": "REMOTE", "WriteAccess": False, "Web": section}
    return StorageElement(ElementSettings.model_validate(settings), DataManagement())


@pytest.mark.slow
def test_the_true_time_of_real_transfers_lies_within_what_was_told(tmp_path: Path) -> None:
    """Two hundred files of 20 to 380 kB on 4 MB/s; asked at several times for several files, and for all."""
    (tmp_path / "remote").mkdir()
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "token").chmod(0o600)
    app = create_app(DoorAccess("token", "none", TOKEN), files_of(tmp_path / "remote"), element="REMOTE")
    line = functools.partial(WideArea, query_latency_s=0.0, bandwidth_bytes_per_s=LINE_BYTES_S)
    with running_door(app, middleware=line) as url:
        elements = [door_element(url, tmp_path / "token"), file_element("LOCAL", tmp_path / "local")]
        site = StagingSite(tmp_path, elements=elements, settings={"slots": 4})
        site.add({f"f{n:03}.dat": bytes([n]) * (20_000 + n * 7919 % 360_000) for n in range(FILES)})
        request = site.ask()
        (status,) = site.progress.status(site.staging.get([request]))
        assert (status.eta, status.running) == (None, 0)
        assert "nothing moves" in status.note

        stop = threading.Event()
        stager = threading.Thread(target=site.stager().run, args=(stop, [request]))
        stager.start()
        try:
            told, whole = _ask_along(site, request)
        finally:
            stager.join(60)
            stop.set()
        (request_now,) = site.staging.get([request])
        ends_s = {
            key: one.finished_s or 0.0 for key, one in site.queue.get([key for key, _, _ in told]).items()
        }
        site.close()
    assert request_now.finished_s is not None
    true_s = [ends_s[key] - when_s for key, when_s, _ in told]
    files = covered(true_s, [said for _, _, said in told])
    requests = covered([request_now.finished_s - when_s for when_s, _ in whole], [said for _, said in whole])
    assert len(told) > 40
    assert len(whole) >= 8
    assert files >= 0.7, (
        files,
        [(round(true, 2), said) for true, (_, _, said) in zip(true_s, told, strict=True)],
    )
    assert requests >= 0.7, (requests, request_now.finished_s, whole)


def _ask_along(
    site: StagingSite, request: int
) -> tuple[list[tuple[int, float, Estimate]], list[tuple[float, Estimate]]]:
    """Ask for every twenty-fifth file, and for the request, each time that a dozen more have come."""
    told: list[tuple[int, float, Estimate]] = []
    whole: list[tuple[float, Estimate]] = []
    for some in range(8, FILES, 12):
        enough = functools.partial(lambda number: site.queue.tallies()[State.DONE].files >= number, some)
        until(enough)
        transfers = [site.queue.of_lfn(_name(n))[0] for n in range(12, FILES, 25)]
        for one in transfers:
            if one.state not in (State.QUEUED, State.RUNNING):
                continue
            when_s = time.time()
            said = site.progress.arrival(one)
            assert said is not None
            told.append((one.id, when_s, said))
        when_s = time.time()
        (status,) = site.progress.status(site.staging.get([request]))
        if status.eta is not None:
            whole.append((when_s, status.eta))
    return told, whole


def _name(number: int) -> Lfn:
    return Lfn(f"{BASE}/f{number:03}.dat")
