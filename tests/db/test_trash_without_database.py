"""The upkeep of the trash while the catalogue does not answer."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from support.waiting import until
from vse.app.init import init_site
from vse.app.site import Site
from vse.app.trash import tend
from vse.config.load import load
from vse.errors import StorageFault
from vse.model import Identity, Lfn, NewFile
from vse.testing.postgresql import start_postgresql, stop_postgresql

pytestmark = pytest.mark.slow
LFN = Lfn("/lhc/a.dat")


def test_the_trash_is_emptied_once_the_database_is_back(tmp_path: Path, own_postgresql: str) -> None:
    """Found by soaking: its thread ended with a traceback, and nothing was ever erased again."""
    init_site(tmp_path / "site", name="test")
    toml = tmp_path / "site" / "vse.toml"
    flags = {"database.url": own_postgresql, "upkeep.expire_every_s": "0.1"}
    now_s = 1e9
    with Site.open(load(toml, {}, flags), lambda: now_s) as site:
        assert not site.catalogue.register([NewFile(LFN, 1, 65537, site.destination.name)]).failed
        names = site.names_for(Identity("root"))
        assert not names.remove([LFN]).failed
        now_s += 1e7
        stop, errors, gone = threading.Event(), [], []

        def tell(result) -> None:
            errors.extend(result.failed.values())
            gone.extend(one.lfn for one in result.ok.values())

        stop_postgresql(own_postgresql)
        thread = threading.Thread(target=tend, args=(site, stop, tell))
        thread.start()
        try:
            until(lambda: errors, 30.0)
            assert isinstance(errors[0], StorageFault)
            start_postgresql(own_postgresql)
            until(lambda: gone or not thread.is_alive(), 30.0)
        finally:
            stop.set()
            thread.join()
        assert gone == [LFN]
