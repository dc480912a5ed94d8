"""Approval, as settings and users write it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command_line import InProcess, site_with_files_far
from vse.app.desk import SiteDesk
from vse.app.site import Site
from vse.config.load import load
from vse.model import DatasetQuery
from vse.staging.values import Conditions

FILES = [f"/lhc/data/{number}.bin" for number in range(3)]


@pytest.mark.parametrize(
    ("written", "held"), [("above 20", True), ("above 0.02 kB", True), ("above 1TB", False), ("all", True)]
)
def test_the_size_above_which_a_request_waits_may_have_a_unit(
    tmp_path: Path, written: str, held: bool
) -> None:
    vse = site_with_files_far(tmp_path / "site", FILES)
    toml = tmp_path / "site" / "vse.toml"
    toml.write_text(toml.read_text().replace("[stager]", f'[stager]\napproval = "{written}"'))
    # asked for over the door, whose requests nobody trusts; root's own need no approval
    state = asked_as_the_door(toml)
    assert (state == "held") is held
    assert bool(vse("request", "list", "--held", "--json").out.strip()) is held


def asked_as_the_door(toml: Path) -> str:
    with Site.open(load(toml)) as site:
        return str(SiteDesk(site).ask(DatasetQuery.parse("/lhc/data/*.bin"), "", Conditions()).state)


@pytest.mark.parametrize("written", ["above", "over 20", "above -3", "above 20 apples", "ALL"])
def test_what_is_no_such_size_is_said_in_words(tmp_path: Path, written: str) -> None:
    vse = site_with_files_far(tmp_path / "site", FILES[:1])
    answer = InProcess(vse.directory)("--set", f"stager.approval={written}", "status")
    assert answer.code != 0
    assert "stager.approval" in answer.err
    assert "1TB" in answer.err or "10TB" in answer.err
    assert "pattern" not in answer.err


def test_the_owner_of_the_site_approves_and_the_word_is_kept(tmp_path: Path) -> None:
    vse = site_with_files_far(tmp_path / "site", FILES)
    toml = tmp_path / "site" / "vse.toml"
    toml.write_text(toml.read_text().replace("[stager]", '[stager]\napproval = "all"'))
    asked_as_the_door(toml)
    assert vse("request", "approve", "1", "--note", "fine").code == 0
    told = json.loads(vse("request", "show", "1", "--json").out)
    assert (told["state"], told["approval"], told["approval_note"]) == ("active", "given", "fine")
