"""The table of drivers is that of the code, and no driver is without its conformance tests."""

from __future__ import annotations

import runpy
from dataclasses import fields
from pathlib import Path

from vse.storage.contract import Capabilities
from vse.storage.drivers import DRIVERS

ROOT = Path(__file__).resolve().parents[1]
TOOL = runpy.run_path(str(ROOT / "tools/driver_table.py"))


def test_the_page_is_that_of_the_code():
    written = (ROOT / "docs/drivers.md").read_text()
    assert written == TOOL["page"](), "run tools/driver_table.py > docs/drivers.md"


def test_every_driver_and_every_capability_has_its_place():
    assert {driver for driver, _, _ in TOOL["rows"]()} == set(DRIVERS)
    assert set(TOOL["COLUMNS"]) == {field.name for field in fields(Capabilities)}


def test_every_driver_has_passed_the_suite():
    missing = set(DRIVERS.values()) - TOOL["tested_classes"](ROOT / "tests/storage")
    assert not missing, f"no subclass of DriverConformance runs over {missing}"
