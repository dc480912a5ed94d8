"""`vse status --watch`, `vse why`: how far, until when, why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.command_line import InProcess, add_element
from vse.app.init import init_site
from vse.app.site import Site
from vse.config.load import load
from vse.model import Lfn, NewFile


@pytest.fixture
def vse(tmp_path: Path) -> InProcess:
    root = tmp_path / "site"
    init_site(root, name="test")
    add_element(root, "FAR", "far", writable=False)
    (root / "far/lhc").mkdir(parents=True)
    (root / "far/lhc/f.dat").write_bytes(bytes(10))
    with Site.open(load(root / "vse.toml")) as site:
        assert not site.catalogue.register([NewFile(Lfn("/lhc/f.dat"), 10, 655361, "FAR")]).failed
    return InProcess(root)


def test_watching_ends_with_the_last_request(vse: InProcess) -> None:
    assert vse("stage", "/lhc/*.dat", "--no-wait").code == 0
    (waiting,) = [json.loads(line) for line in vse("status", "--json").lines]
    assert waiting["eta"] is None
    assert "nothing moves" in waiting["reason"]
    assert "nothing moves" in vse("status", "1").out
    assert "slots are free" in vse("why", "/lhc/f.dat").out
    assert vse("request", "cancel", "1").code == 0
    watched = vse("status", "--watch")  # nothing is open: it ends at once
    assert (watched.code, watched.out, watched.err.strip()) == (0, "", "No open requests.")
    (last,) = [json.loads(line) for line in vse("status", "1", "--watch", "--json").lines]
    assert last["state"] == "cancelled"
