"""What a writing call does to files, chunk by chunk inside its one transaction.

`Chunk` is the working set: what is there of the names in question, and the rows that are to be added.
Ids are given out here, above the greatest one, because writers of names take turns
(`vse.db.Database.write_names`) and a driver's bulk insert tells none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vse.catalogue.beside import FILE, Beside, difference
from vse.catalogue.directories import Directories, InTheWay
from vse.catalogue.sql_rows import Rows, join, split
from vse.catalogue.sql_statements import Statements
from vse.db.prepared import Row, as_json
from vse.errors import AlreadyExists
from vse.model import BulkResult, Lfn, NewFile, ReplicaState

CHUNK_FILES = 20_000


@dataclass(slots=True)
class Known:
    """A file of the tables, or one planned in this transaction."""

    id: int
    directory_id: int
    size_bytes: int
    adler32: int | None
    guid: bytes | None
    modified_s: float
    fresh_until_s: float | None

    def differs(self, size_bytes: int, adler32: int | None) -> str:
        """Say how another size and checksum disagree; empty where they do not. None fits any checksum."""
        if self.size_bytes != size_bytes:
            return f"it is there with {self.size_bytes} bytes, not {size_bytes}"
        if adler32 is not None and self.adler32 is not None and adler32 != self.adler32:
            return f"it is there with adler32 {self.adler32:08x}, not {adler32:08x}"
        return ""


class Chunk:
    """Some names within a transaction: `look_up` first, then plan, then `flush`."""

    def __init__(self, driver: Any, statements: Statements, beside: Beside, now_s: float) -> None:
        self.driver = driver
        self.statements = statements
        self.beside = beside
        self.now_s = now_s
        last_directory, last_file = statements.last_ids.rows(driver)[0]
        self.directories = Directories(driver, statements, beside, now_s, last_directory + 1)
        self.files: dict[str, Known] = {}
        self.replicas: list[Row] = []
        self.contents: list[Row] = []
        self._next_file_id = self._first_file_id = last_file + 1
        self._specials: dict[str, str] = {}
        self._new: list[Row] = []
        self._described: dict[int, Known] = {}

    def look_up(self, lfns: Iterable[str]) -> None:
        """Learn what is there of ``lfns``."""
        pairs = {lfn: split(lfn) for lfn in lfns}
        self.directories.look_up({path for path, _ in pairs.values()})
        self.directories.look_up_below(pairs)
        ids = self.directories.ids
        old = [pair for pair in pairs.values() if pair[0] in ids]
        if old:
            for row in self.statements.files.rows(self.driver, as_json(old)):
                self.files[join(row[1], row[2])] = Known(
                    row[0], ids[row[1]], row[3], row[4], row[5], row[10], row[11]
                )
            new = [pair for lfn, pair in pairs.items() if pair[0] in ids and lfn not in self.files]
            if new and self.statements.any_specials.rows(self.driver):
                special = self.statements.specials.rows(self.driver, as_json(new))
                self._specials = {join(row[1], row[2]): row[3] for row in special}

    def add(self, file: NewFile, owner_id: int, group_id: int, fresh_until_s: float | None) -> Known:
        """Plan a new file, and the directories it needs; raise `AlreadyExists` for what is in its way."""
        path, name = split(file.lfn)
        directory_id = self.directories.ids.get(path)
        if directory_id is None:
            try:
                directory_id = self.directories.ensure(path, owner_id, group_id, self.files)
            except InTheWay as way:
                raise AlreadyExists(f"register {file.lfn}", str(way)) from None
        if file.lfn in self.directories.ids:
            raise AlreadyExists(f"register {file.lfn}", "it is a directory", "choose another name")
        if file.lfn in self._specials:
            found = f"it is a {self._specials[file.lfn]}"
            raise AlreadyExists(f"register {file.lfn}", found, "choose another name")
        which = self._next_file_id
        self._next_file_id += 1
        modified_s = self.now_s if file.modified_s is None else file.modified_s
        self._new.append(
            (
                which,
                directory_id,
                name,
                file.size_bytes,
                file.adler32,
                file.guid,
                owner_id,
                group_id,
                file.mode,
                self.now_s,
                modified_s,
                fresh_until_s,
            )
        )
        self.directories.touch(directory_id)
        known = Known(
            which, directory_id, file.size_bytes, file.adler32, file.guid, modified_s, fresh_until_s
        )
        self.files[file.lfn] = known
        return known

    def describe(self, known: Known) -> None:
        """Write the values of ``known``, which were changed, into its row."""
        self._described[known.id] = known

    def flush(self, own: bool) -> None:
        """Write what was planned; ``own`` says whether replicas and contents are known by ourselves."""
        run = self.statements
        self.directories.flush()
        if self._new:
            self.beside.clear_new(self.driver, FILE, self._first_file_id)
            run.add_file.many(self.driver, self._new)
            self._inherit()
        described = [
            (known.size_bytes, known.adler32, known.guid, known.modified_s, known.fresh_until_s, known.id)
            for known in self._described.values()
        ]
        run.describe_file.many(self.driver, described)
        (run.put_replica if own else run.tell_replica).many(self.driver, self.replicas)
        (run.put_contents if own else run.tell_contents).many(self.driver, self.contents)

    def _inherit(self) -> None:
        """Give new files the default access entries of their directories."""
        defaults = self.directories.defaults(row[1] for row in self._new)
        if defaults:
            made = [(FILE, row[0], defaults[row[1]]) for row in self._new if row[1] in defaults]
            self.beside.inherit(self.driver, made)


class _Sums:
    """The checksums beside adler32: what is known of the files of a chunk, and what is to be added."""

    def __init__(self, chunk: Chunk, files: Sequence[NewFile]) -> None:
        self._beside, self._driver = chunk.beside, chunk.driver
        told = (chunk.files.get(file.lfn) for file in files if file.checksums)
        old = [known.id for known in told if known is not None]
        self._known = chunk.beside.checksums(chunk.driver, old) if old else {}
        self._new: list[Row] = []

    def difference(self, known: Known, file: NewFile) -> str:
        return difference(self._known.get(known.id, {}), file.checksums)

    def add(self, known: Known, file: NewFile) -> None:
        values = self._known.setdefault(known.id, {})
        for one in file.checksums:
            if one.algorithm not in values:
                values[one.algorithm] = one.value
                self._new.append((known.id, *one))

    def flush(self) -> None:
        self._beside.add_checksums(self._driver, self._new)


def register(
    driver: Any,
    statements: Statements,
    rows: Rows,
    beside: Beside,
    files: Sequence[NewFile],
    now_s: float,
) -> BulkResult[Lfn]:
    """Register one chunk of files (whose people and elements are interned) in order."""
    result: BulkResult[Lfn] = BulkResult()
    chunk = Chunk(driver, statements, beside, now_s)
    chunk.look_up(file.lfn for file in files)
    sums = _Sums(chunk, files)
    people, places = rows.principals.ids(()), rows.elements.ids(())
    available = str(ReplicaState.AVAILABLE)
    for file in files:
        lfn = file.lfn
        known = chunk.files.get(lfn)
        try:
            if known is None:
                known = chunk.add(file, people[file.owner], people[file.group], None)
            else:
                _take_over(chunk, known, file, sums.difference(known, file) if file.checksums else "")
        except AlreadyExists as error:
            result.failed[lfn] = error
            continue
        if file.checksums:
            sums.add(known, file)
        if file.se is not None:
            chunk.replicas.append((known.id, places[file.se], file.url, available, None, None, None))
        if file.contents is not None:
            chunk.contents.append((known.id, *file.contents))
        result.ok[lfn] = lfn
    chunk.flush(own=True)
    sums.flush()
    return result


def _take_over(chunk: Chunk, known: Known, file: NewFile, other_sum: str) -> None:
    """Let a file that is there gain what ``file`` says more, if it is the same one."""
    differs = known.differs(file.size_bytes, file.adler32) or other_sum
    if differs:
        raise AlreadyExists(
            f"register {file.lfn}",
            differs,
            "files are write-once: remove it first, or choose another name",
        )
    adler32 = file.adler32 if known.adler32 is None else known.adler32
    guid = file.guid if known.guid is None else known.guid
    if (adler32, guid, None) != (known.adler32, known.guid, known.fresh_until_s):
        known.adler32, known.guid, known.fresh_until_s = adler32, guid, None
        chunk.describe(known)
