"""A site of two directories, REMOTE that is read and LOCAL that is staged to, for `vse.app.site.Site`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vse.app.site import Site
from vse.config.load import load
from vse.model import Clock
from vse.transfer.verification import Readers

SETTINGS = """
[stager]
destination = "LOCAL"
max_failures = 1
{stager}

[StorageElements.LOCAL.File]
Protocol = "file"
Path = "{root}/local"

[StorageElements.REMOTE]
WriteAccess = "Banned"

[StorageElements.REMOTE.File]
Protocol = "file"
Path = "{root}/remote"

{more}
"""


class KeptReaders(Readers):
    """Readers of files that outlive the sites that use them, until `end`: starting one takes a second."""

    def close(self) -> None:
        """Not yet."""

    def end(self) -> None:
        super().close()


class TwoElements:
    """The site in ``root``; `open` it (again) with the settings that a test is about."""

    def __init__(self, root: Path, readers: KeptReaders) -> None:
        self.root = root
        self.readers = readers
        for name in ("local", "remote"):
            (root / name).mkdir()

    def open_with(self, more: str, stager: str = "", clock: Clock = time.time) -> Site:
        path = self.root / "vse.toml"
        path.write_text(SETTINGS.format(root=self.root, stager=stager, more=more))
        self.site = Site.open(load(path), clock)
        if "verify" not in stager:
            self.site.__dict__["verifier"] = self.readers
        return self.site

    def local(self, lfn: str) -> Path:
        return self.root / "local" / lfn[1:]


@pytest.fixture(scope="module")
def readers() -> Iterator[KeptReaders]:
    one = KeptReaders(1, 60.0)
    yield one
    one.end()
