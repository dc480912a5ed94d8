"""The tables of the pool: what is kept for whom, how much of it, and what was thrown away and why.

Elements and people are named here, not interned: these rows outlive a change of the settings.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table, Text, UniqueConstraint

from vse.db.base import ID, NAME, metadata

holdings = Table(
    "holdings",
    metadata,
    Column("element", NAME, primary_key=True),
    Column("lfn", NAME, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),  # whose quota it counts for: who had it brought
    Column("owner_group", Text, nullable=False),
    Column("dataset", Text, nullable=False),  # that it was brought for; may be empty
    Column("since_s", Float, nullable=False),
    Column("accessed_s", Float, nullable=False),
    Column("reads", BigInteger, nullable=False),
    Index("ix_holdings_accessed_s", "element", "accessed_s", "lfn"),
    sqlite_with_rowid=False,
)

reservations = Table(
    "reservations",
    metadata,
    Column("element", NAME, primary_key=True),
    Column("lfn", NAME, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("owner_group", Text, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("holder", Text, nullable=False),  # the process that writes it: see vse.transfer.instance
    Column("until_s", Float, nullable=False),
    sqlite_with_rowid=False,
)

usages = Table(
    "usages",
    metadata,
    Column("element", NAME, primary_key=True),
    Column("kind", String(8), primary_key=True),  # element user group dataset
    Column("name", NAME, primary_key=True),  # empty for the element itself
    Column("files", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("reserved_bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

quotas = Table(
    "quotas",
    metadata,
    Column("element", NAME, primary_key=True),  # '*' for every one
    Column("kind", String(8), primary_key=True),  # user group dataset
    Column("name", NAME, primary_key=True),  # '*' for each that has none of its own
    Column("limit_bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

pins = Table(
    "pins",
    metadata,
    Column("id", ID, primary_key=True),
    Column("element", NAME, nullable=False),
    Column("lfn", NAME, nullable=False),
    Column("owner", Text, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("expires_s", Float, nullable=True),  # None: until it is taken away
    Column("note", Text, nullable=True),
    UniqueConstraint("element", "lfn", "owner"),
    Index("ix_pins_expires_s", "expires_s"),
)

evictions = Table(
    "evictions",
    metadata,
    Column("id", ID, primary_key=True),
    Column("when_s", Float, nullable=False),
    Column("element", NAME, nullable=False),
    Column("lfn", NAME, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("state", String(12), nullable=False),  # planned done kept failed
    Column("reason", Text, nullable=False),  # for people
    Column("holder", Text, nullable=False),  # the process that carries it out
    Index("ix_evictions_lfn", "lfn", "id"),
    Index("ix_evictions_state", "state"),
)

readers = Table(
    "readers",
    metadata,
    Column("element", NAME, primary_key=True),
    Column("lfn", NAME, primary_key=True),
    Column("holder", NAME, primary_key=True),  # the process that reads it: see vse.transfer.instance
    Column("until_s", Float, nullable=False),
    Index("ix_readers_holder", "holder"),
    sqlite_with_rowid=False,
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", ID, primary_key=True),
    Column("when_s", Float, nullable=False),
    Column("lfn", NAME, nullable=False),
    Column("element", NAME, nullable=False),
    Column("source", Text, nullable=True),
    Column("path", Text, nullable=True),  # where the bytes are kept, if they are
    Column("size_bytes", BigInteger, nullable=True),
    Column("adler32", BigInteger, nullable=True),
    Column("attempt", Integer, nullable=True),
    Column("error", Text, nullable=False),  # JSON
    Index("ix_quarantine_lfn", "lfn", "id"),
)

reads = Table(
    "reads",
    metadata,
    Column("lfn", NAME, primary_key=True),
    Column("day", Integer, primary_key=True),  # days since 1970-01-01, UTC
    Column("number", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
