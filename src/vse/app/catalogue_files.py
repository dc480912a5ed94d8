"""Load a catalogue from a file, and write it into one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from vse.app.site import Site
from vse.catalogue.branch_making import BranchMaker
from vse.catalogue.branch_records import Branch, Record
from vse.catalogue.dumps import Bad, Row, appearing, is_branch, read, text, write
from vse.catalogue.port import NewReplica
from vse.errors import BadRequest, UsageError, VseError, cannot_read
from vse.model import Lfn, ReplicaState

MOST_FAILED = 1_000
_BATCH = 20_000
_ROOT = Lfn("/")
_NO_DUMP = ("it is no dump of a catalogue", "vse catalogue dump writes one")
T = TypeVar("T")


@dataclass(slots=True)
class Loaded:
    """What a load did: ``rows`` (or records) read, ``files`` registered (once for each of their rows), and
    how many ``others`` of its names are there now: directories, links, collections.

    ``failed`` holds the first `MOST_FAILED` of the ``failures``, by name or ``row N``.
    """

    rows: int = 0
    files: int = 0
    others: int = 0
    failures: int = 0
    failed: dict[str, VseError] = field(default_factory=dict)

    def fail(self, name: str, error: VseError) -> None:
        self.failures += 1
        if len(self.failed) < MOST_FAILED:
            self.failed[name] = error


def load_catalogue(
    site: Site,
    path: Path,
    *,
    skip_bad: bool = False,
    tell: Callable[[int], None] = lambda _: None,
) -> Loaded:
    """Register every row of a table, or make the names of a whole branch, in chunks; memory is constant.

    What is there already, the same, is left as it is: a load that was broken off can be run again. A row
    that cannot be understood ends it with an error that names the row (the chunks before it are in); with
    ``skip_bad`` it is counted among the failures, as are files that differ from those of the same name.
    ``tell`` gets the number of rows so far.
    """
    loaded = Loaded()
    if is_branch(path):
        _load_branch(site, path, loaded, tell)
        return loaded
    for batch in _batches(read(path)):
        rows: list[Row] = []
        for one in batch:
            if isinstance(one, Row):
                rows.append(one)
            elif skip_bad:
                loaded.fail(f"row {one.number}", one.error)
            else:
                raise _stopped(one, loaded.rows)
        _register(site, rows, loaded)
        loaded.rows += len(batch)
        tell(loaded.rows)
    return loaded


def dump_catalogue(
    site: Site,
    path: Path,
    base: Lfn = _ROOT,
    tell: Callable[[int], None] = lambda _: None,
) -> int:
    """Write every copy of every file below ``base`` to a table; return the number of rows.

    Where the name of the file ends in ``.jsonl`` or ``.jsonl.gz``, write all names with what is beside them.
    """
    if is_branch(path):
        records = Branch(site.catalogue, site.metadata, base).records()
        with appearing(path) as partial, text(path, partial, "wt") as stream:
            lines = (json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in records)
            return sum(1 for line in _counted(lines, tell) if stream.write(line + "\n"))
    return write(path, _counted(site.catalogue.find(base, "*"), tell))


def _register(site: Site, rows: list[Row], loaded: Loaded) -> None:
    registered = site.catalogue.register(row.file for row in rows)
    others = [
        NewReplica(row.file.lfn, row.file.se, row.file.url, row.state)
        for row in rows
        if row.state is not ReplicaState.AVAILABLE and row.file.se and row.file.lfn in registered.ok
    ]
    failed = {**registered.failed, **(site.catalogue.add_replicas(others).failed if others else {})}
    loaded.files += len(registered.ok)
    for name, error in failed.items():
        loaded.fail(name, error)


def _stopped(bad: Bad, done: int) -> VseError:
    todo = "correct it and run this again (what is loaded is left as it is), or give --skip-bad"
    found = f"{bad.error.found}; the {done:,} rows of the chunks before it are loaded"
    return BadRequest(bad.error.wanted, found, todo)


def _load_branch(site: Site, path: Path, loaded: Loaded, tell: Callable[[int], None]) -> None:
    maker = BranchMaker(site.catalogue, site.metadata, loaded.fail)
    last: Record | None = None
    for batch in _batches(_records(path)):
        if not loaded.rows and batch[0].get("kind") != "catalogue":
            raise _unsound(path, *_NO_DUMP)
        try:
            maker.make(batch)
        except UsageError as error:
            lines = f"lines {loaded.rows + 1} to {loaded.rows + len(batch)}"
            raise BadRequest(f"load {lines} of {path}", error.found, error.todo) from error
        loaded.rows, last = loaded.rows + len(batch), batch[-1]
        loaded.files, loaded.others = maker.files, maker.others
        tell(loaded.rows)
    if last is None:
        raise _unsound(path, *_NO_DUMP)
    if last.get("kind") != "end" or last.get("records") != loaded.rows - 2:
        raise _unsound(path, f"it breaks off after {loaded.rows:,} lines, which are loaded", "get it again")


def _records(path: Path) -> Iterator[Record]:
    done = 0
    try:
        with text(path, path, "rt") as stream:
            for line in stream:
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise _unsound(path, f"line {done + 1} is no JSON object")
                yield record
                done += 1
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _unsound(path, f"line {done + 1}: {error}") from error
        raise cannot_read(f"load {path}", error) from error
    except (EOFError, ValueError) as error:
        raise _unsound(path, f"line {done + 1}: {error}") from error


def _unsound(path: Path, found: str, todo: str = "") -> VseError:
    return BadRequest(f"load {path}", found, todo)


def _counted(files: Iterator[T], tell: Callable[[int], None]) -> Iterator[T]:
    for number, located in enumerate(files, 1):
        if number % _BATCH == 0:
            tell(number)
        yield located


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    source = iter(rows)
    while batch := list(islice(source, _BATCH)):
        yield batch
