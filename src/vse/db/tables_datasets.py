"""The tables of datasets, of registrations queued for upstream catalogues, and of consistency checks."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from vse.db.base import ID, NAME, metadata

datasets = Table(
    "datasets",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", NAME, nullable=False),
    Column("version", Integer, nullable=False),  # 1, 2, ... of a frozen one; 0 of one by query
    Column("kind", String(8), nullable=False),  # frozen query
    Column("query", Text, nullable=False),  # that it was made by, or is asked by; may be empty
    Column("tree", Text, nullable=False),
    Column("owner_id", ID, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("files", BigInteger, nullable=False),  # totals of a frozen one
    Column("size_bytes", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=True),  # None: not known of every file
    Column("note", Text, nullable=True),
    UniqueConstraint("name", "version"),
)

dataset_files = Table(
    "dataset_files",
    metadata,
    Column("dataset_id", ID, ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("lfn", NAME, nullable=False),
    Column("member", NAME, nullable=False),  # of a zip archive; empty: the whole file
    Column("size_bytes", BigInteger, nullable=False),  # negative: its list did not tell
    Column("adler32", BigInteger, nullable=True),
    Column("tree", Text, nullable=False),
    Column("entries", BigInteger, nullable=True),
    Column("corrupt", Boolean, nullable=False),
    Column("source", Text, nullable=True),  # the URL it can be had from, as its list told
    UniqueConstraint("dataset_id", "lfn", "member"),
    sqlite_with_rowid=False,
)

registrations = Table(
    "registrations",
    metadata,
    Column("id", ID, primary_key=True),
    Column("upstream_id", ID, ForeignKey("upstreams.id", ondelete="CASCADE"), nullable=False),
    Column("lfn", NAME, nullable=False),
    Column("se", Text, nullable=False),
    Column("url", Text, nullable=True),
    Column("action", String(8), nullable=False),  # add remove
    Column("state", String(12), nullable=False),  # queued done failed
    Column("failures", Integer, nullable=False),
    Column("not_before_s", Float, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("finished_s", Float, nullable=True),
    Column("error", Text, nullable=True),  # JSON of the last error
    UniqueConstraint("upstream_id", "lfn", "se"),
    Index("ix_registrations_queue", "state", "not_before_s"),
)

consistency_runs = Table(
    "consistency_runs",
    metadata,
    Column("id", ID, primary_key=True),
    Column("se", Text, nullable=False),
    Column("base", NAME, nullable=False),  # the LFN below which it looked
    Column("started_s", Float, nullable=False),
    Column("finished_s", Float, nullable=True),
    Column("committed", Boolean, nullable=False),
    Column("checked", BigInteger, nullable=False),  # files of the catalogue before
    Column("dark", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    Column("differing", BigInteger, nullable=False),
    Index("ix_consistency_runs_se", "se", "id"),
)

consistency_findings = Table(
    "consistency_findings",
    metadata,
    Column("run_id", ID, ForeignKey("consistency_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("path", NAME, primary_key=True),  # as the storage names it
    Column("lfn", NAME, nullable=True),  # as the catalogue names it, if it does
    Column("kind", String(10), nullable=False),  # dark lost differing found
    Column("size_bytes", BigInteger, nullable=True),
    Column("known_bytes", BigInteger, nullable=True),  # what the catalogue says of its size
    Column("acted", Boolean, nullable=False),
    sqlite_with_rowid=False,
)
