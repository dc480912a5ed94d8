"""What is done again, given up, or was done before: each entry counts once in the books, whatever happens."""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from vse.analysis.ledger import Failure
from vse.analysis.packetizer import MAX_LOSSES, Packet, Packetizer, PacketStats

STOPPED = Failure("stopped")
WORKERS = ("a", "b", "c")


class Done(NamedTuple):
    """A packet whose output a worker holds, or that is in the result."""

    worker: str
    packet: Packet
    entries: range


class Books:
    """Workers that hold what they have done until it is collected, and may be lost with it."""

    def __init__(self, packetizer: Packetizer, files: dict[str, int]) -> None:
        self.packetizer = packetizer
        self.files = files
        self.hands: dict[str, list[Packet]] = {worker: [] for worker in WORKERS}
        self.held: list[Done] = []
        self.merged = Counter[tuple[str, int]]()
        for worker in WORKERS:
            packetizer.add_worker(worker)

    def fetch(self, worker: str) -> bool:
        packets = self.packetizer.next_packets(worker)
        self.hands[worker] += packets
        return bool(packets)

    def finish(self, worker: str) -> None:
        packet, entries = self.hands[worker].pop(0), 0
        entries = self.files[packet.lfn]
        span = range(packet.start, min(packet.stop, entries))
        if self.packetizer.done(packet, PacketStats(entries, 1e-4 * len(span))):
            self.held.append(Done(worker, packet, span))

    def collect(self) -> None:
        for done in self.held:
            self.merged.update((done.packet.lfn, entry) for entry in done.entries)
        self.held = []

    def lose(self, worker: str, culprits: dict[int, Failure] | None) -> None:
        """A worker dies, and another comes in its place."""
        self.hands[worker] = []
        self.packetizer.worker_lost(worker, culprits)
        lost = [done for done in self.held if done.worker == worker]
        self.held = [done for done in self.held if done.worker != worker]
        for done in lost:
            self.packetizer.undone(done.packet)
        self.packetizer.add_worker(worker)

    def turn(self, dice: random.Random) -> None:
        worker = dice.choice(WORKERS)
        what = dice.random()
        if what < 0.02:
            held = {packet.number for packet in self.hands[worker]}
            blamed = {number: Failure("it hangs") for number in held if dice.random() < 0.3}
            self.lose(worker, dice.choice([None, {}, blamed]))
        elif what < 0.1:
            self.collect()
        elif self.hands[worker] and what < 0.6:
            self.finish(worker)
        elif len(self.hands[worker]) < 4:
            self.fetch(worker)


def expect_exact(books: Books) -> None:
    """In the output once, or listed as failed once, or of a file that is listed as broken as a whole."""
    ledger = books.packetizer.ledger
    assert set(books.merged.values()) <= {1}
    failed = Counter[tuple[str, int]]()
    for item in ledger.failed_ranges():
        failed.update((item.lfn, entry) for entry in range(item.start, item.stop))
    assert set(failed.values()) <= {1}
    for lfn, entries in books.files.items():
        done = {entry for name, entry in books.merged if name == lfn}
        missing = {entry for name, entry in failed if name == lfn}
        account = ledger.files[lfn]
        assert (account.entries_done, account.entries_failed) == (len(done), len(missing))
        if lfn in ledger.broken and account.entries is None:
            assert not done | missing
        else:
            assert not done & missing
            assert done | missing == set(range(entries)), lfn
    assert ledger.files_done == len(books.files)
    assert ledger.entries_done == len(books.merged)
    assert ledger.entries_uncut() == 0


def to_the_end(books: Books, dice: random.Random) -> None:
    for _ in range(100_000):
        if books.packetizer.finished and not books.held:
            return
        books.turn(dice)
    raise AssertionError("it does not end")


SIZES = st.lists(st.one_of(st.integers(0, 5), st.integers(0, 900)), min_size=1, max_size=5)
SEEDS = st.integers(0, 2**32)


@settings(max_examples=150, deadline=None)
@given(SIZES, SEEDS, st.booleans(), st.sampled_from([None, 50]), st.integers(0, 60))
def test_given_up_at_any_moment_nothing_is_counted_twice_or_forgotten(
    sizes: list[int], seed: int, known: bool, fixed: int | None, turns: int
) -> None:
    dice = random.Random(seed)
    files = {f"/f{number}": size for number, size in enumerate(sizes)}
    books = Books(Packetizer(target_s=0.01, fixed_entries=fixed), files)
    for lfn, entries in files.items():
        books.packetizer.add_file(lfn, entries if known else None)
    for _ in range(turns):
        books.turn(dice)
    books.packetizer.give_up(STOPPED)
    to_the_end(books, dice)
    expect_exact(books)
    reasons = {item.failure.message for item in books.packetizer.ledger.failed_ranges()}
    assert reasons <= {"stopped", "it hangs", *(reason for reason in reasons if "workers died" in reason)}


