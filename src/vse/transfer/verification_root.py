"""Looks into ROOT files, for the reader process (`vse.transfer.verifier`).

At the depth ``contents`` the default tree is found, its entries are counted, and every basket must be where
the tree says; at ``baskets`` every basket of every branch of every tree is decompressed as well, and every
page of every RNTuple.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, BinaryIO, NamedTuple

_TREES = frozenset({"TTree", "TNtuple", "TNtupleD"})
_NTUPLES = frozenset({"ROOT::RNTuple", "ROOT::Experimental::RNTuple"})
_PREFERRED = ("Events", "events")
_MAGIC = b"root"
_HEADER = Struct(">4siiq")
_LARGE_VERSION = 1_000_000
"""From this version of a file's layout on it may be larger than 2 GB."""

Beat = Callable[[], None]
"""Is called now and then: the file is large, not stuck."""


class Bad(Exception):
    """What is wrong with a file, in words that go on a sentence."""


def in_words(error: Exception) -> str:
    """Return what is wrong with a file that raised ``error``, in words that go on a sentence."""
    if isinstance(error, Bad):
        return str(error)
    if isinstance(error, MemoryError):
        return "reading it takes more memory than a file may"
    if isinstance(error, RecursionError):
        return "its structure refers to itself"
    return f"the reader says {_short(error)}"


class Seen(NamedTuple):
    """The default tree of a file, empty where it has none, and its entries."""

    tree: str
    entries: int


class Window:
    """A part of an open file, as a file: ROOT files lie in zip archives uncompressed."""

    def __init__(self, raw: BinaryIO, start: int, size_bytes: int) -> None:
        self._raw = raw
        self._start = start
        self._at = 0
        self.size_bytes = size_bytes

    def __repr__(self) -> str:  # uproot puts it into its messages
        return "(this one)"

    def seek(self, offset: int) -> int:
        self._at = offset
        return offset

    def read(self, size_bytes: int) -> bytes:
        size_bytes = max(0, min(size_bytes, self.size_bytes - self._at))
        self._raw.seek(self._start + self._at)
        data = self._raw.read(size_bytes)
        self._at += len(data)
        return data

    def pread(self, offset: int, size_bytes: int) -> bytes:
        self.seek(offset)
        return self.read(size_bytes)


def look(file: Window, tree: str, deep: bool, beat: Beat) -> Seen:
    """Return what a ROOT file holds; raise `Bad`, or whatever reading it raises.

    ``tree`` empty takes the default one: ``Events`` or ``events``, else the first in the file; a sound
    file without any tree answers ``("", 0)``.
    """
    _check_header(file)
    import uproot

    with uproot.open(file) as opened:
        kinds: dict[str, str] = {}
        for name, kind in opened.iterclassnames(recursive=True):
            if kind in _TREES or kind in _NTUPLES:
                kinds.setdefault(name.rpartition(";")[0], kind)
        chosen = _chosen(kinds, tree)
        for name in kinds if deep else filter(None, [chosen]):
            _check(opened[name], kinds[name], file, deep, beat)
        return Seen(chosen, int(opened[chosen].num_entries) if chosen else 0)


def _check_header(file: Window) -> None:
    """Say what is most often wrong with a file in plain words, before a library stumbles over it.

    ``root``, version, fBEGIN, fEND: int32, but for fEND an int64 in large files (ROOT's TFile).
    """
    head = file.pread(0, _HEADER.size)
    if head[: len(_MAGIC)] != _MAGIC:
        raise Bad("it does not begin like a ROOT file")
    if len(head) < _HEADER.size:
        raise Bad(f"it is cut short: {file.size_bytes} bytes")
    _, version, begin, end = _HEADER.unpack(head)
    if version < _LARGE_VERSION:
        end >>= 32
    if not 0 < begin < end:
        raise Bad("its header is empty")
    if file.size_bytes < end:
        raise Bad(f"it is cut short: {file.size_bytes} bytes, and its header tells of {end}")


def _chosen(kinds: dict[str, str], tree: str) -> str:
    wanted = tree.lstrip("/")
    if not wanted:
        return next((name for name in _PREFERRED if name in kinds), next(iter(kinds), ""))
    if wanted not in kinds:
        raise Bad(f"it holds no tree {tree!r} (it has {', '.join(kinds) or 'none'})")
    return wanted


def _check(tree: Any, kind: str, file: Window, deep: bool, beat: Beat) -> None:
    if kind in _NTUPLES:
        if deep:
            _read_pages(tree, beat)
        return
    _check_places(tree, file)
    if deep:
        _read_baskets(tree, beat)


def _check_places(tree: Any, file: Window) -> None:
    """See that each basket begins with its own length, which the tree knows as well.

    One look a basket tells a file that is cut short, or that a cache filled with zeros. The first and the
    last basket of the branch that reaches furthest are decompressed.
    """
    furthest, branch = -1, None
    for one in tree.itervalues(recursive=True):
        written = int(one.member("fWriteBasket"))
        seeks, lengths = one.member("fBasketSeek")[:written], one.member("fBasketBytes")[:written]
        for number, (seek, length) in enumerate(zip(seeks.tolist(), lengths.tolist(), strict=True)):
            if int.from_bytes(file.pread(seek, 4), "big", signed=True) != length:
                raise Bad(f"basket {number} of branch {one.name!r} is not at byte {seek}, where it should be")
            if seek > furthest:
                furthest, branch = seek, one
    if branch is not None:
        for number in sorted({0, int(branch.num_baskets) - 1}):
            _basket(branch, number)


def _read_baskets(tree: Any, beat: Beat) -> None:
    for branch in tree.itervalues(recursive=True):
        entries = sum(_basket(branch, number) for number in _beating(int(branch.num_baskets), beat))
        if branch.num_baskets and entries != branch.num_entries:
            raise Bad(
                f"the baskets of branch {branch.name!r} hold {entries} entries; "
                f"the branch tells of {branch.num_entries}"
            )


def _basket(branch: Any, number: int) -> int:
    """Decompress a basket; return how many entries it has."""
    try:
        return int(branch.basket(number).num_entries)
    except MemoryError:
        raise
    except Exception as error:
        raise Bad(f"basket {number} of branch {branch.name!r} cannot be read ({_short(error)})") from error


def _read_pages(ntuple: Any, beat: Beat) -> None:
    for cluster in range(len(ntuple.cluster_summaries)):
        for column in _beating(len(ntuple.column_records), beat):
            field = ntuple.field_records[ntuple.column_records[column].field_id].field_name
            try:
                ntuple.read_cluster_pages(cluster, column, ntuple.get_field_metadata(column))
            except MemoryError:
                raise
            except Exception as error:
                raise Bad(
                    f"the pages of field {field!r} in cluster {cluster} cannot be read ({_short(error)})"
                ) from error


def _beating(count: int, beat: Beat) -> Iterator[int]:
    for number in range(count):
        beat()
        yield number


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return type(error).__name__ + (f": {text}" if text else "")
