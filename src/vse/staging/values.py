"""What the staging room tells: requests, how far they are, and what happened to a file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from vse.errors import VseError
from vse.model import Contents, Lfn
from vse.staging.eta import Estimate
from vse.transfer.lifecycle import PRIORITY, State


class RequestState(StrEnum):
    """Where a request is. Stored by value.

    ``gathering``: its list of files is not complete yet; ``held``: it waits for approval, and ends as
    ``refused`` where that is denied.
    """

    GATHERING = "gathering"
    HELD = "held"
    ACTIVE = "active"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"


OPEN_REQUEST = (RequestState.GATHERING, RequestState.HELD, RequestState.ACTIVE)


class Approval(StrEnum):
    """Whether a request needs somebody's word, and has it. Stored by value."""

    NONE = "none"
    WANTED = "wanted"
    GIVEN = "given"
    REFUSED = "refused"


class ItemState(StrEnum):
    """Where one file of a request is. ``here``: it was at the destination when it was asked for."""

    HERE = "here"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody wants a dataset at a storage element. Times are Unix seconds.

    ``priority``: 1 first, 9 last. ``pin_s``: how long its files are kept at least from their arrival, None
    where they are not pinned. ``approved_by`` is who approved or refused it, ``approval_note`` why.
    ``gathered_by`` names the process that lists its files, until ``gather_until_s`` at least; ``error`` is
    why they could not be listed.
    """

    id: int
    query: str
    destination: str
    owner: str
    priority: int
    pin_s: float | None
    note: str
    state: RequestState
    approval: Approval
    approved_by: str | None
    approval_note: str
    gathered_by: str | None
    gather_until_s: float | None
    created_s: float
    finished_s: float | None
    error: VseError | None

    @property
    def is_over(self) -> bool:
        return self.state not in OPEN_REQUEST


@dataclass(frozen=True, slots=True)
class Conditions:
    """What somebody asks for beside the files. ``trusted``: they need no approval."""

    priority: int = PRIORITY
    pin_s: float | None = None
    note: str = ""
    trusted: bool = False


class Item(NamedTuple):
    """A file of a request. ``transfer_state`` is where its transfer is, None where it needs none."""

    lfn: Lfn
    size_bytes: int
    state: ItemState
    transfer_id: int | None = None
    error: VseError | None = None
    transfer_state: State | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A file of a request that will not come, and why."""

    lfn: Lfn
    error: VseError


@dataclass(frozen=True, slots=True)
class RequestStatus:
    """How far a request is. Bytes count files that are here, and what running transfers have so far.

    ``rate_bytes_s`` is what the site's transfers carried lately; ``eta`` is None where nothing was
    measured or nothing is waiting. ``broken`` holds the first files that failed, ``files[FAILED]`` counts
    all of them. ``note`` says why nothing moves, or nothing can be said of the time.
    """

    request: Request
    files: dict[ItemState, int]
    total_bytes: int
    here_bytes: int
    running: int
    rate_bytes_s: float | None
    eta: Estimate | None
    broken: tuple[Broken, ...]
    note: str = ""

    @property
    def total_files(self) -> int:
        return sum(self.files.values())

    @property
    def here_files(self) -> int:
        return self.files[ItemState.HERE] + self.files[ItemState.DONE]


# -- news of a stager ----------------------------------------------------------------------------


class FileStaged(NamedTuple):
    """A file is at its destination, verified and in the catalogue. ``path``: where, on this machine."""

    lfn: Lfn
    path: Path | None
    size_bytes: int
    contents: Contents | None


class FileFailed(NamedTuple):
    """A transfer failed; ``final``: it was given up, and is not tried again by itself."""

    lfn: Lfn
    error: VseError
    final: bool


class Moved(NamedTuple):
    """A running transfer has written so much."""

    lfn: Lfn
    bytes_done: int
    size_bytes: int


class LinkRefused(NamedTuple):
    """A file is here, but its link could not be made: something else stands in the way. Told by `app`."""

    lfn: Lfn
    error: VseError


News = FileStaged | FileFailed | Moved | LinkRefused
