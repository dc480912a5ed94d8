from collections.abc import Iterator
from pathlib import Path

import pytest

from support.staging_site import StagingSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[StagingSite]:
    one = StagingSite(tmp_path)
    yield one
    one.close()
