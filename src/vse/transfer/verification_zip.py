"""Looks into zip archives, for the reader process: every member's CRC, and the ROOT files among them.

ALICE keeps its events so (``root_archive.zip#AliAOD.root``): members are stored as they are, and opened
in place. Compressed ones are unpacked into a file without a name first.
"""

from __future__ import annotations

import tempfile
import zipfile
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, cast

from vse.transfer.verification_root import Bad, Beat, Seen, Window, in_words
from vse.transfer.verification_root import look as look_at_root

_PIECE_BYTES = 1024**2
_UNPACKED_BYTES = 8 * 1024**3
"""A member that says it is larger is not unpacked: compressed members can tell of any size."""
_LOCAL_HEADER = 30


def look(path: Path, member: str, tree: str, deep: bool, beat: Beat) -> Seen:
    """Return what the member holds; raise `Bad` where that, or any other, is broken.

    Where ``member`` is empty it is the first one that is a ROOT file: what ROOT opens then. ``tree`` is
    that of this member; of others the default one is looked at.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise Bad(f"it is no whole zip archive ({error})") from error
    with archive, path.open("rb") as raw:
        files = [one for one in archive.infolist() if not one.is_dir()]
        roots = [one.filename for one in files if one.filename.endswith(".root")]
        chosen = member or next(iter(roots), "")
        if member and member not in {one.filename for one in files}:
            has = ", ".join(one.filename for one in files[:10]) or "none"
            raise Bad(f"the archive holds no {member!r} (it has {has})")
        seen = Seen("", 0)
        for one in files:
            mine = one.filename == chosen
            found = _member(archive, one, raw, tree if mine else "", deep, beat)
            seen = found if mine else seen
        return seen


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, raw: BinaryIO, tree: str, deep: bool, beat: Beat
) -> Seen:
    is_root = member.filename.endswith(".root")
    stored = member.compress_type == zipfile.ZIP_STORED
    with tempfile.TemporaryFile() as unpacked:
        _read_through(archive, member, unpacked if is_root and not stored else None, beat)
        if not is_root:
            return Seen("", 0)
        place = (raw, _start(raw, member)) if stored else (cast(BinaryIO, unpacked), 0)
        try:
            return look_at_root(Window(*place, member.file_size), tree, deep, beat)
        except Exception as error:
            raise Bad(f"of its member {member.filename!r}: {in_words(error)}") from error


def _read_through(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, keep: BinaryIO | None, beat: Beat
) -> None:
    """Read a member to its end, where its CRC is compared."""
    if member.compress_type != zipfile.ZIP_STORED and member.file_size > _UNPACKED_BYTES:
        raise Bad(f"its member {member.filename!r} would have {member.file_size} bytes unpacked")
    size_bytes = 0
    try:
        with closing(archive.open(member)) as reader:
            while piece := reader.read(_PIECE_BYTES):
                size_bytes += len(piece)
                if keep is not None:
                    keep.write(piece)
                beat()
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise Bad(f"its member {member.filename!r} cannot be read ({error or 'it is cut short'})") from error
    except Exception as error:  # what each way of compressing raises
        raise Bad(
            f"its member {member.filename!r} cannot be read ({type(error).__name__}: {error})"
        ) from error
    if size_bytes != member.file_size:
        raise Bad(f"its member {member.filename!r} has {size_bytes} bytes, not {member.file_size}")


def _start(raw: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Return where the bytes of a stored member begin: behind its local header, which has its own length."""
    raw.seek(member.header_offset)
    header = raw.read(_LOCAL_HEADER)
    return (
        member.header_offset
        + _LOCAL_HEADER
        + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    )
