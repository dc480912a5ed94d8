"""Engine, tables and migrations: the one place that knows which database is underneath."""

from vse.db.engine import Database

__all__ = ["Database"]
