"""The runner of an analysis: a `Packetizer` on one side, a Dask cluster on the other.

Each worker has one task more than it can run, so that it never waits for the next; a task is a few
packets. What tasks give stays on the workers and is collected as a tree every few seconds: the client
learns which packets are in which partial result, and has one sum to add, however many workers there are.
A partial result that dies with its worker puts its packets back: they are processed again, once.
Files may arrive while it runs (`Feed`), workers may come and go, and a `Checkpoint` outlives the client.
"""

from __future__ import annotations

import math
import pickle
import queue
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import Any

from vse.analysis.checkpoint import Checkpoint, KeptFile
from vse.analysis.crew import Crew
from vse.analysis.endings import file_result, incomplete, no_workers, script_failed, spoiled
from vse.analysis.harvest import Harvest, Harvester, pause_s
from vse.analysis.ledger import Failure
from vse.analysis.merging import Unmergeable, excess, merge
from vse.analysis.packetizer import Packet, Packetizer
from vse.analysis.partials import Partials
from vse.analysis.places import places_of
from vse.analysis.report_effort import Effort
from vse.analysis.result import AnalysisResult, Progress
from vse.analysis.runs import AnalysisOptions, Control, Event, Feed, InputFile
from vse.analysis.script import Script, describe
from vse.analysis.worker import Order, TaskAnswer
from vse.errors import BadRequest, BadScript, NothingToAnalyse, WorkersLost
from vse.transfer.ctrl_c import CtrlC

__all__ = ["AnalysisOptions", "Control", "Feed", "InputFile", "OnPartial", "OnProgress", "analyse"]

OnProgress = Callable[[Progress], None]
OnPartial = Callable[[Any, Progress], None]
"""Called with the output so far, which may be looked at until it returns, not kept or changed."""

SCHEDULER_SILENCE_S = 5.0
FIRST_PARTIAL_S = 0.25
"""The first collection comes so soon, that there is something to look at."""
MOST_TREES = 3
"""After so many collections in a row from which nothing came, they are fetched one by one."""
STOPPED = Failure("the analysis was stopped before it was processed")


def analyse(
    script: Script,
    feed: Feed,
    client: Any,
    options: AnalysisOptions,
    on_progress: OnProgress | None = None,
    *,
    on_partial: OnPartial | None = None,
    control: Control | None = None,
    checkpoint: Path | None = None,
) -> AnalysisResult:
    """Run ``script`` over the files of ``feed`` on the workers of ``client`` (a `distributed.Client`).

    Broken files, missing files and entries on which the script raised are listed in the result, not
    raised. ``checkpoint``: a file that is written now and then; where it is there, its entries are taken
    as done. The caller removes it once the result is kept. An output that becomes too big ends it with what
    was added until then: ``too_big`` of the result says so. Raises `ScriptFailed` where the script fails
    everywhere (the user's traceback is a note of the error), `WorkersLost`, `OutputTooBig` where nothing
    fits, `NothingToAnalyse`, `BadRequest` for a checkpoint of something else, and with ``strict``
    `ResultIncomplete`.
    """
    kept = None if checkpoint is None else Checkpoint.at(checkpoint, script.source)
    run = _Run(script, client, options, on_progress, on_partial, kept)
    feed.connect(run.events.put)
    if control is not None:
        control.connect(run.events.put)
    try:
        return run.run()
    finally:
        run.stop()


