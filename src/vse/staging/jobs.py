"""From a claimed transfer to a job for the mover: which copies to read, in which order, and where to."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vse.errors import NoPlan, VseError
from vse.model import BulkResult, Checksum, Lfn, Located, Replica
from vse.storage.contract import Reader, Upload
from vse.storage.element import Elements, ReadSources, StorageElement
from vse.transfer.lifecycle import Transfer
from vse.transfer.mover import Job, Source


class PlaceAt(NamedTuple):
    """`vse.transfer.mover.Destination`: one file of one storage element."""

    element: StorageElement
    lfn: Lfn

    def put(self, size_bytes: int, checksum: Checksum | None) -> Upload:
        return self.element.put(self.lfn, size_bytes, checksum)

    def open(self) -> Reader:
        return self.element.open(self.lfn)

    def local_path(self) -> Path | None:
        return self.element.local_path(self.lfn)

    def remove(self) -> None:
        self.element.remove([self.lfn]).one(self.lfn)


def plan_sources(elements: Elements, replicas: Iterable[Replica], destination: str) -> ReadSources:
    """Return how a file can be read for a copy at ``destination``; `NoPlan` with every reason."""
    others = [replica for replica in replicas if replica.se != destination]
    if not others:
        raise NoPlan(
            f"stage a file to {destination}",
            "no other copy of it is known",
            "register a copy, or ask whoever made the file",
        )
    return elements.plan_read(others)


def plan_job(transfer: Transfer, located: BulkResult[Located], elements: Elements) -> Job:
    """Return the job of a transfer; where it cannot be planned, one without sources that says why.

    The element that the queue counts the transfer for (``source_se``) comes first, so that a file that
    failed at one source begins with the next one.
    """
    element = elements.get(transfer.destination)
    place = PlaceAt(element, transfer.lfn)
    try:
        file = located.one(transfer.lfn)
        planned = plan_sources(elements, file.replicas, transfer.destination).sources
    except VseError as error:
        return Job(transfer, (), place, error)
    ordered = sorted(planned, key=lambda one: one.se != transfer.source_se)
    sources = [Source(one.se, one.url, partial(elements.open, one)) for one in ordered]
    return Job(transfer, sources, place)
