"""The rows of a dump, whatever it is written in: streamed, checked, each with its number."""

from __future__ import annotations

import csv
import gzip
import re
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from vse.config.upstreams import UpstreamSettings

_WORDS = ("lfn", "size", "adler32", "guid", "se", "url", "owner", "group", "modified")
_OTHER_WORDS = {
    "lfn": ("name", "path", "logical_name", "file"),
    "size": ("size_bytes", "bytes", "filesize"),
    "adler32": ("checksum", "adler", "ad"),
    "guid": ("uuid",),
    "se": ("element", "rse", "storage_element"),
    "url": ("pfn", "surl", "physical_name"),
    "modified": ("mtime", "modified_s", "ctime"),
}
_HEX = re.compile(r"(?:0x)?([0-9a-fA-F]{1,8})")
_HEX32 = re.compile(r"[0-9a-f]{32}")
_SQLITE = (".db", ".sqlite", ".sqlite3")
_MOST_FIELD_CHARS = 1 << 20

Values = Sequence[Any]
Numbered = Generator[tuple[int, Values], None, None]


class Unreadable(ValueError):
    """The dump is not what it says; its text tells what was found, and where."""


class Copy(NamedTuple):
    """One row. ``line`` numbers it: of a CSV its line, of the others from 1."""

    name: str
    se: str
    size: int
    adler32: int | None
    guid: bytes | None
    url: str | None
    owner: str
    group: str
    modified: float
    line: int


def copies(path: Path, settings: UpstreamSettings) -> Generator[Copy, None, None]:
    """Yield the rows of a dump; raises `Unreadable`, `OSError`."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    if kind == "parquet":
        rows = _parquet(path)
    elif path.suffix.lower() in _SQLITE:
        rows = _sqlite(path, settings.table)
    elif kind in ("csv", "tsv", "txt"):
        rows = _csv(path)
    else:
        raise Unreadable("its name ends in none of .csv, .tsv, .txt, .parquet, .db, .sqlite")
    with closing(rows):
        _, header = next(rows, (0, ()))
        places = _places([str(name) for name in header], settings)
        for line, values in rows:
            yield _copy(values, places, settings.element, line)


def _places(header: Sequence[str], settings: UpstreamSettings) -> dict[str, int]:
    """Return the place of each of our words in a row."""
    lower = {name.strip().lower(): place for place, name in enumerate(header)}
    places: dict[str, int] = {}
    for word in _WORDS:
        given = settings.columns.get(word)
        names = (given,) if given is not None else (word, *_OTHER_WORDS.get(word, ()))
        place = next((lower[name.lower()] for name in names if name.lower() in lower), None)
        if place is not None:
            places[word] = place
        elif given is not None:
            raise Unreadable(f"it has no column {given!r} (upstreams.{settings.name}.columns.{word})")
    missing = [word for word in ("lfn", "size") if word not in places]
    if missing:
        columns = ", ".join(header) or "none"
        raise Unreadable(
            f"no column is the {missing[0]} (settings 'columns'); its columns are {columns[:200]}"
        )
    return places


def _copy(values: Values, places: dict[str, int], element: str, line: int) -> Copy:
    def text(word: str) -> str:
        place = places.get(word)
        value = values[place] if place is not None else None
        return "" if value is None else str(value).strip()

    name = text("lfn")
    if not name or any(ord(char) < 32 for char in name):
        raise Unreadable(f"row {line} has no name that can be one ({name[:60]!r})")
    try:
        size, modified = int(text("size")), float(text("modified") or 0)
        adler32, guid = _adler32(text("adler32")), _guid(text("guid"))
    except ValueError as error:
        raise Unreadable(f"row {line} ({name[:100]}): {error}") from error
    if size < 0:
        raise Unreadable(f"row {line} ({name[:100]}): its size is {size}")
    url = text("url") or None
    return Copy(
        name, text("se") or element, size, adler32, guid, url, text("owner"), text("group"), modified, line
    )


def _adler32(text: str) -> int | None:
    if not text:
        return None
    found = _HEX.fullmatch(text.lower().removeprefix("adler32:").removeprefix("ad:"))
    if found is None:
        raise ValueError(f"its Adler-32 sum is {text[:40]!r}, not 8 hex digits")
    return int(found[1], 16)


def _guid(text: str) -> bytes | None:
    if not text:
        return None
    digits = text.replace("-", "").lower()
    if not _HEX32.fullmatch(digits):
        raise ValueError(f"its GUID is {text[:40]!r}")
    return bytes.fromhex(digits)


def _csv(path: Path) -> Numbered:
    with (
        gzip.open(path, "rt", encoding="utf-8", newline="")
        if path.suffix == ".gz"
        else path.open(encoding="utf-8", newline="")
    ) as file:
        lines = _whole_lines(file)
        first = next(lines, "")
        delimiter = max("\t,;|", key=first.count)
        csv.field_size_limit(_MOST_FIELD_CHARS)
        try:
            header = next(csv.reader([first], delimiter=delimiter), [])
            yield 1, header
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            for values in reader:
                if not values:
                    continue
                if len(values) != len(header):
                    found = f"line {reader.line_num + 1} has {len(values)} of {len(header)} columns"
                    raise Unreadable(f"{found}: {delimiter.join(values)[:60]!r}")
                yield reader.line_num + 1, values
        except (csv.Error, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise Unreadable(f"it is no CSV ({error})") from error


def _whole_lines(file: Iterable[str]) -> Iterator[str]:
    """Yield lines; one without its end is what a copy that broke off leaves."""
    try:
        for number, line in enumerate(file, 1):
            if not line.endswith(("\n", "\r")):
                raise Unreadable(f"it ends in the middle of line {number}: {line[:60]!r}")
            yield line
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not in UTF-8 ({error})") from error


def _parquet(path: Path) -> Numbered:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise Unreadable("reading Parquet needs pyarrow: install the extra 'parquet'") from error
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            yield 0, names
            line = 0
            for batch in file.iter_batches(batch_size=10_000):
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    line += 1
                    yield line, values
    except pyarrow.ArrowException as error:
        raise Unreadable(f"it is no Parquet ({str(error).splitlines()[0]})") from error


def _sqlite(path: Path, table: str) -> Numbered:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as database:
            name = table or _only_table(database)
            quoted = '"' + name.replace('"', '""') + '"'
            rows = database.execute(f"SELECT * FROM {quoted}")  # noqa: S608  # from the site's settings
            yield 0, [column[0] for column in rows.description]
            yield from enumerate(rows, 1)
    except sqlite3.Error as error:
        raise Unreadable(f"it cannot be read as SQLite ({error})") from error


def _only_table(database: sqlite3.Connection) -> str:
    query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
    names = [str(row[0]) for row in database.execute(query)]
    if len(names) != 1:
        raise Unreadable(f"it has {len(names)} tables; name one in the settings ('table')")
    return names[0]
