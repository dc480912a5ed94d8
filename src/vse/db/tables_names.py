"""The tables of what a name may have beside its entry: links, collections, access lists, checksums, tags.

Each is a side table of the few names that have it, so that a plain file costs nothing for it. An
*object* is a ``kind`` with an id: 'f' of `vse.db.tables.files`, 'd' of `vse.db.tables.directories`, or
's' of `special_names`. What an object has is removed with it, in the same transaction.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from vse.db.base import ID, NAME, metadata

special_names = Table(
    "special_names",
    metadata,
    Column("id", ID, primary_key=True),
    Column("directory_id", ID, ForeignKey("directories.id"), nullable=False),
    Column("name", NAME, nullable=False),
    Column("kind", String(10), nullable=False),  # link collection
    Column("target", NAME, nullable=True),  # of a link: an LFN, or relative to the directory
    Column("owner_id", ID, nullable=False),
    Column("group_id", ID, nullable=False),
    Column("mode", SmallInteger, nullable=False),
    Column("created_s", Float, nullable=False),
    Column("modified_s", Float, nullable=False),
    UniqueConstraint("directory_id", "name"),
)

collection_members = Table(
    "collection_members",
    metadata,
    Column("collection_id", ID, ForeignKey("special_names.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("lfn", NAME, nullable=False),
    UniqueConstraint("collection_id", "lfn"),
    sqlite_with_rowid=False,
)

access_entries = Table(
    "access_entries",
    metadata,
    Column("kind", String(1), primary_key=True),
    Column("object_id", ID, primary_key=True),
    Column("inherited", Boolean, primary_key=True),  # a default entry: for what is made below
    Column("whom", String(1), primary_key=True),  # user group mask
    Column("principal_id", ID, primary_key=True),  # 0 for the mask
    Column("permissions", SmallInteger, nullable=False),  # of 4 read, 2 write, 1 enter
    sqlite_with_rowid=False,
)

checksums = Table(
    "checksums",
    metadata,
    Column("file_id", ID, ForeignKey("files.id", ondelete="CASCADE"), primary_key=True),
    Column("algorithm", String(10), primary_key=True),  # all but adler32, which is in `files`
    Column("value", Text, nullable=False),  # hex digits, lower case, of the algorithm's full width
    sqlite_with_rowid=False,
)

replica_sources = Table(
    "replica_sources",
    metadata,
    Column("file_id", ID, ForeignKey("files.id", ondelete="CASCADE"), primary_key=True),
    Column("element_id", ID, ForeignKey("elements.id"), primary_key=True),
    Column("master", Boolean, nullable=False),
    Column("source", Text, nullable=True),  # the URL it was copied from
    Column("made_s", Float, nullable=True),
    sqlite_with_rowid=False,
)

trash = Table(
    "trash",
    metadata,
    Column("id", ID, primary_key=True),
    Column("lfn", NAME, nullable=False),  # where it was
    Column("kind", String(10), nullable=False),  # file directory link collection
    Column("place", NAME, nullable=False),  # the path of the directory row it hangs below, no LFN
    Column("removed_s", Float, nullable=False),
    Column("removed_by_id", ID, nullable=False),
    Column("expires_s", Float, nullable=False),
    Index("ix_trash_lfn", "lfn"),
    Index("ix_trash_expires_s", "expires_s"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", ID, primary_key=True),
    Column("when_s", Float, nullable=False),
    Column("who_id", ID, nullable=False),
    Column("action", String(20), nullable=False),
    Column("lfn", NAME, nullable=False),
    Column("detail", Text, nullable=True),  # JSON
    Index("ix_audit_lfn", "lfn", "id"),
)

tag_schemas = Table(
    "tag_schemas",
    metadata,
    Column("directory_id", ID, ForeignKey("directories.id", ondelete="CASCADE"), primary_key=True),
    Column("name", NAME, primary_key=True),
    Column("type", String(8), nullable=False),  # integer number text time boolean
    Column("note", Text, nullable=True),  # what it means, for people
    sqlite_with_rowid=False,
)

tags = Table(
    "tags",
    metadata,
    Column("kind", String(1), primary_key=True),
    Column("object_id", ID, primary_key=True),
    Column("name", NAME, primary_key=True),
    Column("type", String(8), nullable=False),  # as its schema said when it was set
    Column("integer", BigInteger, nullable=True),  # of an integer; 0 or 1 of a boolean
    Column("number", Float(53), nullable=True),  # of a number; Unix seconds (UTC) of a time
    Column("text", NAME, nullable=True),
    Index("ix_tags_integer", "name", "kind", "integer"),
    Index("ix_tags_number", "name", "kind", "number"),
    Index("ix_tags_text", "name", "kind", "text"),
    sqlite_with_rowid=False,
)
