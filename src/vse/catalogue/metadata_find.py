"""Finding files by a condition on their fields and tags, as a stream.

What the rows of files tell is asked of the database. What tags tell is decided once per directory: the
walk goes through the directories in the order of their paths, with a stack of those above that have tags,
and reads the files of those directories alone where some can be meant. Where few directories have a value
that a tag must have, the walk goes through those and what is below them alone. Only where files themselves
have one of the tags are they decided one by one. Memory: one page of directories and one of files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from vse.catalogue.globs import Glob
from vse.catalogue.links import upwards
from vse.catalogue.metadata_filters import Pushing, by_index, holds
from vse.catalogue.metadata_statements import (
    DIRECTORY,
    FILE,
    VALUE_COLUMNS,
    TagStatements,
    tag_value,
)
from vse.catalogue.sql_rows import Rows, by_name, join, split
from vse.catalogue.sql_statements import Matching, Statements
from vse.db import Database
from vse.db.prepared import Prepared, Row, as_json
from vse.model import Lfn, Located
from vse.model.expression import (
    And,
    Decided,
    Expression,
    Known,
    Not,
    Or,
    Predicate,
    bind,
    evaluate,
    is_hopeless,
    names,
)
from vse.model.tags import FIELDS, TagType

PAGE_DIRECTORIES = 1024
PAGE_FILES = 4096
_FIRST_PAGE = 64  # pages grow from this to their size, so that the first file comes soon
_FIRST = "\x01"  # sorts before every character of a name
_MOST_DECISIONS = 4096
_MOST_ROOTS = 1000
_READ = "read the catalogue"

_NONE: Expression = Decided(False)

Tags = Mapping[str, Known]


@dataclass(slots=True)
class _Run:
    """Directories next to each other in which files may be meant, from ``first`` to ``last``."""

    first: str
    last: str
    known: dict[str, Tags] = field(default_factory=dict)
    tagged: set[str] = field(default_factory=set)
    """Those that hold files with tags of their own."""

    def add(self, path: str, known: Tags, tagged: bool) -> None:
        self.last = path
        self.known[path] = known
        if tagged:
            self.tagged.add(path)


class Search:
    """One find: files below ``base`` (a directory that is there) that a checked condition is true of.

    ``types``: those of the tags it speaks of; a value of another type is not seen.
    """

    def __init__(
        self,
        parts: tuple[Database, Statements, TagStatements, Rows],
        base: Lfn,
        pattern: str,
        expression: Expression,
        types: Mapping[str, str],
    ) -> None:
        self._database, self._statements, self._run, self._rows = parts
        self._base = base
        self._below = base.rstrip("/")
        self._glob = Glob.of(pattern, self._database.dialect)
        self._condition, self._expression = Pushing(self._rows).split(expression)
        self._tags = sorted(names(self._expression) - FIELDS.keys())
        self._types = types
        self._pages: dict[bool, Prepared] = {}
        self._decisions: dict[tuple[Known, ...], Expression] = {}
        self._most_files = min(PAGE_FILES, 4 * _FIRST_PAGE)
        self._most_directories = min(PAGE_DIRECTORIES, _FIRST_PAGE)

    def files(self) -> Iterator[Located]:
        """Yield the files, ordered by directory, then name."""
        if is_hopeless(self._expression):
            return
        if not self._tags:
            yield from self._within(self._base, self._below + "0", lambda _: ({}, False))
            return
        for run in self._runs():
            nothing: Tags = {}

            def known(path: str, run: _Run = run, nothing: Tags = nothing) -> tuple[Tags, bool] | None:
                tags = run.known.get(path, nothing)
                return None if tags is nothing else (tags, path in run.tagged)

            yield from self._within(run.first, run.last + _FIRST, known)

    # -- directories --------------------------------------------------------------------------------

    def _runs(self) -> Iterator[_Run]:
        run: _Run | None = None
        for path, known, tagged in self._directories():
            if path is None or (not tagged and is_hopeless(self._decide(known))):
                if run is not None:
                    yield run
                run = None
            else:
                if run is None:
                    run = _Run(path, path)
                run.add(path, known, tagged)

    def _directories(self) -> Iterator[tuple[str | None, Tags, bool]]:
        """Yield (path, tags in force, whether files have their own); a path of None where a run ends."""
        with self._database.mapped(_READ):
            reader = self._database.reader()
            of_files = any(self._run.any_of_files.rows(reader, name) for name in self._tags)
        page = self._run.directory_page(self._tags, of_files)
        for start, end, above in self._segments():
            yield from self._between(page, start, end, self._in_force(above))
            yield None, {}, False

    def _between(
        self, page: Prepared, start: str, end: str, above: Tags
    ) -> Iterator[tuple[str | None, Tags, bool]]:
        stack: list[tuple[str, Tags]] = []
        while True:
            with self._database.mapped(_READ):
                most = self._most_directories
                rows = page.rows(self._database.reader(), start, end, most)
            self._most_directories = min(PAGE_DIRECTORIES, 2 * most)
            count = 0
            for path, tagged, own in self._by_directory(rows):
                count += 1
                # In this order '/a-b' comes between '/a' and '/a/c': what is a prefix stays.
                while stack and not path.startswith(stack[-1][0]):
                    stack.pop()
                known = next((tags for top, tags in reversed(stack) if Lfn(path).is_below(top)), above)
                if own:
                    known = {**known, **own}
                    stack.append((path, known))
                yield path, known, tagged
            if count < most:
                return
            yield None, above, False
            start = rows[-1][0] + _FIRST

    def _segments(self) -> list[tuple[str, str, list[str]]]:
        """Return what to walk through, as (first path, end, the directories above it), in order.

        That is the base and all below it, or of that what the values of one tag leave.
        """
        segments = []
        for root in self._roots():
            above = [*upwards(root)]
            below = root.rstrip("/")
            segments.append((root, root + _FIRST, above[1:]))
            segments.append((f"{below}/{_FIRST}", f"{below}0", above))
        return sorted(segments)

    def _roots(self) -> list[str]:
        """Return directories such that a file that is meant lies below one of them, none below another."""
        expression = self._expression
        parts = expression.parts if isinstance(expression, And) else (expression,)
        roots = {str(self._base)}
        for part in parts:
            paths = None if isinstance(part, (And, Or, Not, Decided)) else self._holders(part)
            if paths is not None:
                # What a file is below of both is above one another: the lower one is left.
                below = {path for path in paths if not roots.isdisjoint(upwards(path))}
                roots = below | {path for path in roots if not paths.isdisjoint(upwards(path))}
        return [path for path in roots if not any(up in roots for up in upwards(path) if up != path)]

    def _holders(self, predicate: Predicate) -> set[str] | None:
        """Return the directories from which alone a true ``predicate`` can come; None where it is no help."""
        name, condition = predicate.name.text, by_index(predicate)
        if name in FIELDS or condition is None:
            return None
        above = self._in_force([*upwards(self._base)][1:])
        if evaluate(predicate, above.get) is True:
            return None
        column = VALUE_COLUMNS[TagType(self._types[name])]
        with self._database.mapped(_READ):
            reader = self._database.reader()
            paths: set[str] = set()
            for statement in self._run.holders(name, column, condition, _MOST_ROOTS):
                rows = statement.rows(reader)
                if len(rows) == _MOST_ROOTS:
                    return None
                paths.update(row[0] for row in rows)
        return paths

    def _by_directory(self, rows: list[Row]) -> Iterator[tuple[str, bool, dict[str, Known]]]:
        """Yield (path, whether files have tags, its own tags) of the rows of a page."""
        path, tagged, own = "", False, dict[str, Known]()
        for row in rows:
            if row[0] != path:
                if path:
                    yield path, tagged, own
                path, tagged, own = row[0], bool(row[1]), {}
            if row[2] is not None and self._types.get(row[2]) == row[3]:
                own[row[2]] = tag_value(row[2:])
        if path:
            yield path, tagged, own

    def _in_force(self, paths: Collection[str]) -> Tags:
        """The tags that ``paths``, a directory and those above it, give to what is below."""
        known: dict[str, Known] = dict.fromkeys(self._tags)
        with self._database.mapped(_READ):
            reader = self._database.reader()
            directories = self._statements.directory_rows.rows(reader, as_json(paths))
            ids = {row[0]: row[1] for row in directories}
            rows = self._run.tags_of.rows(reader, as_json((DIRECTORY, which) for which in ids))
        for row in sorted(rows, key=lambda row: len(ids[row[1]])):
            if row[2] in known and self._types.get(row[2]) == row[3]:
                known[row[2]] = tag_value(row[2:])
        return known

    def _decide(self, known: Tags) -> Expression:
        """Return what is left to ask of a file where the tags in force are ``known``."""
        key = tuple(known.get(name) for name in self._tags)
        # True and 1 are one key, and compare alike in every condition that their type allows.
        decision = self._decisions.get(key)
        if decision is None:
            if len(self._decisions) >= _MOST_DECISIONS:
                self._decisions.clear()
            decision = self._decisions[key] = bind(self._expression, known)
        return decision

    # -- files --------------------------------------------------------------------------------------

    def _within(
        self, first: str, end: str, known: Callable[[str], tuple[Tags, bool] | None]
    ) -> Iterator[Located]:
        """Yield what is meant in directory ``first`` and those behind it before ``end``.

        ``known``: the tags of a directory, and whether files in it have their own; None passes it over.
        """
        path, name = first, ""
        while True:
            rows = self._page(path, name, end, self._most_files)
            self._most_files = min(PAGE_FILES, 2 * self._most_files)
            if not rows:
                return
            yield from self._meant(rows, known)
            path, name = rows[-1][1:3]

    def _meant(self, rows: list[Row], known: Callable[[str], tuple[Tags, bool] | None]) -> Iterator[Located]:
        own = self._own_tags(rows, known)
        path, rest, tags = "", _NONE, dict[str, Known]()
        for located, _ in self._rows.located(rows):
            lfn = located.entry.lfn
            if split(lfn)[0] != path:
                path = split(lfn)[0]
                here = known(path)
                rest = _NONE if here is None else self._rest(*here)
                tags = {} if here is None else dict(here[0])
            if isinstance(rest, Decided) and rest.value is not True:
                continue
            if self._glob.accepts is not None and not self._glob.accepts(lfn.name):
                continue
            if isinstance(rest, Decided) or holds(rest, located, {**tags, **own.get(lfn, {})}):
                yield located

    def _rest(self, known: Tags, tagged: bool) -> Expression:
        return self._expression if tagged else self._decide(known)

    def _own_tags(
        self, rows: list[Row], known: Callable[[str], tuple[Tags, bool] | None]
    ) -> dict[str, dict[str, Known]]:
        """The tags that files of a page have themselves, by LFN."""
        tagged = {path for path in {row[1] for row in rows} if (known(path) or ({}, False))[1]}
        lfns = {row[0]: join(row[1], row[2]) for row in rows if row[1] in tagged}
        if not lfns:
            return {}
        with self._database.mapped(_READ):
            objects = as_json((FILE, which) for which in lfns)
            found = self._run.tags_of.rows(self._database.reader(), objects)
        own: dict[str, dict[str, Known]] = {}
        for row in found:
            if self._types.get(row[2]) == row[3]:
                own.setdefault(lfns[row[1]], {})[row[2]] = tag_value(row[2:])
        return own

    def _page(self, path: str, name: str, end: str, most: int) -> list[Row]:
        """Located rows of the next files behind ``path``/``name``; none at the end."""
        pattern = () if self._glob.matching == Matching.ALL else (self._glob.argument,)
        with self._database.mapped(_READ):
            reader = self._database.reader()
            rows = self._statement(further=False).rows(reader, *pattern, path, name, most)
            behind = max(path, self._below + "/")
            if len(rows) < most and end != path + _FIRST:
                rows += self._statement(further=True).rows(reader, *pattern, behind, end, most)
        rows.sort(key=by_name)
        return rows

    def _statement(self, *, further: bool) -> Prepared:
        if self._condition is None:
            return self._statements.page(self._glob.matching, further)
        if further not in self._pages:
            page = self._statements.filtered_page(self._glob.matching, further, self._condition)
            self._pages[further] = page
        return self._pages[further]
