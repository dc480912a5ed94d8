"""What the plans of storage elements come down to: URLs with the element and the section they are of."""

from __future__ import annotations

from typing import NamedTuple

from vse.model import Lfn
from vse.storage.negotiation import Rejected
from vse.storage.pairs import Way


class ReadSource(NamedTuple):
    """A copy of a file with how it is read."""

    lfn: Lfn
    se: str
    section: str
    protocol: str
    url: str


class ReadSources(NamedTuple):
    """The copies of a file that can be read, the best first, and why the others cannot."""

    sources: tuple[ReadSource, ...]
    rejected: tuple[Rejected, ...]


class WriteTarget(NamedTuple):
    """A file to be written, with how. ``guid`` is that of the file, where its element stores by it."""

    lfn: Lfn
    guid: bytes | None
    se: str
    section: str
    protocol: str
    url: str


class Copying(NamedTuple):
    """How one file is copied from one element to another, and why not in a better way.

    ``protocol``: the one that both sections know; empty where there is none and the bytes are streamed.
    """

    source: ReadSource
    target: WriteTarget
    protocol: str
    way: Way
    rejected: tuple[Rejected, ...]


class UrlPair(NamedTuple):
    """Two URLs for a service that copies by itself, such as FTS, and the protocol they have in common.

    Each is of its section's own protocol, which need not be the common one (seed 003, "Multi Protocol with
    FTS"). What the settings say besides is for that service: SpaceToken of both sections, how long (s) the
    source may take to come from tape (BringOnlineTimeout), and how long to watch the target go there
    (ArchiveTimeout); None where the element is no tape or does not say.
    """

    source: str
    target: str
    protocol: str
    source_space_token: str = ""
    target_space_token: str = ""
    bring_online_timeout_s: int | None = None
    archive_timeout_s: int | None = None
