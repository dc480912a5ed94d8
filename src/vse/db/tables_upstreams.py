"""The tables of how upstream catalogues fare, and of answers that wait to be asked for anew."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Integer, String, Table, Text

from vse.db.base import ID, NAME, metadata

upstream_states = Table(
    "upstream_states",
    metadata,
    Column("upstream_id", ID, ForeignKey("upstreams.id", ondelete="CASCADE"), primary_key=True),
    Column("failures", Integer, nullable=False),  # in a row, the last one included; 0 once it answers
    Column("not_before_s", Float, nullable=False),  # it is left alone until then
    Column("error", Text, nullable=True),  # JSON of the last failure
    Column("version", Text, nullable=True),  # of what it answered from, where it can tell
    Column("hits", BigInteger, nullable=False),
    Column("misses", BigInteger, nullable=False),
    Column("stale", BigInteger, nullable=False),
    Column("queries", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("waited_s", Float, nullable=False),
)

refreshes = Table(
    "refreshes",
    metadata,
    Column("kind", String(8), primary_key=True),  # as in `answers`
    Column("question", NAME, primary_key=True),
    Column("queued_s", Float, nullable=False),
    Column("claimed_until_s", Float, nullable=False),  # 0: nobody asks it now
    sqlite_with_rowid=False,
)
