"""Who processes what, next: a pull scheduler over ranges of entries.

The adaptive packetizer of seed 002 §4.1.4: workers ask for data when they have none, a packet is a
range of entries of one file, nothing is assigned twice, and sizes follow the rate measured for each
worker so that all of them finish together. Files may arrive while it runs, workers may come and go.

Pure: it neither reads nor waits. What it guarantees, whatever happens in whatever order: each entry of
each file is counted as done exactly once, or listed once among the failed ranges with its reason.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from vse.analysis.ledger import FailedRange, Failure, FileAccount, Ledger

FIRST_ENTRIES = 1_000
"""The size of a packet for a worker whose rate nobody can guess."""
MAX_GROWTH = 10
"""A packet is at most so many times larger than the largest one that worked."""
MAX_PACKET_BYTES = 256 * 1024 * 1024
"""A packet covers at most so much of its file, which bounds the memory of a worker."""
MAX_LOSSES = 3
"""A packet that took so many workers with it is put aside."""
MAX_TROUBLES = 2
"""A file that could not be read so often is put aside."""


@dataclass(frozen=True, slots=True)
class Packet:
    """Entries ``[start, stop)`` of a file, to be processed once.

    ``tell``: the entries of the file are not known; whoever opens it tells them, and processes what
    there is of the range. ``family`` is the number of the packet that this one was cut from.
    """

    number: int
    lfn: str
    start: int
    stop: int
    family: int
    tell: bool = False
    losses: int = 0
    troubles: int = 0
    avoid: str = ""

    @property
    def entries(self) -> int:
        return self.stop - self.start

    @property
    def alone(self) -> bool:
        """Whether it is under suspicion to kill workers: it then gets one for itself."""
        return self.losses >= MAX_LOSSES - 1


class PacketStats(NamedTuple):
    """What a worker measured. ``file_entries``: all of the file; ``overhead_s``: part of ``wall_s``."""

    file_entries: int
    wall_s: float
    overhead_s: float = 0.0
    read_bytes: int = 0


@dataclass(slots=True)
class _Worker:
    rate: float | None = None
    overhead_s: float = 0.0
    lfn: str = ""
    outstanding: dict[int, Packet] = field(default_factory=dict)
    entries_done: int = 0


@dataclass(slots=True)
class _Family:
    """A packet in which the user's code raised, and all that was cut from it."""

    failures: int = 0
    successes: int = 0
    listed: int = 0


