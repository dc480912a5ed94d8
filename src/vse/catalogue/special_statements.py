"""Every statement about special names: symbolic links and collections.

A *special row* is (id, directory's path, name, kind, target, owner, group, mode, created, modified).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from vse.catalogue.statement_base import StatementBase
from vse.db.prepared import Prepared
from vse.db.tables import directories
from vse.db.tables_names import collection_members, special_names

_COLUMNS: tuple[Any, ...] = (
    special_names.c.id,
    directories.c.path,
    special_names.c.name,
    special_names.c.kind,
    special_names.c.target,
    special_names.c.owner_id,
    special_names.c.group_id,
    special_names.c.mode,
    special_names.c.created_s,
    special_names.c.modified_s,
)
_named = special_names.join(directories, special_names.c.directory_id == directories.c.id)


class SpecialStatements(StatementBase):
    """The prepared statements about links and collections."""

    @cached_property
    def any_specials(self) -> Prepared:
        """() -> a row where there is any special name at all: most catalogues have none to look for."""
        return self.prepared(sa.select(special_names.c.id).limit(1))

    @cached_property
    def specials(self) -> Prepared:
        """([[directory, name], ...]) -> a special row each that is there."""
        pairs = self.given("names", 2)
        joined = pairs.table.join(directories, directories.c.path == pairs.text(0))
        named = sa.and_(
            special_names.c.directory_id == directories.c.id, special_names.c.name == pairs.text(1)
        )
        return self.prepared(sa.select(*_COLUMNS).select_from(joined.join(special_names, named)), "names")

    @cached_property
    def special_children(self) -> Prepared:
        """(directory, name, limit) -> special rows of a directory behind ``name``, in order."""
        query = sa.select(*_COLUMNS).select_from(_named)
        query = query.where(
            directories.c.path == bindparam("directory"), special_names.c.name > bindparam("name")
        )
        query = query.order_by(special_names.c.name).limit(bindparam("limit"))
        return self.prepared(query, "directory", "name", "limit")

    @cached_property
    def with_specials(self) -> Prepared:
        """([id, ...]) -> (id,) of each directory that holds special names."""
        ids = self.given("ids")
        child = sa.select(special_names.c.id).where(special_names.c.directory_id == ids.number()).exists()
        return self.prepared(sa.select(ids.number()).select_from(ids.table).where(child), "ids")

    @cached_property
    def longest_special_below(self) -> Prepared:
        """(source, from, end, over): as `longest_below`, of special names."""
        path = self.octets(directories.c.path)
        query = sa.select(sa.func.max(path + 1 + self.octets(special_names.c.name))).select_from(_named)
        query = query.where(self.subtree(), path > bindparam("over"))
        return self.prepared(query, "source", "start", "end", "over")

    @cached_property
    def last_special(self) -> Prepared:
        """() -> the greatest id of a special name, 0 where there is none."""
        return self.prepared(sa.select(sa.func.coalesce(sa.func.max(special_names.c.id), 0)))

    @cached_property
    def add_special(self) -> Prepared:
        """A whole row of ``special_names``."""
        return self.adding(special_names)

    @cached_property
    def move_special(self) -> Prepared:
        """(directory id, name, id)."""
        statement = (
            sa.update(special_names)
            .where(special_names.c.id == bindparam("which"))
            .values(directory_id=bindparam("directory"), name=bindparam("new"))
        )
        return self.prepared(statement, "directory", "new", "which")

    @cached_property
    def touch_special(self) -> Prepared:
        """(modified_s, id)."""
        statement = (
            sa.update(special_names)
            .where(special_names.c.id == bindparam("which"))
            .values(modified_s=bindparam("modified"))
        )
        return self.prepared(statement, "modified", "which")

    @cached_property
    def remove_special(self) -> Prepared:
        """(id): with its members."""
        return self.prepared(
            sa.delete(special_names).where(special_names.c.id == bindparam("which")), "which"
        )

    @cached_property
    def members(self) -> Prepared:
        """(collection id, position, limit) -> (position, lfn) behind ``position``, in order."""
        query = sa.select(collection_members.c.position, collection_members.c.lfn).where(
            collection_members.c.collection_id == bindparam("which"),
            collection_members.c.position > bindparam("position"),
        )
        query = query.order_by(collection_members.c.position).limit(bindparam("limit"))
        return self.prepared(query, "which", "position", "limit")

    @cached_property
    def add_member(self) -> Prepared:
        """(collection id, position, lfn)."""
        return self.adding(collection_members)

    @cached_property
    def remove_members(self) -> Prepared:
        """(collection id): all of them."""
        statement = sa.delete(collection_members).where(
            collection_members.c.collection_id == bindparam("which")
        )
        return self.prepared(statement, "which")
