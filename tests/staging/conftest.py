from collections.abc import Iterator
from pathlib import Path

import pytest

from support.databases import database_url, postgresql_server
from support.staging_site import StagingSite

__all__ = ["database_url", "postgresql_server"]


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[StagingSite]:
    """A site on either database."""
    one = StagingSite(tmp_path, url=database_url)
    yield one
    one.close()
