"""``@pytest.mark.unsteady_server("why")``: tests over a server or client that has faults of its own.

XRootD 5.5's HTTP door and Globus's client fail by themselves now and then, whatever is asked of them. Such
tests tell nothing about us in `make test`, and are not run again until they pass. They are run where somebody
looks at what comes out: with ``--driver-record`` (`make drivers`), or with VSE_UNSTEADY=1.
"""

from __future__ import annotations

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "unsteady_server(why): left out of `make test`; see `make drivers`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("VSE_UNSTEADY") or config.getoption("--driver-record", None):
        return
    out = [item for item in items if item.get_closest_marker("unsteady_server")]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in set(out)]
