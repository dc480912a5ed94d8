import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse.errors import BadRequest
from vse.model import Adler32, Checksum


def test_a_dropped_leading_zero_is_the_same_checksum():
    assert Checksum.parse("adler32:40001") == Checksum.parse("ADLER32=00040001") == Checksum.adler32(0x40001)
    assert str(Checksum.adler32(0x40001)) == "adler32:00040001"


@pytest.mark.parametrize("text", ["", "adler32", "adler32:xyz", "adler32:123456789", "crc99:12", "md5:12 4"])
def test_what_is_no_checksum_is_refused(text):
    with pytest.raises(BadRequest):
        Checksum.parse(text)


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_adler32_grows_piece_by_piece(pieces):
    growing = Adler32()
    for piece in pieces:
        growing.update(memoryview(piece))
    whole = b"".join(pieces)
    assert growing.checksum == Checksum.adler32(zlib.adler32(whole))
    assert growing.size_bytes == len(whole)
