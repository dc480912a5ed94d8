"""The directories that one writing call needs: looked up in bulk, missing ones planned, then added."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
    """A file stands where a directory is needed; the argument is its name.

    Never leaves this package: it becomes an `AlreadyExists` that says what was wanted.
    """


class Directories:
    """Ids of directories by path within one transaction. New ones exist here first; `flush` adds them."""

    def __init__(self, driver: Any, statements: Statements, now_s: float, next_id: int) -> None:
        self.ids: dict[str, int] = {}
        self._driver = driver
        self._statements = statements
        self._now_s = now_s
        self._next_id = next_id
        self._new: list[Row] = []
        self._touched: set[int] = set()
        self._files_in_the_way: set[str] = set()

    @property
    def next_id(self) -> int:
        """The id that the next new directory will get."""
        return self._next_id

    def look_up(self, paths: Iterable[str]) -> None:
        """Learn which of ``paths`` and of the directories above them are there, and which are files."""
        wanted = [path for path in with_ancestors(paths) if path not in self.ids]
        rows = self._statements.directory_rows.rows(self._driver, as_json(wanted))
        self.ids.update((row[1], row[0]) for row in rows)
        missing = [split(path) for path in wanted if path not in self.ids]
        if missing:
            blocking = self._statements.files.rows(self._driver, as_json(missing))
            self._files_in_the_way.update(join(row[1], row[2]) for row in blocking)

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
        and plans nothing where a name on the way is a file. ``path`` must have been looked up.
        """
        missing = []
        above = path
        while above not in self.ids:
            if above in self._files_in_the_way or above in new_files:
                raise InTheWay(above)
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
        self._statements.add_directory.many(self._driver, self._new)
        self._statements.touch_directory.many(
            self._driver, [(self._now_s, which) for which in sorted(self._touched)]
        )
        self._new.clear()
        self._touched.clear()
