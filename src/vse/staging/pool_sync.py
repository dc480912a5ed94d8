"""The accounts of the pool against what the catalogue knows: what came and went without the stager."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from vse.catalogue.port import Catalogue
from vse.db import Database
from vse.db.prepared import inserting
from vse.db.tables import directories, elements, files, principals, replicas
from vse.db.tables_pool import holdings
from vse.errors import NoSuchEntry, NoSuchFile, VseError
from vse.model import Clock, Lfn, ReplicaState
from vse.staging import accounts
from vse.staging.accounts import Used
from vse.staging.protection import names_of, stored_as
from vse.storage.element import Elements

_PAGE = 1000
_group = principals.alias("principals_of_groups")


class Synced(NamedTuple):
    """What was put right: files that the accounts did not have, or had with another size, or too much.

    What was removed may be a file whose name was removed from the catalogue: see `vse.staging.orphans`.
    ``vanished``: the catalogue knew a copy that the storage does not have; it was forgotten.
    """

    added: int
    resized: int
    removed: int
    vanished: int
    before: Used
    after: Used


class PoolSync:
    """Compares. Safe to run beside anything; ends after one look at every file."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        known: Elements,
        clock: Clock,
        evict_orphans: Callable[[str, Sequence[Lfn]], Mapping[Lfn, bool]] = lambda *_: {},
    ) -> None:
        """``evict_orphans``: `vse.staging.pool.Pool.evict_orphans`, where files may be thrown away."""
        self._evict_orphans = evict_orphans
        self._database = database
        self._catalogue = catalogue
        self._elements = known
        self._clock = clock

    def sync(self, element: str, *, check: bool = False) -> Synced:
        """Make the accounts of a storage element agree with the catalogue.

        A file found this way counts for its owner and group in the catalogue, and for no dataset; times of
        access that are newer in the catalogue are taken over. ``check``: ask the storage for each file, too.
        """
        name = self._elements.get(element).name
        with self._database.read() as connection:
            before = accounts.used_by(connection, name)
        vanished = self._forget_vanished(name) if check else 0
        began_s = self._clock()
        added, resized = self._adopt(name, began_s)
        removed = self._drop(name, began_s)
        with self._database.write() as connection:
            accounts.recount(connection, name)
            after = accounts.used_by(connection, name)
        return Synced(added, resized, removed, vanished, before, after)

    def _adopt(self, element: str, now_s: float) -> tuple[int, int]:
        """Add what the catalogue has here, page by page; return how many were added, and resized."""
        ids = self._ids(element)
        added = resized = last = 0
        while True:
            with self._database.write() as connection:
                # With the accounts locked nothing is struck from them: what is seen here has not gone yet.
                accounts.lock(connection, element)
                rows = connection.execute(_copies(ids, last)).all()
                if not rows:
                    return added, resized
                last = rows[-1].file_id
                new, changed = _take_over(connection, element, rows, now_s)
            added, resized = added + new, resized + changed

    def _drop(self, element: str, before_s: float) -> int:
        """Remove what the catalogue does not have here; not what came since ``before_s``."""
        removed = 0
        for lfns in self._held(element, before_s):
            located = self._catalogue.resolve(lfns)
            known = {
                lfn
                for lfn, file in located.ok.items()
                if any(self._elements.name_of(one.se) == element for one in file.replicas)
            }
            lost = [lfn for lfn in lfns if lfn not in known and _is_told(located.failed.get(lfn))]
            orphans = self._evict_orphans(element, lost) if lost else {}
            removed += sum(orphans.values())
            gone = [lfn for lfn in lost if lfn not in orphans]
            if gone:
                with self._database.write() as connection:
                    accounts.lock(connection, element)
                    old = sa.and_(
                        holdings.c.element == element,
                        holdings.c.lfn.in_(gone),
                        holdings.c.since_s < before_s,
                    )
                    removed += connection.execute(sa.delete(holdings).where(old)).rowcount
        return removed

    def _forget_vanished(self, element: str) -> int:
        """Make the catalogue forget copies that the storage does not have; return how many."""
        storage = self._elements.get(element)
        ids, last, vanished = self._ids(element), 0, 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(_copies(ids, last)).all()
            if not rows:
                return vanished
            last = rows[-1].file_id
            asked: dict[Lfn, tuple[Lfn, str]] = {}
            guids: dict[str, bytes | None] = {}
            for lfn, file in self._catalogue.resolve([_lfn(row) for row in rows]).ok.items():
                for replica in file.replicas:
                    if self._elements.name_of(replica.se) == element:
                        stored, guid = stored_as(storage, replica, file.entry.guid)
                        asked[stored], guids[stored] = (Lfn(lfn), replica.se), guid
            for missing, error in storage.stat(list(asked), guids).failed.items():
                if isinstance(error, NoSuchFile):
                    lost, name = asked[Lfn(missing)]
                    vanished += len(self._catalogue.remove_replicas([lost], name).ok)

    def _ids(self, element: str) -> list[int]:
        """Return the ids of an element's name and aliases in the catalogue."""
        with self._database.read() as connection:
            query = sa.select(elements.c.id).where(elements.c.name.in_(names_of(self._elements, element)))
            return [key for (key,) in connection.execute(query)]

    def _held(self, element: str, before_s: float) -> Iterator[list[Lfn]]:
        """Yield the names of all holdings that are older, some at a time."""
        last: str = ""
        query = sa.select(holdings.c.lfn).order_by(holdings.c.lfn).limit(_PAGE)
        while True:
            with self._database.read() as connection:
                page = query.where(holdings.c.element == element, holdings.c.lfn > last)
                page = page.where(holdings.c.since_s < before_s)
                lfns = [Lfn(lfn) for (lfn,) in connection.execute(page)]
            if not lfns:
                return
            yield lfns
            last = lfns[-1]


