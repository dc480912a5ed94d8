"""Load a catalogue from a file, and write it into one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from vse.app.site import Site
from vse.catalogue.dumps import Bad, Row, read, write
from vse.catalogue.port import NewReplica
from vse.errors import BadRequest, VseError
from vse.model import Lfn, Located, ReplicaState

MOST_FAILED = 1_000
_BATCH = 20_000
_ROOT = Lfn("/")


@dataclass(slots=True)
class Loaded:
    """What a load did: ``rows`` read, ``files`` registered (once for each of their rows).

    ``failed`` holds the first `MOST_FAILED` of the ``failures``, by name or ``row N``.
    """

    rows: int = 0
    files: int = 0
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
    """Register every row of a table, in chunks that are a transaction each; memory is constant.

    What is there already, the same, is left as it is: a load that was broken off can be run again. A row
    that cannot be understood ends it with an error that names the row (the chunks before it are in); with
    ``skip_bad`` it is counted among the failures, as are files that differ from those of the same name.
    ``tell`` gets the number of rows so far.
    """
    loaded = Loaded()
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
    """Write every copy of every file below ``base`` to a table; return the number of rows."""
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


def _counted(files: Iterator[Located], tell: Callable[[int], None]) -> Iterator[Located]:
    for number, located in enumerate(files, 1):
        if number % _BATCH == 0:
            tell(number)
        yield located


def _batches(rows: Iterable[Row | Bad]) -> Iterator[list[Row | Bad]]:
    source = iter(rows)
    while batch := list(islice(source, _BATCH)):
        yield batch
