"""The runner of an analysis: a `Packetizer` on one side, a Dask cluster on the other.

Each worker has two tasks at a time, so that it never waits for the next one; a task is a few packets,
its answer is merged here exactly once. Files may arrive while it runs (`Feed`), workers may come and go.
"""

from __future__ import annotations

import asyncio
import pickle
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from vse.analysis.ledger import Failure
from vse.analysis.merging import Unmergeable, merge
from vse.analysis.packetizer import Packet, Packetizer
from vse.analysis.result import AnalysisResult, FileResult, Progress
from vse.analysis.script import Script, describe
from vse.analysis.worker import Order, TaskAnswer, run_task
from vse.errors import BadScript, NothingToAnalyse, ResultIncomplete, ScriptFailed, VseError, WorkersLost
from vse.transfer.ctrl_c import CtrlC

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to analyse.

    ``url``: a local path, or a URL that uproot can open. ``tree`` empty: the file's default tree.
    ``entries`` None: not known, the first worker that opens it tells. ``source`` says where it was
    read from (a storage element), for the report.
    """

    lfn: str
    url: str
    tree: str = ""
    entries: int | None = None
    size_bytes: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """``packet_entries`` fixes the size of packets; ``no_workers_s``: how long to wait without any."""

    dataset: str = ""
    packet_target_s: float = 1.0
    max_failed_packets: int = 10
    packet_entries: int | None = None
    strict: bool = False
    tasks_per_worker: int = 2
    no_workers_s: float = 60.0
    progress_every_s: float = 0.2


class Feed:
    """Files on their way into an analysis. Safe to use from any thread, before and while it runs.

    Whoever fills it must `close` it at the end, also after an error: the analysis waits for that.
    """

    def __init__(self, files: Iterable[InputFile] = (), *, closed: bool = False) -> None:
        self._lock = threading.Lock()
        self._sink: Callable[[_Event], None] | None = None
        self._waiting: list[_Event] = []
        for file in files:
            self.put(file)
        if closed:
            self.close()

    def put(self, file: InputFile) -> None:
        """Add a file that can be read now."""
        self._send(_Event("file", file))

    def fail(self, lfn: str, error: VseError | str) -> None:
        """Tell that a file will not come, and why."""
        self._send(_Event("missing", (lfn, str(error))))

    def close(self) -> None:
        """No more files."""
        self._send(_Event("closed"))

    def _send(self, event: _Event) -> None:
        with self._lock:
            if self._sink is None:
                self._waiting.append(event)
            else:
                self._sink(event)

    def _connect(self, sink: Callable[[_Event], None]) -> None:
        with self._lock:
            self._sink = sink
            for event in self._waiting:
                sink(event)
            self._waiting = []


class _Event(NamedTuple):
    kind: str
    value: Any = None
    task: int = 0


class _Task(NamedTuple):
    worker: str
    packets: list[Packet]
    future: Any


def analyse(
    script: Script, feed: Feed, client: Any, options: AnalysisOptions, on_progress: OnProgress | None = None
) -> AnalysisResult:
    """Run ``script`` over the files of ``feed`` on the workers of ``client`` (a `distributed.Client`).

    Broken files, missing files and entries on which the script raised are listed in the result, not
    raised. Raises `ScriptFailed` where the script fails everywhere (the user's traceback is a note of
    the error), `WorkersLost`, `NothingToAnalyse`, and with ``strict`` `ResultIncomplete`.
    """
    run = _Run(script, feed, client, options, on_progress)
    try:
        return run.run()
    finally:
        run.stop()


class _Run:
    def __init__(
        self,
        script: Script,
        feed: Feed,
        client: Any,
        options: AnalysisOptions,
        on_progress: OnProgress | None,
    ) -> None:
        self.script = script
        self.client = client
        self.options = options
        self.on_progress = on_progress
        self.packetizer = Packetizer(
            options.packet_target_s, options.max_failed_packets, options.packet_entries
        )
        self.files: dict[str, InputFile] = {}
        self.missing: dict[str, str] = {}
        self.output: Any = None
        self.tasks: dict[int, _Task] = {}
        self.busy: dict[str, int] = {}
        self.shares: dict[str, int] = {}
        self.task_count = 0
        self.packet_count = 0
        self.workers_seen = 0
        self.workers_lost = 0
        self.name = f"vse-{uuid.uuid4().hex[:12]}"
        self.events: queue.Queue[_Event] = queue.Queue()
        self.closed = False
        self.begun = time.monotonic()
        self.worker_seen_at = self.begun
        self.told_at = 0.0
        self.history: deque[tuple[float, int]] = deque(maxlen=50)
        feed._connect(self.events.put)

    # The loop

    def run(self) -> AnalysisResult:
        self._watch_workers()
        with CtrlC() as ctrl_c:
            while not (self.packetizer.finished or ctrl_c.pressed):
                self._take_events()
                self._check()
                self._hand_out()
                self._tell_progress()
        if not self.files and not self.missing:
            found = "there is no file in it"
            raise NothingToAnalyse(f"analyse {self.options.dataset or 'the dataset'}", found)
        self._tell_progress(last=True)
        return self._result()

    def stop(self) -> None:
        """Cancel what is still with workers; leaves the client as it was."""
        with suppress(Exception):
            self.client.unsubscribe_topic("all")
        futures = [task.future for task in self.tasks.values()]
        self.tasks = {}
        if futures:
            with suppress(Exception):
                self.client.cancel(futures)

    def _take_events(self) -> None:
        try:
            event: _Event | None = self.events.get(timeout=self.options.progress_every_s)
        except queue.Empty:
            return
        while event is not None:
            getattr(self, f"_on_{event.kind}")(event)
            try:
                event = self.events.get_nowait()
            except queue.Empty:
                event = None

    def _check(self) -> None:
        hopeless = self.packetizer.hopeless
        if hopeless is not None:
            raise self._script_failed(hopeless)
        now = time.monotonic()
        if self.packetizer.workers:
            self.worker_seen_at = now
        elif now - self.worker_seen_at > self.options.no_workers_s:
            found = f"no worker has been there for {self.options.no_workers_s:.0f} s"
            raise WorkersLost(f"run {self.script.name}", found, "start workers and try again")
        ledger = self.packetizer.ledger
        if self.options.strict and (self.missing or ledger.broken or ledger.entries_failed):
            raise self._incomplete()

    def _script_failed(self, failure: Failure) -> ScriptFailed:
        todo = "correct the script; nothing of the result is kept"
        error = ScriptFailed(f"run {self.script.name}", failure.message, todo)
        error.add_note(failure.traceback)
        return error

    def _incomplete(self) -> ResultIncomplete:
        wanted = "give a complete result, as --strict asks"
        todo = "leave --strict out to get the result without it"
        ledger = self.packetizer.ledger
        reasons = [f"{lfn} is missing: {reason}" for lfn, reason in self.missing.items()]
        reasons += [f"{lfn}: {failure.message}" for lfn, failure in ledger.broken.items()]
        reasons += [
            f"{item.lfn}, entries {item.start} to {item.stop - 1}: {item.failure.message}"
            for item in ledger.failed_ranges()
        ]
        return ResultIncomplete(wanted, reasons[0], todo)

    # Files

    def _on_file(self, event: _Event) -> None:
        file: InputFile = event.value
        if file.lfn in self.files:
            return
        self.files[file.lfn] = file
        self.packetizer.add_file(file.lfn, self._entries(file), file.size_bytes)

    def _entries(self, file: InputFile) -> int | None:
        """What is known of a file's entries holds for its own tree only."""
        other_tree = self.script.tree and self.script.tree != file.tree
        return None if other_tree else file.entries

    def _on_missing(self, event: _Event) -> None:
        lfn, reason = event.value
        self.missing[lfn] = reason

    def _on_closed(self, event: _Event) -> None:
        self.closed = True
        self.packetizer.no_more_files()

    # Workers

    def _watch_workers(self) -> None:
        self.client.subscribe_topic("all", self._hear)
        for worker in self.client.scheduler_info(n_workers=-1)["workers"]:
            self.events.put(_Event("joined", worker))

    def _hear(self, event: tuple[float, Any]) -> None:
        """Called by the client's own thread with the news of the scheduler."""
        message = event[1]
        kind = {"add-worker": "joined", "remove-worker": "left"}.get(message.get("action", ""))
        if kind is not None:
            self.events.put(_Event(kind, message["worker"]))

    def _on_joined(self, event: _Event) -> None:
        if event.value not in self.busy:
            self.busy[event.value] = 0
            self.workers_seen += 1
            self.packetizer.add_worker(event.value)

    def _on_left(self, event: _Event) -> None:
        worker = event.value
        if self.busy.pop(worker, None) is None:
            return
        self.workers_lost += 1
        lost = [number for number, task in self.tasks.items() if task.worker == worker]
        futures = [self.tasks.pop(number).future for number in lost]
        self.shares |= {worker: self.packetizer.entries_done_by()[worker]}
        self.packetizer.worker_lost(worker)
        if futures:
            self.client.cancel(futures)

    # Tasks

    def _hand_out(self) -> None:
        for depth in range(self.options.tasks_per_worker):
            for worker, tasks in list(self.busy.items()):
                if tasks == depth:
                    packets = self.packetizer.next_packets(worker)
                    if packets:
                        self._submit(worker, packets)

    def _submit(self, worker: str, packets: list[Packet]) -> None:
        self.task_count += 1
        number = self.task_count
        orders = [self._order(packet) for packet in packets]
        payload = pickle.dumps((self.script.source, orders, self.options.dataset), protocol=5)
        future = self.client.submit(
            run_task,
            payload,
            key=f"{self.name}-{number}",
            workers=[worker],
            allow_other_workers=False,
            pure=False,
            priority=-number,
        )
        self.tasks[number] = _Task(worker, packets, future)
        self.busy[worker] += 1
        asyncio.run_coroutine_threadsafe(self._follow(number, future), self.client.loop.asyncio_loop)

    def _order(self, packet: Packet) -> Order:
        file = self.files[packet.lfn]
        entries = None if packet.tell else self.packetizer.ledger.files[packet.lfn].entries
        return Order(packet, file.url, self.script.tree or file.tree, entries)

    async def _follow(self, number: int, future: Any) -> None:
        """Bring the answer of a task into the loop; of a cancelled one, nobody will want it."""
        try:
            answer = await future
        except Exception as error:
            self.events.put(_Event("crashed", error, number))
        else:
            self.events.put(_Event("answered", answer, number))

    def _take_back(self, number: int) -> _Task | None:
        task = self.tasks.pop(number, None)
        if task is not None:
            self.busy[task.worker] -= 1
            self.client.loop.add_callback(task.future.release)
        return task

    def _on_answered(self, event: _Event) -> None:
        task = self._take_back(event.task)
        if task is None:
            return
        reply: TaskAnswer = event.value
        for answer in reply.answers:
            packet, stats = answer.packet, answer.stats
            if answer.outcome == "done":
                self.packetizer.done(packet, stats)
            elif answer.outcome == "failed" and answer.failure:
                self.packetizer.failed(packet, answer.failure, stats.file_entries)
            elif answer.failure:
                self.packetizer.unreadable(packet, answer.failure)
        self.packet_count += len(reply.answers)
        for packet in task.packets[len(reply.answers) :]:
            self.packetizer.untried(packet)
        if reply.output is not None:
            self._merge(reply.output)

    def _merge(self, pickled: bytes) -> None:
        try:
            self.output = merge(self.output, pickle.loads(pickled))  # noqa: S301 - our own worker wrote it
        except Unmergeable as error:
            raise self._script_failed(describe(error, self.script.source)) from error

    def _on_crashed(self, event: _Event) -> None:
        """The task ended outside of the user's code."""
        if event.task not in self.tasks:
            return
        error: Exception = event.value
        if isinstance(error, BadScript):
            raise error
        task = self._take_back(event.task)
        for packet in task.packets if task else ():
            self.packetizer.unreadable(packet, describe(error, self.script.source))

    # News and result

    def _tell_progress(self, last: bool = False) -> None:
        now = time.monotonic()
        if self.on_progress is None or (not last and now - self.told_at < self.options.progress_every_s):
            return
        self.told_at = now
        ledger = self.packetizer.ledger
        self.history.append((now, ledger.entries_done))
        since, before = self.history[0] if len(self.history) > 1 and not last else (self.begun, 0)
        rate = (ledger.entries_done - before) / max(now - since, 1e-3)
        left = ledger.entries_expected() - ledger.entries_done - ledger.entries_failed
        self.on_progress(
            Progress(
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
            )
        )

    def _result(self) -> AnalysisResult:
        ledger = self.packetizer.ledger
        try:
            output = self.script.finish(self.output)
        except Exception as error:
            raise self._script_failed(describe(error, self.script.source)) from error
        return AnalysisResult(
            script=self.script.source.path,
            dataset=self.options.dataset,
            output=output,
            entries_processed=ledger.entries_done,
            files=[self._file_result(file) for file in self.files.values()],
            failed=ledger.failed_ranges(),
            broken=[(lfn, failure.message) for lfn, failure in ledger.broken.items()],
            missing=list(self.missing.items()),
            read_bytes=ledger.read_bytes,
            wall_s=time.monotonic() - self.begun,
            workers=self.workers_seen - self.workers_lost,
            packets=self.packet_count,
            workers_lost=self.workers_lost,
            entries_by_worker=self.shares | self.packetizer.entries_done_by(),
        )

    def _file_result(self, file: InputFile) -> FileResult:
        account = self.packetizer.ledger.files[file.lfn]
        return FileResult(
            file.lfn,
            file.url,
            file.source,
            file.size_bytes,
            account.entries,
            account.entries_done,
            account.entries_failed,
            account.read_bytes,
        )
