"""The table of services: which run, on which settings, and what keeps one from its work."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, String, Table, Text

from vse.db.base import NAME, metadata

services = Table(
    "services",
    metadata,
    Column("id", NAME, primary_key=True),  # vse.transfer.instance
    Column("kind", String(12), nullable=False),  # stager
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("state", String(12), nullable=False),  # working, paused
    Column("problem", Text, nullable=True),  # JSON: why it is paused
    Column("notes", Text, nullable=False),  # what of the settings needs a restart; may be empty
    Column("settings_s", Float, nullable=False),  # since when it works with its settings
    Column("started_s", Float, nullable=False),
    Column("beat_s", Float, nullable=False),  # when it last said that it lives
    Column("memory_bytes", BigInteger, nullable=False),
    Column("memory_limit_bytes", BigInteger, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    sqlite_with_rowid=False,
)
