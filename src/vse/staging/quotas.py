"""Quotas: how much a user, a group or a dataset may have at a storage element."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from vse.db import Database
from vse.db.prepared import inserting
from vse.db.tables_pool import quotas
from vse.errors import BadRequest
from vse.staging import accounts
from vse.staging.accounts import KINDS, NOTHING, Account

ANY = "*"


class Quota(NamedTuple):
    """At most so many bytes. ``element`` '*': at each one; ``name`` '*': each that has none of its own."""

    element: str
    kind: str
    name: str
    limit_bytes: int


class Share(NamedTuple):
    """What somebody has of what they may have. ``limit_bytes`` None: no quota."""

    element: str
    kind: str
    name: str
    files: int
    size_bytes: int
    reserved_bytes: int
    limit_bytes: int | None


class Quotas:
    """The quotas of a site. Safe to share between threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(self, quota: Quota) -> None:
        """Set a quota, or change it. Files that are over it stay; no more come."""
        _check(quota.kind, quota.name)
        if quota.limit_bytes < 0:
            raise BadRequest(f"give {quota.name} a quota", "it is less than nothing")
        with self._database.write() as connection:
            insert = inserting(connection.dialect)(quotas)
            upsert = insert.on_conflict_do_update(
                index_elements=["element", "kind", "name"],
                set_={"limit_bytes": insert.excluded.limit_bytes},
            )
            connection.execute(upsert, quota._asdict())

    def remove(self, element: str, kind: str, name: str) -> None:
        """Take a quota away; `BadRequest` where there is none."""
        _check(kind, name)
        which = sa.and_(quotas.c.element == element, quotas.c.kind == kind, quotas.c.name == name)
        with self._database.write() as connection:
            if not connection.execute(sa.delete(quotas).where(which)).rowcount:
                raise BadRequest(
                    f"take the quota of the {kind} {name} at {element} away",
                    "there is none",
                    "see them all with 'vse quota show'",
                )

    def all(self) -> list[Quota]:
        with self._database.read() as connection:
            return [Quota(*row) for row in connection.execute(_ALL)]

    def shares(self, element: str) -> list[Share]:
        """Return what everybody has at an element who has something or a quota there, by kind and name."""
        with self._database.read() as connection:
            used = accounts.read(connection, element)
            limits = limits_at(connection, element)
        named = {Account(kind, name) for kind, name in limits if name != ANY}
        everybody = {account for account in used if account.kind in KINDS} | named
        return [
            Share(element, *account, *used.get(account, NOTHING), limit_of(limits, account))
            for account in sorted(everybody)
        ]


_ALL = sa.select(quotas.c.element, quotas.c.kind, quotas.c.name, quotas.c.limit_bytes).order_by(
    quotas.c.element, quotas.c.kind, quotas.c.name
)


def limits_at(connection: sa.Connection, element: str) -> dict[Account, int]:
    """Return the limits that hold at an element; those of its own go before those of every one."""
    limits: dict[Account, int] = {}
    rows = connection.execute(_ALL.where(quotas.c.element.in_([ANY, element]))).all()
    for row in sorted(rows, key=lambda row: row.element != ANY):
        limits[Account(row.kind, row.name)] = row.limit_bytes
    return limits


def limit_of(limits: dict[Account, int], account: Account) -> int | None:
    """Return what holds for an account: its own limit, else that of everybody of its kind, else None."""
    own = limits.get(account)
    return limits.get(Account(account.kind, ANY)) if own is None else own


def _check(kind: str, name: str) -> None:
    if kind not in KINDS or not name:
        raise BadRequest(
            "find whose quota is meant",
            f"there is {kind or 'nothing'} {name!r}",
            "name one user, group or dataset",
        )
