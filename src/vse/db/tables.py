"""The tables of files, transfers and links. The database is the truth: what is not a row did not happen.

Those of what names have beside that are in `tables_names`, those of datasets and checks in
`tables_datasets`, those of the pool in `tables_pool`, services in `tables_services`, how upstreams fare in
`tables_upstreams`; importing this module declares them all.

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
    text,
)

from vse.db import tables_datasets, tables_names, tables_pool, tables_services, tables_upstreams
from vse.db.base import ID, NAME, metadata

__all__ = [
    "metadata",
    "tables_datasets",
    "tables_names",
    "tables_pool",
    "tables_services",
    "tables_upstreams",
]

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
    Column("parent_id", ID, nullable=True),  # None for the root, and for the places of the trash
    Column("owner_id", ID, nullable=False),
    Column("group_id", ID, nullable=False),
    Column("mode", SmallInteger, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("modified_s", Float, nullable=False),
    Index("ix_directories_parent_id", "parent_id", "path"),
)

_has_guid = text("guid IS NOT NULL")
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
    Index("ix_files_guid", "guid", sqlite_where=_has_guid, postgresql_where=_has_guid),
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

_is_waiting = text("state = 'waiting'")
_has_ended = text("finished_s IS NOT NULL")
transfers = Table(
    "transfers",
    metadata,
    Column("id", ID, primary_key=True),
    Column("lfn", NAME, nullable=False),
    Column("destination", NAME, nullable=False),
    Column("priority", SmallInteger, nullable=False),  # 1 first ... 9 last
    Column("share", NAME, nullable=False),  # the owner whose fair share it counts for
    Column("size_bytes", BigInteger, nullable=False),
    Column("adler32", BigInteger, nullable=True),
    Column("tree", Text, nullable=False),  # the ROOT tree asked for; empty for the file's default one
    Column("filter", Text, nullable=True),  # the name of the filter that makes the file on the way in
    Column("state", String(12), nullable=False),  # held waiting queued running done failed cancelled
    Column("place", BigInteger, nullable=False),  # order within a priority: see vse.transfer.shares
    Column("not_before_s", Float, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),  # claims so far; numbers the rows of `attempts`
    Column("bytes_done", BigInteger, nullable=False),
    Column("source", Text, nullable=True),  # the URL being read, or read last
    Column("source_se", NAME, nullable=True),  # the element being read, or to be read first
    Column("given_source", Text, nullable=True),  # the URL to read instead of the catalogue's copies
    Column("lease_owner", Text, nullable=True),
    Column("lease_until_s", Float, nullable=True),
    Column("created_s", Float, nullable=False),
    Column("started_s", Float, nullable=True),
    Column("finished_s", Float, nullable=True),
    Column("error", Text, nullable=True),  # JSON of the last error
    UniqueConstraint("lfn", "destination"),
    Index("ix_transfers_queue", "state", "destination", "source_se", "priority", "place"),
    Index("ix_transfers_due", "not_before_s", sqlite_where=_is_waiting, postgresql_where=_is_waiting),
    Index(
        "ix_transfers_finished",
        "destination",
        "finished_s",
        sqlite_where=_has_ended,
        postgresql_where=_has_ended,
    ),
)

# The four small tables beside it are kept in the same transactions; with them no question to a queue of
# 10^7 files reads more than a few thousand rows.

transfer_lanes = Table(
    "transfer_lanes",
    metadata,
    Column("destination", NAME, primary_key=True),
    Column("source_se", NAME, primary_key=True),  # empty where it is not known
    Column("priority", SmallInteger, primary_key=True),
    Column("files", BigInteger, nullable=False),  # queued in it
    Column("place", BigInteger, nullable=False),  # its virtual time: the place that was claimed last
    sqlite_with_rowid=False,
)

transfer_shares = Table(
    "transfer_shares",
    metadata,
    Column("priority", SmallInteger, primary_key=True),
    Column("share", NAME, primary_key=True),
    Column("place", BigInteger, nullable=False),  # the last one given to this owner
    sqlite_with_rowid=False,
)

transfer_counts = Table(
    "transfer_counts",
    metadata,
    Column("destination", NAME, primary_key=True),
    Column("state", String(12), primary_key=True),
    Column("priority", SmallInteger, primary_key=True),  # 0, as the bucket, in other states than queued
    Column("bucket", BigInteger, primary_key=True),  # place // vse.transfer.buckets.WIDTH
    Column("files", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

transfer_ends = Table(  # those that have ended and whose requests do not know it yet
    "transfer_ends",
    metadata,
    Column("transfer_id", ID, ForeignKey("transfers.id", ondelete="CASCADE"), primary_key=True),
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
    Column("way", Text, nullable=True),  # who moved its bytes, where it worked
    Column("error", Text, nullable=True),  # JSON; None for the one that worked
    sqlite_with_rowid=False,
)

requests = Table(
    "requests",
    metadata,
    Column("id", ID, primary_key=True),
    Column("query", Text, nullable=False),
    Column("destination", NAME, nullable=False),
    Column("owner", NAME, nullable=False),
    Column("priority", SmallInteger, nullable=False),  # 1 first ... 9 last
    Column("pin_s", Float, nullable=True),  # how long its files stay at least; None: not pinned
    Column("note", Text, nullable=False),
    Column("state", String(12), nullable=False),  # gathering held active done failed cancelled refused
    Column("approval", String(8), nullable=False),  # none wanted given refused
    Column("approved_by", Text, nullable=True),  # or refused by
    Column("approval_note", Text, nullable=False),
    Column("gathered_by", Text, nullable=True),  # the process that lists its files: vse.transfer.instance
    Column("gather_until_s", Float, nullable=True),  # when another may do so
    Column("created_s", Float, nullable=False),
    Column("finished_s", Float, nullable=True),
    Column("error", Text, nullable=True),  # JSON: why its files could not be listed
    Index("ix_requests_state", "state"),
    Index("ix_requests_owner", "owner", "destination", "state"),
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
    # With all that a request is summed up by: 10^5 files are counted in milliseconds.
    Index("ix_request_items_state", "request_id", "state", "transfer_id", "size_bytes"),
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