class _Run:
    def __init__(
        self,
        script: Script,
        client: Any,
        options: AnalysisOptions,
        on_progress: OnProgress | None,
        on_partial: OnPartial | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.script = script
        self.client = client
        self.options = options
        self.on_progress = on_progress
        self.on_partial = on_partial
        self.checkpoint = checkpoint
        self.events: queue.Queue[Event] = queue.Queue()
        self.packetizer = Packetizer(
            options.packet_target_s,
            options.max_failed_packets,
            options.packet_entries,
            options.readers_a_host,
        )
        self.partials = Partials()
        self.effort = Effort()
        name = f"vse-{uuid.uuid4().hex[:12]}"
        self.harvester = Harvester(client, name, script.source, options.max_output_bytes)
        self.crew = Crew(
            client,
            self.packetizer,
            self.partials,
            options,
            script.source,
            name,
            self.harvester,
            self._order,
            self.events.put,
        )
        self.files: dict[str, InputFile] = {}
        self.missing: dict[str, str] = {}
        self.output: Any = checkpoint.output if checkpoint else None
        self.entries_resumed = checkpoint.entries if checkpoint else 0
        self.entries_merged = self.entries_written = self.entries_resumed
        self.too_big, self.packet_count = "", 0
        self.closed = self.paused = self.stopping = False
        self.begun = time.monotonic()
        self.worker_seen_at = self.scheduler_seen_at = self.begun
        self.collected_at = self.written_at = self.begun
        self.told_at = self.collecting_took_s = 0.0
        self.collecting, self.unwritten, self.barren = False, False, 0
        self.history: deque[tuple[float, int]] = deque(maxlen=50)

    # The loop

    def run(self) -> AnalysisResult:
        self.crew.watch()
        with CtrlC() as ctrl_c:
            while not (self._ended or ctrl_c.pressed):
                self._take_events()
                self._check()
                if self.stopping and not self.packetizer.outstanding:
                    self.packetizer.give_up(STOPPED)
                self._collect()
                if not (self.paused or self.stopping):
                    self.crew.hand_out()
                self._tell_progress()
        if not self.files and not self.missing:
            found = "there is no file in it"
            raise NothingToAnalyse(f"analyse {self.options.dataset or 'the dataset'}", found)
        self._tell_progress(last=True)
        return self._result()

    @property
    def _ended(self) -> bool:
        return self.packetizer.finished and not self.partials

    def stop(self) -> None:
        """Leave the client as it was, and on disk what was merged."""
        self._write_checkpoint()
        self.crew.release()

    def _take_events(self) -> None:
        wait_s = self.options.progress_every_s
        with suppress(queue.Empty):
            while True:
                event = self.events.get(timeout=wait_s)
                getattr(self, f"_on_{event.kind}")(event)
                wait_s = 0.0

    def _on_pause(self, event: Event) -> None:
        self.paused = event.value

    def _on_stop(self, event: Event) -> None:
        self.stopping = True

    # What ends it early

    def _check(self) -> None:
        hopeless = self.packetizer.hopeless
        if hopeless is not None:
            raise script_failed(self.script.name, hopeless)
        now = time.monotonic()
        self._check_cluster(now)
        self.crew.drop_the_silent()
        ledger = self.packetizer.ledger
        if self.options.strict and (self.missing or ledger.broken or ledger.entries_failed):
            raise incomplete(self.missing, ledger)

    def _check_cluster(self, now: float) -> None:
        if self.client.status == "running":
            self.scheduler_seen_at = now
            self.crew.watch()
        elif now - self.scheduler_seen_at > min(SCHEDULER_SILENCE_S, self.options.no_workers_s):
            raise self._lost("the scheduler is gone", "start a scheduler with workers and try again")
        if self.packetizer.workers or self.paused:
            self.worker_seen_at = now
        elif now - self.worker_seen_at > self.options.no_workers_s:
            raise self._lost(*no_workers(self.options.no_workers_s, len(self.crew.paused)))

    def _lost(self, found: str, todo: str) -> WorkersLost:
        if self.entries_merged:
            expected = self.packetizer.ledger.entries_expected()
            found += f"; {self.entries_merged:,} of {expected:,} entries were merged"
            if self.checkpoint is not None:
                todo += f" with the same checkpoint, {self.checkpoint.path}, which has them"
        return WorkersLost(f"run {self.script.name}", found, todo)

    # Files

    def _on_file(self, event: Event) -> None:
        file: InputFile = event.value
        if file.lfn in self.files:
            return
        self.files[file.lfn] = file
        entries = self._entries(file)
        kept = None
        if self.checkpoint is not None:
            kept = self.checkpoint.check(file.lfn, self._tree(file), entries, file.size_bytes)
        self.packetizer.add_file(
            file.lfn,
            kept.entries if kept else entries,
            file.size_bytes,
            places_of(file, self.options.sites),
            list(kept.ranges) if kept else (),
        )

    def _tree(self, file: InputFile) -> str:
        return self.script.tree or file.tree

    def _entries(self, file: InputFile) -> int | None:
        """What is known of a file's entries holds for its own tree only."""
        other_tree = self.script.tree and self.script.tree != file.tree
        return None if other_tree else file.entries

    def _on_missing(self, event: Event) -> None:
        lfn, reason = event.value
        self.missing[lfn] = reason

    def _on_closed(self, event: Event) -> None:
        self.closed = True
        self.packetizer.no_more_files()
        strange = [lfn for lfn in self.checkpoint.files if lfn not in self.files] if self.checkpoint else []
        if self.checkpoint and strange:
            found = f"it holds entries of {strange[0]}, which is not among the files"
            todo = "give the same dataset, or remove the checkpoint to begin anew"
            raise BadRequest(f"go on from the checkpoint {self.checkpoint.path}", found, todo)

    # Workers and their answers

    def _on_joined(self, event: Event) -> None:
        self.crew.joined(event.value)
        self.effort.joined(event.value, time.monotonic() - self.begun)

    def _on_looked(self, event: Event) -> None:
        self.crew.looked(event.value)

    def _on_left(self, event: Event) -> None:
        self.crew.left(event.value)
        self.effort.left(event.value, time.monotonic() - self.begun)

    def _order(self, packet: Packet) -> Order:
        file = self.files[packet.lfn]
        entries = None if packet.tell else self.packetizer.ledger.files[packet.lfn].entries
        url = packet.place.source or file.url
        others = tuple(one for one in (file.url, *file.sources) if one != url) if file.sources else ()
        return Order(packet, url, self._tree(file), entries, others, file.dataset)

    def _on_answered(self, event: Event) -> None:
        task = self.crew.take_back(event.task)
        if task is None:
            return
        reply: TaskAnswer = event.value
        if reply.spoiled is not None:
            for packet in task.packets:
                self.packetizer.untried(packet)
            self._end_as_spoiled(reply.spoiled, reply.too_big)
            return
        done: list[Packet] = []
        for answer in reply.answers:
            packet, stats = answer.packet, answer.stats
            entries = max(0, min(packet.stop, stats.file_entries) - packet.start)
            if answer.outcome == "done":
                self.packetizer.done(packet, stats)
                if entries:
                    done.append(packet)
            elif answer.outcome == "failed" and answer.failure:
                self.packetizer.failed(packet, answer.failure, stats.file_entries)
            elif answer.failure:
                self.packetizer.unreadable(packet, answer.failure)
            self.effort.answered(
                task.worker, packet.lfn, entries, stats.wall_s, stats.read_bytes, answer.outcome == "done"
            )
        self.crew.measure(task.worker, reply)
        self.packet_count += len(reply.answers)
        for packet in task.packets[len(reply.answers) :]:
            self.packetizer.untried(packet)
        if not self.partials.answered(task.partial, done):  # another task that added to it has crashed
            self.crew.undone(task.worker, done)

    def _on_crashed(self, event: Event) -> None:
        """The task ended outside of the user's code; its accumulator may hold what nobody answered for.

        It is cancelled where the connection to the scheduler was lost, which is no packet's fault.
        """
        error: Exception = event.value
        if isinstance(error, BadScript) and event.task in self.crew.tasks:
            raise error
        task = self.crew.take_back(event.task)
        if task is None:
            return
        for packet in task.packets:
            if isinstance(error, CancelledError):
                self.packetizer.untried(packet)
            else:
                self.packetizer.unreadable(packet, describe(error, self.script.source))
        self.crew.undo(task.worker, [task.partial])

    # Partial results

    def _collect(self) -> None:
        """Collect what workers have, where it is time to."""
        now = time.monotonic()
        if self.collecting or not self.partials or self.client.status != "running":
            return
        idle = not self.packetizer.outstanding
        life_s = (now - self.begun) * self.crew.seen / self.crew.lost if self.crew.lost else math.inf
        wait_s = max(self.options.partial_every_s, pause_s(self.collecting_took_s, life_s))
        wait_s = min(wait_s, FIRST_PARTIAL_S) if self.output is None else wait_s
        if now - self.collected_at < wait_s and not (idle and (self.packetizer.finished or self._waits)):
            return
        self.partials.seal()
        whole = self.partials.whole()
        if whole:
            self.collecting = True
            self.harvester.ask(whole)
            self.crew.in_loop(self._harvest(whole, (1 + self.barren) * self.options.stall_s))

    @property
    def _waits(self) -> bool:
        """Whether there is nothing to do but to wait for files, or for who paused it."""
        return self.paused or self.stopping or not self.packetizer.has_work

    async def _harvest(self, whole: list[Any], limit_s: float) -> None:
        harvest = await self.harvester.collect(whole, limit_s, as_tree=self.barren < MOST_TREES)
        self.events.put(Event("harvested", harvest))

    def _on_broke(self, event: Event) -> None:
        """Something has a defect: to go on would be to wait for ever."""
        raise event.value

    def _on_harvested(self, event: Event) -> None:
        harvest: Harvest = event.value
        if self.too_big:
            return
        now = time.monotonic()
        self.collecting, self.collected_at = False, now
        if harvest.spoiled is not None:
            self._end_as_spoiled(harvest.spoiled.failure, harvest.spoiled.too_big)
            return
        if harvest.parts is None:
            self.barren += 1
            if not harvest.lost and self.barren > 2 * MOST_TREES:
                raise self._lost("the workers cannot hand over what they hold", "look at their memory")
            for number in harvest.lost:
                self.crew.undo(self.partials.worker_of(number), [number])
            self.collected_at = 0.0
            return
        self.barren = 0
        self._merge(harvest.parts)
        self.collecting_took_s = harvest.took_s + time.monotonic() - now
        self._keep(self.partials.collected(harvest.numbers))
        too_big = excess(self.output, self.options.max_output_bytes)
        if too_big:
            self._end_as_spoiled(Failure(too_big), True)
        elif self.on_partial is not None and not self._ended:
            self.on_partial(self.output, self._progress(now))

    def _merge(self, parts: list[bytes]) -> None:
        try:
            for part in parts:
                self.output = merge(self.output, pickle.loads(part))  # noqa: S301 - our own worker wrote it
        except (MemoryError, Unmergeable) as error:
            self.unwritten = False  # half of it is added: what is on disk is what holds
            if isinstance(error, Unmergeable):
                raise script_failed(self.script.name, describe(error, self.script.source)) from error
            found = "there is no memory left to add it up"
            if self.checkpoint is not None and self.entries_written:
                found += f"; {self.entries_written:,} entries are kept in {self.checkpoint.path}"
            raise spoiled(self.script.name, Failure(found), True) from error

    def _end_as_spoiled(self, failure: Failure, too_big: bool) -> None:
        """The outputs cannot be added up. Where they are ``too_big``, end with what was added before."""
        if not (too_big and self.entries_merged):
            raise spoiled(self.script.name, failure, too_big)
        self.too_big = failure.message
        self.packetizer.give_up(Failure("the output was too big already when its turn came"))
        self.crew.abandon()

    def _keep(self, packets: list[Packet]) -> None:
        """These packets are in the output."""
        for packet in packets:
            account = self.packetizer.ledger.files[packet.lfn]
            stop = min(packet.stop, account.entries or 0)
            if stop <= packet.start:
                continue
            self.entries_merged += stop - packet.start
            if self.checkpoint is not None:
                file = self.files[packet.lfn]
                kept = KeptFile(self._tree(file), account.entries or 0, file.size_bytes)
                self.checkpoint.add(packet.lfn, kept, packet.start, stop)
        self.unwritten = True
        if time.monotonic() - self.written_at > self.options.checkpoint_every_s:
            self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        if self.checkpoint is not None and self.unwritten:
            self.checkpoint.write(self.output)
            self.entries_written, self.unwritten = self.entries_merged, False
            self.written_at = time.monotonic()

    # News and result

    def _tell_progress(self, last: bool = False) -> None:
        now = time.monotonic()
        if self.on_progress is None or (not last and now - self.told_at < self.options.progress_every_s):
            return
        self.told_at = now
        self.history.append((now, self.packetizer.ledger.entries_done))
        self.on_progress(self._progress(now, last))

    def _progress(self, now: float, last: bool = False) -> Progress:
        ledger = self.packetizer.ledger
        whole = last or len(self.history) < 2
        since, before = (self.begun, self.entries_resumed) if whole else self.history[0]
        rate = (ledger.entries_done - before) / max(now - since, 1e-3)
        left = ledger.entries_expected() - ledger.entries_done - ledger.entries_failed
        return Progress(
            entries_done=ledger.entries_done,
            entries_failed=ledger.entries_failed,
            entries_expected=ledger.entries_expected(),
            files=len(self.files),
            files_done=ledger.files_done,
            more_files=not self.closed,
            read_bytes=ledger.read_bytes,
            elapsed_s=now - self.begun,
            rate=rate,
            eta_s=left / rate if self.closed and rate > 0 else None,
            workers=self.packetizer.entries_done_by(),
            output=self.output,
            entries_merged=self.entries_merged,
            efforts=tuple(self.effort.workers.values()),
            paused=self.paused,
            stopping=self.stopping,
            hanging=self.crew.hanging(),
            **self._left_out(),
        )

    def _left_out(self) -> dict[str, Any]:
        ledger = self.packetizer.ledger
        broken = [(lfn, failure.message) for lfn, failure in ledger.broken.items()]
        return {"failed": ledger.failed_ranges(), "broken": broken, "missing": list(self.missing.items())}

    def _result(self) -> AnalysisResult:
        self._write_checkpoint()
        ledger, kept = self.packetizer.ledger, self.checkpoint.path if self.checkpoint else None
        try:
            output = self.script.finish(self.output)
        except Exception as error:
            raise script_failed(self.script.name, describe(error, self.script.source), kept) from error
        for worker, failure in self.packetizer.drained.items():
            self.effort.drained(worker, failure.message)
        return AnalysisResult(
            script=self.script.source.path,
            dataset=self.options.dataset,
            output=output,
            entries_processed=ledger.entries_done,
            files=[
                file_result(file, ledger.files[lfn], self.effort.file_wall_s.get(lfn, 0.0))
                for lfn, file in self.files.items()
            ],
            read_bytes=ledger.read_bytes,
            wall_s=time.monotonic() - self.begun,
            workers=self.crew.seen - self.crew.lost,
            packets=self.packet_count,
            workers_lost=self.crew.lost,
            entries_by_worker=self.crew.entries_by_worker(),
            efforts=list(self.effort.workers.values()),
            drained=[(worker, failure.message) for worker, failure in self.packetizer.drained.items()],
            entries_resumed=self.entries_resumed,
            too_big=self.too_big,
            checkpoint=kept,
            **self._left_out(),
        )
