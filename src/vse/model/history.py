"""What happened to names: the trash, the audit, and where copies came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vse.model.checksum import Checksum
from vse.model.entry import EntryKind, Replica
from vse.model.lfn import Lfn


class Origin(NamedTuple):
    """Where the copy at ``se`` came from: the URL it was read from, and when; None where not known."""

    se: str
    master: bool
    source: str | None
    made_s: float | None


class Details(NamedTuple):
    """What few ask of a file: all its checksums (by algorithm), and the origin of those copies that have
    one. ``lfn`` is its real name."""

    lfn: Lfn
    checksums: tuple[Checksum, ...]
    origins: tuple[Origin, ...]


class Trashed(NamedTuple):
    """A removed name that can be had back by its ``id`` until ``expires_s``."""

    id: int
    lfn: Lfn
    kind: EntryKind
    removed_s: float
    removed_by: str
    expires_s: float


class Expired(NamedTuple):
    """A trashed name to be forgotten, and the copies that its storages must delete before."""

    trashed: Trashed
    size_bytes: int | None
    guid: bytes | None
    replicas: tuple[Replica, ...]


class Audited(NamedTuple):
    """One change: who did what to which name. A call with many names has one row, at the directory above
    them all, whose ``detail`` holds their ``count``."""

    when_s: float
    who: str
    action: str
    lfn: Lfn
    detail: Mapping[str, Any]
