"""The directories that one writing call needs: looked up in bulk, missing ones planned, then added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vse.catalogue.beside import DIRECTORY, Beside
from vse.catalogue.sql_rows import join, split
from vse.catalogue.sql_statements import Statements
from vse.db.prepared import Row, as_json

MODE = 0o755


def with_ancestors(paths: Iterable[str]) -> set[str]:
    """Return ``paths`` and every directory above them, the root included."""
    found = {"/"}
    for path in paths:
        above = path
        while above not in found:
            found.add(above)
            above = split(above)[0]
    return found


class InTheWay(Exception):
    """Another name stands where a directory is needed; the arguments are that name and its kind.

    Never leaves this package: it becomes an `AlreadyExists` that says what was wanted.
    """

    def __str__(self) -> str:
        return "{} is a {}, not a directory".format(*self.args)


class Directories:
    """Ids of directories by path within one transaction. New ones exist here first; `flush` adds them."""

    def __init__(
        self, driver: Any, statements: Statements, beside: Beside, now_s: float, next_id: int
    ) -> None:
        self.ids: dict[str, int] = {}
        self._driver = driver
        self._statements = statements
        self._now_s = now_s
        self._beside = beside
        self._next_id = self._first_id = next_id
        self._new: list[Row] = []
        self._touched: set[int] = set()
        self._in_the_way: dict[str, str] = {}
        self._defaults: dict[int, Sequence[Row]] = {}

    @property
    def next_id(self) -> int:
        """The id that the next new directory will get."""
        return self._next_id

    def look_up(self, paths: Iterable[str]) -> None:
        """Learn what is there of ``paths`` and of the directories above them, of any kind."""
        wanted = [path for path in with_ancestors(paths) if path not in self.ids]
        rows = self._statements.directory_rows.rows(self._driver, as_json(wanted))
        self.ids.update((row[1], row[0]) for row in rows)
        missing = [split(path) for path in wanted if path not in self.ids]
        if missing:
            pairs = as_json(missing)
            blocking = self._statements.files.rows(self._driver, pairs)
            self._in_the_way.update((join(row[1], row[2]), "file") for row in blocking)
            if self._statements.any_specials.rows(self._driver):
                special = self._statements.specials.rows(self._driver, pairs)
                self._in_the_way.update((join(row[1], row[2]), row[3]) for row in special)

    def look_up_below(self, lfns: Iterable[str]) -> None:
        """Learn which of ``lfns``, whose parents were looked up, are directories themselves."""
        by_parent: dict[int, list[str]] = {}
        for lfn in lfns:
            parent = self.ids.get(split(lfn)[0])
            if parent is not None:
                by_parent.setdefault(parent, []).append(lfn)
        crowded = self._statements.with_subdirectories.rows(self._driver, as_json(by_parent))
        wanted = [lfn for (parent,) in crowded for lfn in by_parent[parent]]
        if wanted:
            rows = self._statements.directory_rows.rows(self._driver, as_json(wanted))
            self.ids.update((row[1], row[0]) for row in rows)

    def ensure(self, path: str, owner_id: int, group_id: int, new_files: Iterable[str] = ()) -> int:
        """Return the id of ``path``, planning it and what is missing above it.

        ``new_files``: names (a dict or set) planned as files in the same transaction. Raises `InTheWay`
        and plans nothing where a name on the way is no directory. ``path`` must have been looked up.
        """
        missing = []
        above = path
        while above not in self.ids:
            if above in self._in_the_way or above in new_files:
                raise InTheWay(above, self._in_the_way.get(above, "file"))
            missing.append(above)
            above = split(above)[0]
        parent = self.ids[above]
        for new in reversed(missing):
            self.touch(parent)
            row = (self._next_id, new, parent, owner_id, group_id, MODE, self._now_s, self._now_s)
            self._new.append(row)
            parent = self.ids[new] = self._next_id
            self._next_id += 1
        return parent

    def touch(self, which: int) -> None:
        """Note that the names in directory ``which`` change."""
        self._touched.add(which)

    def flush(self) -> None:
        """Write what was planned."""
        if self._new:
            self._beside.clear_new(self._driver, DIRECTORY, self._first_id)
            self._statements.add_directory.many(self._driver, self._new)
            self._hand_on()
        self._statements.touch_directory.many(
            self._driver, [(self._now_s, which) for which in sorted(self._touched)]
        )
        self._new.clear()
        self._touched.clear()

    def defaults(self, parents: Iterable[int]) -> dict[int, Sequence[Row]]:
        """Return the default access entries of those directories that have some, flushed ones too."""
        wanted = set(parents)
        old = [which for which in wanted if which < self._first_id]
        found: dict[int, Sequence[Row]] = dict(self._beside.inherited(self._driver, old)) if old else {}
        found.update((which, self._defaults[which]) for which in wanted & self._defaults.keys())
        return found

    def _hand_on(self) -> None:
        """Give the default entries of a directory to the new ones below it."""
        known = self.defaults(row[2] for row in self._new)
        for which, _, parent, *_ in self._new:
            entries = known.get(parent) or self._defaults.get(parent)
            if entries:
                self._defaults[which] = entries
        made = [(DIRECTORY, which, entries) for which, entries in self._defaults.items()]
        self._beside.inherit(self._driver, made)
