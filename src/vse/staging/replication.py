"""Copies of files that are read often, made without being asked for (seed 004 §IV.3), within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from vse.catalogue.port import Names
from vse.config.pools import ReplicationSettings
from vse.db import Database
from vse.db.tables import request_items, requests
from vse.db.tables_pool import reads
from vse.model import Clock, FindQuery, Lfn, ReplicaState
from vse.staging.pool_plan import Popular, ReplicationPlan, plan_replication
from vse.staging.requests import Staging
from vse.staging.values import Conditions, ItemState, Request
from vse.storage.element import Elements

_DAY_S = 86400
_MOST = 1000
"""Files that are looked at in one round, the most read first."""
_THERE = (ReplicaState.AVAILABLE, ReplicaState.STAGING)


class Asked(NamedTuple):
    """What came of a round: the plan, and the requests that were made of it (none in a dry run)."""

    plan: ReplicationPlan
    requests: tuple[Request, ...]


class Replication:
    """Asks for copies as anybody does, by requests of an owner of its own."""

    def __init__(
        self,
        database: Database,
        names: Names,
        elements: Elements,
        staging: Staging,
        settings: ReplicationSettings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._names = names
        self._elements = elements
        self._staging = staging
        self._settings = settings
        self._clock = clock

    def run(self, *, dry_run: bool = False) -> Asked:
        """Ask for what `plan` says; of each file once, whoever else runs this at the same time."""
        plan = self.plan()
        made: list[Request] = []
        for one, place in () if dry_run else plan.copies:
            note = f"read {one.reads} times within {self._settings.days} days"
            conditions = Conditions(priority=self._settings.priority, note=note, trusted=True)
            query = FindQuery(base=one.lfn)
            made.append(self._staging.request(query, self._settings.owner, place, conditions))
        return Asked(plan, tuple(made))

    def plan(self) -> ReplicationPlan:
        """Return which files should have more copies, as things are."""
        settings = self._settings
        destinations = [self._elements.get(name).name for name in settings.destinations]
        if not destinations:
            return ReplicationPlan((), ())
        with self._database.read() as connection:
            counts = self._counts(connection)
            left_bytes = settings.budget - self._asked_bytes(connection)
            asked = self._asked(connection, list(counts))
        popular = self._located(counts, asked)
        return plan_replication(popular, destinations, settings.reads, max(0, left_bytes))

    def _counts(self, connection: sa.Connection) -> dict[Lfn, int]:
        number = sa.func.sum(reads.c.number)
        first_day = int(self._clock() // _DAY_S) - self._settings.days + 1
        query = (
            sa.select(reads.c.lfn, number)
            .where(reads.c.day >= first_day)
            .group_by(reads.c.lfn)
            .having(number >= self._settings.reads)
            .order_by(number.desc(), reads.c.lfn)
            .limit(_MOST)
        )
        return {Lfn(lfn): int(times) for lfn, times in connection.execute(query)}

    def _asked_bytes(self, connection: sa.Connection) -> int:
        """Return how much was asked for within the last day."""
        total = sa.func.coalesce(sa.func.sum(request_items.c.size_bytes), 0)
        query = self._own(sa.select(total), _DAY_S).where(request_items.c.state != ItemState.HERE)
        return int(connection.execute(query).scalar_one())

    def _asked(self, connection: sa.Connection, lfns: Sequence[Lfn]) -> set[tuple[str, str]]:
        """Return the files that were asked for lately, whatever came of it, and where to."""
        query = self._own(
            sa.select(request_items.c.lfn, requests.c.destination), self._settings.days * _DAY_S
        )
        return {(lfn, place) for lfn, place in connection.execute(query.where(request_items.c.lfn.in_(lfns)))}

    def _own(self, query: sa.Select[Any], since_s: float) -> sa.Select[Any]:
        own = sa.and_(
            requests.c.owner == self._settings.owner, requests.c.created_s > self._clock() - since_s
        )
        return query.select_from(
            request_items.join(requests, requests.c.id == request_items.c.request_id)
        ).where(own)

    def _located(self, counts: dict[Lfn, int], asked: set[tuple[str, str]]) -> list[Popular]:
        """Return the files with the places that have them, or need not be asked again."""
        found: list[Popular] = []
        located = self._names.resolve(list(counts)).ok
        for lfn, times in counts.items():
            file = located.get(lfn)
            if file is None or not file.replicas:
                continue
            places = {self._elements.name_of(one.se) for one in file.replicas if one.state in _THERE}
            places |= {place for name, place in asked if name == lfn}
            found.append(Popular(lfn, file.entry.size_bytes or 0, times, frozenset(places)))
        return found
