"""The table of drivers is what passed, and what passed is what is declared."""

from __future__ import annotations

import runpy
from dataclasses import fields
from pathlib import Path

import pytest

from vse.storage.contract import Capabilities
from vse.storage.drivers import DRIVERS
from vse.testing.drivers import PROVED_BY, DriverConformance

ROOT = Path(__file__).resolve().parents[1]
TOOL = runpy.run_path(str(ROOT / "tools/driver_table.py"))
SHOWN = [(driver, *of) for driver, protocols in TOOL["SHOWN"].items() for of in protocols]


def test_the_page_is_what_passed():
    assert (ROOT / "docs/drivers.md").read_text() == TOOL["page"](), "run: make drivers"


@pytest.mark.parametrize(("driver", "protocol", "settings"), SHOWN, ids=lambda one: str(one))
def test_what_is_declared_is_what_passed(driver: str, protocol: str, settings: dict[str, object]) -> None:
    """A capability that is declared and did not pass is as wrong as one that passed and is not declared."""
    declared = TOOL["declared"](driver, protocol, settings)
    if (driver, protocol) in TOOL["UNPROVED"]:
        assert (driver, protocol) not in TOOL["recorded"](), "it is proved now: take it out of UNPROVED"
        return
    proved, servers = TOOL["recorded"]()[driver, protocol]
    assert servers
    assert all(servers), "a suite does not say its server_name"
    assert proved == declared, "run `make drivers`, and see which tests of the suite fail"


def test_every_driver_and_every_capability_has_its_place():
    names = {field.name for field in fields(Capabilities)}
    assert {driver for driver, _, _ in SHOWN} == set(DRIVERS)
    assert set(TOOL["COLUMNS"]) == names
    assert set(PROVED_BY) == names
    assert all(hasattr(DriverConformance, test) for tests in PROVED_BY.values() for test in tests)
