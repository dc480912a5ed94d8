"""What becomes of a transfer: a pure state machine (seed 002 §4.3.5.1), with the time passed in.

::

    wanted --> held --ranked----> queued --claimed--> running --succeeded--> done <--found-- any before
       |                          ^ ^  ^                |  |--failed, as often as allowed--> failed
       `--------------------------'  |  `--lease lost,--'  |--cancelled (held, waiting, queued, too)
                                     |     put back        |         `--> cancelled
                                 due |                     |
                                  waiting <--failed--------'
    wanted again: done | failed | cancelled --> queued (or held)

A failure sends the file behind all that its owner has queued, with one failure more, and lets it wait
for its back-off, "to avoid blocking the whole process on downloading the same file over and over"
(§4.3.5.2). What is the mover's own end (a kill, a stop) is no failure of the file; one over which three
processes ended in a row waits all the same. One is ``held`` until somebody approves a request that wants it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from vse.config.settings import StagerSettings
from vse.errors import GivenUp, Interrupted, NoSuchEntry, VseError
from vse.model import Checksum, Lfn


class State(StrEnum):
    """Where a transfer is. Stored by value."""

    HELD = "held"
    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})
FIRST_PRIORITY, PRIORITY, LAST_PRIORITY = 1, 5, 9
"""The best one, the one of who says nothing, and the worst one."""
LOST_IN_A_ROW = 3
_LOST = "the process that moved it ended or hung"


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file on its way to one storage element; ``(lfn, destination)`` is unique.

    ``priority`` (1 first) and then ``place`` order the queue; ``share`` is the owner whose fair share it
    counts for. ``filter`` names what makes the file on the way in; ``given_source`` is a URL to read in the
    place of the catalogue's copies. ``failures`` counts since the file was last wanted, ``attempts`` counts
    claims ever. ``source`` is the URL being read or read last, ``source_se`` its storage element (while
    queued: the one to be read first). Times are Unix seconds.
    """

    id: int
    lfn: Lfn
    destination: str
    priority: int
    share: str
    size_bytes: int
    adler32: int | None
    tree: str
    filter: str | None
    state: State
    place: int
    not_before_s: float
    failures: int
    attempts: int
    bytes_done: int
    source: str | None
    source_se: str | None
    given_source: str | None
    lease_owner: str | None
    lease_until_s: float | None
    created_s: float
    started_s: float | None
    finished_s: float | None
    error: VseError | None

    @property
    def checksum(self) -> Checksum | None:
        return None if self.adler32 is None else Checksum.adler32(self.adler32)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a transfer; ``error`` is None for the one that worked. ``way``: who moved its bytes then."""

    transfer_id: int
    number: int
    source: str | None
    started_s: float
    ended_s: float
    bytes_done: int
    error: VseError | None
    way: str | None = None

    @property
    def was_lost(self) -> bool:
        """Whether the process that made it was gone before it told of an end."""
        return isinstance(self.error, Interrupted) and self.error.found == _LOST


@dataclass(frozen=True, slots=True)
class Policy:
    """How long and how often to try. ``max_failures`` 0 tries for ever (seed 002 C.2)."""

    max_failures: int = 3
    backoff_s: float = 2.0
    backoff_max_s: float = 300.0
    lease_s: float = 30.0

    @classmethod
    def of(cls, settings: StagerSettings) -> Policy:
        return cls(settings.max_failures, settings.backoff_s, settings.backoff_max_s, settings.lease_s)

    def wait_s(self, failures: int) -> float:
        """Return the pause after the ``failures``-th failure in a row: doubled each time, up to a cap."""
        return float(min(self.backoff_max_s, self.backoff_s * 2.0 ** min(failures - 1, 60)))

    def gives_up(self, failures: int, error: VseError) -> bool:
        """Whether to stop: too many failures, or one that trying again cannot mend.

        One whose name the catalogue has lost is given up even by who tries for ever.
        """
        if isinstance(error, NoSuchEntry):
            return True
        return self.max_failures > 0 and (failures >= self.max_failures or not error.retryable)


# -- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """Somebody asks for the file, and it was not at the destination at ``seen_s``.

    ``held``: not before it is `Released`. A better priority than the one it has is taken over, with its
    ``share``.
    """

    size_bytes: int
    adler32: int | None
    tree: str = ""
    source_se: str | None = None
    seen_s: float = math.inf
    priority: int = PRIORITY
    share: str = ""
    held: bool = False
    filter: str | None = None
    given_source: str | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """Those who want it and may have it: their best priority, and ``share``, who has that."""

    priority: int
    share: str


@dataclass(frozen=True, slots=True)
class Withheld:
    """Nobody is left who wants it and may have it; somebody waits for approval."""


@dataclass(frozen=True, slots=True)
class Due:
    """Its back-off is over, or somebody will not wait for the end of it."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A stager took it: ``owner`` names its process."""

    owner: str


