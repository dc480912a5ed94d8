"""The statements of tags and their schemas. A *tag row* is (name, type, integer, number, text)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from vse.catalogue.statement_base import StatementBase
from vse.db.prepared import Prepared, Row, bound_values
from vse.db.tables import directories, files
from vse.db.tables_names import tag_schemas, tags
from vse.model.tags import TagType, TagValue

FILE, DIRECTORY = "f", "d"
_TAG_COLUMNS: tuple[Any, ...] = (tags.c.name, tags.c.type, tags.c.integer, tags.c.number, tags.c.text)
_SCHEMA_COLUMNS: tuple[Any, ...] = (
    directories.c.path,
    tag_schemas.c.name,
    tag_schemas.c.type,
    tag_schemas.c.note,
)
_schemas = tag_schemas.join(directories, directories.c.id == tag_schemas.c.directory_id)


def tag_value(row: Row) -> TagValue | None:
    """Return the value of a tag row."""
    _, kind, integer, number, text = row
    if kind == TagType.BOOLEAN:
        return bool(integer)
    value: TagValue | None = {TagType.INTEGER: integer, TagType.TEXT: text}.get(kind, number)
    return value


VALUE_COLUMNS = {
    TagType.INTEGER: "integer",
    TagType.BOOLEAN: "integer",
    TagType.NUMBER: "number",
    TagType.TIME: "number",
    TagType.TEXT: "text",
}
"""The column that holds a value, by its type."""


def tag_columns(kind: TagType, value: TagValue) -> Row:
    """Return (type, integer, number, text) of a value."""
    column = VALUE_COLUMNS[kind]
    integer = int(value) if column == "integer" else None
    number = float(value) if column == "number" else None
    return str(kind), integer, number, value if column == "text" else None


class TagStatements(StatementBase):
    """Each is built when it is first used."""

    # -- schemas ----------------------------------------------------------------------------------

    @cached_property
    def schemas_of(self) -> Prepared:
        """([path, ...]) -> (path, name, type, note) of the schemas of these directories themselves."""
        paths = self.given("paths")
        joined = paths.table.join(directories, directories.c.path == paths.text())
        joined = joined.join(tag_schemas, tag_schemas.c.directory_id == directories.c.id)
        return self.prepared(sa.select(*_SCHEMA_COLUMNS).select_from(joined), "paths")

    @cached_property
    def schemas_below(self) -> Prepared:
        """(source, start, end) -> (path, name, type, note) of a directory and all below it."""
        query = sa.select(*_SCHEMA_COLUMNS).select_from(_schemas).where(self.subtree())
        return self.prepared(query, "source", "start", "end")

    @cached_property
    def put_schema(self) -> Prepared:
        """A whole row of ``tag_schemas``; over one that is there."""
        statement = self.upserting(tag_schemas).values(bound_values(tag_schemas))
        told = {name: statement.excluded[name] for name in ("type", "note")}
        statement = statement.on_conflict_do_update(index_elements=["directory_id", "name"], set_=told)
        return self.prepared(statement, *(column.name for column in tag_schemas.columns))

    @cached_property
    def remove_schema(self) -> Prepared:
        """(directory id, name)."""
        which = (tag_schemas.c.directory_id == bindparam("directory"), tag_schemas.c.name == bindparam("tag"))
        return self.prepared(sa.delete(tag_schemas).where(*which), "directory", "tag")

    @cached_property
    def tagged_below(self) -> Prepared:
        """(name, source, start, end) -> (path,) of one directory there that has the tag, or holds a file that
        has it."""
        named = tags.c.name == bindparam("tag")
        own = tags.join(directories, sa.and_(tags.c.kind == DIRECTORY, tags.c.object_id == directories.c.id))
        held = tags.join(files, sa.and_(tags.c.kind == FILE, tags.c.object_id == files.c.id))
        held = held.join(directories, directories.c.id == files.c.directory_id)
        either = [
            sa.select(directories.c.path).select_from(joined).where(named, self.subtree())
            for joined in (own, held)
        ]
        return self.prepared(sa.union_all(*either).limit(1), "tag", "source", "start", "end")

    # -- values -----------------------------------------------------------------------------------

    @cached_property
    def tags_of(self) -> Prepared:
        """([[kind, id], ...]) -> (kind, id, *tag row) of all their tags."""
        pairs = self.given("objects", 2)
        is_pair = sa.and_(tags.c.kind == pairs.text(0), tags.c.object_id == pairs.number(1))
        joined = pairs.table.join(tags, is_pair)
        query = sa.select(tags.c.kind, tags.c.object_id, *_TAG_COLUMNS).select_from(joined)
        return self.prepared(query, "objects")

    @cached_property
    def put_tag(self) -> Prepared:
        """A whole row of ``tags``; over one that is there."""
        statement = self.upserting(tags).values(bound_values(tags))
        told = {name: statement.excluded[name] for name in ("type", "integer", "number", "text")}
        statement = statement.on_conflict_do_update(index_elements=["kind", "object_id", "name"], set_=told)
        return self.prepared(statement, *(column.name for column in tags.columns))

    @cached_property
    def remove_tag(self) -> Prepared:
        """(kind, id, name)."""
        table = tags.c
        which = (
            table.kind == bindparam("kind"),
            table.object_id == bindparam("which"),
            table.name == bindparam("tag"),
        )
        return self.prepared(sa.delete(tags).where(*which), "kind", "which", "tag")

    @cached_property
    def any_of_files(self) -> Prepared:
        """(name) -> a row where any file of the catalogue has the tag."""
        query = sa.select(tags.c.name).where(tags.c.name == bindparam("tag"), tags.c.kind == FILE).limit(1)
        return self.prepared(query, "tag")

    def holders(self, name: str, column: str, meets: Callable[[Any], Any], most: int) -> list[Prepared]:
        """Two statements, () -> (path,) of at most ``most`` rows each.

        Directories that have the tag with a value that ``meets`` a condition; and those of such files.
        """
        wanted = (tags.c.name == name, meets(tags.c[column]))
        own = tags.join(directories, directories.c.id == tags.c.object_id)
        held = tags.join(files, files.c.id == tags.c.object_id)
        held = held.join(directories, directories.c.id == files.c.directory_id)
        return [
            self.prepared(
                sa.select(directories.c.path)
                .select_from(joined)
                .where(tags.c.kind == kind, *wanted)
                .limit(most)
            )
            for kind, joined in ((DIRECTORY, own), (FILE, held))
        ]

    # -- for a find; they name the tags that it speaks of --------------------------------------------

    def directory_page(self, names: Iterable[str], of_files: bool) -> Prepared:
        """(start, end, limit) -> (path, whether files in it have one of the tags, *tag row), in path order.

        Of directories from ``start`` on, before ``end``; a row for each of their own tags, or one of None.
        ``of_files``: whether files may have any of these tags.
        """
        path = directories.c.path
        wanted = sa.select(directories.c.id, path).where(path >= bindparam("start"), path < bindparam("end"))
        page: Any = wanted.order_by(path).limit(bindparam("limit")).subquery("page")
        named = sa.or_(*(tags.c.name == name for name in names))
        inner = tags.alias("inside")
        inside: Any = sa.false()
        if of_files:
            among = sa.or_(*(inner.c.name == name for name in names))
            has = sa.and_(inner.c.kind == FILE, inner.c.object_id == files.c.id, among)
            inside = sa.select(files.c.id).join(inner, has).where(files.c.directory_id == page.c.id).exists()
        own = sa.and_(tags.c.kind == DIRECTORY, tags.c.object_id == page.c.id, named)
        query = sa.select(page.c.path, inside, *_TAG_COLUMNS).select_from(page.outerjoin(tags, own))
        return self.prepared(query.order_by(page.c.path), "start", "end", "limit")
