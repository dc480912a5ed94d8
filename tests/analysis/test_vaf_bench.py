"""The seed's formulas against its printed tables, and the packetizer against the formulas."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from vse.analysis.ramp_ups import DAY_S, SITES, TABLE_4_5
from vse.analysis.vaf_bench import arrivals, push_pull_rows, ramp_up_rows, uniform_completion
from vse.cli.main import app

CERN = SITES[0]


@pytest.mark.parametrize("row", TABLE_4_5, ids=lambda row: f"{row.days} days")
def test_the_formulas_give_the_printed_table(row):
    """Within 6 %: the table was made with more digits of p0 and p1 than are printed."""
    assert CERN.push_s(row.days * DAY_S) == pytest.approx(60 * row.push_min, rel=0.06)
    assert CERN.pull_s(row.days * DAY_S) == pytest.approx(60 * row.pull_min, rel=0.08)


def test_the_formulas_agree_with_each_other():
    for site in SITES:
        assert site.workers(site.time_to_s(20)) == pytest.approx(20)
        assert site.computed_s(site.pull_s(DAY_S)) == pytest.approx(DAY_S)
        jobs = site.push_jobs(DAY_S)
        assert site.time_to_s(jobs) + DAY_S / jobs == pytest.approx(site.push_s(DAY_S))
        assert site.time_to_s(site.p0 / site.p1) is None


def test_the_first_worker_is_there_at_once():
    assert arrivals(CERN)[0] == 0.0
    assert len(arrivals(CERN)) == 100
    assert len(arrivals(SITES[3])) == 91, "Napoli never gives a hundred"


@pytest.mark.slow
def test_fits_and_efficiency_at_the_five_sites():
    for row in ramp_up_rows():
        assert row.fitted_p0 == pytest.approx(row.site.p0, rel=0.1)
        assert row.fitted_p1 == pytest.approx(row.site.p1, rel=0.15)
        assert row.efficiency >= 0.95


@pytest.mark.slow
def test_the_real_packetizer_is_as_fast_as_the_formula_says():
    for row in push_pull_rows():
        assert row.pull_simulated_s == pytest.approx(row.pull_s, rel=0.02)
        assert row.speedup == pytest.approx(row.seed_speedup, abs=0.03)


def test_all_workers_end_together():
    outcome, ideal = uniform_completion()
    assert outcome.spread_s < 20
    assert ideal / outcome.finished_s > 0.98
    assert max(outcome.entries.values()) > 2 * min(outcome.entries.values())


@pytest.mark.slow
def test_the_command(tmp_path):
    done = CliRunner().invoke(app, ["bench", "vaf", "--plots", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "CERN" in done.output
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "vaf_ramp_ups.png",
        "vaf_push_pull.png",
        "vaf_completion.png",
    }
