"""Facilities in directories of their own, on local processes or on a real Slurm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.slurm import Slurm, slurm
from support.waiting import until
from vse.app.vaf import Facility
from vse.config.vaf import VafSettings
from vse.elastic.pack import StateDirectory

MakeFacility = Callable[..., Facility]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without any environment script, and no credential of who runs the tests."""
    home = tmp_path / "home"
    (home / ".vaf").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "no-proxy"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for name in ("BEARER_TOKEN", "BEARER_TOKEN_FILE", "VAF_STATE"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def make_facility(tmp_path: Path) -> Iterator[MakeFacility]:
    """Make facilities, look at the batch system often, and stop them in the end."""
    made = []

    def make(**settings: Any) -> Facility:
        scripts = tmp_path / "etc"
        scripts.mkdir(exist_ok=True)
        values = {"every_s": 0.2, "environment": str(scripts), "host": "127.0.0.1", **settings}
        facility = Facility(VafSettings(**values), StateDirectory(tmp_path / "state"))
        made.append(facility)
        return facility

    yield make
    for facility in made:
        facility.stop()


@pytest.fixture(scope="session")
def slurm_server() -> Iterator[Slurm]:
    with slurm(processors=2) as running:
        yield running


@pytest.fixture
def on_slurm(slurm_server: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """Slurm for this process and all it starts, without jobs."""
    for name, value in slurm_server.environment.items():
        monkeypatch.setenv(name, value)
    until(lambda: not slurm_server.run("squeue", "-h").strip())
    return slurm_server
