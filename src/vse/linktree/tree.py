"""The link tree: every staged file is a path, ``<root>/<LFN>``, that any program can open.

Records are rows of `links`, written before a link is made and dropped after it is removed: whatever is
on disk without a record was made by somebody else and is left alone. A directory that the tree made has
a record with an empty target, and goes when it is empty.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from vse.db import Database
from vse.db.tables import links
from vse.errors import NoSuchFile, StorageFault, VseError
from vse.linktree.plan import FOREIGN, Action, decide
from vse.linktree.walk import directory, found_at, in_the_way, mapped
from vse.model import BulkResult, Clock, Lfn

_CHUNK = 1000
_DIRECTORY_MADE = ""


@dataclass(slots=True)
class Synced:
    """What a `LinkTree.sync` did; ``conflicts`` are names left as they are, with the reason."""

    made: int = 0
    removed: int = 0
    kept: int = 0
    conflicts: dict[str, VseError] = field(default_factory=dict)


class LinkTree:
    """Symbolic links ``<root>/<LFN>`` to local files. Several processes may work on one tree."""

    def __init__(self, root: Path, database: Database, clock: Clock = time.time) -> None:
        self.root = root
        self._database = database
        self._clock = clock

    def path(self, lfn: Lfn) -> Path:
        """Return where the link of a file is, or would be."""
        return self.root / lfn.lstrip("/")

    def ensure(self, targets: Mapping[Lfn, Path]) -> BulkResult[Path]:
        """Make the link of each file, to an absolute path; `AlreadyExists` where something is in the way."""
        self._make_root()
        wanted = {lfn: str(path.absolute()) for lfn, path in targets.items()}
        return self._change(wanted)[0]

    def drop(self, lfns: Sequence[Lfn]) -> BulkResult[Path]:
        """Remove the links of files that are gone, and directories that become empty; idempotent."""
        return self._change(dict.fromkeys(lfns))[0]

    def sync(self, wanted: Iterable[tuple[Lfn, Path]]) -> Synced:
        """Make the tree hold exactly ``wanted``, but for what stands in the way."""
        self._make_root()
        recorded = set(self._recorded())
        done = Synced()
        pending: dict[Lfn, str | None] = {}

        def flush() -> None:
            result, actions = self._change(pending)
            done.conflicts.update(result.failed)
            done.made += sum(action in (Action.MAKE, Action.RETARGET) for action in actions)
            done.removed += actions.count(Action.REMOVE)
            done.kept += actions.count(Action.KEEP)
            pending.clear()

        for lfn, path in wanted:
            recorded.discard(lfn)
            pending[lfn] = str(path.absolute())
            if len(pending) >= _CHUNK:
                flush()
        flush()
        for lfn in sorted(recorded):
            pending[lfn] = None
            if len(pending) >= _CHUNK:
                flush()
        flush()
        return done

    def _make_root(self) -> None:
        wanted = f"make the link tree {self.root}"
        try:
            with mapped(wanted):
                self.root.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise StorageFault(wanted, "a file of this name is there", "move it elsewhere") from error

    def _recorded(self) -> list[Lfn]:
        with self._database.read() as connection:
            query = sa.select(links.c.lfn).where(links.c.target != _DIRECTORY_MADE)
            return [Lfn(name) for (name,) in connection.execute(query)]

    # -- the work --------------------------------------------------------------------------------

    def _change(self, wanted: Mapping[Lfn, str | None]) -> tuple[BulkResult[Path], list[Action]]:
        result: BulkResult[Path] = BulkResult()
        actions: list[Action] = []
        names = list(wanted)
        for start in range(0, len(names), _CHUNK):
            some = names[start : start + _CHUNK]
            records = self._records(some)
            by_parent: defaultdict[Lfn, list[Lfn]] = defaultdict(list)
            for lfn in some:
                by_parent[lfn.parent].append(lfn)
            for parent, children in by_parent.items():
                part = {lfn: wanted[lfn] for lfn in children}
                try:
                    actions += self._change_in(parent, part, records, result)
                except VseError as error:
                    result.failed.update(dict.fromkeys(children, error))
        return result, actions

    def _change_in(
        self,
        parent: Lfn,
        wanted: Mapping[Lfn, str | None],
        records: Mapping[str, str],
        result: BulkResult[Path],
    ) -> list[Action]:
        """Change the links of one directory."""
        making = self._record_directory if any(wanted.values()) else None
        try:
            with directory(self.root, parent, making) as handle:
                plan = {
                    lfn: decide(target, records.get(lfn), found_at(handle, lfn.name))
                    for lfn, target in wanted.items()
                }
                self._before(plan, wanted)
                done = [self._one(handle, lfn, action, wanted[lfn], result) for lfn, action in plan.items()]
        except NoSuchFile:
            if making is not None:
                raise
            done = [Action.FORGET] * len(wanted)
            plan = dict.fromkeys(wanted, Action.FORGET)
            result.ok.update((lfn, self.path(lfn)) for lfn in wanted)
        gone = [lfn for lfn, action in zip(plan, done, strict=True) if _unrecorded(action, wanted[lfn])]
        self._forget(gone)
        if gone:
            self._remove_empty(parent)
        return done

    def _before(self, plan: Mapping[Lfn, Action], wanted: Mapping[Lfn, str | None]) -> None:
        """Record what is about to be made; after a kill the record without a link is made good."""
        new = {
            lfn: target
            for lfn, action in plan.items()
            if action is Action.MAKE and (target := wanted[lfn]) is not None
        }
        self._record(new)

    def _one(
        self, handle: int, lfn: Lfn, action: Action, target: str | None, result: BulkResult[Path]
    ) -> Action:
        """Carry out one action; return what it came to."""
        try:
            if action in (Action.REMOVE, Action.RETARGET):
                with mapped(f"remove the link {lfn}"):
                    os.unlink(lfn.name, dir_fd=handle)
            if action is Action.RETARGET and target is not None:
                self._record({lfn: target})
            if action in (Action.MAKE, Action.RETARGET) and target is not None:
                with mapped(f"make the link {lfn}"):
                    os.symlink(target, lfn.name, dir_fd=handle)
        except FileExistsError:
            action = Action.KEEP if found_at(handle, lfn.name) == target else Action.CONFLICT
        except VseError as error:
            result.failed[lfn] = error
            return Action.KEEP  # with its record: what is on disk may be ours still
        if action is Action.CONFLICT:
            kind = "a file or directory" if found_at(handle, lfn.name) is FOREIGN else "another link"
            result.failed[lfn] = in_the_way(lfn, kind)
        else:
            result.ok[lfn] = self.path(lfn)
        return action

    def _remove_empty(self, parent: Lfn) -> None:
        """Remove ``parent`` and those above it, as far as we made them and they are empty."""
        while parent != "/" and self._records([parent]).get(parent) == _DIRECTORY_MADE:
            try:
                with directory(self.root, parent.parent) as handle:
                    os.rmdir(parent.name, dir_fd=handle)
            except FileNotFoundError:
                pass
            except (OSError, VseError):
                return
            self._forget([parent])
            parent = parent.parent

    # -- records ---------------------------------------------------------------------------------

    def _records(self, lfns: Sequence[Lfn]) -> dict[str, str]:
        with self._database.read() as connection:
            query = sa.select(links.c.lfn, links.c.target).where(links.c.lfn.in_(lfns))
            return {row.lfn: row.target for row in connection.execute(query)}

    def _record_directory(self, path: str) -> None:
        self._record({Lfn(path): _DIRECTORY_MADE})

    def _record(self, targets: Mapping[Lfn, str]) -> None:
        if not targets:
            return
        insert = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        query = insert(links)
        query = query.on_conflict_do_update(
            index_elements=["lfn"], set_={"target": query.excluded.target, "made_s": query.excluded.made_s}
        )
        now_s = self._clock()
        with self._database.write() as connection:
            connection.execute(
                query, [{"lfn": lfn, "target": text, "made_s": now_s} for lfn, text in targets.items()]
            )

    def _forget(self, lfns: Sequence[Lfn]) -> None:
        if lfns:
            with self._database.write() as connection:
                connection.execute(sa.delete(links).where(links.c.lfn.in_(lfns)))


def _unrecorded(action: Action, wanted: str | None) -> bool:
    """Whether a name has no link of ours after ``action``, so that its record (if any) must go."""
    return action is Action.CONFLICT or (wanted is None and action in (Action.REMOVE, Action.FORGET))
