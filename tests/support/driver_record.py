"""``pytest --driver-record FILE``: keep what the conformance suite proved of each driver, over which server.

A capability is proved where every test of the suite that stands for it (`vse.testing.drivers.PROVED_BY`)
passed over a driver that declares it. `tools/driver_table.py` makes the table of the documentation of it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from vse.storage.drivers import DRIVERS
from vse.testing.driver_extras import TapeConformance
from vse.testing.drivers import PROVED_BY

_OPTION = "--driver-record"
_PROPERTY = "driver"


class _Suite(NamedTuple):
    """One class of tests over one driver."""

    driver: str
    protocol: str
    server: str
    where: str


class Record:
    """Gathers from the reports of all processes of a run, and writes at its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._passed: dict[_Suite, set[str]] = defaultdict(set)
        self._failed: dict[_Suite, set[str]] = defaultdict(set)
        self._declared: dict[_Suite, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = dict(report.user_properties).get(_PROPERTY)
        if found is None or report.when != "call":
            return
        suite = _Suite(*found["suite"])
        self._declared[suite] = found["declared"]
        (self._passed if report.passed else self._failed)[suite].add(found["test"])

    def pytest_sessionfinish(self) -> None:
        rows = [{**suite._asdict(), "proved": self._proved(suite)} for suite in sorted(self._declared)]
        self._path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")

    def _proved(self, suite: _Suite) -> dict[str, Any]:
        good = self._passed[suite] - self._failed[suite]
        return {
            name: value
            for name, value in self._declared[suite].items()
            if value and set(PROVED_BY[name]) <= good
        }


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(_OPTION, type=Path, metavar="FILE", help="write what the driver suites proved")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption(_OPTION)
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Record(path))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[Any]:
    """Tell with the report of a test of the suite over which driver and server it ran."""
    told = _told(item) if isinstance(item, pytest.Function) else None
    if told is not None:
        item.user_properties.append((_PROPERTY, told))
    return (yield)


def _told(item: pytest.Function) -> dict[str, Any] | None:
    if item.cls is None or not issubclass(item.cls, TapeConformance):
        return None
    driver = item.funcargs.get("driver")
    name = next((name for name, made in DRIVERS.items() if made == type(driver).__name__), None)
    if driver is None or name is None:  # what wraps a driver is none of the table
        return None
    can = {one: getattr(driver.capabilities, one) for one in PROVED_BY}
    declared = {one: sorted(value) if isinstance(value, frozenset) else value for one, value in can.items()}
    where = item.nodeid.partition("[")[0].rpartition("::")[0]
    suite = _Suite(name, driver.protocol, item.cls.server_name, where)
    return {"suite": list(suite), "test": item.originalname, "declared": declared}
