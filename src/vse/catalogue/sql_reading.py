"""The reading half of the catalogue in a database; what jobs ask by the million is here, and nothing else.

A plain name is found with one statement. Only what is not found as it stands may be a link, a member
of a collection, or lie behind a link: that is asked of names which would otherwise not be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from vse.catalogue.beside import DIRECTORY, FILE, SPECIAL
from vse.catalogue.globs import Glob, matcher
from vse.catalogue.links import real_names
from vse.catalogue.sql_rows import Rows, by_name, split
from vse.catalogue.sql_statements import Matching, Statements
from vse.db import Database
from vse.db.prepared import Prepared, Row, as_json, chunks
from vse.errors import LinkLoop, NoSuchEntry
from vse.model import BulkResult, Clock, Entry, Lfn, Located

PAGE_FILES = 4096
FIRST_PAGE_FILES = 256
"""So that the first file of a find comes soon, and a small answer takes no second question."""
BULK_NAMES = 20_000
_Lfns = list[Lfn]
_Rows = list[Row]  # inside the class, list is the method


class Found(NamedTuple):
    """A name with the kind ('f', 'd', 's') and id that its rows have."""

    object: str
    id: int
    entry: Entry


class SqlNames:
    """`vse.catalogue.port.Names` in ``database``; see `vse.catalogue.sql.SqlCatalogue`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.statements = Statements(database.engine.dialect)
        self.rows = Rows(database, self.statements)

    def stat(self, lfns: Sequence[Lfn]) -> BulkResult[Entry]:
        """Describe names; see `vse.catalogue.port.Names.stat`."""
        result: BulkResult[Entry] = BulkResult()
        file = self.rows.file
        for row in self._file_rows(lfns):
            entry = file(row)
            result.ok[entry.lfn] = entry
        missing = [lfn for lfn in lfns if lfn not in result.ok]
        if missing:
            for entry in self.directories(missing):
                result.ok[entry.lfn] = entry
            missing = [lfn for lfn in missing if lfn not in result.ok]
        if missing and self._any_specials():
            found = self.objects(missing, follow_last=False)
            result.ok.update((lfn, one.entry) for lfn, one in found.ok.items())
            result.failed = found.failed
        elif missing:
            result.failed = {lfn: _not_there(f"describe {lfn}") for lfn in missing}
        return result

    def resolve(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """Return files with their replicas; see `vse.catalogue.port.Names.resolve`."""
        result: BulkResult[Located] = BulkResult()
        for located, _ in self.known(lfns):
            result.ok[located.entry.lfn] = located
        if len(result.ok) < len(lfns):
            missing = [lfn for lfn in lfns if lfn not in result.ok]
            if missing:
                self._resolve_further(missing, result)
        return result

    def _resolve_further(self, lfns: Sequence[Lfn], result: BulkResult[Located]) -> None:
        """Answer for names that are no files as they stand."""
        kinds: dict[str, str] = {entry.lfn: entry.kind for entry in self.directories(lfns)}
        others = [lfn for lfn in dict.fromkeys(lfns) if lfn not in kinds]
        if others and self._any_specials():
            found = self.objects(others, follow_last=True)
            led = {lfn: one.entry.lfn for lfn, one in found.ok.items() if one.object == FILE}
            kinds.update((lfn, one.entry.kind) for lfn, one in found.ok.items())
            files = {located.entry.lfn: located for located, _ in self.known([*led.values()])} if led else {}
            result.ok.update((lfn, files[real]) for lfn, real in led.items() if real in files)
            result.failed.update(
                (lfn, error if isinstance(error, LinkLoop) else NoSuchEntry(f"locate {lfn}", error.found))
                for lfn, error in found.failed.items()
            )
        for lfn in lfns:
            if lfn not in result.ok and lfn not in result.failed:
                result.failed[lfn] = _no_file(lfn, kinds.get(lfn))

    def objects(self, lfns: Sequence[Lfn], *, follow_last: bool) -> BulkResult[Found]:
        """Return what names are, of any kind, through all links on their way.

        ``follow_last``: a name that is a link itself stands for what it leads to, else for itself.
        """
        found = self._as_they_stand(lfns)
        result: BulkResult[Found] = BulkResult()
        result.ok.update(
            (lfn, one) for lfn, one in found.items() if not (follow_last and one.entry.kind == "link")
        )
        missing = [lfn for lfn in dict.fromkeys(lfns) if lfn not in result.ok]
        with self.database.mapped("read the catalogue"):
            reals = real_names(self.database.reader(), self.statements, missing, follow_last=follow_last)
        leads = {real for real in reals.values() if isinstance(real, Lfn)}
        behind = self._as_they_stand(list(leads)) if leads else {}
        for lfn in missing:
            real = reals.get(lfn)
            if isinstance(real, LinkLoop):
                result.failed[lfn] = real
            elif real is not None and real in behind:
                result.ok[lfn] = behind[real]
            else:
                result.failed[lfn] = _not_there(f"describe {lfn}", real)
        return result

    def _any_specials(self) -> bool:
        with self.database.mapped("read the catalogue"):
            return bool(self.statements.any_specials.rows(self.database.reader()))

    def _as_they_stand(self, lfns: Sequence[Lfn]) -> dict[Lfn, Found]:
        """Return those of ``lfns`` that are there, no link followed."""
        found = {one.entry.lfn: one for one in self._files(lfns)}
        others = [lfn for lfn in lfns if lfn not in found]
        if others:
            for row in self._directory_rows(others):
                entry = self.rows.directory(row)
                found[entry.lfn] = Found(DIRECTORY, row[0], entry)
            others = [lfn for lfn in others if lfn not in found]
        if others:
            with self.database.mapped("read the catalogue"):
                reader = self.database.reader()
                rows = self.statements.specials.rows(reader, as_json(map(split, others)))
            found.update((one.entry.lfn, one) for one in map(self._special, rows))
        return found

    def _files(self, lfns: Sequence[Lfn]) -> Iterable[Found]:
        return (Found(FILE, row[0], self.rows.file(row)) for row in self._file_rows(lfns))

    def _special(self, row: Row) -> Found:
        return Found(SPECIAL, row[0], self.rows.special(row))

    def known(self, lfns: Sequence[Lfn]) -> Iterator[tuple[Located, float | None]]:
        """Yield each of ``lfns`` that is a file, once, with the time (s) until which it is fresh.

        None: this catalogue owns the name. Else it is an upstream's answer, for the lookup cache.
        """
        if len(lfns) == 1:
            with self.database.mapped("read the catalogue"):
                rows = self.statements.located.rows(self.database.reader(), *split(lfns[0]))
            yield from self.rows.located(rows)
            return
        for part in chunks(dict.fromkeys(lfns), BULK_NAMES):
            with self.database.mapped("read the catalogue"):
                names = as_json(map(split, part))
                rows = self.statements.located_many.rows(self.database.reader(), names)
            yield from self.rows.located(rows)

    def list(self, directory: Lfn) -> Iterator[Entry]:
        """Yield what a directory holds; see `vse.catalogue.port.Names.list`."""
        row = next(iter(self._directory_rows([directory])), None)
        if row is not None:
            return self._children(row[0], row[1])
        behind = self.objects([directory], follow_last=True).ok.get(directory)
        if behind is not None and behind.object == DIRECTORY:
            return self._children(behind.id, behind.entry.lfn)
        if behind is not None and behind.entry.kind == "collection":
            return self._member_entries(behind.id)
        return iter((self.stat([directory]).one(directory),))

    def find(self, base: Lfn, pattern: str) -> Iterator[Located]:
        """Yield files below ``base``; see `vse.catalogue.port.Names.find`."""
        if self._file_rows([base]):
            return self._one_file(base, pattern)
        if self._any_specials():
            led = self.objects([base], follow_last=True)
            if isinstance(led.failed.get(base), LinkLoop):
                raise led.failed[base]
            if base in led.ok:
                behind = led.ok[base]
                if behind.entry.kind == "collection":
                    return self._located_members(behind.id, pattern)
                base = behind.entry.lfn
                if behind.object == FILE:
                    return self._one_file(base, pattern)
        return self._below(base, Glob.of(pattern, self.database.dialect))

    def member_pages(self, collection: int) -> Iterator[_Lfns]:
        """Yield the members of a collection in order, in lists."""
        last = -1
        while True:
            with self.database.mapped("read the catalogue"):
                rows = self.statements.members.rows(self.database.reader(), collection, last, PAGE_FILES)
            if not rows:
                return
            last = rows[-1][0]
            yield [Lfn(row[1]) for row in rows]

    def _member_entries(self, collection: int) -> Iterator[Entry]:
        for lfns in self.member_pages(collection):
            found = self.stat(lfns).ok
            yield from (found[lfn] for lfn in lfns if lfn in found)

    def _located_members(self, collection: int, pattern: str) -> Iterator[Located]:
        matches = matcher(pattern)
        for lfns in self.member_pages(collection):
            wanted = [lfn for lfn in lfns if matches(lfn.name)]
            found = self.resolve(wanted).ok
            yield from (found[lfn] for lfn in wanted if lfn in found)

    def _one_file(self, lfn: Lfn, pattern: str) -> Iterator[Located]:
        if matcher(pattern)(lfn.name):
            yield from (located for located, _ in self.known([lfn]))

    def _below(self, base: Lfn, glob: Glob) -> Iterator[Located]:
        path, name = str(base), ""
        accepts, most = glob.accepts, FIRST_PAGE_FILES
        while True:
            rows = self._page(path, name, base.rstrip("/"), glob, most)
            for located, _ in self.rows.located(rows):
                if accepts is None or accepts(located.entry.lfn.name):
                    yield located
            if len(rows) < most:  # of fewer files than were asked for in two places, there are no more
                return
            path, name = rows[-1][1:3]
            most = PAGE_FILES

    def _page(self, path: str, name: str, prefix: str, glob: Glob, most: int) -> _Rows:
        """The rows of the next files behind ``path``/``name``, fewer than ``most`` only at the end."""
        pattern = () if glob.matching == Matching.ALL else (glob.argument,)
        run = self.statements
        with self.database.mapped("read the catalogue"):
            reader = self.database.reader()
            rows = run.page(glob.matching, further=False).rows(reader, *pattern, path, name, most)
            if len(rows) < most:
                behind, end = max(path, prefix + "/"), prefix + "0"
                rows += run.page(glob.matching, further=True).rows(reader, *pattern, behind, end, most)
        rows.sort(key=by_name)
        return rows

    def _children(self, which: int, path: str) -> Iterator[Entry]:
        run = self.statements
        for rows in self._pages(run.subdirectories, which, 1):
            yield from map(self.rows.directory, rows)
        for rows in self._pages(run.children, path, 2):
            yield from map(self.rows.file, rows)
        for rows in self._pages(run.special_children, path, 2):
            yield from map(self.rows.special, rows)

    def _pages(self, ask: Prepared, directory: int | str, column: int) -> Iterator[_Rows]:
        """Yield the rows of a directory in pages; each begins behind ``column`` of the last row before."""
        last = ""
        while True:
            with self.database.mapped("read the catalogue"):
                rows = ask.rows(self.database.reader(), directory, last, PAGE_FILES)
            yield rows
            if len(rows) < PAGE_FILES:
                return
            last = rows[-1][column]

    def _file_rows(self, lfns: Sequence[Lfn]) -> _Rows:
        with self.database.mapped("read the catalogue"):
            reader = self.database.reader()
            if len(lfns) == 1:
                return self.statements.file.rows(reader, *split(lfns[0]))
            rows: _Rows = []
            for part in chunks(dict.fromkeys(lfns), BULK_NAMES):
                rows += self.statements.files.rows(reader, as_json(map(split, part)))
            return rows

    def _directory_rows(self, paths: Sequence[str]) -> _Rows:
        with self.database.mapped("read the catalogue"):
            return self.statements.directory_rows.rows(self.database.reader(), as_json(dict.fromkeys(paths)))

    def directories(self, paths: Sequence[str]) -> Iterator[Entry]:
        """Yield each of ``paths`` that is a directory."""
        return map(self.rows.directory, self._directory_rows(paths))


def _not_there(wanted: str, real: Lfn | None = None) -> NoSuchEntry:
    if real is None:
        return NoSuchEntry(wanted, "it is not in the catalogue", "look for it: vse ls, vse find")
    return NoSuchEntry(wanted, f"it leads to {real}, which is not in the catalogue")


def _no_file(lfn: Lfn, kind: str | None) -> NoSuchEntry:
    if kind is None:
        return _not_there(f"locate {lfn}")
    todo = "find it to get its members" if kind == "collection" else ""
    return NoSuchEntry(f"locate {lfn}", f"it is a {kind}", todo)
