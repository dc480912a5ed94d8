"""The tables of files, transfers and links. The database is the truth: what is not a row did not happen.

Those of what names have beside that are in `tables_names`, those of datasets and checks in
`tables_datasets`, those of the pool in `tables_pool`; importing this module declares them all.

Laid out for 10^7 files in 10^5 directories: a file row holds its directory's id and its own name,
never a path; names of people, elements and upstreams are interned; a replica without a URL of its own
costs five small integers. Times are Unix seconds (UTC).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from vse.db import tables_datasets, tables_names, tables_pool
from vse.db.base import ID, NAME, metadata

__all__ = ["metadata", "tables_datasets", "tables_names", "tables_pool"]

# -- catalogue -----------------------------------------------------------------------------------

principals = Table(
    "principals",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

elements = Table(
    "elements",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

upstreams = Table(
    "upstreams",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

directories = Table(
    "directories",
    metadata,
    Column("id", ID, primary_key=True),
    Column("path", NAME, nullable=False, unique=True),
    Column("parent_id", ID, nullable=True),  # None for the root only
    Column("owner_id", ID, nullable=False),
    Column("group_id", ID, nullable=False),
    Column("mode", SmallInteger, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("modified_s", Float, nullable=False),
    Index("ix_directories_parent_id", "parent_id", "path"),
)

files = Table(
    "files",
    metadata,
    Column("id", ID, primary_key=True),
    Column("directory_id", ID, ForeignKey("directories.id"), nullable=False),
    Column("name", NAME, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("adler32", BigInteger, nullable=True),
    Column("guid", LargeBinary(16), nullable=True),
    Column("owner_id", ID, nullable=False),
    Column("group_id", ID, nullable=False),
    Column("mode", SmallInteger, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("modified_s", Float, nullable=False),
    # None: this catalogue owns the name. A time: it is an upstream's answer, to be asked again then.
    Column("fresh_until_s", Float, nullable=True),
    UniqueConstraint("directory_id", "name"),
)

replicas = Table(
    "replicas",
    metadata,
    Column("file_id", ID, ForeignKey("files.id", ondelete="CASCADE"), primary_key=True),
    Column("element_id", ID, ForeignKey("elements.id"), primary_key=True),
    Column("url", Text, nullable=True),  # None: derived from the LFN by the element's settings
    Column("state", String(12), nullable=False),
    Column("accessed_s", Float, nullable=True),
    Column("upstream_id", ID, ForeignKey("upstreams.id"), nullable=True),  # None: known by ourselves
    Column("told_s", Float, nullable=True),  # when the upstream told of it last
    sqlite_with_rowid=False,
)

contents = Table(
    "contents",
    metadata,
    Column("file_id", ID, ForeignKey("files.id", ondelete="CASCADE"), primary_key=True),
    Column("tree", Text, nullable=False),
    Column("entries", BigInteger, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("upstream_id", ID, ForeignKey("upstreams.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(8), primary_key=True),  # 'find' or 'lfn'
    Column("question", NAME, primary_key=True),
    Column("fetched_s", Float, nullable=False),
    Column("expires_s", Float, nullable=False),
    Column("found", BigInteger, nullable=False),  # files in the answer; 0 is 'not there'
    Index("ix_answers_expires_s", "kind", "expires_s"),
    sqlite_with_rowid=False,
)

# -- transfer and staging ------------------------------------------------------------------------

transfers = Table(
    "transfers",
    metadata,
    Column("id", ID, primary_key=True),
    Column("lfn", NAME, nullable=False),
    Column("destination", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("adler32", BigInteger, nullable=True),
    Column("tree", Text, nullable=False),  # the ROOT tree asked for; empty for the file's default one
    Column("state", String(12), nullable=False),  # queued running done failed cancelled
    Column("place", BigInteger, nullable=False),  # order in the queue; a failure gets a new, last place
    Column("not_before_s", Float, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),  # claims so far; numbers the rows of `attempts`
    Column("bytes_done", BigInteger, nullable=False),
    Column("source", Text, nullable=True),  # the URL being read, or read last
    Column("source_se", Text, nullable=True),  # the element being read, or to be read first
    Column("lease_owner", Text, nullable=True),
    Column("lease_until_s", Float, nullable=True),
    Column("created_s", Float, nullable=False),
    Column("started_s", Float, nullable=True),
    Column("finished_s", Float, nullable=True),
    Column("error", Text, nullable=True),  # JSON of the last error
    UniqueConstraint("lfn", "destination"),
    Index("ix_transfers_queue", "state", "place"),
    Index("ix_transfers_finished", "finished_s"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("transfer_id", ID, ForeignKey("transfers.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("source", Text, nullable=True),
    Column("started_s", Float, nullable=False),
    Column("ended_s", Float, nullable=False),
    Column("bytes_done", BigInteger, nullable=False),
    Column("error", Text, nullable=True),  # JSON; None for the one that worked
    sqlite_with_rowid=False,
)

requests = Table(
    "requests",
    metadata,
    Column("id", ID, primary_key=True),
    Column("query", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("state", String(12), nullable=False),  # gathering active done failed cancelled
    Column("created_s", Float, nullable=False),
    Column("finished_s", Float, nullable=True),
    Index("ix_requests_state", "state"),
)

request_items = Table(
    "request_items",
    metadata,
    Column("request_id", ID, ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True),
    Column("lfn", NAME, primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("transfer_id", ID, ForeignKey("transfers.id"), nullable=True, index=True),
    Column("state", String(12), nullable=False),  # here waiting done failed cancelled
    Column("error", Text, nullable=True),
    Index("ix_request_items_state", "request_id", "state"),
    sqlite_with_rowid=False,
)

# -- link tree -----------------------------------------------------------------------------------

links = Table(
    "links",
    metadata,
    Column("lfn", NAME, primary_key=True),
    Column("target", Text, nullable=False),
    Column("made_s", Float, nullable=False),
)
