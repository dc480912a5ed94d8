"""Requests from the command line: asked for, looked at, changed, approved, refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from support.command_line import Answer, InProcess, site_with_files_far
from support.other_user import as_nobody, open_to_all, shared_place


@pytest.fixture
def vse(tmp_path: Path) -> InProcess:
    """A site whose files are elsewhere."""
    return site_with_files_far(tmp_path / "site", [f"/lhc/f{number}.dat" for number in range(3)])


def shown(answer: Answer) -> dict[str, object]:
    assert answer.code == 0, answer.err
    found: dict[str, object] = json.loads(answer.out)
    return found


def test_a_request_is_made_shown_changed_cancelled_and_tried_again(vse: InProcess) -> None:
    asked = ("stage", "/lhc/*.dat", "--no-wait", "--priority", "3", "--pin", "7d", "--note", "for the talk")
    assert vse(*asked).code == 0
    (listed,) = [json.loads(line) for line in vse("request", "list", "--json").lines]
    assert (listed["priority"], listed["pin_s"], listed["note"]) == (3, 604800.0, "for the talk")
    one = shown(vse("request", "show", "1", "--json"))
    assert [file["lfn"] for file in one["files"]] == [f"/lhc/f{number}.dat" for number in range(3)]
    assert {(file["state"], file["transfer"]) for file in one["files"]} == {("waiting", "queued")}
    rest = shown(vse("request", "show", "1", "--after", "/lhc/f0.dat", "--state", "waiting", "--json"))
    assert len(rest["files"]) == 2
    assert shown(vse("request", "priority", "1", "1", "--json"))["priority"] == 1
    assert "cancelled" in vse("request", "cancel", "1").out
    assert vse("request", "list", "--json").lines == []
    assert "cancelled" in vse("request", "list", "--all").out
    assert shown(vse("request", "retry", "1", "--json"))["state"] == "active"
    done = vse("stage", "/lhc/*.dat", "--json")
    assert shown(done)["files"]["done"] == 3
    assert (vse.directory / "storage/lhc/f1.dat").read_bytes() == bytes(10)
    assert "for the talk" in vse("request", "show", "1").out


def test_what_cannot_be_is_said(vse: InProcess) -> None:
    wrong = vse("stage", "/lhc/*.dat", "--pin", "seven days")
    assert (wrong.code, "write it as" in wrong.err.lower()) == (2, True)
    assert vse("stage", "/lhc/*.dat", "--priority", "0").code == 2
    nine = vse("status", "9")
    assert (nine.code, "vse request list --all" in nine.err) == (2, True)
    assert vse("stage", "/lhc/*.dat", "--no-wait").code == 0
    unknown = vse("request", "show", "1", "--state", "lost")
    assert (unknown.code, "here, waiting, done" in unknown.err) == (2, True)


@pytest.mark.slow
def test_approval_is_waited_for_and_given_by_those_who_may() -> None:
    """Asked for by somebody who is not root, whose own requests need none."""
    rule = ("--set", "stager.approval=all")
    named = (*rule, "--set", 'stager.approvers=["nobody"]')
    with shared_place() as place:
        root = site_with_files_far(place / "site", [f"/lhc/f{number}.dat" for number in range(2)])
        open_to_all(root.directory)
        nobody = partial(as_nobody, root.directory)
        held = nobody(*rule, "stage", "/lhc/f0.dat")
        assert (held.code, "waits for approval" in held.out) == (0, True), held.err
        assert nobody(*rule, "stage", "/lhc/f1.dat").code == 0
        assert "held" in root(*rule, "request", "list", "--held").out
        denied = nobody(*rule, "request", "approve", "1")
        assert (denied.code, "none of stager.approvers" in denied.err) == (5, True)
        approved = shown(nobody(*named, "request", "approve", "1", "--note", "fine", "--json"))
        assert approved["state"] == "active"
        refused = shown(root(*rule, "request", "refuse", "2", "--note", "too much", "--json"))
        assert (refused["state"], refused["approval_note"]) == ("refused", "too much")
        assert "refused it: too much" in nobody(*rule, "request", "show", "2").out
        assert nobody(*rule, "stage", "/lhc/f0.dat").code == 0
        assert (root.directory / "storage/lhc/f0.dat").exists()
