"""The advisory locks that VSE takes on PostgreSQL, each for one transaction; all numbers in one place."""

from __future__ import annotations

from enum import IntEnum


class Lock(IntEnum):
    """What only one transaction at a time may do. SQLite has one writer anyway."""

    MIGRATE = 86731
    WRITE_NAMES = 86732
    """That no name is both a file and a directory is a rule over two tables."""
    REQUEST = 86733
    """The same request made twice at a time is one."""
    CLAIM = 86734
    """Claims count slots, so they happen one after the other."""
