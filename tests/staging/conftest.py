from collections.abc import Iterator
from pathlib import Path

import pytest

from support.staging_site import StagingSite


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[StagingSite]:
    """A site on either database."""
    one = StagingSite(tmp_path, url=database_url)
    yield one
    one.close()
