"""The workers of an analysis: who is there, what each has in hand, and who has been silent for too long."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vse.analysis.attendance import (
    GONE,
    MOST_ASKED,
    PAUSED,
    Attendance,
    Seen,
    look_at,
    pause_s,
    unreachable,
    workers_of,
)
from vse.analysis.harvest import Harvester
from vse.analysis.ledger import FailedRange, Failure
from vse.analysis.packetizer import Packet, Packetizer
from vse.analysis.partials import Partials
from vse.analysis.places import host_of, site_of
from vse.analysis.runs import AnalysisOptions, Event
from vse.analysis.script import ScriptSource
from vse.analysis.sight import Sight
from vse.analysis.worker import Order, TaskAnswer, run_task
from vse.analysis.worker_partials import Where, forget

MOST_REFUSALS = 8
"""So many workers that get nothing, one after the other: the others will not get anything either."""

LAST_WORDS_S = 1.0
"""So long a worker that hangs has to end itself."""
LOOKS = 5
"""A worker that owes an answer is looked at so often before its script is said to hang."""
HANG_FACTOR = 5
"""A packet may take so many times what the longest one took, before its script is said to hang."""
MOST_PAUSES = 3
"""A worker that was paused so often gets nothing more."""


class Task(NamedTuple):
    """Packets on their way through a worker. ``partial``: the accumulator that they add to."""

    worker: str
    packets: list[Packet]
    partial: int
    future: Any


@dataclass(slots=True)
class _Member:
    """A worker. ``heard_s``: when it answered last, or was given work while it had none."""

    slots: int
    heard_s: float
    tasks: dict[int, int] = field(default_factory=dict)
    """How many entries each of its tasks has, the oldest first."""
    entry_s: float | None = None
    """What an entry took in its last task."""
    suspects: dict[int, Failure] = field(default_factory=dict)
    """Packets that the script was at when this worker was last looked at, and for longer than it should."""
    sights: list[Sight] = field(default_factory=list)


class Crew:
    """Gives packets to workers, and takes their answers; everything goes through the packetizer's books."""

    def __init__(
        self,
        client: Any,
        packetizer: Packetizer,
        partials: Partials,
        options: AnalysisOptions,
        source: ScriptSource,
        run: str,
        harvester: Harvester,
        order: Callable[[Packet], Order],
        tell: Callable[[Event], None],
    ) -> None:
        self.client = client
        self.packetizer = packetizer
        self.partials = partials
        self.options = options
        self.source = source
        self.run = run
        self.harvester = harvester
        self.order = order
        self.tell = tell
        self.tasks: dict[int, Task] = {}
        self.members: dict[str, _Member] = {}
        self.wanting: dict[str, None] = {}
        """Workers that could do more than they have in hand."""
        self.stalled: dict[str, dict[int, Any]] = {}
        """Workers that were silent for too long, with the futures that may yet tell that they are back."""
        self.paused: dict[str, int] = {}
        """Workers that begin nothing more, as their memory is nearly full, and how often each was."""
        self.shares: dict[str, int] = {}
        self.hangs: dict[Packet, Failure] = {}
        """Packets in which the script hung, the latest last."""
        self.seen = 0
        self.lost = 0
        self._task_count = 0
        self._look_every_s = options.hang_s / LOOKS
        self._longest_s = 0.0
        self._looking = False
        self._look_at_s = 0.0
        self._watched: Any = None

    # Who is there

    def watch(self) -> None:
        """Hear who comes and goes; again where the connection was lost, and with it what was to be heard."""
        connection = self.client.scheduler_comm
        if connection is not None and connection is not self._watched:
            self._watched = connection
            self.client.sync(Attendance(self.client, self.tell).begin)

    def joined(self, worker: str) -> None:
        if worker not in self.members and worker not in self.stalled:
            self.members[worker] = _Member(self.options.tasks_per_worker, time.monotonic())
            self.wanting[worker] = None
            self.seen += 1
            host = host_of(worker)
            self.packetizer.add_worker(worker, host, site_of(host, self.options.sites))

    def left(self, worker: str) -> None:
        """A worker is gone for good.

        What it was asked for is not waited for: where no other was there when it went, Dask never tries
        again to take it, and the collection would not end.
        """
        self.paused.pop(worker, None)
        futures = list(self.stalled.pop(worker, {}).values())
        if worker in self.members:
            futures = list(self._without(worker, None).values())
        if futures:
            self.in_loop(self._cancel(futures))

    def _drop(self, worker: str, culprits: Mapping[int, Failure] | None = None) -> dict[int, Task]:
        """Do everything again that only this worker has; return its tasks.

        ``culprits``: the packets to blame for it; None: any of those it has.
        """
        self.lost += 1
        member = self.members.pop(worker)
        self.wanting.pop(worker, None)
        tasks = {number: self.tasks.pop(number) for number in member.tasks}
        done = self.packetizer.entries_done_by()[worker]
        self.shares[worker] = self.shares.get(worker, 0) + done
        self.packetizer.worker_lost(worker, culprits)
        asked_for = [partial for partial in self.partials.of(worker) if partial.future is not None]
        lost = [partial.number for partial in self.partials.of(worker) if partial not in asked_for]
        self.undo(worker, lost)
        return tasks

    def undo(self, worker: str, partials: list[int]) -> None:
        """Partial results of a worker are gone: what they hold is to be processed again."""
        self.undone(worker, self.partials.lost(partials))

    def undone(self, worker: str, packets: list[Packet]) -> None:
        """What a worker has done is in no partial result that counts: it is to be processed again."""
        for packet in packets:
            before = self.packetizer.ledger.entries_done
            self.packetizer.undone(packet)
            gone = before - self.packetizer.ledger.entries_done
            self.shares[worker] = self.shares.get(worker, 0) - gone

    def entries_by_worker(self) -> dict[str, int]:
        """Entries in the result, or on their way there, by the worker that processed them."""
        here = self.packetizer.entries_done_by()
        names = [*self.shares, *(name for name in here if name not in self.shares)]
        return {name: self.shares.get(name, 0) + here.get(name, 0) for name in names}

    def in_loop(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin ``work`` in the client's event loop, in the order of the calls; what it raises is told."""

        def ended(done: Future[None]) -> None:
            error = None if done.cancelled() else done.exception()
            if error is not None:
                self.tell(Event("broke", error))

        asyncio.run_coroutine_threadsafe(work, self.client.loop.asyncio_loop).add_done_callback(ended)

    async def _cancel(self, futures: list[Any]) -> None:
        with suppress(*unreachable()):
            await self.client.cancel(futures)

    # Who is silent

    def drop_the_silent(self) -> None:
        """Take their packets from workers that have been silent for a multiple of what these should take.

        Who has been silent for a shorter while is looked at.
        """
        now = time.monotonic()
        asked = {partial.worker for partial in self.partials.filled if partial.future is not None}
        silent = [
            (0.0, worker)
            for worker, times in self.paused.items()
            if worker not in self.members and times < MOST_PAUSES
        ]
        for worker, member in list(self.members.items()):
            silent_s = now - member.heard_s
            if member.tasks and silent_s > self._patience_s(member):
                self._end(worker, self._blamed(worker, member.sights, 0.0) or None)
            elif silent_s > self._look_every_s and (member.tasks or worker in asked):
                silent.append((-silent_s, worker))
        if silent and not self._looking and now > self._look_at_s:
            self._looking = True
            longest = [worker for _, worker in sorted(silent)[:MOST_ASKED]]
            self.in_loop(self._look(longest))

    def _end(self, worker: str, culprits: Mapping[int, Failure] | None) -> None:
        """A worker hangs: others get what it had, and its nanny starts another in its place."""
        known = culprits or {}
        for number in self.members[worker].tasks:
            held = (packet for packet in self.tasks[number].packets if packet.number in known)
            self.hangs |= {packet: known[packet.number] for packet in held}
        self.stalled[worker] = self._without(worker, culprits)
        self.in_loop(self._restart(worker))

    def hanging(self) -> list[FailedRange]:
        """Where the script hung, and it is not known yet on which entries; of nested ranges the innermost."""
        ledger = self.packetizer.ledger
        listed = ledger.failed_ranges() if self.hangs else []
        found: list[FailedRange] = []
        for packet, failure in reversed(self.hangs.items()):
            one = FailedRange(packet.lfn, packet.start, packet.stop, failure)
            over = ledger.files[packet.lfn].settled
            if not (over or any(other.overlaps(one) for other in (*found, *listed))):
                found.append(one)
        return found[::-1]

    def _without(self, worker: str, culprits: Mapping[int, Failure] | None) -> dict[int, Any]:
        """Go on without a worker, and what it was asked for; return the futures of its tasks."""
        asked = [one.future for one in self.partials.of(worker) if one.future is not None]
        futures = {number: task.future for number, task in self._drop(worker, culprits).items()}
        if asked:
            self.in_loop(self.harvester.give_up(asked))
        return futures

    async def _look(self, workers: list[str]) -> None:
        begun = time.monotonic()
        seen = await look_at(self.client, workers, self.source.path)
        took_s = time.monotonic() - begun
        self._look_at_s = begun + took_s + pause_s(took_s, seen.values(), self._look_every_s)
        self.tell(Event("looked", seen))

    def looked(self, seen: dict[str, Seen]) -> None:
        """Draw the conclusions from what silent workers are at."""
        self._looking = False
        for worker, one in seen.items():
            member = self.members.get(worker)
            if one.status == GONE:
                self.left(worker)
            elif member is None:
                if worker in self.paused and one.status != PAUSED:
                    self.joined(worker)
            elif time.monotonic() - member.heard_s <= self._look_every_s or one.sights is None:
                continue
            elif one.status == PAUSED and not one.sights:
                self._leave_alone(worker)
            else:
                self._suspect(worker, member, one.sights)

    def _suspect(self, worker: str, member: _Member, sights: list[Sight]) -> None:
        """End a worker whose script was seen twice in the middle of a packet that should long be done."""
        member.sights = sights
        suspects = self._blamed(worker, sights, None)
        again = {number: failure for number, failure in suspects.items() if number in member.suspects}
        member.suspects = suspects
        if again:
            self._end(worker, again)

    def _blamed(self, worker: str, sights: list[Sight], limit_s: float | None) -> dict[int, Failure]:
        """Return the packets in which the script is for longer than ``limit_s``; None: than it should."""
        held = {
            packet.number: packet
            for number in self.members[worker].tasks
            for packet in self.tasks[number].packets
        }
        blamed = {}
        for sight in sights:
            packet = held.get(sight.packet)
            if packet is None or not sight.where:
                continue
            if sight.in_script_s > (self._hang_s(worker, packet) if limit_s is None else limit_s):
                message = f"it hangs: after {sight.in_script_s:.0f} s it was still at {sight.where}"
                blamed[packet.number] = Failure(message, sight.stack)
        return blamed

    def _hang_s(self, worker: str, packet: Packet) -> float:
        """How long the script may be at a packet."""
        expected_s = self.packetizer.expected_s(worker, packet)
        if expected_s is None:
            return math.inf
        options = self.options
        return max(options.hang_s, options.stall_factor * expected_s, HANG_FACTOR * self._longest_s)

    def _leave_alone(self, worker: str) -> None:
        """A paused worker does nothing, and what it has would wait for ever: others do it."""
        futures = self._without(worker, {})
        self.paused[worker] = self.paused.get(worker, 0) + 1
        self.in_loop(self._relieve(worker, list(futures.values())))

    async def _relieve(self, worker: str, futures: list[Any]) -> None:
        """What the worker holds of this analysis is of no use any more, and may be what fills its memory."""
        await self._cancel(futures)
        with suppress(*unreachable()):
            await self.client.run(forget, self.run, workers=[worker], on_error="ignore")

    def _patience_s(self, member: _Member) -> float:
        if member.entry_s is None:
            return 2 * self.options.stall_s
        entries = next(iter(member.tasks.values()))
        return max(self.options.stall_s, self.options.stall_factor * entries * member.entry_s)

    async def _restart(self, worker: str) -> None:
        """Let its nanny start another in its place; without a nanny it may come back by itself."""
        with suppress(*unreachable()):
            known = (await workers_of(self.client)).get(worker)
            if known is None or known["nanny"] is None:
                return
            # Ending itself is a matter of a moment where only the user's code hangs; a nanny waits seconds.
            await self.client.run(os._exit, 1, workers=[worker], wait=False, on_error="ignore")
            await asyncio.sleep(LAST_WORDS_S)
            if worker in self.stalled:
                with suppress(KeyError):  # Dask's answer for one that has left meanwhile
                    await self.client.restart_workers([worker], timeout=30, raise_for_error=False)

    def late(self, number: int) -> None:
        """A task is answered that nobody waits for: its worker is back, and its answer is void."""
        for worker, futures in list(self.stalled.items()):
            if futures.pop(number, None) is not None:
                del self.stalled[worker]
                self.joined(worker)

    # Tasks

    def hand_out(self) -> None:
        """Give every worker that wants it work, in turns."""
        refused = 0
        for worker in list(self.wanting):
            if not self.packetizer.has_work or refused >= MOST_REFUSALS:
                return
            del self.wanting[worker]
            member = self.members[worker]
            while len(member.tasks) < member.slots:
                packets = self.packetizer.next_packets(worker)
                if not packets:
                    refused += 1
                    self.wanting[worker] = None
                    break
                refused = 0
                self._submit(worker, member, packets)

    def _submit(self, worker: str, member: _Member, packets: list[Packet]) -> None:
        self._task_count += 1
        number = self._task_count
        partial = self.partials.send(worker)
        where = Where(self.run, partial, self.options.max_output_bytes)
        orders = [self.order(packet) for packet in packets]
        payload = pickle.dumps((self.source, orders, self.options.dataset, where), protocol=5)
        future = self.client.submit(
            run_task,
            payload,
            key=f"{self.run}-{number}",
            workers=[worker],
            allow_other_workers=False,
            pure=False,
            priority=-number,
        )
        self.tasks[number] = Task(worker, packets, partial, future)
        if not member.tasks:
            member.heard_s = time.monotonic()
        member.tasks[number] = sum(packet.entries for packet in packets)
        self.in_loop(self._follow(number, future))

    async def _follow(self, number: int, future: Any) -> None:
        """Bring the answer of a task into the loop; of a cancelled one, nobody will want it."""
        try:
            answer = await future
        except Exception as error:
            self.tell(Event("crashed", error, number))
        else:
            self.tell(Event("answered", answer, number))

    def take_back(self, number: int) -> Task | None:
        """Return a task that has ended; None where it is not wanted any more."""
        task = self.tasks.pop(number, None)
        if task is None:
            self.late(number)
            return None
        member = self.members[task.worker]
        del member.tasks[number]
        member.heard_s = time.monotonic()
        self.wanting[task.worker] = None
        self.client.loop.add_callback(task.future.release)
        return task

    def measure(self, worker: str, answer: TaskAnswer) -> None:
        """Learn how fast a worker is, and how many tasks it can take."""
        member = self.members.get(worker)
        if member is None:
            return
        member.slots = answer.threads - 1 + self.options.tasks_per_worker
        self._longest_s = max([self._longest_s, *(one.stats.wall_s for one in answer.answers)])
        entries = sum(one.packet.entries for one in answer.answers)
        member.entry_s = sum(one.stats.wall_s for one in answer.answers) / max(1, entries)

    def abandon(self) -> None:
        """Give back all that is with workers, and what they have done and was not collected."""
        tasks, self.tasks = self.tasks, {}
        for task in tasks.values():
            for packet in task.packets:
                self.packetizer.untried(packet)
        for worker, member in self.members.items():
            member.tasks.clear()
            self.undo(worker, [partial.number for partial in self.partials.of(worker)])
        self.in_loop(self._cancel([task.future for task in tasks.values()]))

    def release(self) -> None:
        """Cancel what is with workers, let them forget what they hold; the client stays as it was."""
        from distributed import fire_and_forget

        if self.client.status != "running":
            return
        futures = [task.future for task in self.tasks.values()]
        self.tasks = {}
        with suppress(*unreachable()):
            self.client.unsubscribe_topic("all")
            if futures:
                self.client.cancel(futures)
            for worker in {partial.worker for partial in self.partials.filled} & set(self.members):
                key = f"{self.run}-forget-{worker}"
                fire_and_forget(self.client.submit(forget, self.run, workers=[worker], key=key, pure=False))