@settings(max_examples=100, deadline=None)
@given(SIZES, SEEDS, st.data())
def test_what_an_earlier_run_has_is_not_handed_out_and_the_rest_is(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    dice = random.Random(seed)
    files = {f"/f{number}": size for number, size in enumerate(sizes)}
    books = Books(Packetizer(target_s=0.01), files)
    for lfn, entries in files.items():
        ends = sorted(set(data.draw(st.lists(st.integers(0, entries), max_size=6))))
        ranges = list(zip(ends[::2], ends[1::2], strict=False))
        books.merged.update((lfn, entry) for start, stop in ranges for entry in range(start, stop))
        books.packetizer.add_file(lfn, entries, done=ranges)
    before = len(books.merged)
    assert books.packetizer.ledger.entries_done == before
    books.packetizer.no_more_files()
    to_the_end(books, dice)
    assert books.packetizer.ledger.entries_failed + len(books.merged) == sum(sizes)
    expect_exact(books)


def test_what_is_undone_comes_first_and_only_once() -> None:
    packetizer = Packetizer(fixed_entries=10)
    packetizer.add_worker("w")
    packetizer.add_file("/a")
    packetizer.add_file("/b", 100)
    (told,) = packetizer.next_packets("w")
    assert told.tell
    packetizer.done(told, PacketStats(7, 0.1))
    assert packetizer.ledger.entries_done == 7
    packetizer.undone(told)
    assert packetizer.ledger.entries_done == 0
    (again,) = packetizer.next_packets("w")
    assert (again.lfn, again.start, again.stop, again.tell) == ("/a", 0, 7, False)
    assert packetizer.done(again, PacketStats(7, 0.1))
    assert not packetizer.done(again, PacketStats(7, 0.1)), "its answer comes a second time"
    assert packetizer.ledger.entries_done == 7


def test_who_hangs_is_to_blame_and_not_who_shared_its_worker() -> None:
    packetizer = Packetizer(fixed_entries=10)
    packetizer.add_file("/hangs", 10)
    packetizer.add_file("/sound", 10)
    packetizer.no_more_files()
    hang = Failure("it hangs: after 12 s it was still at my.py:3", "the calls")
    for number in range(MAX_LOSSES):
        worker = f"w{number}"
        packetizer.add_worker(worker)
        held = [packet for _ in range(2) for packet in packetizer.next_packets(worker)]
        packetizer.worker_lost(worker, {one.number: hang for one in held if one.lfn == "/hangs"})
    packetizer.add_worker("last")
    tried: list[Packet] = []
    while packets := packetizer.next_packets("last"):
        (packet,) = packets
        tried.append(packet)
        if packet.lfn == "/hangs" and packet.start <= 3 < packet.stop:
            packetizer.worker_lost("last", {packet.number: hang})
            packetizer.add_worker("last")
        else:
            packetizer.done(packet, PacketStats(10, 0.1))
    assert [one for one in tried if one.lfn == "/sound"] == [one for one in tried if not one.losses]
    failed = packetizer.ledger.failed_ranges()
    assert [(item.lfn, item.start, item.stop, item.failure) for item in failed] == [("/hangs", 3, 4, hang)]
    assert packetizer.finished


def test_the_expected_time_is_that_of_the_slower_of_worker_and_others() -> None:
    packetizer = Packetizer(fixed_entries=100)
    for worker in ("fast", "slow", "new"):
        packetizer.add_worker(worker)
    packetizer.add_file("/a", 1000)
    packets = {worker: packetizer.next_packets(worker)[0] for worker in ("fast", "slow", "new")}
    assert packetizer.expected_s("fast", packets["fast"]) is None
    packetizer.done(packets["fast"], PacketStats(1000, 0.1))
    assert packetizer.expected_s("new", packets["new"]) == 0.1
    packetizer.done(packets["slow"], PacketStats(1000, 4.0))
    assert packetizer.expected_s("slow", packets["new"]) == 4.0
    packetizer.add_file("/b")
    packetizer.worker_lost("slow")
    assert packetizer.expected_s("new", packets["new"]) == 0.1
