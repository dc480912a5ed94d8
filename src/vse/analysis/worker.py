"""What runs in a worker: packets in, the account of each out; their sum waits here to be collected."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from vse.analysis import sight
from vse.analysis.ledger import Failure
from vse.analysis.merging import merge
from vse.analysis.packetizer import Packet, PacketStats
from vse.analysis.processors import process_events
from vse.analysis.reading import (
    OpenFile,
    OpenFiles,
    clusters_of,
    describe_trouble,
    is_file_trouble,
    read_events,
    with_fields,
)
from vse.analysis.script import Script, ScriptSource, describe, load_source
from vse.analysis.worker_partials import Spoiled, Where, accumulate
from vse.errors import Unreadable


class _Thread(threading.local):
    """Open files are not shared: a worker may have several threads."""

    def __init__(self) -> None:
        self.open_files = OpenFiles()


_thread = _Thread()


class Order(NamedTuple):
    """A packet and where its file is. ``entries``: what the file should hold, None where not known.

    ``others``: further copies, tried in this order where ``url`` cannot be opened. ``dataset``: its name
    among several, under which the output is kept.
    """

    packet: Packet
    url: str
    tree: str
    entries: int | None
    others: tuple[str, ...] = ()
    dataset: str = ""


class Answer(NamedTuple):
    """What became of a packet. Its part of the output counts only where it is ``done``."""

    packet: Packet
    outcome: Literal["done", "failed", "unreadable"]
    stats: PacketStats
    failure: Failure | None = None


class TaskAnswer(NamedTuple):
    """Fewer answers than orders say that the rest was not tried.

    ``spoiled``: the outputs cannot be added up, whatever is tried; ``too_big``: for want of memory.
    ``threads``: how many tasks the worker runs at a time.
    """

    answers: list[Answer]
    spoiled: Failure | None = None
    too_big: bool = False
    threads: int = 1


def run_packets(source: ScriptSource, orders: Sequence[Order], dataset: str, where: Where) -> TaskAnswer:
    """Process packets one by one; what is wrong with one of them does not touch the others."""
    script = load_source(source)
    total: Any = None
    answers: list[Answer] = []
    try:
        for order in orders:
            answer, output = _run_packet(script, order, dataset)
            answers.append(answer)
            total = merge(total, output)
        if total is not None:
            accumulate(where, total, source)
        return TaskAnswer(answers)
    except Spoiled as error:
        return TaskAnswer(answers, error.failure, error.too_big)
    except Exception as error:  # the sum is of no use: what cannot be added or sent
        failure = describe(error, source)
        return TaskAnswer([_without_output(answer, failure) for answer in answers])


def run_task(payload: bytes) -> TaskAnswer:
    """`run_packets` on pickled arguments: what the engine submits."""
    from distributed import get_worker

    answer = run_packets(*pickle.loads(payload))  # noqa: S301 - our own client wrote it
    return answer._replace(threads=get_worker().state.nthreads)


def _without_output(answer: Answer, failure: Failure) -> Answer:
    return answer._replace(outcome="failed", failure=failure) if answer.outcome == "done" else answer


def _open(order: Order) -> OpenFile:
    """Open the first copy that can be. Raises what the first one raised where none can."""
    try:
        return _open_one(order, order.url)
    except Exception:
        for url in order.others:
            try:
                return _open_one(order, url)
            except Exception:  # noqa: S112 - the trouble of the first copy is what is told
                continue
        raise


def _open_one(order: Order, url: str) -> OpenFile:
    file = _thread.open_files.get(url, order.tree)
    if order.entries is not None and file.entries != order.entries:
        found = f"it holds {file.entries:,} entries, the catalogue says {order.entries:,}"
        raise Unreadable(f"analyse {url}", found)
    return file


def _run_packet(script: Script, order: Order, dataset: str) -> tuple[Answer, Any]:
    packet = order.packet
    begun = time.perf_counter()
    try:
        file = _open(order)
        entries = file.entries
    except Exception as error:
        return Answer(packet, "unreadable", PacketStats(0, 0.0), describe_trouble(error)), None
    stop = min(packet.stop, entries)
    ready, events, output, failure, trouble = begun, None, None, None, False
    try:
        if stop > packet.start:
            events = read_events(file, script, packet.start, stop, _metadata(order, file, dataset))
            ready = begun if script.branches is not None else time.perf_counter()
            sight.begin(packet.number)
            output = process_events(script, events, order.dataset)
    except (Exception, SystemExit) as error:
        trouble = is_file_trouble(error)
        failure = describe_trouble(error) if trouble else with_fields(describe(error, script.source), events)
    finally:
        sight.end()
    wall_s = time.perf_counter() - begun
    clusters = clusters_of(file, script) if packet.start == 0 and stop < entries and not failure else ()
    stats = PacketStats(entries, wall_s, ready - begun, file.take_read_bytes(), clusters)
    if failure is None:
        return Answer(packet, "done", stats), output
    return Answer(packet, "unreadable" if trouble else "failed", stats, failure), None


def _metadata(order: Order, file: OpenFile, dataset: str) -> dict[str, Any]:
    """What coffea's processors look for in ``events.metadata``."""
    return {
        "dataset": order.dataset or dataset,
        "filename": file.url,
        "lfn": order.packet.lfn,
        "treename": file.tree_name,
        "fileuuid": str(file.directory.file.uuid),
        "entrystart": order.packet.start,
        "entrystop": order.packet.stop,
    }
