"""Where is my file, why is it not here, when will it come: all in one value."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from support.staging_site import BASE, StagingSite, file_element
from vse.errors import NoSuchEntry, ServerFault
from vse.model import Lfn
from vse.transfer.lifecycle import Failed, Progressed, State
from vse.transfer.queue import Report
from vse.transfer.shares import Slots


def test_a_file_that_was_never_asked_for_tells_its_copies_and_the_plan(site: StagingSite) -> None:
    (lfn,) = site.add({"a.dat": b"one"})
    why = site.explainer.explain(lfn)
    (copy,) = why.copies
    assert (copy.se, copy.usable, copy.state, copy.origin) == ("REMOTE", True, "available", "")
    assert copy.url == f"file://{site.remote(lfn)}"
    assert [source.url for source in why.reads] == [copy.url]
    assert (why.transfers, why.fresh_until_s, why.no_plan) == ((), None, "")


def test_a_copy_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    site = StagingSite(
        tmp_path,
        elements=[
            file_element("REMOTE", tmp_path / "remote", ReadAccess=False),
            file_element("LOCAL", tmp_path / "local"),
        ],
    )
    (lfn,) = site.add({"a.dat": b"one"})
    site.add({"a.dat": b"one"}, "ELSEWHERE", write=False)
    why = site.explainer.explain(lfn)
    reasons = {copy.se: (copy.usable, copy.reason) for copy in why.copies}
    assert not any(usable for usable, _ in reasons.values())
    assert "ReadAccess is off" in reasons["REMOTE"][1]
    assert "no storage element of this name" in reasons["ELSEWHERE"][1]
    assert why.reads == ()
    assert "ReadAccess is off" in why.no_plan
    site.close()


def test_a_queued_file_tells_position_attempts_requests_and_arrival(site: StagingSite) -> None:
    site.add({f"f{number}.dat": bytes(1000) for number in range(6)})
    site.work([site.ask("f0.dat")])  # something to measure the rate by
    first, second = site.ask("f[1-5].dat"), site.ask("f5.dat", owner="ben")
    last = Lfn(f"{BASE}/f5.dat")
    (waiting,) = site.explainer.explain(last).transfers
    assert waiting.position == 5
    assert waiting.ahead_bytes == 4000
    assert [(one.request_id, one.owner) for one in waiting.wanted_by] == [(first, "anna"), (second, "ben")]
    assert waiting.arrival is not None
    assert waiting.arrival.low_s <= waiting.arrival.likely_s <= waiting.arrival.high_s

    claimed = site.queue.claim("me", 2, Slots(9, 9))
    site.queue.heartbeat("me", {claimed[0].id: (claimed[0].attempts, Progressed(600, "file:///x"))})
    assert site.explainer.explain(claimed[0].lfn).transfers[0].position == 0
    (waiting,) = site.explainer.explain(last).transfers
    assert (waiting.position, waiting.ahead_bytes) == (5, 3400)

    error = ServerFault("read http://far/f1", "it answered 500", "ask its administrator")
    site.queue.report("me", [Report(claimed[0].id, claimed[0].attempts, Failed(error, "http://far/f1", 600))])
    (failed,) = site.explainer.explain(claimed[0].lfn).transfers
    assert (failed.transfer.state, failed.position) == (State.WAITING, 5)
    (attempt,) = failed.attempts
    assert str(attempt.error) == str(error)
    assert (attempt.source, attempt.bytes_done) == ("http://far/f1", 600)


def test_the_whole_answer_is_json(site: StagingSite) -> None:
    (lfn,) = site.add({"a.dat": b"one"})
    site.remote(lfn).write_bytes(b"two")
    site.stage()
    said = json.loads(json.dumps(site.explainer.explain(lfn).to_dict()))
    assert said["entry"]["lfn"] == lfn
    assert said["entry"]["modified_s"] == site.explainer.explain(lfn).entry.modified_s
    assert said["entry"]["adler32"] == f"{zlib.adler32(b'one'):08x}"
    assert said["transfers"][0]["transfer"]["adler32"] == f"{zlib.adler32(b'one'):08x}"
    assert said["transfers"][0]["attempts"][0]["started_s"] > 0
    assert said["copies"][0]["se"] == "REMOTE"
    (transfer,) = said["transfers"]
    assert transfer["transfer"]["state"] == "failed"
    assert transfer["transfer"]["error"]["code"] == "given-up"
    assert [one["error"]["code"] for one in transfer["attempts"]] == ["checksum-mismatch"] * 3
    assert said["copies"][0]["usable"] is True


def test_a_name_that_is_not_known_is_an_error(site: StagingSite) -> None:
    with pytest.raises(NoSuchEntry):
        site.explainer.explain(Lfn("/no/such"))
