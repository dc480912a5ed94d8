"""The accounts of the pool: how much every storage element, user, group and dataset has, as rows.

Every change of an element's accounts touches the element's own row first. That row is the lock: on
PostgreSQL another transaction waits for it, SQLite has one writer anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa

from vse.db.prepared import inserting
from vse.db.tables_pool import holdings, reservations, usages

ELEMENT, USER, GROUP, DATASET = "element", "user", "group", "dataset"
KINDS = (USER, GROUP, DATASET)
"""What a quota can be for."""


class Account(NamedTuple):
    """Whose account it is; ``name`` is empty for that of the element itself."""

    kind: str
    name: str


class Change(NamedTuple):
    """What is added to the accounts of a file; negative where it goes."""

    owner: str
    group: str
    dataset: str
    files: int = 0
    size_bytes: int = 0
    reserved_bytes: int = 0


class Used(NamedTuple):
    """What stands in an account."""

    files: int
    size_bytes: int
    reserved_bytes: int

    @property
    def all_bytes(self) -> int:
        return self.size_bytes + self.reserved_bytes


NOTHING = Used(0, 0, 0)
ITSELF = Account(ELEMENT, "")


def lock(connection: sa.Connection, element: str) -> None:
    """Wait for one's turn to change the accounts of an element; it lasts as long as the transaction."""
    change(connection, element, [])


def change(connection: sa.Connection, element: str, changes: Iterable[Change]) -> dict[Account, Used]:
    """Add to all accounts that the files count for; return what stands in them now."""
    total: dict[Account, list[int]] = {ITSELF: [0, 0, 0]}
    for one in changes:
        for account in accounts_of(one.owner, one.group, one.dataset):
            sums = total.setdefault(account, [0, 0, 0])
            for place, number in enumerate((one.files, one.size_bytes, one.reserved_bytes)):
                sums[place] += number
    insert = inserting(connection.dialect)(usages)
    columns = ("files", "size_bytes", "reserved_bytes")
    added = {name: usages.c[name] + insert.excluded[name] for name in columns}
    upsert = insert.on_conflict_do_update(index_elements=["element", "kind", "name"], set_=added)
    returning = upsert.returning(*(usages.c[name] for name in columns))
    after: dict[Account, Used] = {}
    for account in (ITSELF, *sorted(total.keys() - {ITSELF})):
        files, size_bytes, reserved_bytes = total[account]
        values = {
            "element": element,
            "kind": account.kind,
            "name": account.name,
            "files": files,
            "size_bytes": size_bytes,
            "reserved_bytes": reserved_bytes,
        }
        after[account] = Used(*connection.execute(returning, values).one())
    return after


def accounts_of(owner: str, group: str, dataset: str) -> list[Account]:
    """Return the accounts that a file counts for."""
    named = zip(KINDS, (owner, group, dataset), strict=True)
    return [ITSELF, *(Account(kind, name) for kind, name in named if name)]


def read(connection: sa.Connection, element: str) -> dict[Account, Used]:
    """Return all accounts of an element."""
    columns = (usages.c.kind, usages.c.name, usages.c.files, usages.c.size_bytes, usages.c.reserved_bytes)
    rows = connection.execute(sa.select(*columns).where(usages.c.element == element))
    return {Account(row.kind, row.name): Used(*row[2:]) for row in rows}


def used_by(connection: sa.Connection, element: str, account: Account = ITSELF) -> Used:
    """Return one account of an element."""
    query = sa.select(usages.c.files, usages.c.size_bytes, usages.c.reserved_bytes).where(
        usages.c.element == element, usages.c.kind == account.kind, usages.c.name == account.name
    )
    row = connection.execute(query).first()
    return Used(*row) if row else NOTHING


def recount(connection: sa.Connection, element: str) -> None:
    """Make the accounts of an element from its holdings and reservations."""
    lock(connection, element)
    connection.execute(sa.delete(usages).where(usages.c.element == element, usages.c.kind != ELEMENT))
    connection.execute(
        sa.update(usages).where(usages.c.element == element).values(files=0, size_bytes=0, reserved_bytes=0)
    )
    for table, columns in ((holdings, _held), (reservations, _reserved)):
        names = (table.c.owner, table.c.owner_group, table.c.dataset)
        query = sa.select(*names, *columns(table)).where(table.c.element == element).group_by(*names)
        sums = [Change(*row[:3], *map(int, row[3:])) for row in connection.execute(query)]
        if sums:
            change(connection, element, sums)


def _held(table: sa.Table) -> tuple[Any, ...]:
    return sa.func.count(), sa.func.sum(table.c.size_bytes), sa.literal(0)


def _reserved(table: sa.Table) -> tuple[Any, ...]:
    return sa.literal(0), sa.literal(0), sa.func.sum(table.c.size_bytes)
