"""The stager: claims transfers, moves the files, records what became of them (seed 002 §4.3.5).

Any number of stagers, in any number of processes, work on one database. All bookkeeping is done by the
thread that called `Stager.run`, many files at a time; the slots only move bytes; a third kind, the
minder, renews leases and ends what hangs, whatever the others are busy with.
"""

from __future__ import annotations

import contextlib
import queue as std_queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from vse.config.settings import StagerSettings
from vse.errors import DatabaseBusy, Interrupted, QuotaExceeded, StorageFault, StorageFull, VseError
from vse.model import BulkResult, Clock, Located
from vse.staging.external import MoverBeside
from vse.staging.jobs import Planner
from vse.staging.stager_parts import Outcome, Parts, defect
from vse.staging.stager_recording import Recorder, report_of, url_of
from vse.staging.stager_tape import Tapes
from vse.staging.unclaimed import Unclaimed
from vse.staging.values import FileFailed, FileStaged, News
from vse.staging.values import Moved as MovedNews
from vse.storage.element import StorageElement
from vse.transfer import instance
from vse.transfer.caps import Caps, Rates, parts_of
from vse.transfer.ctrl_c import CtrlC
from vse.transfer.instance import new_owner
from vse.transfer.lifecycle import ENDED, Event, Failed, Progressed, PutBack, State, Succeeded, Transfer
from vse.transfer.mover import Job, KeptName, Limits, Live, Mover, Source
from vse.transfer.shares import Slots

__all__ = ["Outcome", "Parts", "Stager"]

_LOOK_S = 1.0
"""How often an idle stager looks for what other processes queued."""
_TICK_S = 0.25
"""How soon a stop is seen, and how often news of bytes are told."""
_COMPANY_S = 0.005
"""How long the end of a move waits for others, to be written down together."""
_BEAT_S = 2.0
"""How often at least leases are renewed, bytes written down, and cancelled moves noticed."""
_SETTLE_S = 10.0
"""How often an idle stager settles what others have left."""
_REGISTER_S = 30.0
"""How long a stager that ends may still tell upstreams of new copies."""
_SERVERS_S = 24 * 3600.0
"""How old partial files of servers are when they are removed: neither writers nor clocks are known there."""
_GRACE_S = 5.0
"""How long a move that was ended may take to notice, before its slot is given to another thread."""


