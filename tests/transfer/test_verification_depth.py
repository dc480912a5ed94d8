"""How far a file is looked into: every basket, every page of an RNTuple, every member of an archive."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vse.config.filters import Depth
from vse.errors import Unreadable
from vse.model import Contents, Lfn
from vse.transfer.abort import Abort
from vse.transfer.verification import Readers, reader_command

pytestmark = pytest.mark.slow
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ROOT, ZIP = Lfn("/lhc/file.root"), Lfn("/lhc/root_archive.zip")
ZMUMU = DATA / "uproot-Zmumu.root"
ALL = sorted(DATA.glob("*.root"))


@pytest.fixture(scope="module")
def readers() -> Iterator[Readers]:
    with Readers(1, 60.0) as pool:
        yield pool


def check(
    readers: Readers, path: Path, depth: Depth = "baskets", tree: str = "", lfn: Lfn = ROOT
) -> Contents | None:
    return readers.check(lfn, path, tree, Abort(), depth)


def flipped(path: Path, branch: str, number: int, out: Path) -> Path:
    """Return a copy in which one bit in the middle of one basket is another."""
    import uproot

    with uproot.open(path) as file:
        one = file["events"][branch]
        seek = int(one.member("fBasketSeek")[number])
        length = int(one.member("fBasketBytes")[number])
    data = bytearray(path.read_bytes())
    data[seek + length * 3 // 4] ^= 0x10
    out.write_bytes(data)
    return out


def many_baskets(path: Path) -> Path:
    """Return a file whose branch ``x`` has five baskets."""
    import numpy as np
    import uproot

    with uproot.recreate(path, compression=uproot.ZLIB(4)) as file:
        tree = file.mktree("events", {"x": np.float64, "y": np.int32})
        for step in range(5):
            tree.extend({"x": np.arange(1000.0) * (step + 0.1), "y": np.arange(1000, dtype=np.int32)})
    return path


# -- ROOT files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL, ids=lambda one: one.name)
def test_sound_files_are_sound_down_to_every_basket(readers: Readers, path: Path) -> None:
    assert check(readers, path) == check(readers, path, "contents")


@pytest.mark.parametrize(("branch", "number"), [("x", 2), ("y", 1)])
def test_a_flipped_bit_in_a_basket_is_found_at_baskets_only_and_named(
    readers: Readers, tmp_path: Path, branch: str, number: int
) -> None:
    path = flipped(many_baskets(tmp_path / "sound.root"), branch, number, tmp_path / "flipped.root")
    assert check(readers, path, "checksum") is None
    assert check(readers, path, "contents") == Contents("events", 5000)
    with pytest.raises(Unreadable, match=rf"basket {number} of branch '{branch}' cannot be read"):
        check(readers, path, "baskets")


@pytest.mark.parametrize("name", ["uproot-Zmumu.root", "uproot-Zmumu-lz4.root", "uproot-Zmumu-lzma.root"])
def test_a_flipped_bit_in_a_real_file_is_named(readers: Readers, tmp_path: Path, name: str) -> None:
    path = flipped(DATA / name, "pt1", 0, tmp_path / "flipped.root")
    assert check(readers, path, "contents") == Contents("events", 2304)
    with pytest.raises(Unreadable, match="basket 0 of branch 'pt1' cannot be read"):
        check(readers, path, "baskets")


def test_baskets_of_other_trees_are_read_as_well(readers: Readers, tmp_path: Path) -> None:
    import numpy as np
    import uproot

    path = tmp_path / "two.root"
    with uproot.recreate(path, compression=uproot.ZLIB(4)) as file:
        file.mktree("Events", {"a": np.int64}).extend({"a": np.arange(100)})
        file.mktree("events", {"pt": np.float64}).extend({"pt": np.arange(5000.0)})
    flipped(path, "pt", 0, path)
    assert check(readers, path, "contents", "Events") == Contents("Events", 100)
    with pytest.raises(Unreadable, match="basket 0 of branch 'pt'"):
        check(readers, path, "baskets", "Events")


def test_a_tree_without_entries_is_no_error(readers: Readers, tmp_path: Path) -> None:
    import numpy as np
    import uproot

    with uproot.recreate(tmp_path / "empty.root") as file:
        file.mktree("t", {"x": np.float32})
    assert check(readers, tmp_path / "empty.root") == Contents("t", 0)


def test_a_legacy_list_may_begin_a_tree_with_a_slash(readers: Readers) -> None:
    assert check(readers, ZMUMU, tree="/events") == Contents("events", 2304)
    with pytest.raises(Unreadable, match=r"no tree '/aodTree' \(it has events\)"):
        check(readers, ZMUMU, tree="/aodTree")


def test_the_usual_depth_is_that_of_the_readers(tmp_path: Path) -> None:
    path = flipped(many_baskets(tmp_path / "sound.root"), "x", 2, tmp_path / "flipped.root")
    with Readers(1, 60.0, depth="checksum") as none:
        none.warm()
        assert none.check(ROOT, path, "", Abort()) is None
    with Readers(1, 60.0, depth="baskets") as deep, pytest.raises(Unreadable, match="basket 2"):
        deep.check(ROOT, path, "", Abort())


def test_a_basket_that_takes_too_much_memory_is_a_failed_file_and_the_reader_goes_on(tmp_path: Path) -> None:
    import numpy as np
    import uproot

    path = tmp_path / "bomb.root"
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        tree = file.mktree("t", {"x": np.int8})
        for count in (10, 400_000_000, 10):
            tree.extend({"x": np.zeros(count, dtype=np.int8)})
    with Readers(1, 60.0, reader_command(700 * 1024**2)) as readers:
        assert check(readers, path, "contents") == Contents("t", 400_000_020)
        with pytest.raises(Unreadable, match=r"memory|crashed"):
            check(readers, path)
        assert check(readers, ZMUMU) == Contents("events", 2304)


# -- RNTuple -----------------------------------------------------------------------------------------


def test_an_rntuple_tells_its_entries_and_its_pages_are_read(readers: Readers, tmp_path: Path) -> None:
    import numpy as np
    import uproot

    path = tmp_path / "ntuple.root"
    with uproot.recreate(path) as file:
        made = file.mkrntuple("Events", {"x": np.dtype(np.float64)})
        for _ in range(3):
            made.extend({"x": np.arange(4000.0)})
    assert check(readers, path) == check(readers, path, "contents") == Contents("Events", 12000)
    with uproot.open(path) as file:
        place = file["Events"].page_link_list[1][0].pages[0].locator
    data = bytearray(path.read_bytes())
    data[place.offset : place.offset + place.num_bytes] = bytes(place.num_bytes)
    path.write_bytes(data)
    assert check(readers, path, "contents") == Contents("Events", 12000)
    with pytest.raises(Unreadable, match="the pages of field 'x' in cluster 1 cannot be read"):
        check(readers, path)


# -- zip archives ------------------------------------------------------------------------------------


def archive(path: Path, members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


NANO = DATA / "nano_dy.root"


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_the_members_of_an_archive_are_verified_and_named_by_an_anchor(
    readers: Readers, tmp_path: Path, how: int
) -> None:
    members = {"log.txt": b"hello", "a/AliAOD.root": ZMUMU.read_bytes(), "AliESDs.root": NANO.read_bytes()}
    path = archive(tmp_path / "a.zip", members, how)
    assert check(readers, path, lfn=ZIP) == Contents("events", 2304)  # the first, as ROOT takes it
    assert check(readers, path, tree="AliESDs.root#", lfn=ZIP) == Contents("Events", 40)
    assert check(readers, path, tree="AliESDs.root#Runs", lfn=ZIP) == Contents("Runs", 1)
    with pytest.raises(Unreadable, match=r"no 'AliAOD.root' \(it has log.txt, a/AliAOD.root, AliESDs.root\)"):
        check(readers, path, tree="AliAOD.root#", lfn=ZIP)
    with pytest.raises(Unreadable, match=r"of its member 'AliESDs.root': it holds no tree 'aodTree'"):
        check(readers, path, tree="AliESDs.root#aodTree", lfn=ZIP)


def test_a_member_with_a_wrong_crc_is_named_also_where_another_is_meant(
    readers: Readers, tmp_path: Path
) -> None:
    path = archive(tmp_path / "a.zip", {"AliAOD.root": ZMUMU.read_bytes(), "note.txt": b"0123456789" * 99})
    data = bytearray(path.read_bytes())
    data[data.index(b"0123456789") + 500] ^= 1
    path.write_bytes(data)
    for depth in ("contents", "baskets"):
        with pytest.raises(Unreadable, match=r"member 'note.txt' cannot be read \(Bad CRC-32"):
            check(readers, path, depth, "AliAOD.root#", ZIP)


def test_a_broken_root_file_with_a_right_crc_is_found_in_an_archive(readers: Readers, tmp_path: Path) -> None:
    bad = flipped(many_baskets(tmp_path / "sound.root"), "x", 2, tmp_path / "bad.root").read_bytes()
    path = archive(tmp_path / "a.zip", {"good.root": ZMUMU.read_bytes(), "bad.root": bad})
    assert check(readers, path, "contents", lfn=ZIP) == Contents("events", 2304)
    with pytest.raises(Unreadable, match=r"of its member 'bad.root': basket 2 of branch 'x' cannot be read"):
        check(readers, path, lfn=ZIP)
    cut = archive(tmp_path / "b.zip", {"cut.root": ZMUMU.read_bytes()[:100_000]})
    with pytest.raises(Unreadable, match=r"of its member 'cut.root': "):
        check(readers, cut, "contents", lfn=ZIP)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_a_truncated_archive_is_unreadable(readers: Readers, tmp_path: Path, part: float) -> None:
    whole = archive(tmp_path / "a.zip", {"a.root": ZMUMU.read_bytes()}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(Unreadable, match="no whole zip archive"):
        check(readers, tmp_path / "cut.zip", lfn=ZIP)


def test_an_archive_without_root_files_is_sound_and_has_no_tree(readers: Readers, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"log.txt": b"hello"})
    assert check(readers, path, lfn=ZIP) == Contents("", 0)


def test_an_archive_that_tells_of_an_enormous_member_is_not_unpacked(
    readers: Readers, tmp_path: Path
) -> None:
    path = archive(tmp_path / "a.zip", {"a.root": bytes(1000)}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    size = (2**32 - 2).to_bytes(4, "little")
    data[22:26] = size  # in the local header ...
    data[central + 24 : central + 28] = size  # ... and in the directory at the end
    path.write_bytes(data)
    with pytest.raises(Unreadable, match=r"member 'a\.root' "):
        check(readers, path, lfn=ZIP)
