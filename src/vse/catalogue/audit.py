"""Who did what to which name, and when: a row in the transaction of the change itself.

A call with more than `AUDITED_EACH` names has one row, at the directory above them all, with their count;
so has every call that registers more than one file, so that loading millions costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from os.path import commonpath
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from vse.catalogue.links import upwards
from vse.catalogue.sql_rows import Rows
from vse.catalogue.statement_base import StatementBase
from vse.db.prepared import Prepared, as_json
from vse.db.tables_names import audit
from vse.model import Audited, Lfn

AUDITED_EACH = 1000


class Audit:
    """Works inside the caller's transaction or on a reader; who acts must have been interned."""

    def __init__(self, statements: StatementBase, rows: Rows) -> None:
        self._statements = statements
        self._rows = rows

    def note(
        self,
        driver: Any,
        now_s: float,
        who: str,
        action: str,
        lfns: Collection[str],
        detail: Mapping[str, Any] | None = None,
        most: int = AUDITED_EACH,
    ) -> None:
        """Add a row for each of ``lfns``, or one for all where there are more than ``most``."""
        who_id = self._rows.principals.ids(())[who]
        known = {key: value for key, value in (detail or {}).items() if value is not None}
        if len(lfns) > most:
            known["count"] = len(lfns)
            lfns = [commonpath({lfn.rpartition("/")[0] or "/" for lfn in lfns})]
        text = json.dumps(known, ensure_ascii=False) if known else None
        self._add.many(driver, [(now_s, who_id, action, lfn, text) for lfn in lfns])

    def history(self, driver: Any, lfn: Lfn) -> Iterator[Audited]:
        """Yield the rows about ``lfn``, and those of calls with many names that may have had it, by time."""
        for when_s, who_id, action, name, text in self._rows_of.rows(driver, as_json(upwards(lfn))):
            detail = json.loads(text) if text else {}
            if name == lfn or "count" in detail:
                yield Audited(when_s, self._rows.principals.name(who_id), action, Lfn(name), detail)

    @cached_property
    def _add(self) -> Prepared:
        columns = ("when_s", "who_id", "action", "lfn", "detail")
        values = {name: bindparam(name, type_=audit.c[name].type) for name in columns}
        return self._statements.prepared(sa.insert(audit).values(values), *columns)

    @cached_property
    def _rows_of(self) -> Prepared:
        names = self._statements.given("names")
        joined = names.table.join(audit, audit.c.lfn == names.text())
        columns = (audit.c.when_s, audit.c.who_id, audit.c.action, audit.c.lfn, audit.c.detail)
        return self._statements.prepared(
            sa.select(*columns).select_from(joined).order_by(audit.c.id), "names"
        )