@dataclass(frozen=True, slots=True)
class Progressed:
    """The stager that holds the lease lives, and has written so much."""

    bytes_done: int
    source: str | None = None
    source_se: str | None = None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The file is at the destination, verified, and in the catalogue."""

    source: str | None
    bytes_done: int
    way: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """No source gave a good copy. ``next_se`` is the element to begin with the next time."""

    error: VseError
    source: str | None = None
    bytes_done: int = 0
    next_se: str | None = None


@dataclass(frozen=True, slots=True)
class PutBack:
    """The stager stopped before it was through; the file is as good as before."""

    source: str | None = None
    bytes_done: int = 0
    reason: Interrupted | None = None


@dataclass(frozen=True, slots=True)
class Postponed:
    """It cannot be moved yet, which is nobody's failure: its bytes are on their way from tape, or its
    destination has no room for it now.
    """

    reason: VseError
    until_s: float
    source_se: str | None = None


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The process that moved it is gone, as were those of so many attempts just ``before``.

    ``turn`` (0 to 1) differs between files that it moved at once: they are tried apart from each other.
    """

    before: int = 0
    turn: float = 0.0


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Nobody wants it any more."""


@dataclass(frozen=True, slots=True)
class Found:
    """The file is at the destination and in the catalogue: only the end was not recorded (a kill)."""


_News = Progressed | Succeeded | Failed | PutBack | Postponed | LeaseLost
Event = Found | Wanted | Ranked | Withheld | Due | Claimed | Cancelled | _News

# -- commands ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GoLast:
    """Give the transfer a new place, behind all that its share has queued with its priority."""


@dataclass(frozen=True, slots=True)
class KeepAttempt:
    """Keep a row of what was tried."""

    attempt: Attempt


Command = GoLast | KeepAttempt
Step = tuple[Transfer, tuple[Command, ...]]


def handle(transfer: Transfer, event: Event, now_s: float, policy: Policy) -> Step:
    """Return the transfer after ``event``, and what its runner has to do in the same transaction.

    Total: an event that comes too late (the end of a transfer that was cancelled meanwhile) changes
    nothing.
    """
    match event:
        case Wanted():
            return _wanted(transfer, event, now_s)
        case Ranked():
            return _ranked(transfer, event.priority, event.share, now_s)
        case Withheld():
            return _withheld(transfer)
        case Due():
            return _due(transfer, now_s)
        case Claimed():
            return _claimed(transfer, event, now_s, policy)
        case Found():
            return _found(transfer, now_s)
        case Cancelled():
            return _cancelled(transfer, now_s)
        case _ if transfer.state is not State.RUNNING:
            return transfer, ()
        case _:
            return _heard(transfer, event, now_s, policy)


def _heard(transfer: Transfer, event: _News, now_s: float, policy: Policy) -> Step:
    """What its stager says of a running transfer."""
    match event:
        case Progressed():
            return _progressed(transfer, event, now_s, policy), ()
        case Succeeded():
            return _succeeded(transfer, event, now_s)
        case Failed():
            return _failed(transfer, event, now_s, policy)
        case PutBack():
            reason = event.reason or Interrupted(f"finish {transfer.lfn}", "the stager was stopped")
            return _back(transfer, now_s, reason, event.source, event.bytes_done)
        case Postponed():
            return _postponed(transfer, event), ()
        case LeaseLost():
            return _lost(transfer, event, now_s, policy)
        case _:
            assert_never(event)


def _wanted(transfer: Transfer, event: Wanted, now_s: float) -> Step:
    if transfer.state is State.DONE and (transfer.finished_s or 0.0) >= event.seen_s:
        return transfer, ()  # it came since
    if transfer.state not in ENDED:
        return _wanted_more(transfer, event, now_s)
    fresh = replace(
        _known(transfer, event),
        priority=event.priority,
        share=event.share,
        filter=event.filter,
        given_source=event.given_source,
        state=State.HELD if event.held else State.QUEUED,
        not_before_s=now_s,
        failures=0,
        bytes_done=0,
        source=None,
        source_se=event.source_se,
        created_s=now_s,
        started_s=None,
        finished_s=None,
        error=None,
    )
    return fresh, (GoLast(),)


def _wanted_more(transfer: Transfer, event: Wanted, now_s: float) -> Step:
    """One that has not ended is wanted by somebody else as well, or by the same again."""
    known = transfer if transfer.state is State.RUNNING else _known(transfer, event)
    if event.held:
        return known, ()
    if known.state is State.HELD or event.priority < known.priority:
        return _ranked(known, event.priority, event.share, now_s)
    return known, ()


def _known(transfer: Transfer, event: Wanted) -> Transfer:
    return replace(transfer, size_bytes=event.size_bytes, adler32=event.adler32, tree=event.tree)


def _ranked(transfer: Transfer, priority: int, share: str, now_s: float) -> Step:
    ranked = replace(transfer, priority=priority, share=share)
    if transfer.state is State.HELD:
        return replace(ranked, state=State.QUEUED, not_before_s=now_s), (GoLast(),)
    if transfer.state in ENDED or ranked == transfer:
        return transfer, ()
    return ranked, (GoLast(),)


def _withheld(transfer: Transfer) -> Step:
    if transfer.state not in (State.QUEUED, State.WAITING):
        return transfer, ()
    return replace(transfer, state=State.HELD), ()


def _due(transfer: Transfer, now_s: float) -> Step:
    if transfer.state is not State.WAITING:
        return transfer, ()
    return replace(transfer, state=State.QUEUED, not_before_s=min(now_s, transfer.not_before_s)), ()


def _claimed(transfer: Transfer, event: Claimed, now_s: float, policy: Policy) -> Step:
    if transfer.state is not State.QUEUED:
        return transfer, ()
    running = replace(
        transfer,
        state=State.RUNNING,
        attempts=transfer.attempts + 1,
        bytes_done=0,
        source=None,
        lease_owner=event.owner,
        lease_until_s=now_s + policy.lease_s,
        started_s=now_s,
    )
    return running, ()


def _progressed(transfer: Transfer, event: Progressed, now_s: float, policy: Policy) -> Transfer:
    return replace(
        transfer,
        bytes_done=event.bytes_done,
        source=event.source or transfer.source,
        source_se=event.source_se or transfer.source_se,
        lease_until_s=now_s + policy.lease_s,
    )


def _succeeded(transfer: Transfer, event: Succeeded, now_s: float) -> Step:
    source = event.source or transfer.source
    done = replace(_unleased(transfer), state=State.DONE, source=source, finished_s=now_s, error=None)
    attempt = replace(_attempt(transfer, now_s, None, source, event.bytes_done), way=event.way)
    return replace(done, bytes_done=transfer.size_bytes), (KeepAttempt(attempt),)


def _found(transfer: Transfer, now_s: float) -> Step:
    if transfer.state is State.RUNNING:
        return _succeeded(transfer, Succeeded(transfer.source, transfer.size_bytes), now_s)
    if transfer.state in ENDED:
        return transfer, ()
    size = transfer.size_bytes
    return replace(transfer, state=State.DONE, bytes_done=size, finished_s=now_s, error=None), ()


def _failed(transfer: Transfer, event: Failed, now_s: float, policy: Policy) -> Step:
    failures = transfer.failures + 1
    source = event.source or transfer.source
    keep = KeepAttempt(_attempt(transfer, now_s, event.error, source, event.bytes_done))
    freed = replace(_unleased(transfer), failures=failures, source=source, bytes_done=0)
    if policy.gives_up(failures, event.error):
        error = _given_up(transfer.lfn, failures, event.error)
        return replace(freed, state=State.FAILED, finished_s=now_s, error=error), (keep,)
    waiting = replace(
        freed,
        state=State.WAITING,
        not_before_s=now_s + policy.wait_s(failures),
        source_se=event.next_se or transfer.source_se,
        error=event.error,
    )
    return waiting, (keep, GoLast())


def _back(transfer: Transfer, now_s: float, reason: VseError, source: str | None, bytes_done: int) -> Step:
    queued = replace(_unleased(transfer), state=State.QUEUED, not_before_s=now_s, bytes_done=0)
    return queued, (KeepAttempt(_attempt(transfer, now_s, reason, source, bytes_done)),)


def _lost(transfer: Transfer, event: LeaseLost, now_s: float, policy: Policy) -> Step:
    """Its process is gone. Others that it moved are lost as often: none of them is ever given up for that."""
    wanted, times = f"finish {transfer.lfn}", event.before + 1
    queued, kept = _back(transfer, now_s, Interrupted(wanted, _LOST), transfer.source, transfer.bytes_done)
    if times < LOST_IN_A_ROW:
        return queued, kept
    found = f"{times} processes in a row ended or hung while they moved it"
    waiting = replace(
        queued,
        state=State.WAITING,
        not_before_s=now_s + policy.wait_s(times - LOST_IN_A_ROW + 1) * (1.0 + event.turn),
        error=Interrupted(wanted, found, "see what the log says of their ends; it is tried again by itself"),
    )
    return waiting, (*kept, GoLast())


def _postponed(transfer: Transfer, event: Postponed) -> Transfer:
    return replace(
        _unleased(transfer),
        state=State.WAITING,
        not_before_s=event.until_s,
        bytes_done=0,
        source_se=event.source_se or transfer.source_se,
        error=event.reason,
    )


def _cancelled(transfer: Transfer, now_s: float) -> Step:
    if transfer.state in ENDED:
        return transfer, ()
    ended = replace(_unleased(transfer), state=State.CANCELLED, finished_s=now_s, bytes_done=0)
    if transfer.state is not State.RUNNING:
        return ended, ()
    reason = Interrupted(f"finish {transfer.lfn}", "it was cancelled")
    return ended, (KeepAttempt(_attempt(transfer, now_s, reason, transfer.source, transfer.bytes_done)),)


def _unleased(transfer: Transfer) -> Transfer:
    return replace(transfer, lease_owner=None, lease_until_s=None)


def _attempt(
    transfer: Transfer, now_s: float, error: VseError | None, source: str | None, bytes_done: int
) -> Attempt:
    started_s = now_s if transfer.started_s is None else transfer.started_s
    return Attempt(transfer.id, transfer.attempts, source, started_s, now_s, bytes_done, error)


def _given_up(lfn: Lfn, failures: int, last: VseError) -> GivenUp:
    times = "once" if failures == 1 else f"{failures} times, the last time"
    found = f"it failed {times} because VSE cannot {last.wanted}" + (f": {last.found}" if last.found else "")
    return GivenUp(f"stage {lfn}", found, last.todo or f"see every attempt with 'vse why {lfn}'")
