"""What a catalogue is, and what an upstream catalogue must answer.

Every call takes many names and answers each of them; the single form is a one-item bulk call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from vse.model import BulkResult, Contents, Entry, Lfn, Located, NewFile, ReplicaState


@dataclass(frozen=True, slots=True)
class NewReplica:
    """A copy of a file the catalogue knows already."""

    lfn: Lfn
    se: str
    url: str | None = None
    state: ReplicaState = ReplicaState.AVAILABLE
    contents: Contents | None = None


class Names(Protocol):
    """The reading half: our own catalogue, a lookup cache over it, or another site's."""

    def stat(self, lfns: Sequence[Lfn]) -> BulkResult[Entry]:
        """Describe files and directories; `NoSuchEntry` under ``failed`` for each not there."""
        ...

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """Return each file with its replicas; `NoSuchEntry` for each not there (directories too)."""
        ...

    def list(self, directory: Lfn) -> Iterator[Entry]:
        """Yield the direct children, directories first, then files, each in byte order of the name.

        Raises `NoSuchEntry`; for a file, yields the file itself.
        """
        ...

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """Yield every file under ``base`` (or ``base`` itself) whose last part matches the glob.

        Ordered by directory, then name, in byte order; memory does not grow with the answer. The glob
        is that of `fnmatch.fnmatchcase`. A ``base`` that does not exist yields nothing.
        """
        ...


class Catalogue(Names, Protocol):
    """The whole contract. Each writing call is one transaction."""

    def register(self, files: Iterable[NewFile]) -> BulkResult[Lfn]:
        """Add files, their missing parent directories, and a replica where ``NewFile.se`` is given.

        Idempotent: a file that is there with the same size and checksum only gains the replica. One
        that differs fails with `AlreadyExists` (files are write-once); others are not affected.
        """
        ...

    def add_replicas(self, replicas: Iterable[NewReplica]) -> BulkResult[None]:
        """Add copies of known files, or update their state; idempotent."""
        ...

    def remove_replicas(self, lfns: Sequence[Lfn], se: str) -> BulkResult[None]:
        """Forget the copies at ``se``; `NoSuchReplica` for each that was not known."""
        ...

    def note_access(self, lfns: Sequence[Lfn], se: str, when_s: float) -> None:
        """Record that copies at ``se`` were read. Unknown ones are passed over."""
        ...

    def remove(self, lfns: Sequence[Lfn]) -> BulkResult[None]:
        """Remove files (with their replica rows) and empty directories; `NotEmpty` for full ones."""
        ...

    def make_directories(self, lfns: Sequence[Lfn], owner: str, group: str) -> BulkResult[None]:
        """Make directories and those missing above them; idempotent. `AlreadyExists` where a file is."""
        ...

    def rename(self, source: Lfn, target: Lfn) -> None:
        """Rename a file or a directory with all below it. Raises `NoSuchEntry`, `AlreadyExists`."""
        ...


class Upstream(Protocol):
    """A catalogue elsewhere. It is always asked in bulk, and only through the lookup cache.

    Raises `UpstreamUnavailable` (no answer, 5xx, timeout), `Denied` (401, 403) or `UpstreamGarbage`
    (an answer that cannot be understood, or that ends in the middle).
    """

    name: str

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """As `Names.find`. A stream that breaks off raises; it never just ends early."""
        ...

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """As `Names.resolve`."""
        ...
