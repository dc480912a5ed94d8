"""`vse status --watch` on a terminal of 80 columns: nothing of what is asked for is cut off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from support.command_line import InProcess, site_with_files_far
from vse.app.site import Site
from vse.cli.output import event_rate, size_of
from vse.cli.status import drawn
from vse.config.load import load
from vse.staging.eta import Estimate
from vse.staging.values import ItemState

LONG = "/lhc/data/2026/a-name-that-is-long-enough-to-fill-more-than-a-line/of-a-narrow-terminal/f"


@pytest.fixture
def vse(tmp_path: Path) -> InProcess:
    return site_with_files_far(tmp_path / "site", [f"{LONG}{number}.dat" for number in range(3)])


def test_eighty_columns_show_all_but_the_end_of_a_long_query(vse: InProcess) -> None:
    assert vse("stage", f"{LONG}*.dat", "--no-wait").code == 0
    with Site.open(load(vse.directory / "vse.toml")) as site:
        (one,) = site.progress.status(site.staging.list())
    moving = replace(
        one, running=3, rate_bytes_s=4.7e6, here_bytes=58_800_000, total_bytes=98_000_000,
        eta=Estimate(17.0, 28.0, 63.0), files=one.files | {ItemState.FAILED: 1},
    )  # fmt: skip
    console = Console(width=80, record=True, soft_wrap=True, file=(vse.directory / "shown").open("w"))
    console.print(drawn([moving]))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("    1  active, 1 file failed  ")
    words = " ".join(lines[1].split())
    assert words.endswith("0/4 files 58.8 of 98.0 MB 4.7 MB/s 28 s (17 s to 1:03)")
    waiting = Console(width=80, record=True, soft_wrap=True, file=(vse.directory / "shown").open("w"))
    waiting.print(drawn([one]))
    told = waiting.export_text()
    assert one.note
    assert one.note in " ".join(told.split())
    assert max(map(len, told.splitlines())) <= 80


@pytest.mark.parametrize(
    ("per_s", "shown"),
    [(0, "0 events/s"), (850, "850 events/s"), (1234, "1.2 k events/s"), (1_195_000, "1.2 M events/s")],
)
def test_rates_have_a_unit_that_fits_them(per_s: float, shown: str) -> None:
    assert event_rate(per_s) == shown


def test_a_unit_is_said_once() -> None:
    assert size_of(18.2e6, 98e6) == "18.2 of 98.0 MB"
    assert size_of(999e3, 98e6) == "999 kB of 98.0 MB"
