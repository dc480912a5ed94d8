"""Catalogues as tables in files, CSV and Parquet: one row for each copy of a file, read and written in order.

The columns are `COLUMNS`; only ``lfn`` and ``size_bytes`` must be there. A file without copies is one row
with an empty ``se``. The format is described in docs/formats.md.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from vse.errors import BadRequest, BadSettings, StorageFault, VseError, cannot_read
from vse.model import Checksum, Contents, Lfn, Located, NewFile, ReplicaState

COLUMNS = (
    "lfn",
    "size_bytes",
    "adler32",
    "guid",
    "owner",
    "group",
    "mode",
    "modified_s",
    "se",
    "url",
    "state",
    "tree",
    "entries",
)
_ALSO = {"name": "lfn", "path": "lfn", "size": "size_bytes", "bytes": "size_bytes", "rse": "se", "pfn": "url"}
_NUMBERS = {"size_bytes": "int64", "entries": "int64", "modified_s": "double"}
_ROWS = 20_000
Cells = Sequence[Any]


class Row(NamedTuple):
    """One row: a file with at most one copy, in ``state``."""

    file: NewFile
    state: ReplicaState


class Bad(NamedTuple):
    """A row that cannot be understood."""

    number: int
    error: VseError


def read(path: Path) -> Iterator[Row | Bad]:
    """Yield the rows of a file, in its order; the first row is number 1. Memory is constant.

    The name tells the format: ``.csv``, ``.csv.gz`` or ``.parquet``; ``-`` is CSV from standard input.
    Raises `BadRequest` for another name, a header that is not understood, or what is no such file.
    """
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _csv_rows(path)
    header = next(rows, None)
    if header is None:
        raise _unreadable(path, "it is empty", "its first line must name the columns")
    columns = _columns(path, [str(one) for one in header])
    for number, cells in enumerate(rows, 1):
        if cells:
            yield _row(path, number, columns, cells)


def write(path: Path, files: Iterable[Located]) -> int:
    """Write every copy of ``files``; return the number of rows. The file appears when it is whole.

    Formats as for `read`.
    """
    if str(path) == "-":
        return _write_csv(sys.stdout, files)
    with appearing(path) as partial:
        if path.suffix == ".parquet":
            return _write_parquet(partial, files)
        with text(path, partial, "wt") as stream:
            return _write_csv(stream, files)


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a place to write to, which becomes ``path`` at the end; nothing is left of it after an error."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise StorageFault(
            f"write {path}", error.strerror or str(error), "make room, or choose another place"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def is_branch(path: Path) -> bool:
    """Whether a name says that a file holds records of a whole branch, not a table."""
    return path.name.endswith((".jsonl", ".jsonl.gz"))


# -- one row -------------------------------------------------------------------------------------------


def _columns(path: Path, header: Sequence[str]) -> list[str]:
    columns = [_ALSO.get(name.strip().lower(), name.strip().lower()) for name in header]
    for name in columns:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"did you mean {near[0]}? The " if near else "the "
            raise _unreadable(
                path, f"its column {name!r} is unknown", f"{hint}columns are {', '.join(COLUMNS)}"
            )
    missing = {"lfn", "size_bytes"} - set(columns)
    if missing or len(set(columns)) < len(columns):
        found = f"it has no column {missing.pop()}" if missing else "a column is there twice"
        raise _unreadable(path, found, "its first line must name the columns")
    return columns


def _row(path: Path, number: int, columns: Sequence[str], cells: Cells) -> Row | Bad:
    try:
        if len(cells) != len(columns):
            raise BadRequest("", f"it has {len(cells)} columns instead of {len(columns)}")
        return _parsed(dict(zip(columns, cells, strict=True)))
    except (VseError, ValueError) as error:
        found = error.found if isinstance(error, VseError) else str(error)
        return Bad(number, BadRequest(f"read row {number} of {path}", found))


def _parsed(cell: dict[str, Any]) -> Row:
    def given(name: str) -> Any:
        return cell.get(name) or None

    se, tree, mode, modified = given("se"), cell.get("tree"), given("mode"), cell.get("modified_s")
    adler32, guid, entries = given("adler32"), given("guid"), cell.get("entries")
    file = NewFile(
        lfn=Lfn.parse(str(cell["lfn"])),
        size_bytes=_size(cell["size_bytes"]),
        adler32=int(Checksum.parse(f"adler32:{adler32}").value, 16) if adler32 else None,
        se=se,
        url=given("url"),
        guid=uuid.UUID(str(guid)).bytes if guid else None,
        owner=given("owner") or "root",
        group=given("group") or "root",
        mode=int(str(mode), 8) if mode else 0o644,
        modified_s=None if modified in (None, "") else float(modified),
        contents=None if entries in (None, "") else Contents(tree or "", int(entries)),
    )
    return Row(file, ReplicaState(given("state") or "available"))


def _size(cell: Any) -> int:
    size_bytes = int(cell)
    if size_bytes < 0:
        raise ValueError(f"size_bytes is {size_bytes}")
    return size_bytes


def _cells(located: Located) -> Iterator[tuple[Any, ...]]:
    entry, inside = located.entry, located.contents
    first = (
        entry.lfn,
        entry.size_bytes,
        None if entry.checksum is None else entry.checksum.value,
        None if entry.uuid is None else str(entry.uuid),
        entry.owner,
        entry.group,
        f"{entry.mode:04o}",
        entry.modified_s,
    )
    last = (None, None) if inside is None else (inside.tree, inside.entries)
    for replica in located.replicas:
        yield (*first, replica.se, replica.url, str(replica.state), *last)
    if not located.replicas:
        yield (*first, None, None, None, *last)


# -- CSV -----------------------------------------------------------------------------------------------


def _csv_rows(path: Path) -> Iterator[Cells]:
    if str(path) == "-":
        yield from csv.reader(sys.stdin)
        return
    try:
        with text(path, path, "rt") as stream:
            yield from csv.reader(stream, strict=True)
    except (OSError, UnicodeDecodeError, EOFError, csv.Error) as error:
        raise _not_read(path, error) from error


def _write_csv(stream: IO[str], files: Iterable[Located]) -> int:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for located in files:
        for cells in _cells(located):
            writer.writerow(cells)
            count += 1
    return count


@contextmanager
def text(named: Path, path: Path, mode: str) -> Iterator[IO[str]]:
    """Open ``path`` as text in the format that ``named`` has by its name; `BadRequest` where that is none."""
    if named.name.endswith((".csv.gz", ".jsonl.gz")):
        with gzip.open(path, mode, encoding="utf-8", newline="") as stream:
            yield cast("IO[str]", stream)
    elif named.suffix in (".csv", ".jsonl"):
        with path.open(mode, encoding="utf-8", newline="") as plain:
            yield plain
    else:
        raise _unreadable(
            named, "its name tells no format", "call it .csv, .csv.gz, .parquet, .jsonl or .jsonl.gz"
        )


# -- Parquet -------------------------------------------------------------------------------------------


def _parquet_rows(path: Path) -> Iterator[Cells]:
    parquet, arrow = _parquet(path)
    try:
        with parquet.ParquetFile(path) as file:
            yield file.schema_arrow.names
            for batch in file.iter_batches(_ROWS):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
    except (OSError, arrow.ArrowException) as error:
        raise _not_read(path, error) from error


def _write_parquet(path: Path, files: Iterable[Located]) -> int:
    parquet, arrow = _parquet(path)
    types: dict[str, Callable[[], Any]] = {"int64": arrow.int64, "double": arrow.float64}
    schema = arrow.schema([(name, types.get(_NUMBERS.get(name, ""), arrow.string)()) for name in COLUMNS])
    rows = (cells for located in files for cells in _cells(located))
    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(rows, _ROWS)):
            columns = [
                arrow.array(column, field.type)
                for column, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_batch(arrow.record_batch(columns, schema=schema))
            count += len(batch)
    return count


def _parquet(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        wanted = f"use the Parquet file {path}"
        todo = "pip install 'virtual-storage-element[parquet]', or use CSV"
        raise BadSettings(wanted, "the package pyarrow is not installed", todo) from error
    return parquet, pyarrow


def _not_read(path: Path, error: Exception) -> VseError:
    if isinstance(error, OSError) and error.errno:
        return cannot_read(f"use the table {path}", OSError(error.errno, os.strerror(error.errno)))
    return _unreadable(path, str(error).partition("\n")[0])


def _unreadable(path: Path, found: str, todo: str = "") -> BadRequest:
    return BadRequest(f"use the table {path}", found, todo)
