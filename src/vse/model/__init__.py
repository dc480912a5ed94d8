"""Frozen values that every room may speak of. Nothing here does input or output."""

from vse.model.bulk import BulkResult
from vse.model.checksum import Adler32, Checksum
from vse.model.clock import Clock
from vse.model.closing import Closing
from vse.model.entry import (
    Contents,
    Entry,
    EntryKind,
    Located,
    NewFile,
    Replica,
    ReplicaState,
    Space,
)
from vse.model.identity import Identity
from vse.model.lfn import Lfn
from vse.model.query import DatasetQuery

__all__ = [
    "Adler32",
    "BulkResult",
    "Checksum",
    "Clock",
    "Closing",
    "Contents",
    "DatasetQuery",
    "Entry",
    "EntryKind",
    "Identity",
    "Lfn",
    "Located",
    "NewFile",
    "Replica",
    "ReplicaState",
    "Space",
]
