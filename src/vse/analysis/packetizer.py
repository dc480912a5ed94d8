"""Who processes what, next: a pull scheduler over ranges of entries.

The adaptive packetizer of seed 002 §4.1.4: workers ask for data when they have none, a packet is a
range of entries of one file, nothing is assigned twice, and sizes follow the rate measured for each
worker so that all of them finish together. Files may arrive while it runs, workers may come and go.

Pure: it neither reads nor waits. What it guarantees, whatever happens in whatever order: each entry of
each file is counted as done exactly once, or listed once among the failed ranges with its reason.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vse.analysis.followups import Followups
from vse.analysis.ledger import FailedRange, Failure, FileAccount, Ledger
from vse.analysis.locality import ANYWHERE, UNLIMITED, Place, Shelves, Sources
from vse.analysis.packets import MAX_LOSSES, Packet, PacketStats, WorkerState
from vse.analysis.rates import Rates

__all__ = ["MAX_LOSSES", "Packet", "PacketStats", "Packetizer"]

FIRST_ENTRIES = 1_000
"""The size of a packet for a worker whose rate nobody can guess."""
MAX_GROWTH = 10
"""A packet is at most so many times larger than the largest one that worked."""
MAX_PACKET_BYTES = 256 * 1024 * 1024
"""A packet covers at most so much of its file, which bounds the memory of a worker."""
MAX_KILLS = 40
"""So many workers may die of one packet and its halves before all of it is put aside."""
MAX_FAULTS = 5
"""A worker that failed so often without any success, while others had some, gets nothing more."""
MAX_TROUBLES = 2
"""A file that could not be read so often is put aside."""


class Packetizer:
    """The state of one analysis. Every method is an event; `next_packets` is the only question.

    ``target_s``: how long a packet should take. ``max_failed``: after so many failures of the user's code
    without a success the rest of a packet, a file, or (`hopeless`) everything is given up; see `Followups`.
    ``fixed_entries`` switches adaptive sizes off. ``readers_a_host`` limits how many packets are read from
    one storage host at a time; 0 is no limit.
    """

    def __init__(
        self,
        target_s: float = 1.0,
        max_failed: int = 20,
        fixed_entries: int | None = None,
        readers_a_host: int = UNLIMITED,
    ) -> None:
        self.target_s = target_s
        self.max_failed = max_failed
        self.fixed_entries = fixed_entries
        self.ledger = Ledger()
        self._fresh = Shelves()
        self._sources = Sources(readers_a_host)
        self._rates = Rates()
        self._places: dict[str, Sequence[Place]] = {}
        self._clusters: dict[str, tuple[int, ...]] = {}
        self.drained: dict[str, Failure] = {}
        """Workers that failed everything they were given, each with its last failure."""
        self._started: dict[str, FileAccount] = {}
        self._again: deque[Packet] = deque()
        self._newest_first = False
        self._workers: dict[str, WorkerState] = {}
        self._owner: dict[int, str] = {}
        self._followups = Followups(max_failed)
        self._closed = False
        self._numbers = 0
        self._largest = FIRST_ENTRIES
        self._failures = 0
        self._successes = 0
        self.hopeless: Failure | None = None
        """Set once the user's code failed everywhere it was tried: there is no point in going on."""

    # What happens to files and workers

    def add_file(
        self,
        lfn: str,
        entries: int | None = None,
        size_bytes: int = 0,
        places: Sequence[Place] = ANYWHERE,
        done: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Take a file in, with its copies. A name that is known already changes nothing.

        ``done``: ranges that an earlier run has in its result, in order; ``entries`` must be known then.
        """
        if lfn in self.ledger.files:
            return
        account = FileAccount(lfn, entries, size_bytes)
        self.ledger.add(account)
        if places is not ANYWHERE:
            self._places[lfn] = places
        for start, stop in done:
            if account.cursor < start:
                self._again.append(self._packet(lfn, account.cursor, start))
            self.ledger.cut(account, stop)
            self.ledger.done(account, stop - start, 0)
        if entries is None or account.uncut:
            self._fresh.add(lfn, places)

    def no_more_files(self) -> None:
        self._closed = True

    def add_worker(self, worker: str, host: str = "", site: str = "") -> None:
        """A worker is there, at ``host`` of ``site`` (for locality; empty where that is not known)."""
        self._workers.setdefault(worker, WorkerState(host, site))

    def worker_lost(self, worker: str, culprits: Mapping[int, Failure] | None = None) -> None:
        """Take back what ``worker`` had, as it died or hangs; the next ones to ask get it.

        ``culprits``: the packets that are to blame, by number, each with what is known of it; None: any of
        those it had may be.
        """
        state = self._workers.pop(worker, None)
        self._rates.forget(worker)
        self.drained.pop(worker, None)
        for packet in reversed(list(state.outstanding.values()) if state else []):
            del self._owner[packet.number]
            self._sources.end(packet.place)
            blamed = culprits is None or packet.number in culprits
            lost = replace(packet, losses=packet.losses + blamed)
            if lost.losses < MAX_LOSSES:
                self._do_again(lost, urgent=True)
            else:
                self._blame(lost, (culprits or {}).get(packet.number))

    def _blame(self, packet: Packet, known: Failure | None) -> None:
        """Workers died of this packet: find the entries that kill, at the price of a worker a step."""
        family = self._followups.of(packet.family)
        family.kills += packet.losses if packet.family == packet.number else 1
        failure = known or Failure(f"{family.kills} workers died while they processed it")
        if (
            packet.tell
            or packet.entries <= 1
            or family.kills >= MAX_KILLS
            or family.listed >= self.max_failed
        ):
            family.listed += 1
            self._put_aside(packet, failure)
            return
        middle = (packet.start + packet.stop) // 2
        for start, stop in ((middle, packet.stop), (packet.start, middle)):
            half = self._packet(packet.lfn, start, stop, packet.family)
            self._do_again(replace(half, losses=MAX_LOSSES - 1), urgent=True)

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
        return self._rates.total

    def expected_s(self, worker: str, packet: Packet) -> float | None:
        """How long ``worker`` should take for a packet; None while no worker was measured."""
        rates = [one for one in (self._rates.get(worker), self._rates.typical) if one]
        entries = self.ledger.typical_entries(packet.entries) if packet.tell else packet.entries
        return entries / min(rates) if rates else None

    @property
    def has_work(self) -> bool:
        """Whether there may be a packet for whoever asks now; False: nobody needs to ask."""
        return bool(self._fresh or self._again or self._started)

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
        if state is None or worker in self.drained:
            return []
        if any(packet.alone for packet in state.outstanding.values()):
            return []
        rate = self._rates.get(worker)
        budget = self._budget(state, rate)
        packets: list[Packet] = []
        while budget >= 1:
            packet = self._next_packet(worker, state, budget)
            if packet is None:
                break
            packet = replace(packet, place=self._place(packet.lfn, state))
            packets.append(packet)
            state.outstanding[packet.number] = packet
            self._owner[packet.number] = worker
            self._sources.begin(packet.place)
            expected = self.ledger.typical_entries(packet.entries) if packet.tell else packet.entries
            budget -= expected
            if packet.alone or packet.losses or rate is None or self.fixed_entries:
                break
            if budget < expected / 2:
                break
        return packets

    def _place(self, lfn: str, state: WorkerState) -> Place:
        return self._sources.rank(self._places.get(lfn, ANYWHERE), state.host, state.site)[0]

    def _next_packet(self, worker: str, state: WorkerState, budget: int) -> Packet | None:
        self._newest_first = not self._newest_first
        order = range(len(self._again))
        for index in reversed(order) if self._newest_first else order:
            packet = self._again[index]
            avoided = packet.avoid == worker and self._others(worker)
            if not avoided and not (packet.alone and state.outstanding):
                del self._again[index]
                return packet
        account = self._choose_file(state)
        return None if account is None else self._cut(account, budget)

    def _choose_file(self, state: WorkerState) -> FileAccount | None:
        """The worker's own file, a fresh one, or the one with most left to do."""
        own = self._started.get(state.lfn)
        if own is not None and own.entries is not None:
            return own
        fresh = self._fresh.take(state.host, state.site, self._sources.full)
        if fresh is not None:
            state.lfn = fresh
            self._started[fresh] = self.ledger.files[fresh]
            return self._started[fresh]
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
        stop = account.entries if whole else self._at_cluster(account, start + entries)
        self.ledger.cut(account, stop)
        self._forget_if_cut(account)
        return self._packet(account.lfn, start, account.cursor)

    def _at_cluster(self, account: FileAccount, stop: int) -> int:
        """Return the cluster boundary nearest to ``stop``, where the packet stays near its size.

        A packet that ends within a cluster makes two workers decompress all of it.
        """
        clusters = self._clusters.get(account.lfn)
        if not clusters or self.fixed_entries:
            return stop
        index = bisect_left(clusters, stop)
        near = [one for one in clusters[max(0, index - 1) : index + 1] if one > account.cursor]
        best = min(near, key=lambda one: abs(one - stop), default=stop)
        return best if best - account.cursor <= 2 * (stop - account.cursor) else stop

    def _packet(self, lfn: str, start: int, stop: int, family: int = 0, tell: bool = False) -> Packet:
        self._numbers += 1
        return Packet(self._numbers, lfn, start, stop, family or self._numbers, tell)

    def _budget(self, state: WorkerState, rate: float | None) -> int:
        """How many entries ``state`` should take now."""
        if self.fixed_entries:
            return self.fixed_entries
        if rate is None:
            rate = self._rates.typical
            if rate is None:
                return FIRST_ENTRIES
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
        if stats.clusters:
            self._learn_clusters(packet.lfn, stats.clusters)
        entries = self._learn_entries(packet, stats.file_entries).entries
        self.ledger.done(self.ledger.files[packet.lfn], entries, stats.read_bytes)
        self._successes += 1
        self._followups.succeeded(packet.family)
        self._largest = max(self._largest, entries)
        self._measure(worker, packet, entries, stats)
        return True

    def failed(self, packet: Packet, failure: Failure, file_entries: int) -> bool:
        """The user's code raised within ``packet``: halve it, down to the entries it cannot take.

        Once more elsewhere before that, where somebody else can: the worker may be to blame.
        """
        worker = self._take_back(packet)
        if worker is None:
            return False
        actual = self._learn_entries(packet, file_entries)
        self._note_fault(worker, packet, failure)
        if not packet.troubles and packet.family == packet.number and self._others(worker):
            self._do_again(replace(actual, troubles=1, avoid=worker))
            return True
        account = self.ledger.files[packet.lfn]
        account.failures += 1
        self._failures += 1
        to_halve = self._followups.failed(packet.family, self.ledger.entries_done)
        if actual.entries > 1 and to_halve:
            middle = (actual.start + actual.stop) // 2
            for start, stop in ((actual.start, middle), (middle, actual.stop)):
                self._do_again(self._packet(packet.lfn, start, stop, packet.family))
        else:
            self._list_failed(actual, self._followups.unsought(failure) if actual.entries > 1 else failure)
        if account.failures >= self.max_failed and not account.successes:
            self._put_aside_file(account, self._followups.untried(failure))
        self._judge(failure)
        return True

    def unreadable(self, packet: Packet, failure: Failure) -> bool:
        """The file could not be read: once more by another worker, then it is put aside."""
        worker = self._take_back(packet)
        if worker is None:
            return False
        self._note_fault(worker, packet, failure)
        again = replace(packet, troubles=packet.troubles + 1, avoid=worker)
        if again.troubles < MAX_TROUBLES:
            self._do_again(again)
        else:
            self._put_aside(again, failure)
            self.ledger.broken.setdefault(packet.lfn, failure)
            self._put_aside_file(self.ledger.files[packet.lfn], failure)
        return True

    def undone(self, packet: Packet) -> None:
        """What a packet gave is lost with the worker that held it: process it again.

        Only for a packet that `done` has counted, and once for each time.
        """
        account = self.ledger.files[packet.lfn]
        known = packet.stop if account.entries is None else account.entries
        again = self._packet(packet.lfn, packet.start, min(packet.stop, known))
        if again.entries:
            self.ledger.undo(account, again.entries)
            self._do_again(again, urgent=True)

    def give_up(self, failure: Failure) -> None:
        """List all that is with no worker as failed; what comes back undone later, too."""
        self._closed = True
        held = [one for state in self._workers.values() for one in state.outstanding.values()]
        telling = {packet.lfn for packet in (*self._again, *held) if packet.tell}
        for account in self.ledger.files.values():
            if account.entries is not None:
                self._put_aside_file(account, failure)
            elif not account.put_aside:
                account.put_aside = failure
                if account.lfn not in telling:
                    self.ledger.write_off(account)
                    self.ledger.broken[account.lfn] = failure
        self._sort_out_waiting()
        self._fresh = Shelves()
        self._started.clear()

    def untried(self, packet: Packet) -> None:
        """A worker gave ``packet`` back as it was."""
        if self._take_back(packet) is not None:
            self._do_again(packet, urgent=True)

    def _take_back(self, packet: Packet) -> str | None:
        worker = self._owner.pop(packet.number, None)
        if worker is not None:
            held = self._workers[worker].outstanding.pop(packet.number)
            self._sources.end(held.place)
        return worker

    def _others(self, worker: str) -> bool:
        """Whether there is another worker that gets packets."""
        return len(self._workers) - len(self.drained) > (worker not in self.drained)

    def _note_fault(self, worker: str, packet: Packet, failure: Failure) -> None:
        """Drain a black hole: a worker that fails everything, while others do not."""
        if packet.troubles and packet.avoid != worker:  # neither is to blame: it fails elsewhere, too
            first = self._workers.get(packet.avoid)
            if first is not None:
                first.faults -= 1
                self.drained.pop(packet.avoid, None)
            return
        state = self._workers[worker]
        state.faults += 1
        if state.faults >= MAX_FAULTS and not state.successes and self._successes and self._others(worker):
            self.drained[worker] = failure
            self._rates.forget(worker)

    def _learn_clusters(self, lfn: str, clusters: tuple[int, ...]) -> None:
        if lfn in self._started:
            self._clusters.setdefault(lfn, clusters)

    def _learn_entries(self, packet: Packet, file_entries: int) -> Packet:
        """Return ``packet`` as it really was; one that told the entries opens the file to all."""
        if not packet.tell:
            return packet
        account = self.ledger.files[packet.lfn]
        actual = replace(packet, stop=min(packet.stop, file_entries), tell=False)
        self.ledger.tell(account, file_entries)
        self.ledger.cut(account, actual.stop)
        if account.put_aside:
            self._list_rest(account, account.put_aside)
        self._forget_if_cut(account)
        return actual

    def _forget_if_cut(self, account: FileAccount) -> None:
        if account.uncut == 0:
            self._started.pop(account.lfn, None)
            self._clusters.pop(account.lfn, None)

    def _measure(self, worker: str, packet: Packet, entries: int, stats: PacketStats) -> None:
        state = self._workers[worker]
        state.entries_done += entries
        state.successes += 1
        if entries and stats.wall_s > 0:
            work_s = max(stats.wall_s - stats.overhead_s, stats.wall_s / 10)
            self._rates.measure(worker, entries / work_s)
            state.overhead_s = stats.overhead_s
            if stats.read_bytes and packet.lfn in self._places:
                self._sources.measure(packet.place, state.site, stats.read_bytes / stats.wall_s)

    # Giving up

    def _do_again(self, packet: Packet, urgent: bool = False) -> None:
        """Halves queue up behind each other, and are taken from either end: so a good one is met soon.

        From the front come all parts of what failed, from the end ever smaller ones.
        """
        put_aside = self.ledger.files[packet.lfn].put_aside
        if put_aside:
            self._put_aside(packet, put_aside)
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
        self._list_rest(account, failure)
        self._started.pop(account.lfn, None)
        self._sort_out_waiting()

    def _list_rest(self, account: FileAccount, failure: Failure) -> None:
        if account.uncut:
            rest = self._packet(account.lfn, account.cursor, account.cursor + account.uncut)
            self.ledger.cut(account, rest.stop)
            self._list_failed(rest, failure)

    def _sort_out_waiting(self) -> None:
        """List what waits to be done again of files that were put aside."""
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