class Packetizer:
    """The state of one analysis. Every method is an event; `next_packets` is the only question.

    ``target_s``: how long a packet should take. ``max_failed``: how many failures of the user's code
    are followed up before the rest of a packet, a file, or (`hopeless`) everything is given up.
    ``fixed_entries`` switches adaptive sizes off.
    """

    def __init__(self, target_s: float = 1.0, max_failed: int = 10, fixed_entries: int | None = None) -> None:
        self.target_s = target_s
        self.max_failed = max_failed
        self.fixed_entries = fixed_entries
        self.ledger = Ledger()
        self._fresh: deque[str] = deque()
        self._started: dict[str, FileAccount] = {}
        self._again: deque[Packet] = deque()
        self._workers: dict[str, _Worker] = {}
        self._owner: dict[int, str] = {}
        self._families: dict[int, _Family] = {}
        self._closed = False
        self._numbers = 0
        self._largest = FIRST_ENTRIES
        self._failures = 0
        self._successes = 0
        self.hopeless: Failure | None = None
        """Set once the user's code failed everywhere it was tried: there is no point in going on."""

    # What happens to files and workers

    def add_file(self, lfn: str, entries: int | None = None, size_bytes: int = 0) -> None:
        """Take a file in. A name that is known already changes nothing."""
        if lfn in self.ledger.files:
            return
        self.ledger.add(FileAccount(lfn, entries, size_bytes))
        if entries != 0:
            self._fresh.append(lfn)

    def no_more_files(self) -> None:
        self._closed = True

    def add_worker(self, worker: str) -> None:
        self._workers.setdefault(worker, _Worker())

    def worker_lost(self, worker: str) -> None:
        """Take back what ``worker`` had; the next ones to ask get it."""
        state = self._workers.pop(worker, None)
        for packet in reversed(list(state.outstanding.values()) if state else []):
            del self._owner[packet.number]
            lost = replace(packet, losses=packet.losses + 1)
            if lost.losses < MAX_LOSSES:
                self._do_again(lost, urgent=True)
            else:
                self._put_aside(lost, Failure(f"{lost.losses} workers died while they processed it"))

    @property
    def workers(self) -> list[str]:
        return list(self._workers)

    @property
    def outstanding(self) -> int:
        """How many packets are with workers."""
        return len(self._owner)

    def entries_done_by(self) -> dict[str, int]:
        """Entries processed by each worker that is here."""
        return {worker: state.entries_done for worker, state in self._workers.items()}

    def rate(self) -> float:
        """Entries a second, all workers together, as measured."""
        return sum(state.rate or 0.0 for state in self._workers.values())

    @property
    def finished(self) -> bool:
        """Whether every entry of every file is accounted for, and no file will come."""
        return self._closed and not (self._fresh or self._started or self._again or self._owner)

    # The question

    def next_packets(self, worker: str) -> list[Packet]:
        """Assign the next piece of work: packets that together take about the target time.

        An empty list says that there is nothing to do for this worker now.
        """
        state = self._workers.get(worker)
        if state is None or any(packet.alone for packet in state.outstanding.values()):
            return []
        budget = self._budget(state)
        packets: list[Packet] = []
        while budget >= 1:
            packet = self._next_packet(worker, state, budget)
            if packet is None:
                break
            packets.append(packet)
            state.outstanding[packet.number] = packet
            self._owner[packet.number] = worker
            budget -= packet.entries
            if packet.alone or packet.losses or state.rate is None or self.fixed_entries:
                break
            if budget < packet.entries / 2:
                break
        return packets

    def _next_packet(self, worker: str, state: _Worker, budget: int) -> Packet | None:
        for index, packet in enumerate(self._again):
            avoided = packet.avoid == worker and len(self._workers) > 1
            if not avoided and not (packet.alone and state.outstanding):
                del self._again[index]
                return packet
        account = self._choose_file(state)
        return None if account is None else self._cut(account, budget)

    def _choose_file(self, state: _Worker) -> FileAccount | None:
        """The worker's own file, a fresh one, or the one with most left to do."""
        own = self._started.get(state.lfn)
        if own is not None and own.entries is not None:
            return own
        if self._fresh:
            state.lfn = self._fresh.popleft()
            self._started[state.lfn] = self.ledger.files[state.lfn]
            return self._started[state.lfn]
        told = (account for account in self._started.values() if account.entries is not None)
        chosen = max(told, key=lambda account: account.uncut, default=None)
        state.lfn = chosen.lfn if chosen is not None else ""
        return chosen

    def _cut(self, account: FileAccount, budget: int) -> Packet:
        entries = min(budget, account.cap(MAX_PACKET_BYTES))
        start = account.cursor
        if account.entries is None:
            return self._packet(account.lfn, start, start + entries, tell=True)
        whole = account.uncut <= (entries if self.fixed_entries else entries * 3 // 2)
        self.ledger.cut(account, account.entries if whole else start + entries)
        self._forget_if_cut(account)
        return self._packet(account.lfn, start, account.cursor)

    def _packet(self, lfn: str, start: int, stop: int, family: int = 0, tell: bool = False) -> Packet:
        self._numbers += 1
        return Packet(self._numbers, lfn, start, stop, family or self._numbers, tell)

    def _budget(self, state: _Worker) -> int:
        """How many entries ``state`` should take now."""
        if self.fixed_entries:
            return self.fixed_entries
        rate = state.rate
        if rate is None:
            rates = [other.rate for other in self._workers.values() if other.rate is not None]
            if not rates:
                return FIRST_ENTRIES
            rate = statistics.median(rates)
        seconds = max(self.target_s, 10 * state.overhead_s)
        if self._closed:
            left_s = self.ledger.entries_uncut() / max(self.rate(), rate)
            seconds = min(seconds, max(left_s / 2, self.target_s / 10))
        return max(1, int(min(rate * seconds, max(self._largest, state.entries_done) * MAX_GROWTH)))

    # What comes back

    def done(self, packet: Packet, stats: PacketStats) -> bool:
        """Count ``packet`` as processed. False where it is not wanted: its result must be dropped."""
        worker = self._take_back(packet)
        if worker is None:
            return False
        entries = self._learn_entries(packet, stats.file_entries).entries
        self.ledger.done(self.ledger.files[packet.lfn], entries, stats.read_bytes)
        self._successes += 1
        if packet.family in self._families:
            self._families[packet.family].successes += 1
        self._largest = max(self._largest, entries)
        self._measure(worker, entries, stats)
        return True

    def failed(self, packet: Packet, failure: Failure, file_entries: int) -> bool:
        """The user's code raised within ``packet``: halve it, down to the entries it cannot take."""
        if self._take_back(packet) is None:
            return False
        actual = self._learn_entries(packet, file_entries)
        account = self.ledger.files[packet.lfn]
        family = self._families.setdefault(packet.family, _Family())
        account.failures += 1
        family.failures += 1
        self._failures += 1
        if actual.entries > 1 and self._worth_halving(family):
            middle = (actual.start + actual.stop) // 2
            for start, stop in ((actual.start, middle), (middle, actual.stop)):
                self._do_again(self._packet(packet.lfn, start, stop, packet.family))
        else:
            family.listed += 1
            self._list_failed(actual, failure)
        if account.failures >= self.max_failed and not account.successes:
            self._put_aside_file(account, failure)
        self._judge(failure)
        return True

    def _worth_halving(self, family: _Family) -> bool:
        hopeless = family.failures >= self.max_failed and not family.successes
        return not hopeless and family.listed < self.max_failed and len(self._families) <= self.max_failed

    def unreadable(self, packet: Packet, failure: Failure) -> bool:
        """The file could not be read: once more by another worker, then it is put aside."""
        worker = self._take_back(packet)
        if worker is None:
            return False
        again = replace(packet, troubles=packet.troubles + 1, avoid=worker)
        if again.troubles < MAX_TROUBLES:
            self._do_again(again)
        else:
            self._put_aside(again, failure)
            self.ledger.broken.setdefault(packet.lfn, failure)
            self._put_aside_file(self.ledger.files[packet.lfn], failure)
        return True

    def untried(self, packet: Packet) -> None:
        """A worker gave ``packet`` back as it was."""
        if self._take_back(packet) is not None:
            self._do_again(packet, urgent=True)

    def _take_back(self, packet: Packet) -> str | None:
        worker = self._owner.pop(packet.number, None)
        if worker is not None:
            del self._workers[worker].outstanding[packet.number]
        return worker

    def _learn_entries(self, packet: Packet, file_entries: int) -> Packet:
        """Return ``packet`` as it really was; one that told the entries opens the file to all."""
        if not packet.tell:
            return packet
        account = self.ledger.files[packet.lfn]
        actual = replace(packet, stop=min(packet.stop, file_entries), tell=False)
        self.ledger.tell(account, file_entries)
        self.ledger.cut(account, actual.stop)
        self._forget_if_cut(account)
        return actual

    def _forget_if_cut(self, account: FileAccount) -> None:
        if account.uncut == 0:
            self._started.pop(account.lfn, None)

    def _measure(self, worker: str, entries: int, stats: PacketStats) -> None:
        state = self._workers[worker]
        state.entries_done += entries
        if entries and stats.wall_s > 0:
            rate = entries / max(stats.wall_s - stats.overhead_s, stats.wall_s / 10)
            state.rate = rate if state.rate is None else (state.rate + rate) / 2
            state.overhead_s = stats.overhead_s

    # Giving up

    def _do_again(self, packet: Packet, urgent: bool = False) -> None:
        """Halves queue up behind each other, so that a good one is met soon."""
        put_aside = self.ledger.files[packet.lfn].put_aside
        if put_aside:
            self._list_failed(packet, put_aside)
        elif urgent:
            self._again.appendleft(packet)
        else:
            self._again.append(packet)

    def _put_aside(self, packet: Packet, failure: Failure) -> None:
        """List ``packet`` as failed; where it was to tell the entries, the file goes with it."""
        account = self.ledger.files[packet.lfn]
        if not packet.tell:
            self._list_failed(packet, failure)
            return
        self._started.pop(packet.lfn, None)
        self.ledger.write_off(account)
        self.ledger.broken[packet.lfn] = failure
        account.put_aside = failure

    def _put_aside_file(self, account: FileAccount, failure: Failure) -> None:
        """List what is left of a file as failed. What workers have of it still counts when it comes."""
        if account.put_aside:
            return
        account.put_aside = failure
        if account.uncut:
            rest = self._packet(account.lfn, account.cursor, account.cursor + account.uncut)
            self.ledger.cut(account, rest.stop)
            self._list_failed(rest, failure)
        self._started.pop(account.lfn, None)
        waiting, self._again = self._again, deque()
        for packet in waiting:
            self._do_again(packet)

    def _list_failed(self, packet: Packet, failure: Failure) -> None:
        self.ledger.list_failed(FailedRange(packet.lfn, packet.start, packet.stop, failure))

    def _judge(self, failure: Failure) -> None:
        """Decide whether the script fails everywhere: in two files, or in all there are."""
        if self._successes or self._failures < self.max_failed:
            return
        failing = sum(1 for account in self.ledger.files.values() if account.failures)
        if failing >= 2 or (self._closed and not self._fresh):
            self.hopeless = failure
