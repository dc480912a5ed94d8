"""Sites for the command line's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command_line import REAL_DATA, ZMUMU, Command, TwoSites
from support.databases import ensure_sqlite
from support.other_user import shared_place
from vse.app.init import init_site
from vse.demo import remote


@pytest.fixture
def vse(tmp_path: Path) -> Command:
    """``vse`` in a site of its own."""
    ensure_sqlite(tmp_path / "site/var/vse.db")
    init_site(tmp_path / "site", name="test")
    return Command(tmp_path / "site")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A site in a place that others may be let into, so that only the catalogue can refuse."""
    with shared_place() as place:
        init_site(place / "site", name="test")
        yield place / "site"


@pytest.fixture
def two_sites(tmp_path: Path) -> Iterator[TwoSites]:
    """The remote door is up for the whole test, without any artificial distance."""
    far, near = tmp_path / "remote", tmp_path / "site"
    for site in (far, near):
        ensure_sqlite(site / "var/vse.db")
    remote.make_remote(far)
    init_site(near, name="test", remote=remote.as_remote(far))
    sites = TwoSites(far, near, Command(near))
    with remote.RemoteProcess(far, remote.WideAreaLink(0.0, 1e9)):
        yield sites


@pytest.fixture
def zmumu() -> list[Path]:
    """The five real files of 2,304 dimuon events each."""
    assert len(ZMUMU) == 5, f"the real files are missing in {REAL_DATA}"
    return ZMUMU
