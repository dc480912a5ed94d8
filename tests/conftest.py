"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("vse", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vse")

pytest_plugins = ["support.databases", "support.driver_record", "support.unsteady"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """In CI nothing may be missing: a test that would skip fails, and says what it misses."""
    report = yield
    if not hasattr(report, "wasxfail"):
        _fail_in_ci(report, item)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[Any]:
    """The same for a module that would skip as a whole."""
    report = yield
    _fail_in_ci(report, collector)
    return report


def _fail_in_ci(
    report: pytest.TestReport | pytest.CollectReport, node: pytest.Item | pytest.Collector
) -> None:
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"in CI a missing part fails its test; {node.name} misses: {report.longrepr}"
