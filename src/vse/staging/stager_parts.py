"""What a stager works with, and what comes back to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vse.catalogue.port import Catalogue, Names
from vse.catalogue.registrations import Registrar
from vse.errors import VseError
from vse.model import Lfn
from vse.staging.external import External
from vse.staging.filters import Filters
from vse.staging.requests import Staging
from vse.storage.element import Elements
from vse.transfer.evidence import Keep, keep_nothing
from vse.transfer.mover import Job, Live, Moved
from vse.transfer.queue import Queue
from vse.transfer.verification import Verifier


class Room(Protocol):
    """Space that is kept for files on their way: `vse.staging.reservations.Reservations`."""

    def reserve(
        self,
        element: str,
        lfn: Lfn,
        size_bytes: int,
        owner: str,
        group: str = "",
        dataset: str = "",
        holder: str = "",
    ) -> None: ...

    def release(self, element: str, lfns: Sequence[Lfn], holder: str | None = None) -> None: ...

    def turn_into_holdings(self, element: str, lfns: Sequence[Lfn], now_s: float) -> list[Lfn]: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a move ended: moved, not begun (no free slot at any source), or an error.

    ``no_room``: the error is that no room could be kept for it at the destination now, so that nothing was
    tried.
    """

    live: Live
    job: Job | None
    moved: Moved | None
    error: VseError | None
    no_room: bool = False


def defect(wanted: str, problem: Exception | str) -> VseError:
    """Return the error for what should not happen."""
    found = f"{type(problem).__name__}: {problem}" if isinstance(problem, Exception) else problem
    return VseError(wanted, found, "this is a defect of VSE: please report it")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a stager works with."""

    names: Names
    catalogue: Catalogue
    elements: Elements
    queue: Queue
    staging: Staging
    verifier: Verifier
    registrar: Registrar | None = None
    """Tells upstreams of new copies, where one wants to be told."""
    filters: Filters | None = None
    """Make files of others on their way in."""
    keep: Keep = keep_nothing
    """Keeps what failed verification."""
    external: External | None = None
    """The site's own staging command, for the files that come by it."""
    room: Room | None = None
    """Keeps space at the destination for what is on its way."""
