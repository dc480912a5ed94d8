"""Requests: priorities, others who want the same, approval, trying again, going on after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.staging_site import BASE, StagingSite
from vse.db.tables import request_items, requests
from vse.errors import BadRequest, Denied, NoSuchEntry, ServerFault, UpstreamUnavailable
from vse.model import DatasetQuery, Identity, Lfn, Located, NewFile
from vse.staging.approval import ApprovalRule, Approvers
from vse.staging.values import Approval, Conditions, ItemState, Request, RequestState
from vse.transfer.lifecycle import Failed, State
from vse.transfer.queue import Report
from vse.transfer.shares import Slots

ALL = f"{BASE}/*"
FILES = {f"f{number}.dat": bytes([number]) * 10 for number in range(4)}


@pytest.fixture
def make(tmp_path: Path, database_url: str) -> Iterator[Callable[..., StagingSite]]:
    made: list[StagingSite] = []

    def one(**options: object) -> StagingSite:
        made.append(StagingSite(tmp_path, url=database_url, **options))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for site in made:
        site.close()


@pytest.fixture
def site(make: Callable[..., StagingSite]) -> StagingSite:
    site = make()
    site.add(FILES)
    return site


def ask(site: StagingSite, owner: str = "anna", text: str = ALL, **conditions: object) -> Request:
    query = DatasetQuery.parse(text)
    return site.staging.request(query, owner, "LOCAL", Conditions(**conditions))  # type: ignore[arg-type]


def states(site: StagingSite, request: Request) -> list[str]:
    return [str(item.state) for item in site.staging.items(request.id)]


def transfer_of(site: StagingSite, name: str):
    (found,) = site.queue.of_lfn(Lfn(f"{BASE}/{name}"))
    return found


def test_conditions_are_kept_and_shown(site: StagingSite) -> None:
    made = ask(site, priority=2, pin_s=3600.0, note="for the talk")
    (kept,) = site.staging.get([made.id])
    assert (kept.priority, kept.pin_s, kept.note) == (2, 3600.0, "for the talk")
    again = ask(site)  # says nothing of them: they stay
    assert (again.id, again.priority, again.pin_s, again.note) == (made.id, 2, 3600.0, "for the talk")
    assert ask(site, priority=1).priority == 1
    assert transfer_of(site, "f0.dat").priority == 1


@pytest.mark.parametrize("wrong", [{"priority": 0}, {"priority": 10}, {"pin_s": 0.0}, {"pin_s": -5.0}])
def test_conditions_that_cannot_be_are_refused(site: StagingSite, wrong: dict[str, float]) -> None:
    with pytest.raises(BadRequest):
        ask(site, **wrong)
    assert site.staging.list() == []


def test_a_file_in_many_requests_is_moved_once_with_the_best_priority(site: StagingSite) -> None:
    first, second, third = ask(site, "anna", priority=7), ask(site, "ben", priority=3), ask(site, "eva")
    one = transfer_of(site, "f0.dat")
    assert (one.priority, one.share) == (3, "ben")
    site.staging.cancel(second.id)
    one = transfer_of(site, "f0.dat")
    assert (one.state, one.priority, one.share) == (State.QUEUED, 5, "eva")
    site.staging.change_priority(first.id, 1)
    assert transfer_of(site, "f0.dat").share == "anna"
    site.work([first.id, third.id])
    ended = site.staging.get([first.id, second.id, third.id])
    assert [one.state for one in ended] == [RequestState.DONE, RequestState.CANCELLED, RequestState.DONE]
    assert len(site.staged()) == 4


def test_what_comes_while_a_request_is_listed_is_not_moved_again(site: StagingSite) -> None:
    """The catalogue is read, another process brings the files, and only then are they added."""
    lfns = site.add(FILES)

    def late() -> Iterator[Located]:
        read = [site.catalogue.resolve([lfn]).one(lfn) for lfn in lfns]
        site.work([site.ask(owner="ben")])
        yield from read

    request = site.staging.request(DatasetQuery.parse(ALL), "anna", "LOCAL", files=late())
    assert request.state is RequestState.DONE
    site.work([request.id])
    tried = [one for lfn in lfns for one in site.queue.of_lfn(lfn)]
    assert [(one.state, one.attempts) for one in tried] == [(State.DONE, 1)] * len(FILES)


def test_cancelling_the_last_request_empties_the_queue_and_is_idempotent(site: StagingSite) -> None:
    one, other = ask(site), ask(site, "ben", f"{BASE}/f0.dat")
    site.staging.cancel(one.id)
    assert site.queue.tallies()[State.QUEUED].files == 1
    site.staging.cancel(other.id)
    assert site.queue.tallies()[State.QUEUED].files == 0
    assert site.staging.cancel(other.id).state is RequestState.CANCELLED
    assert states(site, one) == ["cancelled"] * 4
    with pytest.raises(BadRequest, match="it has ended"):
        site.staging.change_priority(one.id, 1)


def test_failed_files_are_tried_again_and_those_that_came_stay(make: Callable[..., StagingSite]) -> None:
    site = make(settings={"max_failures": 1})
    site.add(FILES)
    site.remote(f"{BASE}/f1.dat").write_bytes(b"evil")
    request = ask(site)
    site.work([request.id])
    assert states(site, request) == ["done", "failed", "done", "done"]
    (broken,) = site.staging.items(request.id, [ItemState.FAILED])
    assert broken.error is not None
    assert broken.transfer_state is State.FAILED
    site.remote(f"{BASE}/f1.dat").write_bytes(FILES["f1.dat"])
    assert site.staging.retry(request.id).state is RequestState.ACTIVE
    assert states(site, request) == ["done", "waiting", "done", "done"]
    site.work([request.id])
    assert site.staging.get([request.id])[0].state is RequestState.DONE
    assert site.staging.retry(request.id).state is RequestState.DONE  # nothing to do


def test_a_file_that_the_catalogue_has_lost_fails_with_that_reason(site: StagingSite) -> None:
    request = ask(site)
    lost = Lfn(f"{BASE}/f2.dat")
    assert site.catalogue.remove([lost]).failed == {}
    site.work([request.id])
    assert states(site, request) == ["done", "done", "failed", "done"]
    assert site.staging.retry(request.id).state is RequestState.FAILED
    (broken,) = site.staging.items(request.id, [ItemState.FAILED])
    assert isinstance(broken.error, NoSuchEntry)


def test_a_back_off_is_ended_by_trying_again(make: Callable[..., StagingSite]) -> None:
    site = make(settings={"backoff_s": 1000, "backoff_max_s": 1000})
    site.add({"a.dat": b"a"})
    request = ask(site)
    (one,) = site.queue.claim("me", 1, Slots(9, 9))
    site.queue.report("me", [Report(one.id, one.attempts, Failed(ServerFault("read", "500")))])
    assert transfer_of(site, "a.dat").state is State.WAITING
    site.staging.retry(request.id)
    site.work([request.id])
    assert states(site, request) == ["done"]


# -- approval ------------------------------------------------------------------------------------


def test_a_request_waits_for_approval_and_goes_on_with_it(make: Callable[..., StagingSite]) -> None:
    site = make(approval=ApprovalRule(-1))
    site.add(FILES)
    request = ask(site)
    assert (request.state, request.approval) == (RequestState.HELD, Approval.WANTED)
    assert site.queue.tallies()[State.HELD].files == 4
    assert site.queue.claim("me", 9, Slots(9, 9)) == []
    approved = site.staging.approve(request.id, "boss", "fine")
    assert (approved.state, approved.approved_by, approved.approval_note) == (
        RequestState.ACTIVE,
        "boss",
        "fine",
    )
    site.work([request.id])
    assert site.staging.get([request.id])[0].state is RequestState.DONE
    with pytest.raises(BadRequest, match="nobody's approval"):
        site.staging.approve(request.id, "boss")


def test_a_refused_request_says_who_and_why(make: Callable[..., StagingSite]) -> None:
    site = make(approval=ApprovalRule(-1))
    site.add(FILES)
    request = ask(site)
    refused = site.staging.refuse(request.id, "boss", "no room")
    (queued,) = site.explainer.explain(site.staging.items(request.id)[0].lfn).transfers
    assert queued.reason == f"boss refused request {request.id} of anna for it: no room"
    assert (refused.state, refused.approval, refused.approved_by) == (
        RequestState.REFUSED,
        Approval.REFUSED,
        "boss",
    )
    (first, *_) = site.staging.items(request.id)
    assert isinstance(first.error, Denied)
    assert "boss refused it: no room" in str(first.error)
    assert site.queue.tallies()[State.CANCELLED].files == 4
    with pytest.raises(BadRequest, match="it was refused"):
        site.staging.retry(request.id)


def test_only_what_is_too_large_and_not_from_a_trusted_user_waits(make: Callable[..., StagingSite]) -> None:
    site = make(approval=ApprovalRule(30))
    site.add(FILES)
    assert ask(site, text=f"{BASE}/f0.dat").state is RequestState.ACTIVE
    large = ask(site, "ben")
    assert large.state is RequestState.HELD
    assert transfer_of(site, "f0.dat").state is State.QUEUED  # anna's
    assert transfer_of(site, "f1.dat").state is State.HELD
    trusted = ask(site, "boss", trusted=True)
    assert trusted.state is RequestState.ACTIVE
    assert transfer_of(site, "f1.dat").state is State.QUEUED
    site.staging.cancel(trusted.id)  # who is left has no approval yet
    assert transfer_of(site, "f1.dat").state is State.HELD
    assert site.staging.list(states=[RequestState.HELD])[0].id == large.id


def test_approvers_are_users_and_members_of_groups() -> None:
    approvers = Approvers(["boss"], ["managers"])
    assert approvers.include(Identity("boss"))
    assert approvers.include(Identity("anna", ("users", "managers")))
    assert not approvers.include(Identity("managers", ("users",)))


# -- after a kill --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_listing_that_was_killed_is_gone_on_with(
    site: StagingSite, tmp_path: Path, database_url: str
) -> None:
    code = (
        "import os, sys; from pathlib import Path; from support.staging_site import StagingSite\n"
        "from vse.model import DatasetQuery\n"
        "site = StagingSite(Path(sys.argv[1]), url=sys.argv[2]); real = site.catalogue.find\n"
        "def find(base, pattern):\n"
        "    yield from list(real(base, pattern))[:1]\n"
        "    os.kill(os.getpid(), 9)\n"
        "site.staging._find = lambda query: find(query.base, query.pattern)\n"
        "site.staging.request(DatasetQuery.parse(sys.argv[3]), 'anna', 'LOCAL')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    child = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), database_url, ALL], env=environment, check=False
    )
    assert child.returncode == -9
    (left,) = site.staging.list()
    assert left.state is RequestState.GATHERING
    (resumed,) = site.staging.resume()
    assert (resumed.id, resumed.state) == (left.id, RequestState.ACTIVE)
    assert states(site, resumed) == ["waiting"] * 4
    assert site.staging.resume() == []


def test_a_listing_waits_for_an_upstream_and_ends_where_the_dataset_has_vanished(site: StagingSite) -> None:
    def away(query: DatasetQuery):
        raise UpstreamUnavailable("ask it", "it does not answer")

    real, site.staging._find = site.staging._find, away
    with pytest.raises(UpstreamUnavailable):
        ask(site)
    assert site.staging.resume() == []
    assert site.staging.list()[0].state is RequestState.GATHERING
    site.staging._find = real
    assert site.catalogue.remove([Lfn(f"{BASE}/{name}") for name in FILES]).failed == {}
    (ended,) = site.staging.resume()
    assert ended.state is RequestState.FAILED
    assert isinstance(ended.error, NoSuchEntry)


# -- speed ---------------------------------------------------------------------------------------


def test_settling_looks_at_no_request_that_nothing_happened_to(site: StagingSite) -> None:
    """The statements of a settled file are as many, and as cheap, with a thousand idle requests."""
    row = {"destination": "LOCAL", "owner": "idle", "priority": 5, "note": "", "state": "active"}
    row |= {"approval": "none", "approval_note": "", "created_s": 0.0}
    with site.database.write() as connection:
        connection.execute(requests.insert(), [{**row, "query": f"q{number}"} for number in range(1000)])
        items = [
            {"request_id": number, "lfn": "/x", "size_bytes": 1, "transfer_id": None, "state": "waiting"}
            for number in range(1, 1001)
        ]
        connection.execute(request_items.insert(), items)
    request = ask(site)
    seen: list[str] = []
    sa.event.listen(
        site.database.engine,
        "before_cursor_execute",
        lambda _c, _k, text, values, *_: seen.append(str(values)),
    )
    site.work([request.id])
    assert site.staging.get([request.id])[0].state is RequestState.DONE
    assert not any("q500" in values or ", 500," in values for values in seen)
    assert len(site.staging.list(open_only=True, limit=5000)) == 1000


@pytest.mark.slow
def test_a_hundred_thousand_files_in_one_request(site: StagingSite) -> None:
    files = 100_000
    result = site.catalogue.register(
        NewFile(Lfn(f"/big/d{number // 1000:03}/f{number:06}"), 10, 1, "REMOTE") for number in range(files)
    )
    assert result.failed == {}
    request = ask(site, text="/big/*")
    assert site.queue.tallies()[State.QUEUED].files == files
    assert ask(site, text="/big/*").id == request.id
    assert site.queue.tallies()[State.QUEUED].files == files
    assert site.staging.cancel(request.id).state is RequestState.CANCELLED
    assert site.queue.tallies()[State.QUEUED].files == 0
