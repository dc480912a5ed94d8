"""What the redirector asks of a site, and what it is told: values only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from vse.model import BulkResult, Lfn


class Here(NamedTuple):
    """A copy can be read now: by which root:// URL, and of which storage element it is."""

    url: str
    se: str


class Coming(NamedTuple):
    """A file is on its way, by this transfer."""

    transfer_id: int


Answer = Here | Coming


class Name(NamedTuple):
    """One name as a directory shows it. ``online``: a copy of it is here."""

    name: str
    size_bytes: int
    modified_s: float
    directory: bool
    online: bool


class Prepared(NamedTuple):
    """Where one file of a prepare is; ``error`` says why it does not come."""

    path: str
    known: bool
    online: bool
    requested: bool
    requested_s: float | None
    error: str


class Opening(Protocol):
    """What a site does for its root:// door. Calls block, and may be made from any thread.

    Names are given as clients wrote them: below the exported directory, or an LFN.
    """

    def lfn_of(self, path: str) -> Lfn:
        """Return the LFN that a client means by a path; `BadLfn`."""
        ...

    def open(self, lfns: Sequence[Lfn]) -> BulkResult[Answer]:
        """Say where each file can be read, asking for it to be staged where that is nowhere yet.

        A file that failed to come fails with the reason, and is asked for anew only some seconds later.
        """
        ...

    def ended(self, coming: Sequence[int]) -> set[int]:
        """Return those transfers that have come to an end, whichever."""
        ...

    def note_access(self, read: dict[str, list[Lfn]]) -> None:
        """Record that copies are read now, by storage element."""
        ...

    def stat(self, lfn: Lfn) -> Name:
        """Describe a name; `NoSuchEntry`."""
        ...

    def children(self, lfn: Lfn) -> list[Name]:
        """Return the children of a directory; `NoSuchEntry`."""
        ...

    def locate(self, lfn: Lfn) -> tuple[str, bool]:
        """Return ``host:port`` of the server that has or will have a file, and whether it has it."""
        ...

    def checksum(self, lfn: Lfn) -> str:
        """Return ``adler32 0a1b2c3d``, as the catalogue has it; `Unsupported` where it has none."""
        ...

    def prepare(self, number: str, paths: Sequence[str]) -> str:
        """Ask for files to be staged, as one request; return what it is known by."""
        ...

    def cancel(self, number: str) -> None:
        """End what `prepare` began; `BadRequest` where there is no such request."""
        ...

    def prepared(self, number: str, paths: Sequence[str]) -> list[Prepared]:
        """Return where each file is."""
        ...


def prepared_as_dict(number: str, files: Sequence[Prepared]) -> dict[str, object]:
    """Return the answer to ``query prepare`` in the words of EOS and CTA, which gfal2 and FTS read."""
    return {
        "request_id": number,
        "responses": [
            {
                "path": one.path,
                "path_exists": one.known,
                "on_tape": one.known and not one.online,
                "online": one.online,
                "requested": one.requested,
                "has_reqid": one.requested,
                "req_time": "" if one.requested_s is None else str(int(one.requested_s)),
                "error_text": one.error,
            }
            for one in files
        ],
    }
