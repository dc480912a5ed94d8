"""What the catalogue knows of a name: entries, replicas, and what a file holds.

These are plain named tuples: ten million of them go through a listing, and a tuple is the cheapest
frozen value there is. Times are Unix seconds (UTC) inside and aware datetimes at the surface.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, NamedTuple

from vse.model.checksum import Checksum
from vse.model.lfn import Lfn

EntryKind = Literal["file", "directory", "link", "collection"]


class ReplicaState(StrEnum):
    """Whether a copy may be read: only an available one. Stored by value."""

    AVAILABLE = "available"
    STAGING = "staging"
    SUSPECT = "suspect"
    LOST = "lost"
    DELETING = "deleting"


class Entry(NamedTuple):
    """One name of the catalogue. ``size_bytes``, ``adler32`` and ``guid`` are None for all but files.

    ``lfn`` is its real name, where it was asked by one that leads through links. ``target`` is what a
    link was made with: an LFN, or relative to the link's directory; of a file that is not there yet, what it
    can be made of (`vse.staging.filters`).
    """

    lfn: Lfn
    kind: EntryKind
    size_bytes: int | None
    adler32: int | None
    guid: bytes | None
    owner: str
    group: str
    mode: int
    created_s: float
    modified_s: float
    target: str | None = None

    @property
    def checksum(self) -> Checksum | None:
        return None if self.adler32 is None else Checksum.adler32(self.adler32)

    @property
    def uuid(self) -> uuid.UUID | None:
        return None if self.guid is None else uuid.UUID(bytes=self.guid)

    @property
    def modified(self) -> datetime:
        return datetime.fromtimestamp(self.modified_s, UTC)


class Replica(NamedTuple):
    """One copy of a file at storage element ``se``.

    ``url`` is None where the element's own settings derive it from the LFN (the usual case).
    ``origin`` names the upstream catalogue that told of it, empty for copies made or registered here.
    """

    lfn: Lfn
    se: str
    url: str | None
    state: ReplicaState
    accessed_s: float | None
    origin: str


class Contents(NamedTuple):
    """What verification read in a ROOT file: its default tree (empty if it has none) and its entries."""

    tree: str
    entries: int


class Located(NamedTuple):
    """A file together with its replicas (in the order of `Replica.se`) and contents, where known."""

    entry: Entry
    replicas: tuple[Replica, ...]
    contents: Contents | None = None


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to register. ``se`` None registers the name without any replica."""

    lfn: Lfn
    size_bytes: int
    adler32: int | None = None
    se: str | None = None
    url: str | None = None
    guid: bytes | None = None
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644
    modified_s: float | None = None
    contents: Contents | None = None
    checksums: tuple[Checksum, ...] = ()
    """Those of other algorithms; one that is known already must be the same."""


@dataclass(frozen=True, slots=True)
class NewLink:
    """A symbolic link to make; ``target`` is an absolute LFN or relative to the link's directory."""

    lfn: Lfn
    target: str
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of a storage element: all, and still free. None where the storage cannot tell."""

    total_bytes: int | None
    free_bytes: int | None
