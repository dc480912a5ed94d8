"""What a site has settled for staging holds for what is opened through root://, too: approval, filters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import uproot

from support.command_line import ZMUMU, InProcess
from support.xrootd_site import XrootdSite, xrdcp, xrdfs, xrootd_site
from vse.app.site import Site
from vse.app.xrootd_setup import failure_file
from vse.config.load import load

pytestmark = pytest.mark.slow
DATA = bytes(range(256)) * 400
APPROVAL = 'approval = "all"'
FEW = """
[filters.FEW]
kind = "skim"
branches = ["M"]
where = "M > 80"
"""


@pytest.fixture
def one() -> Iterator[XrootdSite]:
    with xrootd_site() as site:
        yield site


def settle(one: XrootdSite, stager: str = APPROVAL, more: str = "") -> None:
    """Give the site other settings, as if it had been started with them."""
    toml = one.root / "vse.toml"
    toml.write_text(toml.read_text().replace("max_failures = 2", f"max_failures = 2\n{stager}") + more)
    one.site.close()
    one.site = Site.open(load(toml))


def test_a_file_that_somebody_has_to_approve_is_told_of_and_comes_afterwards(
    one: XrootdSite, tmp_path: Path
) -> None:
    settle(one)
    opened, prepared = one.add("opened.bin", DATA), one.add("prepared.bin", DATA)
    one.start_xrootd("redirect")
    vse = InProcess(one.root)
    with one.redirecting():
        for _ in range(2):  # asking again is asking once
            code, said = xrdcp(one.url(opened), tmp_path / "copy")
            assert code != 0
            assert f"cannot stage {opened}: request 1 for it waits for approval" in said
        assert vse("request", "approve", "1").code == 0
        assert xrdcp(one.url(opened), tmp_path / "copy") == (0, "")
        assert (tmp_path / "copy").read_bytes() == DATA

        code, number = xrdfs(one.data_port, "prepare", "-s", f"/vse{prepared}")
        assert code == 0
        query = ("query", "prepare", number.strip(), f"/vse{prepared}")
        (told,) = json.loads(xrdfs(one.data_port, *query)[1])["responses"]
        assert told["requested"] and not told["online"] and not told["error_text"]
        held = json.loads(vse("request", "list", "--held", "--json").out)
        assert (held["request"], held["owner"]) == (2, "xrootd")
        assert vse("request", "refuse", "2", "--note", "not this week").code == 0
        (told,) = json.loads(xrdfs(one.data_port, *query)[1])["responses"]
        assert not told["requested"] and "cancelled" in told["error_text"]
    assert not (one.root / "storage" / prepared[1:]).exists()


def test_so_it_is_with_the_program_that_xrootd_runs(one: XrootdSite, tmp_path: Path) -> None:
    settle(one)
    lfn = one.add("a.bin", DATA)
    answer = InProcess(one.root)("xrootd", "stage", f"/vse{lfn}", str(tmp_path / "a.bin"))
    assert answer.code != 0
    assert "waits for approval" in failure_file(tmp_path / "a.bin").read_text()


def test_a_site_may_trust_whoever_opens_a_file(one: XrootdSite, tmp_path: Path) -> None:
    settle(one, f'{APPROVAL}\napprovers = ["xrootd"]')
    lfn = one.add("a.bin", DATA)
    with one.redirecting():
        one.start_xrootd("redirect")
        assert xrdcp(one.url(lfn), tmp_path / "copy") == (0, "")


def test_a_file_that_a_filter_is_to_make_is_made_when_it_is_opened(one: XrootdSite, tmp_path: Path) -> None:
    settle(one, "", FEW)
    one.add("z.root", ZMUMU[0].read_bytes())
    one.start_xrootd("redirect")
    with one.redirecting():
        code, said = xrdcp(one.url("/lhc/data/z.FILTER_FEW.root"), tmp_path / "few.root")
        assert code == 0, said
        code, said = xrdcp(one.url("/lhc/data/none.FILTER_FEW.root"), tmp_path / "none.root")
    assert code != 0 and "not in the catalogue" in said
    with uproot.open(tmp_path / "few.root") as few, uproot.open(ZMUMU[0]) as whole:
        assert few["events"].keys() == ["M"]
        assert few["events"].num_entries == (whole["events"]["M"].array(library="np") > 80).sum()
    assert not (one.root / "storage/lhc/data/z.root").exists()
