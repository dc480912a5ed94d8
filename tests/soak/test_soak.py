"""The soak in short: kills only. `make soak` has every fault; ``python -m soak --seed N`` repeats one."""

from __future__ import annotations

from pathlib import Path

import pytest

from soak.faults import kill
from soak.run import for_kills, soak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_ten_kills_in_a_row_with_a_source_that_fails(tmp_path: Path) -> None:
    verdict = soak(tmp_path / "site", f"sqlite:///{tmp_path}/vse.db", for_kills(10), faults={kill: 1})
    assert verdict.faults[kill.__name__] == 10
    assert verdict.wrong == [], str(verdict)
