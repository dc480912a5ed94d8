"""Real doors on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.door_site import TOKEN, MakeSite, Site, files_of
from vse.doors.http.access import DoorAccess
from vse.doors.http.app import create_app
from vse.testing.door import running_door


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[MakeSite]:
    """Start doors of any kind; they end with the test."""
    with ExitStack() as running:

        def make(
            access: DoorAccess | None = None,
            catalogue: object = None,
            whole: object = None,
            desk: object = None,
            **more: object,
        ) -> Site:
            root = tmp_path / "storage"
            root.mkdir(exist_ok=True)
            rules = access or DoorAccess("token", "token", TOKEN)
            app = create_app(rules, files_of(root), catalogue, element="REMOTE", whole=whole, desk=desk)  # type: ignore[arg-type]
            return Site(running.enter_context(running_door(app, **more)), root)  # type: ignore[arg-type]

        yield make


@pytest.fixture(scope="session")
def content() -> bytes:
    return os.urandom(700_001)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> Iterator[Site]:
    """One door for all tests that do not change what others see. ``/big.bin`` holds ``content``."""
    root = tmp_path_factory.mktemp("door") / "storage"
    root.mkdir()
    (root / "big.bin").write_bytes(content)
    (root / "small.txt").write_bytes(b"0123456789")
    (root / "empty").write_bytes(b"")
    app = create_app(DoorAccess("token", "token", TOKEN), files_of(root), element="REMOTE")
    with running_door(app) as url:
        yield Site(url, root)