def _copies(ids: Sequence[int], after: int) -> sa.Select[Any]:
    """The available copies at elements, in the order of their files' ids; not those of trashed names."""
    return (
        sa.select(
            replicas.c.file_id,
            directories.c.path,
            files.c.name,
            files.c.size_bytes,
            files.c.created_s,
            replicas.c.accessed_s,
            principals.c.name.label("owner"),
            _group.c.name.label("owner_group"),
        )
        .join(files, files.c.id == replicas.c.file_id)
        .join(directories, directories.c.id == files.c.directory_id)
        .join(principals, principals.c.id == files.c.owner_id)
        .join(_group, _group.c.id == files.c.group_id)
        .where(
            replicas.c.element_id.in_(ids),
            replicas.c.file_id > after,
            replicas.c.state == ReplicaState.AVAILABLE,
            sa.func.substr(directories.c.path, 1, 1) == "/",
        )
        .order_by(replicas.c.file_id)
        .limit(_PAGE)
    )


def _is_told(error: VseError | None) -> bool:
    """Whether the catalogue has answered: it knows the name, or says that there is none."""
    return error is None or isinstance(error, NoSuchEntry)


def _lfn(row: Any) -> Lfn:
    return Lfn(f"{row.path.rstrip('/')}/{row.name}")


def _take_over(connection: sa.Connection, element: str, rows: Sequence[Any], now_s: float) -> tuple[int, int]:
    found = {_lfn(row): row for row in rows}
    columns = (holdings.c.lfn, holdings.c.size_bytes, holdings.c.accessed_s)
    query = sa.select(*columns).where(holdings.c.element == element, holdings.c.lfn.in_(list(found)))
    held = {row.lfn: row for row in connection.execute(query)}
    new = [
        {
            "element": element,
            "lfn": lfn,
            "size_bytes": row.size_bytes,
            "owner": row.owner,
            "owner_group": row.owner_group,
            "dataset": "",
            "since_s": now_s,
            "accessed_s": min(now_s, row.accessed_s or row.created_s),
            "reads": 0,
        }
        for lfn, row in found.items()
        if lfn not in held
    ]
    if new:
        connection.execute(inserting(connection.dialect)(holdings).on_conflict_do_nothing(), new)
    resized = 0
    for lfn, had in held.items():
        row = found[Lfn(lfn)]
        accessed_s = max(had.accessed_s, row.accessed_s or 0.0)
        if (had.size_bytes, had.accessed_s) != (row.size_bytes, accessed_s):
            resized += had.size_bytes != row.size_bytes
            which = sa.and_(holdings.c.element == element, holdings.c.lfn == lfn)
            values = {"size_bytes": row.size_bytes, "accessed_s": accessed_s}
            connection.execute(sa.update(holdings).where(which).values(**values))
    return len(new), resized
