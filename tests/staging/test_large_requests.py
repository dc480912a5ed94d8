"""What one file costs does not grow with the files of its request: steps of the database are counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from support.staging_site import StagingSite
from vse.db.tables import request_items
from vse.staging.values import RequestState
from vse.transfer.lifecycle import Succeeded
from vse.transfer.queue import Report
from vse.transfer.shares import Slots

pytestmark = pytest.mark.slow
STEPS = 50


def steps_of_a_file(root: Path, through: int) -> int:
    """Return what SQLite does for a file of a request of which so many are through already."""
    root.mkdir()
    site = StagingSite(root, url=f"sqlite:///{root}/vse.db")
    site.add({"a.dat": b"a", "b.dat": b"b"})
    request = site.ask()
    row = {"request_id": request, "size_bytes": 1, "transfer_id": None, "state": "done"}
    with site.database.write() as connection:  # they come before the others in the order of names
        connection.execute(
            request_items.insert(), [{**row, "lfn": f"/a/{number:06}"} for number in range(through)]
        )
    counted = [0]

    def count() -> int:
        counted[0] += STEPS
        return 0

    def watch(connection: sa.Connection, *_: object) -> None:
        connection.connection.driver_connection.set_progress_handler(count, STEPS)

    sa.event.listen(site.database.engine, "before_cursor_execute", watch)
    (one,) = site.queue.claim("me", 1, Slots(1, 1), [request])
    site.queue.report("me", [Report(one.id, one.attempts, Succeeded("u", one.size_bytes))])
    site.staging.settle()
    assert site.staging.get([request])[0].state is RequestState.ACTIVE
    site.close()
    return counted[0]


def test_a_file_costs_the_same_however_many_of_its_request_are_through(tmp_path: Path) -> None:
    few, many = steps_of_a_file(tmp_path / "few", 10), steps_of_a_file(tmp_path / "many", 10_000)
    assert few > STEPS
    assert many < 1.5 * few + 1000
