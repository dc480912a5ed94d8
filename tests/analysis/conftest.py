"""One cluster of two workers for the whole session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vse.analysis.cluster import LocalWorkers
from vse.analysis.script import Script, load_script


@pytest.fixture(scope="session")
def workers() -> Iterator[LocalWorkers]:
    with LocalWorkers(2) as local:
        yield local


@pytest.fixture
def client(workers: LocalWorkers) -> Any:
    """A client of two workers that are there (a test before may have killed one)."""
    workers.client.wait_for_workers(2, timeout=120)
    return workers.client


@pytest.fixture
def write_script(tmp_path: Path) -> Callable[[str], Script]:
    def write(text: str) -> Script:
        path = tmp_path / "my_script.py"
        path.write_text(text)
        return load_script(path)

    return write
