"""The soak in short; `make soak` is the long one. A seed that failed: ``python -m soak --seed N``."""

from __future__ import annotations

from pathlib import Path

import pytest

from soak.faults import FAULTS, kill
from soak.run import for_kills, for_seconds, soak
from vse.testing.postgresql import fresh_database, running_postgresql, server_programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_ten_kills_in_a_row_with_a_source_that_fails(tmp_path: Path) -> None:
    verdict = soak(tmp_path / "site", f"sqlite:///{tmp_path}/vse.db", for_kills(10), faults={kill: 1})
    assert verdict.faults[kill.__name__] == 10
    assert verdict.wrong == [], str(verdict)


def test_everything_breaks_one_after_the_other(tmp_path: Path) -> None:
    verdict = soak(tmp_path / "site", f"sqlite:///{tmp_path}/vse.db", for_seconds(25), faults=FAULTS)
    assert verdict.wrong == [], str(verdict)
    assert verdict.answers["good"] > 100


def test_everything_breaks_also_on_postgresql(tmp_path: Path) -> None:
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed")
    with running_postgresql(programs) as server, fresh_database(server) as url:  # it is stopped and started
        verdict = soak(tmp_path / "site", url, for_seconds(12), faults=FAULTS)
    assert verdict.wrong == [], str(verdict)
