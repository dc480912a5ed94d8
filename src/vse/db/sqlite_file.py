"""How SQLite's file is opened: to write, or by those who may only read it.

In WAL mode reading takes two files beside it, ``-wal`` and ``-shm``, which are there as long as somebody has
it open who may write. Where they are not, nobody writes; then the file alone is read (SQLite's
``immutable``), and looked at after each statement: what was read while it changed is not believed.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from vse.errors import DatabaseBusy, Denied, StorageFault
from vse.model.identity import user_name

_State = tuple[int, int, int]
_BESIDE = ("-wal", "-shm")


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """``read_only``: it cannot be written by this process. ``still``: its state, where it is read alone."""

    path: Path
    read_only: bool = False
    still: _State | None = None

    @classmethod
    def at(cls, path: Path) -> Self:
        """Look at a file that need not be there yet.

        Raises `StorageFault` where it can be neither written nor read as it is.
        """
        path = path.resolve()
        beside = [path.with_name(path.name + one) for one in _BESIDE]
        there = [one for one in beside if one.exists()]
        if not path.exists() or (
            _writable(path)
            and (len(there) == len(_BESIDE) or _writable(path.parent))
            and all(map(_writable, there))
        ):
            return cls(path)
        if len(there) == len(_BESIDE):
            return cls(path, read_only=True)
        if any(one.stat().st_size for one in there):
            raise StorageFault(
                f"read the database {path}",
                f"it was not closed properly: {there[0].name} is beside it, and {_me()} may not mend that",
                "let somebody who may write it run any command of vse, such as vse doctor",
            )
        return cls(path, read_only=True, still=_state(path))

    def arguments(self) -> dict[str, Any]:
        """Return what `sqlalchemy.create_engine` needs over and above the URL."""
        if not self.read_only:
            return {}
        way = "mode=ro" if self.still is None else "immutable=1"
        uri = f"file:{quote(str(self.path))}?{way}"
        return {"creator": lambda: sqlite3.connect(uri, uri=True, check_same_thread=False)}

    def ensure_unchanged(self, wanted: str) -> None:
        """Raise `DatabaseBusy` where a file that is read alone was written meanwhile."""
        if self.still is not None and _state(self.path) != self.still:
            raise DatabaseBusy(wanted, "somebody wrote to the database while it was read", "try again")

    def ensure_writable(self, wanted: str) -> None:
        """Raise `Denied` where the file may only be read."""
        if self.read_only:
            raise Denied(
                wanted,
                f"{_me()} may only read the database {self.path}",
                "ask somebody who may; to write, one needs the file and its directory to be writable",
            )


def _state(path: Path) -> _State:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _me() -> str:
    return user_name(os.geteuid())
