"""An upstream catalogue that does what a test says, and keeps count of what it is asked."""

from __future__ import annotations

import fnmatch

from vse.errors import NoSuchEntry, UpstreamGarbage
from vse.model import BulkResult, Entry, Lfn, Located, Replica, ReplicaState
from vse.testing.names import by_directory


def located(lfn, size_bytes=10, adler32=1, se="FAR", url=None, contents=None, copies=True):
    entry = Entry(Lfn(lfn), "file", size_bytes, adler32, None, "far", "away", 0o640, 5.0, 6.0)
    copy = Replica(entry.lfn, se, url, ReplicaState.AVAILABLE, None, "")
    return Located(entry, (copy,) if copies else (), contents)


class Scripted:
    """An upstream that knows ``files``, raises ``error`` if set, and breaks off after ``breaks_after``."""

    def __init__(self, name="up", *files):
        self.name = name
        self.files = {file.entry.lfn: file for file in files}
        self.error = None
        self.breaks_after = None
        self.asked = []
        self.answer = None

    def find(self, base, pattern):
        self.asked.append(("find", base, pattern))
        if self.error:
            raise self.error
        told = 0
        for lfn in sorted(self.files, key=by_directory):
            if lfn.is_below(base) and fnmatch.fnmatchcase(lfn.name, pattern):
                if told == self.breaks_after:
                    raise UpstreamGarbage("read the answer", "it ends in the middle")
                told += 1
                yield self.files[lfn]

    def resolve(self, lfns):
        self.asked.append(("resolve", *lfns))
        if self.error:
            raise self.error
        if self.answer is not None:
            return self.answer
        result = BulkResult()
        for lfn in lfns:
            if lfn in self.files:
                result.ok[lfn] = self.files[lfn]
            else:
                result.failed[lfn] = NoSuchEntry(f"locate {lfn}", "no")
        return result
