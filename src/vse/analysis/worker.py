"""What runs in a worker: packets in, one merged output and the account of each packet out."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from vse.analysis.ledger import Failure
from vse.analysis.merging import merge
from vse.analysis.packetizer import Packet, PacketStats
from vse.analysis.reading import OpenFile, OpenFiles, describe_trouble, is_file_trouble, read_events
from vse.analysis.script import Script, ScriptSource, describe, load_source
from vse.errors import BadScript, Unreadable

_open_files = OpenFiles()


class Order(NamedTuple):
    """A packet and where its file is. ``entries``: what the file should hold, None where not known."""

    packet: Packet
    url: str
    tree: str
    entries: int | None


class Answer(NamedTuple):
    """What became of a packet. Its part of the output counts only where it is ``done``."""

    packet: Packet
    outcome: Literal["done", "failed", "unreadable"]
    stats: PacketStats
    failure: Failure | None = None


class TaskAnswer(NamedTuple):
    """``output``: the pickled sum over the packets that are done; None where there is none.

    Fewer answers than orders say that the rest was not tried.
    """

    answers: list[Answer]
    output: bytes | None


def run_packets(source: ScriptSource, orders: Sequence[Order], dataset: str) -> TaskAnswer:
    """Process packets one by one; what is wrong with one of them does not touch the others."""
    script = load_source(source)
    total: Any = None
    answers: list[Answer] = []
    try:
        for order in orders:
            answer, output = _run_packet(script, order, dataset)
            answers.append(answer)
            total = merge(total, output)
        return TaskAnswer(answers, None if total is None else pickle.dumps(total, protocol=5))
    except Exception as error:  # the sum is of no use: what cannot be added or sent
        failure = describe(error, source)
        return TaskAnswer([_without_output(answer, failure) for answer in answers], None)


def run_task(payload: bytes) -> TaskAnswer:
    """`run_packets` on pickled arguments: what the engine submits."""
    return run_packets(*pickle.loads(payload))  # noqa: S301 - our own client wrote it


def _without_output(answer: Answer, failure: Failure) -> Answer:
    return answer._replace(outcome="failed", failure=failure) if answer.outcome == "done" else answer


def _run_packet(script: Script, order: Order, dataset: str) -> tuple[Answer, Any]:
    packet = order.packet
    begun = time.perf_counter()
    try:
        file = _open_files.get(order.url, order.tree)
        entries = file.entries
        if order.entries is not None and entries != order.entries:
            found = f"it holds {entries:,} entries, the catalogue says {order.entries:,}"
            raise Unreadable(f"analyse {order.url}", found)
    except Exception as error:
        return Answer(packet, "unreadable", PacketStats(0, 0.0), describe_trouble(error)), None
    stop = min(packet.stop, entries)
    ready, output, failure, trouble = begun, None, None, False
    try:
        if stop > packet.start:
            events = read_events(file, script, packet.start, stop, _metadata(order, file, dataset))
            ready = begun if script.branches is not None else time.perf_counter()
            output = _process(script, events)
    except (Exception, SystemExit) as error:
        trouble = is_file_trouble(error)
        failure = describe_trouble(error) if trouble else describe(error, script.source)
    wall_s = time.perf_counter() - begun
    stats = PacketStats(entries, wall_s, ready - begun, file.take_read_bytes())
    if failure is None:
        return Answer(packet, "done", stats), output
    return Answer(packet, "unreadable" if trouble else "failed", stats, failure), None


def _process(script: Script, events: Any) -> Any:
    output = script.process(events)
    if output is None:
        wanted = f"use what {script.name} returned"
        raise BadScript(wanted, "process(events) returned nothing", "end it with: return {...}")
    return output


def _metadata(order: Order, file: OpenFile, dataset: str) -> dict[str, Any]:
    """What coffea's processors look for in ``events.metadata``."""
    return {
        "dataset": dataset,
        "filename": order.url,
        "lfn": order.packet.lfn,
        "treename": file.tree_name,
        "fileuuid": str(file.directory.file.uuid),
        "entrystart": order.packet.start,
        "entrystop": order.packet.stop,
    }
