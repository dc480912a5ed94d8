"""How each upstream fares, as rows: failures and pauses that every process honours, and counts over all."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from vse.db import Database
from vse.db.prepared import inserting
from vse.db.tables import upstreams
from vse.db.tables_upstreams import upstream_states as states
from vse.errors import VseError, from_dict

_COUNTED = ("hits", "misses", "stale", "queries", "failed", "waited_s")
_NOTHING = dict.fromkeys(("failures", "not_before_s", *_COUNTED), 0)


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """One row. ``hits`` and ``misses`` are names and find questions: answered without it, asked of it.

    ``stale``: of the hits, those served beyond their time. ``queries``: calls, of which ``failed`` did;
    ``waited_s``: for all of them together. All are over the life of the site.
    """

    name: str
    failures: int
    not_before_s: float
    error: VseError | None
    version: str | None
    hits: int
    misses: int
    stale: int
    queries: int
    failed: int
    waited_s: float

    @property
    def hit_rate(self) -> float | None:
        """The fraction that was answered without asking; None before the first question."""
        total = self.hits + self.misses
        return self.hits / total if total else None


class UpstreamStates:
    """The rows. Counts are gathered in memory and added to them now and then; `flush` says when.

    ``hits`` are those that all the ``upstreams`` share: a plain number, because it is on the fast path.
    """

    def __init__(self, database: Database, upstreams: Sequence[int]) -> None:
        self.hits = 0
        self._database = database
        self._upstreams = upstreams
        self._lock = threading.Lock()
        self._counts: dict[int, Counter[str]] = {}

    def count(self, upstream: int, **more: float) -> None:
        with self._lock:
            counter = self._counts.setdefault(upstream, Counter())
            for key, value in more.items():
                counter[key] += value  # type: ignore[assignment]  # seconds are counted, too

    def flush(self) -> None:
        """Add what was counted to the rows."""
        with self._lock:
            hits, self.hits = self.hits, 0
            counts, self._counts = self._counts, {}
        for upstream in self._upstreams if hits else ():
            counts.setdefault(upstream, Counter())["hits"] += hits
        if not counts:
            return
        with self._database.write() as connection:
            for upstream, counter in sorted(counts.items()):
                added = {key: states.c[key] + value for key, value in counter.items()}
                self._write(connection, upstream, dict(counter), added)

    def state(self, upstream: int) -> UpstreamState | None:
        """Return one row, None where nothing happened yet."""
        with self._database.read() as connection:
            row = connection.execute(_query().where(states.c.upstream_id == upstream)).first()
        return None if row is None else _state(row)

    def all(self) -> list[UpstreamState]:
        """Return every upstream that was ever asked or answered for, by name."""
        self.flush()
        with self._database.read() as connection:
            return [_state(row) for row in connection.execute(_query().order_by(upstreams.c.name))]

    def note_failure(self, upstream: int, failures: int, not_before_s: float, error: VseError) -> None:
        self._set(upstream, failures=failures, not_before_s=not_before_s, error=json.dumps(error.to_dict()))

    def note_answer(self, upstream: int) -> None:
        """It answers again."""
        self._set(upstream, failures=0, not_before_s=0.0)

    def note_version(self, upstream: int, version: str) -> None:
        self._set(upstream, version=version)

    def _set(self, upstream: int, **values: object) -> None:
        with self._database.write() as connection:
            self._write(connection, upstream, values, values)

    def _write(
        self,
        connection: sa.Connection,
        upstream: int,
        new: Mapping[str, object],
        changed: Mapping[str, object],
    ) -> None:
        statement = inserting(connection.dialect)(states).values({"upstream_id": upstream, **_NOTHING, **new})
        connection.execute(
            statement.on_conflict_do_update(index_elements=["upstream_id"], set_=dict(changed))
        )


def _query() -> sa.Select[tuple[object, ...]]:
    columns = [states.c[key] for key in ("failures", "not_before_s", "error", "version", *_COUNTED)]
    joined = states.join(upstreams, upstreams.c.id == states.c.upstream_id)
    query: sa.Select[tuple[object, ...]] = sa.select(upstreams.c.name, *columns).select_from(joined)
    return query


def _state(row: sa.Row[tuple[object, ...]]) -> UpstreamState:
    values = dict(row._mapping)
    values["error"] = from_dict(json.loads(values["error"])) if values["error"] else None
    return UpstreamState(**values)
