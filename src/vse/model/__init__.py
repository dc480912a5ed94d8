"""Frozen values that every room may speak of. Nothing here does input or output."""

from vse.model.access import Access, AccessEntry, NewAccess
from vse.model.bulk import BulkResult
from vse.model.checksum import Adler32, Checksum
from vse.model.clock import Clock
from vse.model.closing import Closing
from vse.model.dataset import Dataset, DatasetFile, Selected
from vse.model.entry import (
    Contents,
    Entry,
    EntryKind,
    Located,
    NewFile,
    NewLink,
    Replica,
    ReplicaState,
    Space,
)
from vse.model.history import Audited, Details, Expired, Origin, Trashed
from vse.model.identity import Identity
from vse.model.lfn import Lfn
from vse.model.query import DatasetQuery, FindQuery, Mode, NamedQuery, OfficialQuery
from vse.model.runs import Runs

__all__ = [
    "Access",
    "AccessEntry",
    "Adler32",
    "Audited",
    "BulkResult",
    "Checksum",
    "Clock",
    "Closing",
    "Contents",
    "Dataset",
    "DatasetFile",
    "DatasetQuery",
    "Details",
    "Entry",
    "EntryKind",
    "Expired",
    "FindQuery",
    "Identity",
    "Lfn",
    "Located",
    "Mode",
    "NamedQuery",
    "NewAccess",
    "NewFile",
    "NewLink",
    "OfficialQuery",
    "Origin",
    "Replica",
    "ReplicaState",
    "Runs",
    "Selected",
    "Space",
    "Trashed",
]
