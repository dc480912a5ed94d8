"""Near files first, busy storage spared, the faster copy preferred once it was measured."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vse.analysis.ledger import Failure
from vse.analysis.locality import Place, Shelves, Sources
from vse.analysis.packetizer import MAX_FAULTS, Packetizer, PacketStats

HERE, THERE = Place("disk1", "torino", "root://disk1//f"), Place("disk2", "torino", "root://disk2//f")
FAR = Place("eos", "cern", "root://eos//f")


def test_own_host_then_own_site_then_the_busiest():
    shelves = Shelves()
    for number in range(3):
        shelves.add(f"/far{number}", [FAR])
    shelves.add("/site", [THERE])
    shelves.add("/host", [HERE])
    shelves.add("/cern", [Place("castor", "cern")])
    taken = [shelves.take("disk1", "torino") for _ in range(6)]
    assert taken == ["/host", "/site", "/far0", "/far1", "/far2", "/cern"]
    assert shelves.take("disk1", "torino") is None


def test_a_full_host_is_passed_over_and_its_files_keep_their_order():
    shelves = Shelves()
    for lfn in ("/a", "/b"):
        shelves.add(lfn, [HERE])
    shelves.add("/both", [HERE, FAR])
    assert shelves.take("disk1", "torino", frozenset({"disk1"})) == "/both", "it has a copy elsewhere"
    assert shelves.take("disk1", "torino", frozenset({"disk1"})) is None
    assert [shelves.take("disk1", "torino") for _ in range(2)] == ["/a", "/b"]


@given(
    st.lists(st.lists(st.sampled_from([HERE, THERE, FAR]), min_size=1, max_size=3), max_size=12),
    st.lists(
        st.tuples(st.sampled_from(["disk1", "disk2", ""]), st.sampled_from(["torino", ""]), st.booleans()),
        max_size=30,
    ),
)
def test_every_file_is_taken_once(files, questions):
    shelves = Shelves()
    for number, places in enumerate(files):
        shelves.add(f"/f{number}", places)
    taken = [shelves.take(host, site, frozenset({"eos"} if full else ())) for host, site, full in questions]
    while (lfn := shelves.take("", "")) is not None:
        taken.append(lfn)
    assert sorted(filter(None, taken)) == sorted(f"/f{number}" for number in range(len(files)))


def test_the_workers_own_host_is_read_then_what_was_measured_to_be_fast():
    sources = Sources()
    assert sources.rank([FAR, HERE], "disk1", "torino")[0] == HERE
    sources.measure(THERE, "torino", 1e6)
    assert sources.rank([THERE, FAR], "node", "torino")[0] == THERE, "as good as unknown, and nearer"
    sources.measure(FAR, "torino", 5e7)
    assert sources.rank([THERE, FAR], "node", "torino")[0] == FAR
    assert sources.rank([THERE, FAR], "node", "cern")[0] == FAR, "nothing is known from there: its own site"


def test_no_more_readers_of_a_host_than_it_takes():
    packetizer = Packetizer(readers_a_host=2)
    for number in range(8):
        packetizer.add_file(f"/f{number}", 1000, places=[HERE] if number < 6 else [FAR])
    for number in range(6):
        packetizer.add_worker(f"w{number}", "disk1")
    held = {name: packetizer.next_packets(name) for name in packetizer.workers}
    hosts = [packet.place.host for packets in held.values() for packet in packets]
    assert sorted(hosts) == ["disk1", "disk1", "eos", "eos"]
    packetizer.done(held["w0"][0], PacketStats(1000, 1.0))
    assert packetizer.next_packets("w5")[0].place == HERE


def test_a_worker_that_fails_everything_is_drained_and_nothing_is_lost():
    """A black hole fails fast, and would eat all there is (tardis#205)."""
    packetizer = Packetizer(fixed_entries=100)
    for number in range(40):
        packetizer.add_file(f"/f{number}", 100)
    packetizer.no_more_files()
    packetizer.add_worker("good")
    packetizer.add_worker("hole")
    (packet,) = packetizer.next_packets("good")
    packetizer.done(packet, PacketStats(100, 1.0))
    faults = 0
    while packets := packetizer.next_packets("hole"):
        packetizer.failed(packets[0], Failure("no such library"), 100)
        faults += 1
    assert faults == MAX_FAULTS
    assert packetizer.drained["hole"].message == "no such library"
    while not packetizer.finished:
        (packet,) = packetizer.next_packets("good")
        packetizer.done(packet, PacketStats(100, 1.0))
    assert packetizer.ledger.entries_done == 4000
    assert not packetizer.ledger.failed_ranges()


def test_packets_end_where_clusters_do():
    packetizer = Packetizer(target_s=1.0)
    packetizer.add_worker("w")
    packetizer.add_file("/f", 100_000)
    clusters = tuple(range(0, 100_001, 700))
    ends = []
    while packets := packetizer.next_packets("w"):
        for packet in packets:
            ends.append(packet.stop)
            packetizer.done(packet, PacketStats(100_000, packet.entries / 5_000, clusters=clusters))
    assert ends[-1] == 100_000
    assert all(end in clusters for end in ends[1:-1])
