"""What a catalogue is, and what an upstream catalogue must answer.

Every call takes many names and answers each of them; the single form is a one-item bulk call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vse.model import (
    Access,
    Audited,
    BulkResult,
    Contents,
    Details,
    Entry,
    Expired,
    Lfn,
    Located,
    NewAccess,
    NewFile,
    NewLink,
    ReplicaState,
    Trashed,
)


@dataclass(frozen=True, slots=True)
class NewReplica:
    """A copy of a file the catalogue knows already.

    ``source`` is the URL it was copied from. A ``master`` ends any other master of its file.
    """

    lfn: Lfn
    se: str
    url: str | None = None
    state: ReplicaState = ReplicaState.AVAILABLE
    contents: Contents | None = None
    source: str | None = None
    master: bool = False


class Names(Protocol):
    """The reading half: our own catalogue, a lookup cache over it, or another site's.

    A name may lead through symbolic links; its answer then stands under the name that was asked, and the
    value in it has the real one.
    """

    def stat(self, lfns: Sequence[Lfn]) -> BulkResult[Entry]:
        """Describe names; `NoSuchEntry` under ``failed`` for each not there.

        A link is described itself, not what it leads to; links on the way to a name are followed.
        """
        ...

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """Return each file with its replicas, links followed.

        `NoSuchEntry` for each that leads to no file (directories and collections too), `LinkLoop` for
        what leads around or over more than 40 links.
        """
        ...

    def list(self, directory: Lfn) -> Iterator[Entry]:
        """Yield the direct children: directories, then files, then links and collections, each in byte
        order of the name.

        A link to a directory is followed; of a collection the members that are there come in its order;
        any other name yields itself. Raises `NoSuchEntry`.
        """
        ...

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """Yield every file under ``base`` (or ``base`` itself) whose last part matches the glob.

        Ordered by directory, then name, in byte order; memory does not grow with the answer. The glob
        is that of `fnmatch.fnmatchcase`. A ``base`` that does not exist yields nothing. Links are
        followed to and in ``base``, not below it. A collection yields its members that are (links to)
        files and match, in its order.
        """
        ...


class Catalogue(Names, Protocol):
    """The whole contract. Each writing call is one transaction, and is audited in it.

    Links to directories on the way to a name are followed by writing calls, too. No name is of two
    kinds at a time.
    """

    # -- files and their copies -------------------------------------------------------------------

    def register(self, files: Iterable[NewFile]) -> BulkResult[Lfn]:
        """Add files, their missing parent directories, and a replica where ``NewFile.se`` is given.

        Idempotent: a file that is there with the same size and checksums only gains the replica, and
        checksums and GUID not known before. One that differs fails with `AlreadyExists` (files are
        write-once); others are not affected. Many files may have one GUID.
        """
        ...

    def add_replicas(self, replicas: Iterable[NewReplica]) -> BulkResult[None]:
        """Add copies of known files, or update them (URL and state; the last access stays); idempotent."""
        ...

    def mark_replicas(
        self, lfns: Sequence[Lfn], se: str, state: ReplicaState | None = None, *, master: bool = False
    ) -> BulkResult[None]:
        """Change the state of copies at ``se``, or make them the masters; `NoSuchReplica`."""
        ...

    def remove_replicas(self, lfns: Sequence[Lfn], se: str) -> BulkResult[None]:
        """Forget the copies at ``se``; `NoSuchReplica` for each that was not known."""
        ...

    def note_access(self, lfns: Sequence[Lfn], se: str, when_s: float) -> None:
        """Record that copies at ``se`` were read. Unknown ones are passed over."""
        ...

    def details(self, lfns: Sequence[Lfn]) -> BulkResult[Details]:
        """Return all checksums of files, and where their copies came from; `NoSuchEntry`, `LinkLoop`."""
        ...

    def by_guid(self, guids: Sequence[bytes]) -> dict[bytes, tuple[Lfn, ...]]:
        """Return the names of each content (16 bytes) in order; none where it is not known."""
        ...

    # -- names ------------------------------------------------------------------------------------

    def make_directories(self, lfns: Sequence[Lfn], owner: str, group: str) -> BulkResult[None]:
        """Make directories and those missing above them; idempotent. `AlreadyExists` where another
        kind of name is."""
        ...

    def make_links(self, links: Iterable[NewLink]) -> BulkResult[None]:
        """Make symbolic links, and directories missing above them; targets need not be there.

        `AlreadyExists` where any name is.
        """
        ...

    def put_collection(self, collection: Lfn, members: Iterable[Lfn], owner: str, group: str) -> None:
        """Make a collection, or give one that is there other members.

        Members are names, kept in order and once each; they need not be there. Raises `AlreadyExists`
        where another kind of name is.
        """
        ...

    def members(self, collection: Lfn) -> Iterator[Lfn]:
        """Yield the members of a collection in order, also those that are not there.

        Raises `NoSuchEntry`, `BadRequest` for another kind of name.
        """
        ...

    def rename(self, source: Lfn, target: Lfn) -> None:
        """Rename a name; a directory with all below it. Links that lead to it are not changed.

        Raises `NoSuchEntry`, `AlreadyExists`.
        """
        ...

    def access(self, lfns: Sequence[Lfn]) -> BulkResult[Access]:
        """Return owner, group, mode and access lists of names, links followed; `NoSuchEntry`."""
        ...

    def change_access(self, changes: Iterable[NewAccess]) -> BulkResult[None]:
        """Change owner, group, mode and access lists of names, links followed; `NoSuchEntry`.

        What is made in a directory gets its default entries: directories to hand on, too.
        """
        ...

    def history(self, lfn: Lfn) -> Iterator[Audited]:
        """Yield what was done to a name (also one that is no more), oldest first."""
        ...

    # -- removing ---------------------------------------------------------------------------------

    def remove(self, lfns: Sequence[Lfn], *, forever: bool = False) -> BulkResult[None]:
        """Remove names other than directories, and empty directories; `NotEmpty` for full ones.

        They go to the trash, with all that is beside them, unless ``forever`` or where this catalogue
        keeps none. Copies on storages are not touched.
        """
        ...

    def trash(self) -> Iterator[Trashed]:
        """Yield what is in the trash, oldest first."""
        ...

    def undelete(self, ids: Sequence[int]) -> BulkResult[Lfn]:
        """Give trashed names their place back, keyed by ``str(id)``; directories above are made anew.

        `AlreadyExists` where the name was used again, `NoSuchEntry` for ids not in the trash.
        """
        ...

    def expired(self, now_s: float, ids: Sequence[int] | None = None) -> Iterator[Expired]:
        """Yield what is in the trash until ``now_s`` or earlier (or just ``ids``) with its copies.

        Storages delete those first, then `forget_trash` forgets the names: a kill between the two
        leaves names whose copies are gone, and the same goes on from there.
        """
        ...

    def forget_trash(self, ids: Sequence[int]) -> None:
        """Remove names from the trash for good; ids that are not in it are passed over."""
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


@dataclass(frozen=True, slots=True)
class CopyMade:
    """A copy made here that an upstream is to be told of, and what it is a copy of, as known here."""

    lfn: Lfn
    se: str
    url: str | None
    size_bytes: int
    adler32: int | None


@runtime_checkable
class Registers(Protocol):
    """An upstream that can be told of copies made here (the third replica of seed 000)."""

    def register_replicas(self, copies: Sequence[CopyMade]) -> BulkResult[None]:
        """Tell it of ``copies``, one of each file at most; idempotent. It must know the files themselves.

        Per file: `NoSuchEntry` where it does not know the file, `AlreadyExists` where it knows it with
        another size or checksum, `BadRequest` where it refuses the copy. Raises as `Upstream` does.
        """
        ...
