"""Writing down how moves ended: the catalogue first, then the queue, then the requests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from vse.catalogue.port import NewReplica
from vse.errors import AlreadyExists, Interrupted, NoSuchEntry, OnTape, VseError
from vse.model import BulkResult, Clock, Lfn, NewFile
from vse.staging.filters import Registered
from vse.staging.jobs import guid_of_new
from vse.staging.stager_parts import Outcome, Parts
from vse.staging.stager_tape import Tapes, pause_s
from vse.transfer.lifecycle import ENDED, Event, Failed, Postponed, PutBack, Succeeded, Transfer
from vse.transfer.mover import KeptName, Live, Moved
from vse.transfer.queue import Report
from vse.transfer.sources import next_se

FROM_TAPE = "brought from tape before"


class Recorder:
    """Records many outcomes at a time. Killed in between, the same outcomes can be recorded again."""

    def __init__(self, parts: Parts, owner: str, clock: Clock, tapes: Tapes) -> None:
        self._parts = parts
        self._owner = owner
        self._clock = clock
        self._tapes = tapes

    def record(self, outcomes: Sequence[Outcome]) -> tuple[dict[int, Event], dict[int, Transfer]]:
        """Return, by transfer, what was told to the queue, and what they are after that."""
        self._free_room([one for one in outcomes if one.moved is None])
        registered = self._register([one for one in outcomes if one.moved is not None])
        events = {
            one.live.transfer.id: self._event(one, registered.failed.get(one.live.transfer.lfn))
            for one in outcomes
        }
        reports = [report_of(one.live, events[one.live.transfer.id]) for one in outcomes]
        after = {one.id: one for one in self._parts.queue.report(self._owner, reports)}
        self._parts.staging.settle()
        for one in outcomes:
            self._forget_half(one, events[one.live.transfer.id], after.get(one.live.transfer.id))
        self._tapes.release([one.live.source for one in outcomes if one.moved and one.live.source])
        return events, after

    def _forget_half(self, outcome: Outcome, event: Event, after: Transfer | None) -> None:
        """Drop the half-done file of a transfer that nobody goes on with."""
        if outcome.job is None or isinstance(event, Succeeded) or not outcome.live.kept:
            return
        if after is None or after.state in ENDED:
            with suppress(VseError):  # the next stager that starts finds it
                name = str(KeptName.of(outcome.live.transfer))
                self._parts.elements.get(outcome.live.transfer.destination).drop([name])

    # -- the catalogue -------------------------------------------------------------------------------

    def _register(self, moved: Sequence[Outcome]) -> BulkResult[None]:
        """Add the new copies to the catalogue; remove a file that it has forgotten meanwhile.

        Upstreams are to be told before a transfer is done: a stager killed in between does this again.
        """
        if not moved:
            return BulkResult()
        new = self._register_new(moved)
        unknown = self._register_made(moved) | new.failed
        result = self._parts.catalogue.add_replicas(
            [
                NewReplica(
                    one.live.transfer.lfn,
                    one.live.transfer.destination,
                    one.moved.url,
                    contents=one.moved.contents,
                    source=one.moved.made.provenance if one.moved.made else None,
                )
                for one in moved
                if one.moved and one.live.transfer.lfn not in unknown
            ]
        )
        result.failed.update(unknown)
        for one in moved:
            error = result.failed.get(one.live.transfer.lfn)
            if isinstance(error, NoSuchEntry) and one.job and one.moved and one.moved.source:
                one.job.destination.remove()
        self._keep_room(moved, result)
        if self._parts.registrar is not None:
            made = [(one.live.transfer.lfn, one.live.transfer.destination) for one in moved]
            self._parts.registrar.enqueue([copy for copy in made if copy[0] not in result.failed])
        return result

    def _register_new(self, moved: Sequence[Outcome]) -> BulkResult[None]:
        """Make the names of files known that were written back (they came from a given URL)."""
        given = [one for one in moved if one.moved and one.job and one.live.transfer.given_source]
        if not given:
            return BulkResult()
        known = self._parts.catalogue.stat([one.live.transfer.lfn for one in given]).ok
        new = [
            self._new_file(one.live.transfer, one.moved)
            for one in given
            if one.moved and one.live.transfer.lfn not in known
        ]
        result: BulkResult[None] = BulkResult()
        result.failed.update(self._parts.catalogue.register(new).failed)
        raced = [lfn for lfn, error in result.failed.items() if isinstance(error, AlreadyExists)]
        for lfn, entry in {**known, **self._parts.catalogue.stat([Lfn(one) for one in raced]).ok}.items():
            result.failed.pop(lfn, None)
            for one in given:
                if one.live.transfer.lfn == lfn and one.moved and entry.size_bytes != one.moved.size_bytes:
                    result.failed[lfn] = AlreadyExists(
                        f"register {lfn}",
                        "the catalogue has another file of this name by now",
                        "files are write-once: choose another name",
                    )
        return result

    def _new_file(self, transfer: Transfer, moved: Moved) -> NewFile:
        guid = guid_of_new(transfer.lfn, transfer.size_bytes, transfer.adler32)
        return NewFile(
            transfer.lfn,
            moved.size_bytes,
            transfer.adler32,
            self._parts.elements.name_of(transfer.destination),
            moved.url,
            guid,
            owner=transfer.share,
            group=transfer.share,
            contents=moved.contents,
        )

    def _register_made(self, moved: Sequence[Outcome]) -> dict[str, VseError]:
        """Make the names of made files known; return the errors."""
        if self._parts.filters is None:
            return {}
        made = [
            Registered(one.live.transfer.lfn, one.live.transfer.destination, one.moved.made)
            for one in moved
            if one.moved and one.moved.made
        ]
        return self._parts.filters.register(self._parts.catalogue, made)

    def _keep_room(self, moved: Sequence[Outcome], registered: BulkResult[None]) -> None:
        """Turn the space that was kept for files into that of the files."""
        if self._parts.room is None:
            return
        self._free_room([one for one in moved if one.live.transfer.lfn in registered.failed])
        came = [one for one in moved if one.live.transfer.lfn not in registered.failed]
        for destination, lfns in _by_destination(came).items():
            self._parts.room.turn_into_holdings(destination, lfns, self._clock())

    def _free_room(self, outcomes: Sequence[Outcome]) -> None:
        """Give back the space that was kept for files that did not come."""
        if self._parts.room is not None:
            for destination, lfns in _by_destination(outcomes).items():
                self._parts.room.release(destination, lfns, self._owner)

    # -- the queue -----------------------------------------------------------------------------------

    def _event(self, outcome: Outcome, unregistered: VseError | None) -> Event:
        live, moved, error = outcome.live, outcome.moved, outcome.error
        if moved is not None and unregistered is None:
            came = moved.size_bytes if moved.moved_bytes is None else moved.moved_bytes
            return Succeeded(moved.source, came if moved.source else 0, _way(live, moved))
        error = unregistered or error
        if error is None:
            error = Interrupted(f"begin {live.transfer.lfn}", "none of its sources had a free slot")
        if isinstance(error, Interrupted):
            return PutBack(url_of(live), live.bytes_done, error)
        if outcome.no_room:
            now_s = self._clock()
            return Postponed(error, now_s + pause_s(now_s - live.transfer.created_s))
        last_se = live.source.se if live.source else None
        if isinstance(error, OnTape):
            return Postponed(error, self._clock() + self._tapes.wait_s(live.source), last_se)
        sources = outcome.job.sources if outcome.job else ()
        return Failed(error, url_of(live), live.bytes_done, next_se(sources, last_se))


def _way(live: Live, moved: Moved) -> str:
    """Return who moved the bytes, and that they had to be brought from tape before, where that is so."""
    waited = isinstance(live.transfer.error, OnTape)  # what it was put off for last
    return f"{moved.way}; {FROM_TAPE}" if waited and live.source and live.source.tape else moved.way


def _by_destination(outcomes: Sequence[Outcome]) -> dict[str, list[Lfn]]:
    found: dict[str, list[Lfn]] = {}
    for one in outcomes:
        found.setdefault(one.live.transfer.destination, []).append(one.live.transfer.lfn)
    return found


def report_of(live: Live, event: Event) -> Report:
    return Report(live.transfer.id, live.transfer.attempts, event)


def url_of(live: Live) -> str | None:
    return live.source.url if live.source else None
