"""The catalogue in a database: SQLite for one machine, PostgreSQL for a site, the same code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vse.catalogue.directories import MODE
from vse.catalogue.globs import Glob, matcher
from vse.catalogue.port import NewReplica
from vse.catalogue.sql_names import make_names, remove_names, rename_name
from vse.catalogue.sql_rows import Rows, join, split
from vse.catalogue.sql_statements import Matching, Statements
from vse.catalogue.sql_writing import CHUNK_FILES, register
from vse.db import Database
from vse.db.prepared import Row, as_json, chunks
from vse.errors import NoSuchEntry, NoSuchReplica
from vse.model import BulkResult, Clock, Entry, Lfn, Located, NewFile

PAGE_FILES = 4096
_BULK_NAMES = 20_000
_ROOT = "root"
_Rows = list[Row]  # inside the class, list is the method


class SqlCatalogue:
    """The catalogue (`vse.catalogue.port.Catalogue`) in ``database``.

    Safe to share between threads. Reading calls wait for no writer. `find` and `list` read page by
    page, each page a snapshot of its own: what is added or removed meanwhile may be in the answer or not,
    what stays is in it exactly once, and nothing is held while the caller thinks.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.statements = Statements(database.engine.dialect)
        self.rows = Rows(database, self.statements)
        self._ensure_root()

    # -- reading ----------------------------------------------------------------------------------

    def stat(self, lfns: Sequence[Lfn]) -> BulkResult[Entry]:
        """Describe files and directories; see `vse.catalogue.port.Names.stat`."""
        result: BulkResult[Entry] = BulkResult()
        file = self.rows.file
        for row in self._file_rows(lfns):
            entry = file(row)
            result.ok[entry.lfn] = entry
        missing = [lfn for lfn in lfns if lfn not in result.ok]
        if missing:
            for entry in self.directories(missing):
                result.ok[entry.lfn] = entry
            result.failed = {
                lfn: NoSuchEntry(f"describe {lfn}", "it is not in the catalogue")
                for lfn in missing
                if lfn not in result.ok
            }
        return result

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """Return files with their replicas; see `vse.catalogue.port.Names.resolve`."""
        result: BulkResult[Located] = BulkResult()
        for located, _ in self.known(lfns):
            result.ok[located.entry.lfn] = located
        missing = [lfn for lfn in lfns if lfn not in result.ok]
        if missing:
            directories = {entry.lfn for entry in self.directories(missing)}
            for lfn in missing:
                found = "it is a directory" if lfn in directories else "it is not in the catalogue"
                result.failed[lfn] = NoSuchEntry(f"locate {lfn}", found)
        return result

    def known(self, lfns: Sequence[Lfn]) -> Iterator[tuple[Located, float | None]]:
        """Yield each of ``lfns`` that is a file, once, with the time (s) until which it is fresh.

        None: this catalogue owns the name. Else it is an upstream's answer, for the lookup cache.
        """
        if len(lfns) == 1:
            with self.database.mapped("read the catalogue"):
                rows = self.statements.located.rows(self.database.reader(), *split(lfns[0]))
            yield from self.rows.located(rows)
            return
        for part in chunks(dict.fromkeys(lfns), _BULK_NAMES):
            with self.database.mapped("read the catalogue"):
                names = as_json(map(split, part))
                rows = self.statements.located_many.rows(self.database.reader(), names)
            yield from self.rows.located(rows)

    def list(self, directory: Lfn) -> Iterator[Entry]:
        """Yield the direct children; see `vse.catalogue.port.Names.list`."""
        row = next(iter(self._directory_rows([directory])), None)
        if row is None:
            entry = self.stat([directory]).one(directory)
            return iter((entry,))
        return self._children(row[0], row[1])

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """Yield files below ``base``; see `vse.catalogue.port.Names.find`."""
        if self._file_rows([base]):
            return self._one_file(base, pattern)
        return self._below(base, Glob.of(pattern, self.database.dialect))

    def _one_file(self, lfn: Lfn, pattern: str) -> Iterator[Located]:
        if matcher(pattern)(lfn.name):
            yield from (located for located, _ in self.known([lfn]))

    def _below(self, base: Lfn, glob: Glob) -> Iterator[Located]:
        path, name = str(base), ""
        while True:
            rows = self._page(path, name, base.rstrip("/"), glob)
            located = None
            for located, _ in self.rows.located(rows):
                if glob.accepts is None or glob.accepts(located.entry.lfn.name):
                    yield located
            if located is None:
                return
            path, name = split(located.entry.lfn)

    def _page(self, path: str, name: str, prefix: str, glob: Glob) -> _Rows:
        """The rows of the next files behind ``path``/``name``; none at the end."""
        pattern = () if glob.matching == Matching.ALL else (glob.argument,)
        run = self.statements
        with self.database.mapped("read the catalogue"):
            reader = self.database.reader()
            rows = run.page(glob.matching, further=False).rows(reader, *pattern, path, name, PAGE_FILES)
            if len(rows) < PAGE_FILES:
                behind, end = max(path, prefix + "/"), prefix + "0"
                rows += run.page(glob.matching, further=True).rows(reader, *pattern, behind, end, PAGE_FILES)
        return rows

    def _children(self, which: int, path: str) -> Iterator[Entry]:
        run, last = self.statements, ""
        while True:
            with self.database.mapped("read the catalogue"):
                rows = run.subdirectories.rows(self.database.reader(), which, last, PAGE_FILES)
            yield from map(self.rows.directory, rows)
            if len(rows) < PAGE_FILES:
                break
            last = rows[-1][1]
        last = ""
        while True:
            with self.database.mapped("read the catalogue"):
                rows = run.children.rows(self.database.reader(), path, last, PAGE_FILES)
            yield from map(self.rows.file, rows)
            if len(rows) < PAGE_FILES:
                return
            last = rows[-1][2]

    def _file_rows(self, lfns: Sequence[Lfn]) -> _Rows:
        with self.database.mapped("read the catalogue"):
            reader = self.database.reader()
            if len(lfns) == 1:
                return self.statements.file.rows(reader, *split(lfns[0]))
            rows: _Rows = []
            for part in chunks(dict.fromkeys(lfns), _BULK_NAMES):
                rows += self.statements.files.rows(reader, as_json(map(split, part)))
            return rows

    def _directory_rows(self, paths: Sequence[str]) -> _Rows:
        with self.database.mapped("read the catalogue"):
            return self.statements.directory_rows.rows(self.database.reader(), as_json(dict.fromkeys(paths)))

    def directories(self, paths: Sequence[str]) -> Iterator[Entry]:
        """Yield each of ``paths`` that is a directory."""
        return map(self.rows.directory, self._directory_rows(paths))

    # -- writing ----------------------------------------------------------------------------------

    def register(self, files: Iterable[NewFile]) -> BulkResult[Lfn]:
        """Add files; see `vse.catalogue.port.Catalogue.register`.

        A size that is known to differ, or a checksum known on both sides, makes another file; a
        checksum or GUID not known before is taken in. The same name given twice is treated as in two
        calls, and stands under ``failed`` if either failed. Missing directories get the owner and
        group of the first file that needs them.
        """
        wanted = [*files]
        result: BulkResult[Lfn] = BulkResult()
        self.rows.principals.ids({name for file in wanted for name in (file.owner, file.group)})
        self.rows.elements.ids({file.se for file in wanted if file.se is not None})
        with self.database.write_names() as driver:
            for part in chunks(wanted, CHUNK_FILES):
                done = register(driver, self.statements, self.rows, part, self.clock())
                result.ok.update(done.ok)
                result.failed.update(done.failed)
        for lfn in result.failed:
            result.ok.pop(lfn, None)
        return result

    def add_replicas(self, replicas: Iterable[NewReplica]) -> BulkResult[None]:
        """Add copies or update them; see `vse.catalogue.port.Catalogue.add_replicas`."""
        wanted = [*replicas]
        result: BulkResult[None] = BulkResult()
        elements = self.rows.elements.ids({replica.se for replica in wanted})
        with self.database.write_names() as driver:
            ids = self._ids(driver, [replica.lfn for replica in wanted])
            copies: _Rows = []
            inside: _Rows = []
            for replica in wanted:
                lfn, which = replica.lfn, ids.get(replica.lfn)
                if which is None:
                    found = "it is not a file of the catalogue"
                    result.failed[lfn] = NoSuchEntry(f"add a replica of {lfn}", found, "register it first")
                    continue
                state = str(replica.state)
                copies.append((which, elements[replica.se], replica.url, state, None, None, None))
                if replica.contents is not None:
                    inside.append((which, *replica.contents))
                result.ok[lfn] = None
            self.statements.put_replica.many(driver, copies)
            self.statements.put_contents.many(driver, inside)
        return result

    def remove_replicas(self, lfns: Sequence[Lfn], se: str) -> BulkResult[None]:
        """Forget copies at ``se``; see `vse.catalogue.port.Catalogue.remove_replicas`."""
        result: BulkResult[None] = BulkResult()
        element = self.rows.elements.known(se)
        with self.database.write_names() as driver:
            ids = self._ids(driver, lfns)
            for lfn in dict.fromkeys(lfns):
                which = ids.get(lfn)
                if which is None or not self.statements.remove_replica.run(driver, which, element):
                    found = f"none is known at {se}"
                    result.failed[lfn] = NoSuchReplica(f"forget the replica of {lfn}", found)
                else:
                    result.ok[lfn] = None
        return result

    def note_access(self, lfns: Sequence[Lfn], se: str, when_s: float) -> None:
        """Record reads; see `vse.catalogue.port.Catalogue.note_access`. Never goes back in time."""
        element = self.rows.elements.known(se)
        if element is None:
            return
        with self.database.write_names() as driver:
            ids = self._ids(driver, lfns)
            rows = [(when_s, which, element) for which in ids.values()]
            self.statements.note_access.many(driver, rows)

    def remove(self, lfns: Sequence[Lfn]) -> BulkResult[None]:
        """Remove names; see `vse.catalogue.port.Catalogue.remove`.

        Files go first and deeper directories before those above them, so that a directory can be given
        together with all that it holds, in any order.
        """
        with self.database.write_names() as driver:
            return remove_names(driver, self.statements, lfns, self.clock())

    def make_directories(self, lfns: Sequence[Lfn], owner: str, group: str) -> BulkResult[None]:
        """Make directories and those missing above them; see `vse.catalogue.port.Catalogue`."""
        ids = self.rows.principals.ids({owner, group})
        with self.database.write_names() as driver:
            return make_names(driver, self.statements, lfns, (ids[owner], ids[group]), self.clock())

    def rename(self, source: Lfn, target: Lfn) -> None:
        """Rename a name; see `vse.catalogue.port.Catalogue.rename`.

        Missing directories above ``target`` are made. Of a directory only directory rows are touched,
        however many files are below it. Also raises `BadRequest` (the root, a directory into itself)
        and `BadLfn` where a name below would become too long.
        """
        with self.database.write_names() as driver:
            rename_name(driver, self.statements, source, target, self.clock())

    def _ids(self, driver: Any, lfns: Sequence[str]) -> dict[str, int]:
        """Return the ids of those ``lfns`` that are files, inside a transaction."""
        found: dict[str, int] = {}
        for part in chunks(dict.fromkeys(lfns), _BULK_NAMES):
            for row in self.statements.files.rows(driver, as_json(map(split, part))):
                found[join(row[1], row[2])] = row[0]
        return found

    def _ensure_root(self) -> None:
        if self._directory_rows(["/"]):
            return
        root = self.rows.principals.ids([_ROOT])[_ROOT]
        with self.database.write_names() as driver:
            if not self.statements.directory_rows.rows(driver, as_json(["/"])):
                next_id = self.statements.last_ids.rows(driver)[0][0] + 1
                now_s = self.clock()
                row = (next_id, "/", None, root, root, MODE, now_s, now_s)
                self.statements.add_directory.many(driver, [row])
