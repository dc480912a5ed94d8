"""The soak in short. `make soak` is the long one; ``python -m soak --seed N`` repeats the faults of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from soak.faults import kill
from soak.run import database, for_faults, for_kills, soak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_ten_kills_in_a_row_with_a_source_that_fails(tmp_path: Path) -> None:
    verdict = soak(
        tmp_path / "site", f"sqlite:///{tmp_path}/vse.db", for_kills(10), faults={kill: 1}, requests=4
    )
    assert verdict.faults[kill.__name__] == 10
    assert verdict.wrong == [], str(verdict)


@pytest.mark.parametrize(("kind", "number"), [("sqlite", 14), ("postgresql", 8)])
def test_every_fault_mixed(tmp_path: Path, kind: str, number: int) -> None:
    """Each once, and some again; about a minute each where nothing else runs."""
    with database(kind, tmp_path / "site") as url:
        verdict = soak(tmp_path / "site", url, for_faults(number), requests=4)
    assert verdict.answers["good"] > 0
    assert verdict.wrong == [], str(verdict)
