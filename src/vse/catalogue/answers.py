"""What upstream catalogues answered, as rows: which questions, until when, and what they told.

A find question is written ``BASE/PATTERN`` (a pattern holds no slash), a name as itself. Every function
here works inside the caller's transaction or on the thread's reader, and decides nothing about time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from vse.catalogue.beside import Beside
from vse.catalogue.globs import matcher
from vse.catalogue.sql_rows import Rows, split
from vse.catalogue.sql_statements import Statements
from vse.catalogue.sql_writing import Chunk, Known
from vse.db.prepared import Prepared, Row, as_json, bound_values
from vse.db.tables import answers, directories, files, replicas
from vse.errors import AlreadyExists
from vse.model import Lfn, Located, NewFile

FIND, NAME = "find", "lfn"
_PAGE_ROWS = 10_000
_named = files.join(directories, files.c.directory_id == directories.c.id)


class Conflict(NamedTuple):
    """An upstream tells something else of a name than what is held here; ours was kept."""

    lfn: Lfn
    upstream: str
    found: str


@dataclass(frozen=True, slots=True)
class Question:
    """A find question; the names it asks about are those below ``base`` that match ``pattern``."""

    base: Lfn
    pattern: str

    def __str__(self) -> str:
        return f"{self.base.rstrip('/')}/{self.pattern}"

    @classmethod
    def parse(cls, text: str) -> Question:
        base, pattern = split(text)
        return cls(Lfn(base), pattern)

    def wider(self) -> list[str]:
        """Every question whose answer holds the answer to this one, itself included."""
        patterns = (self.pattern,) if self.pattern == "*" else (self.pattern, "*")
        return [f"{base.rstrip('/')}/{pattern}" for base in _upwards(self.base) for pattern in patterns]


def _upwards(lfn: str) -> Iterator[str]:
    yield lfn
    while lfn != "/":
        lfn = split(lfn)[0]
        yield lfn


class Coverage:
    """Which names a set of answered find questions is about."""

    def __init__(self, questions: Iterable[str]) -> None:
        self._patterns: dict[str, list[Callable[[str], bool]]] = {}
        for text in questions:
            question = Question.parse(text)
            self._patterns.setdefault(question.base, []).append(matcher(question.pattern))

    def holds(self, lfn: Lfn) -> bool:
        """Whether one of the answers would have told of ``lfn``, were it there."""
        if not self._patterns:
            return False
        name = lfn.name
        return any(matches(name) for base in _upwards(lfn) for matches in self._patterns.get(base, ()))


class Answers:
    """The rows about upstreams; ``upstream`` arguments are their interned ids."""

    def __init__(self, statements: Statements, rows: Rows) -> None:
        self._statements = statements
        self._rows = rows
        self._beside = Beside(statements, rows)

    # -- questions --------------------------------------------------------------------------------

    def fresh_finds(self, driver: Any, upstream: int, now_s: float, since_s: float) -> Coverage:
        """Return what the find answers that are believed, and came after ``since_s``, are about."""
        return Coverage(row[0] for row in self._fresh_finds.rows(driver, upstream, now_s, since_s))

    def earlier(self, driver: Any, upstream: int, question: Question) -> list[tuple[float, int]]:
        """Return the answers that hold that to ``question``: until when (s) believed, how many files."""
        rows: Any = self._finds.rows(driver, upstream, as_json(question.wider()))
        return list(rows)

    def not_there(self, driver: Any, upstream: int, lfns: Sequence[Lfn], now_s: float) -> set[str]:
        """Return those of ``lfns`` that are still believed not to be there."""
        return {row[0] for row in self._fresh_names.rows(driver, upstream, now_s, as_json(lfns))}

    def keep(self, driver: Any, rows: Sequence[Row]) -> None:
        """Write answers: (upstream, kind, question, fetched_s, expires_s, found)."""
        self._keep.many(driver, rows)

    def purge_names(self, driver: Any, now_s: float) -> None:
        """Forget 'not there' answers that are believed no more."""
        self._purge.run(driver, now_s)

    def expire(self, driver: Any, upstream: int, now_s: float) -> None:
        """Believe nothing that ``upstream`` told beyond ``now_s``; it stays, and can be served as old."""
        self._expire_answers.run(driver, now_s, upstream, now_s)
        self._expire_files.run(driver, now_s, now_s, upstream)

    # -- what they told ---------------------------------------------------------------------------

    def take_in(
        self, driver: Any, upstream: str, told: Sequence[tuple[Located, float]], told_s: float
    ) -> list[Conflict]:
        """Store ``told``: files, each with the time (s) until which it is fresh, and their replicas.

        A file that is our own, of which we hold a replica of our own, or which another upstream tells
        of too, keeps its size and checksum: one that differs is returned and not stored. People,
        elements and the upstream must have been interned.
        """
        chunk = Chunk(driver, self._statements, self._beside, told_s)
        chunk.look_up(located.entry.lfn for located, _ in told)
        which = self._rows.upstreams.ids(())[upstream]
        people, places = self._rows.principals.ids(()), self._rows.elements.ids(())
        held = self._held(driver, which, chunk, told)
        conflicts: list[Conflict] = []
        changed: list[tuple[int]] = []
        for located, fresh_until_s in told:
            entry = located.entry
            known = chunk.files.get(entry.lfn)
            file = _file_of(located)
            if known is None:
                try:
                    known = chunk.add(file, people[entry.owner], people[entry.group], fresh_until_s)
                except AlreadyExists as error:
                    conflicts.append(Conflict(entry.lfn, upstream, error.found))
                    continue
            else:
                difference = known.differs(file.size_bytes, file.adler32)
                if difference and (known.fresh_until_s is None or known.id in held):
                    conflicts.append(Conflict(entry.lfn, upstream, difference))
                    continue
                if difference:
                    changed.append((known.id,))
                _renew(chunk, known, file, fresh_until_s)
            for copy in located.replicas:
                chunk.replicas.append(
                    (known.id, places[copy.se], copy.url, str(copy.state), None, which, told_s)
                )
            if located.contents is not None:
                chunk.contents.append((known.id, *located.contents))
        self._statements.remove_contents.many(driver, changed)
        chunk.flush(own=False)
        return conflicts

    def _held(
        self, driver: Any, upstream: int, chunk: Chunk, told: Sequence[tuple[Located, float]]
    ) -> set[int]:
        """Return ids of files that differ from what is told and of which others have a replica."""
        differing = []
        for located, _ in told:
            known = chunk.files.get(located.entry.lfn)
            if known and known.differs(located.entry.size_bytes or 0, located.entry.adler32):
                differing.append(known.id)
        if not differing:
            return set()
        return {row[0] for row in self._held_by_others.rows(driver, upstream, as_json(differing))}

    def forget(self, driver: Any, upstream: int, lfns: Sequence[Lfn], told_s: float) -> None:
        """Forget replicas that ``upstream`` told of ``lfns`` before, and files that have none left then."""
        pairs = as_json(map(split, lfns))
        ids = [row[0] for row in self._statements.files.rows(driver, pairs)]
        self._drop(driver, upstream, ids, told_s, math.inf)

    def forget_unknown(self, driver: Any, lfns: Sequence[Lfn]) -> None:
        """Forget those of ``lfns`` that are not our own and have no replica: nobody tells of them."""
        for row in self._statements.files.rows(driver, as_json(map(split, lfns))):
            self._remove_orphan.run(driver, row[0], math.inf)

    def sweep(
        self, driver: Any, upstream: int, question: Question, told_s: float, fresh_until_s: float, alone: bool
    ) -> None:
        """After a whole answer at ``told_s``: forget what ``upstream`` told before and tells no more.

        ``fresh_until_s``: what files have that were told of now, by any upstream. ``alone``: there is no
        other upstream, so that a file without replicas that was not told of now is not there.
        """
        orphaned_s = fresh_until_s if alone else told_s
        matches = matcher(question.pattern)
        for page in self._pages(driver, self._untold, question, upstream, told_s):
            ids = [row[0] for row in page if matches(row[2])]
            self._drop(driver, upstream, ids, told_s, fresh_until_s)
        for page in self._pages(driver, self._orphans, question, orphaned_s):
            self._remove_orphan.many(driver, [(row[0], orphaned_s) for row in page if matches(row[2])])
        if matches(question.base.name):
            base = self._statements.files.rows(driver, as_json([split(question.base)]))
            self._drop(driver, upstream, [row[0] for row in base], told_s, fresh_until_s)
            self._remove_orphan.many(driver, [(row[0], orphaned_s) for row in base])

    def _drop(
        self, driver: Any, upstream: int, ids: Sequence[int], told_s: float, fresh_until_s: float
    ) -> None:
        """Forget replicas told before ``told_s``; their files, fresh until earlier, are due or go too."""
        for which in ids:
            if self._untell.run(driver, which, upstream, told_s):
                self._remove_orphan.run(driver, which, fresh_until_s)
                self._make_stale.run(driver, which, fresh_until_s)

    def _pages(
        self, driver: Any, query: Prepared, question: Question, *arguments: Any
    ) -> Iterator[list[Row]]:
        prefix = question.base.rstrip("/")
        place, name = str(question.base), ""
        while True:
            subtree = (str(question.base), prefix + "/", prefix + "0")
            page = query.rows(driver, *arguments, *subtree, place, name, _PAGE_ROWS)
            yield page
            if len(page) < _PAGE_ROWS:
                return
            place, name = page[-1][1:]

    # -- statements -------------------------------------------------------------------------------

    @cached_property
    def _fresh_finds(self) -> Prepared:
        query = sa.select(answers.c.question).where(
            answers.c.upstream_id == bindparam("upstream"),
            answers.c.kind == FIND,
            answers.c.expires_s > bindparam("now"),
            answers.c.fetched_s > bindparam("since"),
        )
        return self._statements.prepared(query, "upstream", "now", "since")

    @cached_property
    def _finds(self) -> Prepared:
        given = self._statements.given("questions")
        query = sa.select(answers.c.expires_s, answers.c.found).select_from(
            given.table.join(answers, answers.c.question == given.text())
        )
        query = query.where(answers.c.upstream_id == bindparam("upstream"), answers.c.kind == FIND)
        return self._statements.prepared(query, "upstream", "questions")

    @cached_property
    def _fresh_names(self) -> Prepared:
        given = self._statements.given("names")
        query = sa.select(answers.c.question).select_from(
            given.table.join(answers, answers.c.question == given.text())
        )
        query = query.where(
            answers.c.upstream_id == bindparam("upstream"),
            answers.c.kind == NAME,
            answers.c.expires_s > bindparam("now"),
        )
        return self._statements.prepared(query, "upstream", "now", "names")

    @cached_property
    def _keep(self) -> Prepared:
        statement = self._statements.upserting(answers).values(bound_values(answers))
        changed = {name: statement.excluded[name] for name in ("fetched_s", "expires_s", "found")}
        keys = ["upstream_id", "kind", "question"]
        statement = statement.on_conflict_do_update(index_elements=keys, set_=changed)
        return self._statements.prepared(statement, *(column.name for column in answers.columns))

    @cached_property
    def _purge(self) -> Prepared:
        statement = sa.delete(answers).where(answers.c.kind == NAME, answers.c.expires_s <= bindparam("now"))
        return self._statements.prepared(statement, "now")

    @cached_property
    def _expire_answers(self) -> Prepared:
        statement = sa.update(answers).values(expires_s=bindparam("until"))
        statement = statement.where(
            answers.c.upstream_id == bindparam("upstream"), answers.c.expires_s > bindparam("now")
        )
        return self._statements.prepared(statement, "until", "upstream", "now")

    @cached_property
    def _expire_files(self) -> Prepared:
        told = sa.exists().where(
            replicas.c.file_id == files.c.id, replicas.c.upstream_id == bindparam("upstream")
        )
        statement = sa.update(files).values(fresh_until_s=bindparam("until"))
        statement = statement.where(files.c.fresh_until_s > bindparam("now"), told)
        return self._statements.prepared(statement, "until", "now", "upstream")

    @cached_property
    def _held_by_others(self) -> Prepared:
        given = self._statements.given("ids")
        query = sa.select(replicas.c.file_id).select_from(
            given.table.join(replicas, replicas.c.file_id == given.number())
        )
        others = sa.or_(replicas.c.upstream_id.is_(None), replicas.c.upstream_id != bindparam("upstream"))
        return self._statements.prepared(query.where(others), "upstream", "ids")

    @cached_property
    def _untold(self) -> Prepared:
        query = sa.select(files.c.id, directories.c.path, files.c.name).select_from(
            _named.join(replicas, replicas.c.file_id == files.c.id)
        )
        query = query.where(
            replicas.c.upstream_id == bindparam("upstream"), replicas.c.told_s < bindparam("told")
        )
        return self._paged(query, "upstream", "told")

    @cached_property
    def _orphans(self) -> Prepared:
        query = sa.select(files.c.id, directories.c.path, files.c.name).select_from(_named)
        query = query.where(files.c.fresh_until_s < bindparam("until"), _no_replica())
        return self._paged(query, "until")

    def _paged(self, query: sa.Select[Any], *arguments: str) -> Prepared:
        path: Any = directories.c.path
        place: Any = bindparam("place")
        query = query.where(
            self._statements.subtree(),
            path >= place,
            sa.or_(path > place, files.c.name > bindparam("name")),
        )
        query = query.order_by(path, files.c.name).limit(bindparam("limit"))
        return self._statements.prepared(
            query, *arguments, "source", "start", "end", "place", "name", "limit"
        )

    @cached_property
    def _untell(self) -> Prepared:
        statement = sa.delete(replicas).where(
            replicas.c.file_id == bindparam("file"),
            replicas.c.upstream_id == bindparam("upstream"),
            replicas.c.told_s < bindparam("told"),
        )
        return self._statements.prepared(statement, "file", "upstream", "told")

    @cached_property
    def _make_stale(self) -> Prepared:
        statement = sa.update(files).where(*_fresh_before()).values(fresh_until_s=0.0)
        return self._statements.prepared(statement, "which", "until")

    @cached_property
    def _remove_orphan(self) -> Prepared:
        statement = sa.delete(files).where(*_fresh_before(), _no_replica())
        return self._statements.prepared(statement, "which", "until")


def _fresh_before() -> tuple[sa.ColumnElement[bool], ...]:
    """File ``which``, not our own, and fresh until before ``until``."""
    return files.c.id == bindparam("which"), files.c.fresh_until_s < bindparam("until")


def _no_replica() -> sa.ColumnElement[bool]:
    return ~sa.exists().where(replicas.c.file_id == files.c.id)


def _file_of(located: Located) -> NewFile:
    entry = located.entry
    return NewFile(
        entry.lfn,
        entry.size_bytes or 0,
        entry.adler32,
        guid=entry.guid,
        owner=entry.owner,
        group=entry.group,
        mode=entry.mode,
        modified_s=entry.modified_s,
    )


def _renew(chunk: Chunk, known: Known, file: NewFile, fresh_until_s: float) -> None:
    """Bring a file that an upstream told of before up to date; one of our own stays as it is."""
    if known.fresh_until_s is None:
        return
    changed = known.size_bytes != file.size_bytes
    known.size_bytes = file.size_bytes
    known.adler32 = file.adler32 if changed or file.adler32 is not None else known.adler32
    known.guid = file.guid if changed or file.guid is not None else known.guid
    known.modified_s = chunk.now_s if file.modified_s is None else file.modified_s
    known.fresh_until_s = fresh_until_s
    chunk.describe(known)
