"""A ROOT file that is not whole is told of in plain words, not in those of a library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from struct import pack_into

import pytest

from support.command_line import ZMUMU
from vse.errors import Unreadable
from vse.model import Lfn
from vse.transfer.abort import Abort
from vse.transfer.verification import Readers

pytestmark = pytest.mark.slow


Said = Callable[[Path], str]


@pytest.fixture(scope="module")
def said_of() -> Iterator[Said]:
    readers = Readers(1, 60.0)

    def said(path: Path) -> str:
        with pytest.raises(Unreadable) as caught:
            readers.check(Lfn("/lhc/a.root"), path, "", Abort())
        return caught.value.found

    yield said
    readers.close()


@pytest.mark.parametrize("size_bytes", [16, 90_000, 178_970])
def test_a_file_that_is_cut_short_is_said_to_be(said_of: Said, tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "a.root"
    path.write_bytes(ZMUMU[0].read_bytes()[:size_bytes])
    assert said_of(path).startswith(f"it is cut short: {size_bytes} bytes")


def test_so_is_one_of_more_than_two_gigabytes(said_of: Said, tmp_path: Path) -> None:
    head = bytearray(ZMUMU[0].read_bytes())
    pack_into(">iiq", head, 4, 1_063_600, 100, 3_000_000_000)
    path = tmp_path / "a.root"
    path.write_bytes(head)
    assert said_of(path) == f"it is cut short: {len(head)} bytes, and its header tells of 3000000000"


def test_a_header_of_zeros_is_said_to_be_empty(said_of: Said, tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    path.write_bytes(b"root" + bytes(100_000))
    assert said_of(path) == "its header is empty"
