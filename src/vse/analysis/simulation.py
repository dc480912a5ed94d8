"""The real packetizer with workers that only exist on paper: hours of a farm in seconds, exactly repeatable.

Nothing of the packetizer is imitated. What is simulated is the world: workers that arrive, work at their own
speed, stumble, and leave; and the price of handing out work.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from vse.analysis.locality import ANYWHERE, Place
from vse.analysis.packetizer import Packet, Packetizer, PacketStats


@dataclass(frozen=True, slots=True)
class SimulatedWorker:
    """A worker. ``rate``: entries a second. ``leaves_s``: it dies then, with all that it has in hand."""

    name: str
    rate: float
    arrives_s: float = 0.0
    leaves_s: float | None = None
    host: str = ""
    site: str = ""


@dataclass(frozen=True, slots=True)
class SimulatedFile:
    """A file. ``entries_told`` False: nobody knows how many entries it has until a worker opens it."""

    lfn: str
    entries: int
    size_bytes: int = 0
    entries_told: bool = True
    places: Sequence[Place] = ANYWHERE


Slowness = Callable[[SimulatedWorker, Packet], float]
"""A factor on the time of a packet: entries are not all alike, and some copies are further away."""


@dataclass(slots=True)
class Outcome:
    """What a simulated analysis came to.

    ``finished_s``: when the last result was there. ``ended_s``: when each worker ended its last packet.
    ``packets`` and ``entries``: how many each worker processed; ``local_entries`` were read from the worker's
    own host. ``scheduling_s``: real time the packetizer
    took, in all; ``questions`` how often it was asked.
    """

    finished_s: float = 0.0
    ended_s: dict[str, float] = field(default_factory=dict)
    packets: dict[str, int] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)
    lost_entries: int = 0
    local_entries: int = 0
    scheduling_s: float = 0.0
    questions: int = 0

    @property
    def packet_count(self) -> int:
        return sum(self.packets.values())

    @property
    def spread_s(self) -> float:
        """How far apart the first and the last worker ended (seed 002, Figure 4.3: around 20 s)."""
        return max(self.ended_s.values()) - min(self.ended_s.values())


def ideal_s(workers: Sequence[SimulatedWorker], entries: int) -> float:
    """Return when ``entries`` are done if no worker ever waits: the least that any schedule can take."""
    arrivals = sorted((worker.arrives_s, worker.rate) for worker in workers)
    done, rate, now_s = 0.0, 0.0, 0.0
    for arrives_s, one in arrivals:
        if done + rate * (arrives_s - now_s) >= entries:
            break
        done += rate * (arrives_s - now_s)
        now_s, rate = arrives_s, rate + one
    return now_s + (entries - done) / rate


def simulate(
    packetizer: Packetizer,
    files: Sequence[SimulatedFile],
    workers: Sequence[SimulatedWorker],
    *,
    overhead_s: float = 0.015,
    file_open_s: float = 0.0,
    tasks_per_worker: int = 2,
    slowness: Slowness = lambda *_: 1.0,
) -> Outcome:
    """Run an analysis; every entry of every file is processed.

    ``overhead_s``: what a task costs beside its entries, ``file_open_s`` what each of its packets does;
    ``tasks_per_worker``: a worker has so many tasks in hand, so that it never waits for the next one;
    ``slowness``: a factor on the time of a packet, for entries that are not all alike.
    """
    return _World(packetizer, files, workers, overhead_s, file_open_s, tasks_per_worker, slowness).run()


class _World:
    def __init__(
        self,
        packetizer: Packetizer,
        files: Sequence[SimulatedFile],
        workers: Sequence[SimulatedWorker],
        overhead_s: float,
        file_open_s: float,
        tasks_per_worker: int,
        slowness: Slowness,
    ) -> None:
        self.packetizer = packetizer
        self.entries = {file.lfn: file.entries for file in files}
        self.workers = {worker.name: worker for worker in workers}
        self.overhead_s, self.file_open_s = overhead_s, file_open_s
        self.tasks_per_worker, self.slowness = tasks_per_worker, slowness
        self.outcome = Outcome()
        self.hands: dict[str, list[list[Packet]]] = {}
        self.idle: dict[str, None] = {}
        self.number = count()
        self.events: list[tuple[float, int, str, str]] = []
        for worker in workers:
            self._at(worker.arrives_s, "arrives", worker.name)
            if worker.leaves_s is not None:
                self._at(worker.leaves_s, "leaves", worker.name)
        for file in files:
            told = file.entries if file.entries_told else None
            packetizer.add_file(file.lfn, told, file.size_bytes, file.places)
        packetizer.no_more_files()

    def run(self) -> Outcome:
        while self.events and not self.packetizer.finished:
            now_s, _, what, name = heapq.heappop(self.events)
            if what == "arrives":
                worker = self.workers[name]
                self.packetizer.add_worker(name, worker.host, worker.site)
                self.hands[name] = []
                self._fill(now_s, name)
            elif what == "leaves":
                self._leave(now_s, name)
            elif name in self.hands:
                self._end_task(now_s, name)
        return self.outcome

    def _at(self, when_s: float, what: str, name: str) -> None:
        heapq.heappush(self.events, (when_s, next(self.number), what, name))

    def _fill(self, now_s: float, name: str) -> None:
        """Ask for work until the worker has its number of tasks in hand; begin the first of them."""
        hand = self.hands[name]
        busy = bool(hand)
        while len(hand) < self.tasks_per_worker:
            began_s = time.perf_counter()
            packets = self.packetizer.next_packets(name)
            self.outcome.scheduling_s += time.perf_counter() - began_s
            self.outcome.questions += 1
            if not packets:
                self.idle[name] = None
                break
            self.idle.pop(name, None)
            hand.append(packets)
        if hand and not busy:
            self._at(now_s + self._duration_s(name, hand[0]), "ends", name)

    def _duration_s(self, name: str, packets: Sequence[Packet]) -> float:
        worker = self.workers[name]
        work_s = sum(self._entries(one) * self.slowness(worker, one) for one in packets) / worker.rate
        return work_s + self.overhead_s + self.file_open_s * len(packets)

    def _entries(self, packet: Packet) -> int:
        return max(0, min(packet.stop, self.entries[packet.lfn]) - packet.start)

    def _end_task(self, now_s: float, name: str) -> None:
        packets = self.hands[name].pop(0)
        wall_s = self._duration_s(name, packets) - self.overhead_s
        total = max(1, sum(self._entries(one) for one in packets))
        for packet in packets:
            entries = self._entries(packet)
            stats = PacketStats(self.entries[packet.lfn], wall_s * entries / total, self.file_open_s)
            began_s = time.perf_counter()
            counted = self.packetizer.done(packet, stats)
            self.outcome.scheduling_s += time.perf_counter() - began_s
            if counted:
                self.outcome.packets[name] = self.outcome.packets.get(name, 0) + 1
                self.outcome.entries[name] = self.outcome.entries.get(name, 0) + entries
                if packet.place.host and packet.place.host == self.workers[name].host:
                    self.outcome.local_entries += entries
        self.outcome.ended_s[name] = self.outcome.finished_s = now_s
        hand = self.hands[name]
        if hand:
            self._at(now_s + self._duration_s(name, hand[0]), "ends", name)
        self._fill(now_s, name)
        self._wake(now_s)

    def _wake(self, now_s: float) -> None:
        """Let those who had nothing ask again, where there may be something."""
        for name in list(self.idle):
            if not self.packetizer.has_work:
                return
            self._fill(now_s, name)

    def _leave(self, now_s: float, name: str) -> None:
        for packets in self.hands.pop(name, []):
            self.outcome.lost_entries += sum(self._entries(one) for one in packets)
        self.idle.pop(name, None)
        self.packetizer.worker_lost(name)
        self._wake(now_s)
