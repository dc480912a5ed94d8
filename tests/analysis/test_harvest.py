"""How often partial results are collected."""

from __future__ import annotations

import math

import pytest

from vse.analysis.harvest import pause_s


@pytest.mark.parametrize(
    ("took_s", "life_s", "wait_s"),
    [(0.0, math.inf, 0.0), (1.0, math.inf, 20.0), (1.0, 50.0, 10.0), (4.0, 2.0, 4.0), (0.01, 50.0, 0.2)],
)
def test_the_shorter_workers_live_the_more_often_they_are_asked(took_s: float, life_s: float, wait_s: float):
    assert pause_s(took_s, life_s) == pytest.approx(wait_s)
