"""Transfers and attempts as rows of the database, and back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from vse.db.tables import attempts, transfers
from vse.errors import VseError, from_dict
from vse.model import Lfn
from vse.transfer.lifecycle import Attempt, LeaseLost, State, Transfer

CHUNK_ROWS = 1000
"""How many names go into one statement."""
_LOOKED_BACK = 20
"""More ends in a row than the longest back-off asks for."""

_CHANGING = (
    "priority",
    "share",
    "size_bytes",
    "adler32",
    "tree",
    "filter",
    "state",
    "place",
    "not_before_s",
    "failures",
    "attempts",
    "bytes_done",
    "source",
    "source_se",
    "given_source",
    "lease_owner",
    "lease_until_s",
    "created_s",
    "started_s",
    "finished_s",
)
_UPDATE = (
    sa.update(transfers)
    .where(transfers.c.id == sa.bindparam("key"))
    .values({name: sa.bindparam(f"new_{name}") for name in (*_CHANGING, "error")})
)


def error_text(error: VseError | None) -> str | None:
    """Return an error as the JSON that a row keeps."""
    return None if error is None else json.dumps(error.to_dict())


def error_of(text: str | None) -> VseError | None:
    return None if text is None else from_dict(json.loads(text))


def transfer_of(row: sa.Row[Any]) -> Transfer:
    """Return the transfer in a row of all columns of `transfers`."""
    fields = dict(row._mapping)
    fields["lfn"] = Lfn(fields["lfn"])
    fields["state"] = State(fields["state"])
    fields["error"] = error_of(fields["error"])
    return Transfer(**fields)


def attempt_of(row: sa.Row[Any]) -> Attempt:
    fields = dict(row._mapping)
    fields["error"] = error_of(fields["error"])
    return Attempt(**fields)


def save(connection: sa.Connection, changed: Iterable[Transfer]) -> None:
    """Write every column of transfers that are rows already, in one statement."""
    values = [
        {
            "key": one.id,
            **{f"new_{name}": getattr(one, name) for name in _CHANGING},
            "new_error": error_text(one.error),
        }
        for one in changed
    ]
    if values:
        connection.execute(_UPDATE, values)


def keep(connection: sa.Connection, tried: Sequence[Attempt]) -> None:
    """Add attempts; one that is kept already stays as it is."""
    if tried:
        values = [
            {
                "transfer_id": one.transfer_id,
                "number": one.number,
                "source": one.source,
                "started_s": one.started_s,
                "ended_s": one.ended_s,
                "bytes_done": one.bytes_done,
                "way": one.way,
                "error": error_text(one.error),
            }
            for one in tried
        ]
        connection.execute(insert_ignoring(connection, attempts), values)


def lost_together(connection: sa.Connection, running: Sequence[Transfer]) -> list[LeaseLost]:
    """Return the event of each of those whose processes are gone."""
    together = Counter(one.lease_owner for one in running)
    seen: Counter[str | None] = Counter()
    found = []
    for one in running:
        turn = seen[one.lease_owner] / together[one.lease_owner]
        seen[one.lease_owner] += 1
        found.append(LeaseLost(_lost_in_a_row(connection, one), turn))
    return found


def _lost_in_a_row(connection: sa.Connection, running: Transfer) -> int:
    """Return how many attempts just before the one that runs ended with their processes."""
    query = (
        sa.select(attempts)
        .where(
            attempts.c.transfer_id == running.id,
            attempts.c.number < running.attempts,
            attempts.c.started_s >= running.created_s,
        )
        .order_by(attempts.c.number.desc())
        .limit(_LOOKED_BACK)
    )
    tried = map(attempt_of, connection.execute(query))
    return sum(1 for _ in takewhile(lambda one: one.was_lost, tried))


def insert_ignoring(connection: sa.Connection, table: sa.Table) -> sa.Executable:
    """Return an insert that passes over rows that are there already."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def chunks(names: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Cut a long list into pieces that fit into one statement."""
    for start in range(0, len(names), CHUNK_ROWS):
        yield names[start : start + CHUNK_ROWS]