class Stager:
    """Runs transfers. One `run` at a time; `wake` and `stop` from any thread."""

    def __init__(
        self,
        parts: Parts,
        settings: StagerSettings,
        tell: Callable[[News], None] = lambda _: None,
        clock: Clock = time.time,
    ) -> None:
        self.owner = new_owner()
        self._parts = parts
        self._settings = settings
        self._slots = Slots.of(settings, {element.name for element in parts.elements})
        self._limits = Limits(settings.no_progress_s, settings.timeout_s)
        self._tell = tell
        self._clock = clock
        # A partial file that nobody touched for so long has no writer, even where locks are unknown.
        self._partial_age_s = settings.no_progress_s + settings.verify_timeout_s
        self._caps = Caps(Rates.of(settings))
        mover = Mover(parts.verifier, parts.keep, self._caps.wait_s)
        self._mover = MoverBeside(mover, parts.external) if parts.external else mover
        self._planner = Planner(parts.elements, parts.filters)
        self._inbox: std_queue.SimpleQueue[Outcome | None] = std_queue.SimpleQueue()
        self._tapes = Tapes(parts.elements, clock, self._hand_out, self._inbox.put)
        self._recorder = Recorder(parts, self.owner, clock, self._tapes)
        self._unclaimed = Unclaimed(parts.queue, parts.catalogue, parts.elements, settings.lease_s, clock)
        self._jobs: std_queue.SimpleQueue[tuple[Live, Job] | None] = std_queue.SimpleQueue()
        self._running: dict[int, Live] = {}
        self._arrived: list[Outcome | None] = []
        self._threads = 0
        self._lock = threading.Lock()
        self._ended_s: dict[int, float] = {}
        self._told: dict[int, int] = {}

    # -- life ------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look at the queue now: something was put into it."""
        self._inbox.put(None)

    def change(self, settings: StagerSettings) -> None:
        """Go by other settings from now on; what runs goes on, at the new rates.

        Fewer slots are reached by not filling those that get free.
        """
        self._settings = settings
        self._slots = Slots.of(settings, self._slots.known)
        self._limits = Limits(settings.no_progress_s, settings.timeout_s)
        self._caps.set(Rates.of(settings))
        self.wake()

    def run(self, stop: threading.Event, until: Sequence[int] | None = None) -> None:
        """Work until ``stop`` is set, or until the requests ``until`` have ended (only their files then).

        However it ends, running moves are ended, half of their files kept or removed, and they are back in
        the queue, with no failure counted. An error of the database ends it as well. In the main thread
        Ctrl-C is such a stop, and is raised when all is in order.
        """
        instance.began(self.owner)
        try:
            with CtrlC(self.wake) as ctrl_c:
                self._work(lambda: stop.is_set() or ctrl_c.pressed, until)
        finally:
            instance.ended(self.owner)

    def _work(self, stopped: Callable[[], bool], until: Sequence[int] | None) -> None:
        self._jobs = std_queue.SimpleQueue()
        self._sweep()
        self._settle()
        over = threading.Event()
        minder = threading.Thread(target=self._mind, args=(over,), name="vse-minder", daemon=True)
        minder.start()
        registrar = self._start_registrar(over)
        look_s, settle_s = 0.0, time.monotonic() + _SETTLE_S
        try:
            while not stopped():
                if not minder.is_alive():  # others would take over what we move, for its leases run out
                    raise defect("renew the leases of what is moved", "the thread that does has ended")
                woken = self._gather(look_s, stopped)
                self._record()
                if until is not None and self._parts.staging.all_over(until):
                    break
                now_s = time.monotonic()
                if not self._running and now_s >= settle_s:
                    self._settle()
                    settle_s = now_s + _SETTLE_S
                if woken or now_s >= look_s:
                    look_s = now_s + self._fill(until)
        finally:
            try:
                self._shut_down()
            finally:  # a minder that went on would keep leased what nobody moves, as the database was away
                over.set()
                minder.join()
                if registrar is not None:
                    registrar.join(_REGISTER_S)  # what is left by then is told by the next stager

    def _start_registrar(self, over: threading.Event) -> threading.Thread | None:
        if self._parts.registrar is None:
            return None
        thread = threading.Thread(
            target=self._parts.registrar.run, args=(over,), name="vse-registrar", daemon=True
        )
        thread.start()
        return thread

    def _gather(self, look_s: float, stopped: Callable[[], bool]) -> bool:
        """Wait for outcomes or a `wake` (True), or for a stop or the time to look again (False)."""
        while not stopped():
            left_s = look_s - time.monotonic()
            if left_s <= 0 and self._inbox.empty():
                return False
            try:
                self._arrived.append(self._inbox.get(timeout=max(0.0, min(left_s, _TICK_S))))
            except std_queue.Empty:
                self._tell_progress()
                continue
            self._gather_company()
            return True
        return False

    def _gather_company(self) -> None:
        """Wait a moment for more to arrive: many are written down at the cost of one."""
        until_s = time.monotonic() + _COMPANY_S
        with contextlib.suppress(std_queue.Empty):
            while len(self._arrived) < len(self._running):
                left_s = until_s - time.monotonic()
                self._arrived.append(self._inbox.get(block=left_s > 0, timeout=max(left_s, 0.0)))
        while not self._inbox.empty():
            self._arrived.append(self._inbox.get())

    def _shut_down(self) -> None:
        """End every running move and put it back."""
        reason = Interrupted("finish the transfers", "the stager was stopped", "start it again to go on")
        with self._lock:
            running = dict(self._running)
        for live in running.values():
            live.end(reason)
        missing = {id(live) for live in running.values() if live.handed_out}
        missing -= {id(one.live) for one in self._arrived if one}
        deadline_s = time.monotonic() + _GRACE_S
        while missing and (left_s := deadline_s - time.monotonic()) > 0:
            with contextlib.suppress(std_queue.Empty):
                outcome = self._inbox.get(timeout=left_s)
                self._arrived.append(outcome)
                missing.discard(id(outcome.live) if outcome else 0)
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0
        self._tapes.stop()
        self._record()
        with self._lock:
            stuck = list(self._running.values())
            self._running.clear()
        self._parts.queue.report(
            self.owner, [report_of(live, PutBack(url_of(live), live.bytes_done)) for live in stuck]
        )

    def _settle(self) -> None:
        """Settle what a stager that was killed has left: requests, and files that nobody wants any more."""
        self._parts.staging.settle()
        with contextlib.suppress(VseError):  # a storage that is not there: another time
            self._unclaimed.remove()

    def _sweep(self, servers_older_than_s: float | None = None) -> None:
        """Remove partial files that dead stagers left at places that can be written."""
        for element in self._parts.elements:
            if element.can("write"):
                with contextlib.suppress(VseError):  # a storage that is not there: each file will say so
                    element.sweep_partials(
                        self._partial_age_s, time.time(), servers_older_than_s=servers_older_than_s
                    )
                    self._drop_stale(element)

    def _drop_stale(self, element: StorageElement) -> None:
        """Remove half-done files that no transfer goes on with."""
        kept = {name: KeptName.parse(name) for name in element.kept()}
        known = self._parts.queue.get([one.transfer_id for one in kept.values() if one])
        wanted = {str(KeptName.of(one)) for one in known.values() if one.state not in ENDED}
        stale = [name for name in kept if name not in wanted]
        if stale:
            element.drop(stale)

    # -- starting moves --------------------------------------------------------------------------

    def _fill(self, until: Sequence[int] | None) -> float:
        """Claim transfers for the free slots; return after how many seconds to look again."""
        began_s = self._clock()
        free = self._settings.slots - len(self._running)
        if free <= 0:
            return _LOOK_S
        # Who waits is told at once of an element that is not in the settings; a service lets it wait.
        slots = self._slots if until is None else self._slots._replace(known=None)
        claimed = self._parts.queue.claim(self.owner, free, slots, until, list(self._running))
        self._launch(claimed)
        if claimed:
            self._divide_caps()
        if len(claimed) == free:
            return _LOOK_S
        due_s = self._parts.queue.next_due_s()
        if due_s is None or due_s <= began_s:  # nothing, or it waits for slots that others hold
            return _LOOK_S
        return min(_LOOK_S, max(0.0, due_s - self._clock()))

    def _launch(self, claimed: Sequence[Transfer]) -> None:
        if not claimed:
            return
        self._parts.verifier.warm()
        now_s = time.monotonic()
        lives = {one.id: Live(one, now_s) for one in claimed}
        with self._lock:
            lost = [self._running[key] for key in lives.keys() & self._running.keys()]
            self._running.update(lives)
        for live in lost:  # cancelled and wanted again, before its heartbeat told
            self._give_up(live, _lost(live))
        located = self._resolve(claimed)
        on_tape: list[tuple[Live, Job]] = []
        for one in claimed:
            live = lives[one.id]
            live.handed_out = True
            try:
                job = self._planner.plan(one, located)
            except VseError as error:  # the settings do not know its destination any more
                self._inbox.put(Outcome(live, None, None, error))
                continue
            if any(source.tape for source in job.sources):
                on_tape.append((live, job))
            else:
                self._hand_out(live, job)
        if on_tape:
            self._tapes.take(on_tape)
        while self._threads < min(len(self._running), self._settings.slots):
            self._add_thread()

    def _hand_out(self, live: Live, job: Job) -> None:
        self._jobs.put((live, job))

    def _resolve(self, claimed: Sequence[Transfer]) -> BulkResult[Located]:
        names = [one.lfn for one in claimed]
        try:
            if self._parts.filters is not None:
                return self._parts.filters.resolve(self._parts.names, claimed)
            return self._parts.names.resolve(names)
        except (DatabaseBusy, StorageFault):
            raise  # our own database, and nothing of the files
        except VseError as error:
            return BulkResult(failed=dict.fromkeys(names, error))

    def _add_thread(self) -> None:
        self._threads += 1
        name = f"vse-slot-{self._threads}"
        threading.Thread(target=self._slot, args=(self._jobs,), name=name, daemon=True).start()

    def _slot(self, jobs: std_queue.SimpleQueue[tuple[Live, Job] | None]) -> None:
        """Move one file after the other."""
        while (work := jobs.get()) is not None:
            live, job = work
            try:
                live.check()
                outcome = self._move(job, live)
            except VseError as problem:
                outcome = Outcome(live, job, None, problem)
            except Exception as problem:
                outcome = Outcome(live, job, None, defect(f"stage {job.transfer.lfn}", problem))
            self._inbox.put(outcome)
            if live.given_up:
                return

    def _move(self, job: Job, live: Live) -> Outcome:
        """Move a file, with space kept for it until it is written down how that ended."""
        room, one = self._parts.room, job.transfer
        if room is not None:
            try:
                room.reserve(one.destination, one.lfn, one.size_bytes, one.share, holder=self.owner)
            except (StorageFull, QuotaExceeded, DatabaseBusy, StorageFault) as error:
                return Outcome(live, job, None, error, no_room=True)
        return Outcome(live, job, self._mover.move(job, live, partial(self._may_read, live)), None)

    def _may_read(self, live: Live, source: Source) -> bool:
        claim = live.transfer
        if source.se in (claim.source_se, ""):
            return True
        try:
            return self._parts.queue.try_source(self.owner, claim, source.se, self._slots)
        except (DatabaseBusy, StorageFault) as error:  # which says nothing of the file
            raise Interrupted(f"finish {claim.lfn}", str(error)) from error

    # -- recording -------------------------------------------------------------------------------

    def _record(self) -> None:
        """Write down how moves ended.

        What arrived is forgotten only after that: interrupted in between, it is written again.
        """
        # A move that was given up on may report after all, when its transfer is another move's.
        outcomes = [
            one for one in self._arrived if one and self._running.get(one.live.transfer.id) is one.live
        ]
        if not outcomes:
            self._arrived.clear()
            return
        events, after = self._recorder.record(outcomes)
        with self._lock:
            for one in outcomes:
                self._running.pop(one.live.transfer.id, None)
                self._told.pop(one.live.transfer.id, None)
        self._arrived.clear()
        self._tell_ends(outcomes, events, after)

    def _tell_ends(
        self, outcomes: Sequence[Outcome], events: dict[int, Event], after: dict[int, Transfer]
    ) -> None:
        for one in outcomes:
            transfer, event = one.live.transfer, events[one.live.transfer.id]
            if isinstance(event, Succeeded) and one.moved:
                self._tell(FileStaged(transfer.lfn, one.moved.path, one.moved.size_bytes, one.moved.contents))
            elif isinstance(event, Failed) and transfer.id in after:
                now = after[transfer.id]
                self._tell(FileFailed(transfer.lfn, event.error, now.state is State.FAILED))

    def _tell_progress(self) -> None:
        with self._lock:
            lives = list(self._running.values())
        for live in lives:
            if self._told.get(live.transfer.id, 0) != live.bytes_done:
                self._told[live.transfer.id] = live.bytes_done
                self._tell(MovedNews(live.transfer.lfn, live.bytes_done, live.transfer.size_bytes))

    # -- minding ---------------------------------------------------------------------------------

    def _mind(self, over: threading.Event) -> None:
        """Renew the leases, and end what takes too long."""
        every_s = min(_TICK_S * 2, self._limits.no_progress_s / 4, self._settings.lease_s / 6)
        pause_s = min(self._settings.lease_s / 3, _BEAT_S)
        beat_s = time.monotonic() + pause_s
        sweep_s = time.monotonic() + self._partial_age_s
        sweeper = threading.Thread()
        while not over.wait(every_s):
            now_s = time.monotonic()
            with self._lock:
                running = dict(self._running)
            for live in running.values():
                live.overdue(self._limits, now_s)
                self._replace_stuck(live, now_s)
            if now_s >= beat_s and running:
                self._beat(running)
                beat_s = time.monotonic() + pause_s
            if now_s >= sweep_s and not sweeper.is_alive():
                sweeper = threading.Thread(target=self._sweep, args=(_SERVERS_S,), daemon=True)
                sweeper.start()  # a server that is down must not keep us from telling that we live
                sweep_s = time.monotonic() + max(self._partial_age_s, 60.0)

    def _replace_stuck(self, live: Live, now_s: float) -> None:
        """Where a move does not notice that it was ended, report for it and give its slot away."""
        key = live.transfer.id
        reason = live.whole.reason or live.reading.reason
        if reason is None or live.given_up:
            self._ended_s.pop(key, None)
            return
        if now_s - self._ended_s.setdefault(key, now_s) < _GRACE_S:
            return
        self._ended_s.pop(key)
        self._give_up(live, reason)
        self._inbox.put(Outcome(live, None, None, reason))

    def _give_up(self, live: Live, reason: VseError) -> None:
        """End a move, and wait no more for that."""
        live.given_up = True  # its thread ends, if ever it comes back
        live.end(reason)
        self._add_thread()

    def _divide_caps(self) -> None:
        """Take that part of the caps that is ours, by what all stagers move now."""
        rates = Rates.of(self._settings)
        if rates.any:
            self._caps.set(rates, parts_of(self.owner, self._parts.queue.moving()))

    def _beat(self, running: dict[int, Live]) -> None:
        progress = {
            key: (
                live.transfer.attempts,
                Progressed(live.bytes_done, url_of(live), live.source.se if live.source else None),
            )
            for key, live in running.items()
        }
        try:
            gone = self._parts.queue.heartbeat(self.owner, progress)
            self._divide_caps()
        except VseError:
            return  # the next beat comes before the lease ends
        for key in gone:
            running[key].end(_lost(running[key]))


def _lost(live: Live) -> Interrupted:
    return Interrupted(f"finish {live.transfer.lfn}", "it was cancelled, or taken over")
