"""What an analysis has merged so far, on disk: after a crash of the client it goes on from there.

One file, replaced in one step: the merged output and the ranges of entries that are in it. They are
written together, so each entry is in the output or not in the ranges, whenever the client dies. It holds
pickled objects of the user's own: it is made for, and read by, its owner only.
"""

from __future__ import annotations

import os
import pickle
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vse.analysis.pickling import dumps
from vse.analysis.script import ScriptSource, load_source
from vse.errors import BadRequest

_FORMAT = "vse-checkpoint-2"


class Ranges:
    """Entries of one file, as few ranges ``[start, stop)`` as there can be."""

    def __init__(self, ranges: list[tuple[int, int]] | None = None) -> None:
        self._starts = [start for start, _ in ranges or []]
        self._stops = [stop for _, stop in ranges or []]

    def add(self, start: int, stop: int) -> None:
        """Add entries none of which is there yet."""
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last], self._stops[first:last] = [start], [stop]

    def __iter__(self) -> Any:
        return iter(zip(self._starts, self._stops, strict=True))


@dataclass(slots=True)
class KeptFile:
    """What is in the output of one file."""

    tree: str
    entries: int
    size_bytes: int
    ranges: Ranges = field(default_factory=Ranges)


@dataclass(slots=True)
class Checkpoint:
    """A checkpoint at ``path``; empty where there is none yet."""

    path: Path
    source: ScriptSource
    output: Any = None
    files: dict[str, KeptFile] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Path, source: ScriptSource) -> Checkpoint:
        """Read what is at ``path``. Raises `BadRequest` where it is of another script, or no checkpoint."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return cls(path, source)
        wanted, todo = f"go on from the checkpoint {path}", "remove it to begin anew, or name another"
        load_source(source)
        try:
            kind, digest, files, output = pickle.loads(data)  # noqa: S301 - the user's own file
        except Exception as error:
            raise BadRequest(wanted, "it is damaged or no checkpoint", todo) from error
        if kind != _FORMAT or digest != source.processing_digest:
            raise BadRequest(wanted, "it is of another script, or of another version of this one", todo)
        kept = {
            lfn: KeptFile(tree, entries, size_bytes, Ranges(ranges))
            for lfn, (tree, entries, size_bytes, ranges) in files.items()
        }
        return cls(path, source, output, kept)

    @property
    def entries(self) -> int:
        return sum(stop - start for file in self.files.values() for start, stop in file.ranges)

    def add(self, lfn: str, file: KeptFile, start: int, stop: int) -> None:
        """Note that entries ``[start, stop)`` are in the output from now on."""
        self.files.setdefault(lfn, file).ranges.add(start, stop)

    def check(self, lfn: str, tree: str, entries: int | None, size_bytes: int) -> KeptFile | None:
        """Return what there is of a file. Raises `BadRequest` where it is not the file that it was."""
        kept = self.files.get(lfn)
        if kept is not None and (
            kept.tree != tree
            or (size_bytes and kept.size_bytes and size_bytes != kept.size_bytes)
            or (entries is not None and entries != kept.entries)
        ):
            found = f"{lfn} is not the file that is in it: it has another size, tree or number of entries"
            todo = "remove the checkpoint to begin anew"
            raise BadRequest(f"go on from the checkpoint {self.path}", found, todo)
        return kept

    def write(self, output: Any) -> None:
        """Replace the file by what was added and ``output``, in one step that survives a crash."""
        self.output = output
        files = {
            lfn: (file.tree, file.entries, file.size_bytes, list(file.ranges))
            for lfn, file in self.files.items()
        }
        data = dumps((_FORMAT, self.source.processing_digest, files, output))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f".{self.path.name}.partial")
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError:
            partial.unlink(missing_ok=True)  # on a full disk it has the room that somebody could use
            raise
