"""A directory of its own for each test of the gfal driver."""

from __future__ import annotations

import uuid

from vse.storage.drivers.gfal import GfalDriver


def new_base(driver: GfalDriver, above: str) -> str:
    path = f"{above}/{uuid.uuid4().hex}"
    driver.make_directory(path)
    return path
