"""The runs of consistency checks and what they found, kept as rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from vse.catalogue.consistency import Finding, Tally, Verdict
from vse.db import Database
from vse.db.tables_datasets import consistency_findings as findings
from vse.db.tables_datasets import consistency_runs as runs

_PAGE = 1_000


class Run(NamedTuple):
    """One run, as it is kept. ``finished_s`` is None for one that is running, or was broken off."""

    id: int
    se: str
    base: str
    started_s: float
    finished_s: float | None
    checked: int
    dark: int
    lost: int
    differing: int


class Evidence:
    """The rows of consistency checks in ``database``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, se: str, base: str, now_s: float) -> int:
        """Keep a new run; return its number."""
        numbers = dict.fromkeys(("checked", "dark", "lost", "differing"), 0)
        insert = sa.insert(runs).values(se=se, base=base, started_s=now_s, committed=False, **numbers)
        with self._database.write() as connection:
            return int(connection.execute(insert.returning(runs.c.id)).scalar_one())

    def add(self, run: int, found: Sequence[Finding]) -> None:
        """Keep what a run found."""
        rows = [
            {
                "run_id": run,
                "path": one.path,
                "lfn": one.lfn,
                "kind": str(one.verdict),
                "size_bytes": one.held_bytes,
                "known_bytes": one.known_bytes,
                "acted": False,
            }
            for one in found
        ]
        if rows:
            with self._database.write() as connection:
                connection.execute(sa.insert(findings), rows)

    def end(self, run: int, now_s: float, tally: Tally) -> None:
        """A run has seen everything: from now on it is evidence."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(runs)
                .where(runs.c.id == run)
                .values(
                    finished_s=now_s,
                    checked=tally.known,
                    dark=tally.dark,
                    lost=tally.lost,
                    differing=tally.differing,
                )
            )

    def findings(self, run: int, verdict: Verdict | None = None) -> Iterator[Finding]:
        """Yield what a run found, in byte order of the paths, page by page."""
        last = ""
        where = [findings.c.run_id == run]
        if verdict is not None:
            where.append(findings.c.kind == str(verdict))
        while True:
            query = sa.select(findings).where(*where, findings.c.path > last)
            with self._database.read() as connection:
                rows = connection.execute(query.order_by(findings.c.path).limit(_PAGE)).all()
            for row in rows:
                yield Finding(row.path, row.lfn, Verdict(row.kind), row.size_bytes, row.known_bytes)
            if len(rows) < _PAGE:
                return
            last = rows[-1].path

    def seen_before(self, run: int, found: Sequence[Finding], seen_before_s: float) -> list[Finding]:
        """Return those of ``found`` that were dark, with the same size, in every run since then.

        The first of them is the newest that had begun by ``seen_before_s``; where there is none, nothing is
        returned. Only finished runs over the same part of the same element count.
        """
        with self._database.read() as connection:
            earlier = self._alike(connection, run)
            first = max(
                (key for key, started_s in earlier.items() if started_s <= seen_before_s), default=None
            )
            if first is None:
                return []
            since = [key for key in earlier if key >= first]
            query = (
                sa.select(findings.c.path, findings.c.size_bytes)
                .where(
                    findings.c.path.in_([one.path for one in found]),
                    findings.c.kind == str(Verdict.DARK),
                    findings.c.run_id.in_(since),
                )
                .group_by(findings.c.path, findings.c.size_bytes)
                .having(sa.func.count() == len(since))
            )
            known = {tuple(row) for row in connection.execute(query)}
        return [one for one in found if (one.path, one.held_bytes) in known]

    def _alike(self, connection: sa.Connection, run: int) -> dict[int, float]:
        """Return the earlier finished runs over the same as ``run``, each with the time it began (s)."""
        this = connection.execute(sa.select(runs).where(runs.c.id == run)).one()
        query = sa.select(runs.c.id, runs.c.started_s).where(
            runs.c.se == this.se,
            runs.c.base == this.base,
            runs.c.id < run,
            runs.c.finished_s.is_not(None),
        )
        return {row.id: row.started_s for row in connection.execute(query)}

    def acted(self, run: int, paths: Sequence[str]) -> None:
        """Note that something was done about these."""
        if not paths:
            return
        with self._database.write() as connection:
            done = sa.update(findings).where(findings.c.run_id == run, findings.c.path.in_(paths))
            connection.execute(done.values(acted=True))
            connection.execute(sa.update(runs).where(runs.c.id == run).values(committed=True))

    def keep_only(self, run: int, number: int, seen_before_s: float) -> None:
        """Forget runs like ``run``, but the newest ``number`` and the one that old evidence begins with."""
        with self._database.write() as connection:
            earlier = self._alike(connection, run)
            first = max(
                (key for key, started_s in earlier.items() if started_s <= seen_before_s), default=run
            )
            kept = {*sorted(earlier)[-number:], first}
            gone = [key for key in earlier if key not in kept]
            connection.execute(sa.delete(findings).where(findings.c.run_id.in_(gone)))
            connection.execute(sa.delete(runs).where(runs.c.id.in_(gone)))

    def runs(self, se: str = "") -> list[Run]:
        """Return the runs that are kept, the newest first."""
        columns = [runs.c[name] for name in Run._fields]
        query = sa.select(*columns).order_by(runs.c.id.desc())
        with self._database.read() as connection:
            return [Run(*row) for row in connection.execute(query.where(runs.c.se == se) if se else query)]
