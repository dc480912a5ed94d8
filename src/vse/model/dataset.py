"""Datasets as values: what is known of one, and of each file in it (seed 002 §4.3.3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from vse.model.checksum import Checksum
from vse.model.entry import Entry, Located, ReplicaState
from vse.model.lfn import Lfn

DatasetKind = Literal["frozen", "query"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A named list of files. ``frozen``: a snapshot that never changes, with a version from 1 on, and the
    query it was made by, if any. ``query``: asked anew each time, version 0, no totals.

    ``entries`` is None where they are not known of every file. ``corrupt`` counts the files marked so.
    """

    id: int
    name: str
    version: int
    kind: DatasetKind
    query: str
    tree: str
    owner: str
    created_s: float
    files: int
    size_bytes: int
    entries: int | None
    note: str

    @property
    def label(self) -> str:
        return self.name if self.kind == "query" else f"{self.name}@{self.version}"

    @property
    def created(self) -> datetime:
        return datetime.fromtimestamp(self.created_s, UTC)


class DatasetFile(NamedTuple):
    """A file of a dataset.

    ``tree`` is its default tree (empty if not known), ``entries`` what that holds. ``source``: the URL it
    can be had from, as a list told; None where the catalogue says. ``member``: which file of a zip archive is
    meant; empty for the whole file. ``size_bytes`` is negative where a list did not tell it.
    """

    lfn: Lfn
    size_bytes: int
    adler32: int | None = None
    tree: str = ""
    entries: int | None = None
    corrupt: bool = False
    source: str | None = None
    member: str = ""

    @property
    def checksum(self) -> Checksum | None:
        return None if self.adler32 is None else Checksum.adler32(self.adler32)

    @property
    def label(self) -> str:
        return f"{self.lfn}#{self.member}" if self.member else str(self.lfn)

    def unknown_to_catalogue(self, since_s: float) -> Located:
        """Return the file as the catalogue would have it if it knew it: without any copy."""
        size_bytes = max(0, self.size_bytes)
        entry = Entry(self.lfn, "file", size_bytes, self.adler32, None, "", "", 0o644, since_s, since_s)
        return Located(entry, ())


class Selected(NamedTuple):
    """A file that a query means, and where the catalogue knows copies. ``tree``: the one asked for, which
    is empty where the file's default tree is meant. ``known``: whether the catalogue has the name."""

    file: DatasetFile
    located: Located
    tree: str
    known: bool = True


def same_tree(one: str, other: str) -> bool:
    """Whether two names of trees mean the same: legacy lists begin them with '/'."""
    return one.lstrip("/") == other.lstrip("/")


def as_selected(located: Located, tree: str, member: str) -> Selected:
    """Return what a query says of a file of the catalogue; corrupt where only suspect copies are left."""
    entry, contents = located.entry, located.contents
    default = contents is not None and not member and (not tree or same_tree(tree, contents.tree))
    states = {replica.state for replica in located.replicas}
    file = DatasetFile(
        entry.lfn,
        entry.size_bytes or 0,
        entry.adler32,
        tree or (contents.tree if contents is not None and not member else ""),
        contents.entries if contents is not None and default and contents.tree else None,
        ReplicaState.SUSPECT in states and ReplicaState.AVAILABLE not in states,
        None,
        member,
    )
    return Selected(file, located, tree)
