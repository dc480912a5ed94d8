"""Every statement of the SQL catalogue, in SQLAlchemy Core, prepared for one dialect.

A *file row* is (id, directory's path, name, size, adler32, guid, owner, group, mode,
created, modified, fresh until); a *located row* appends one replica (element, url, state, accessed,
upstream) and the contents (tree, entries), None where there are none, and repeats for each replica.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from vse.catalogue.special_statements import SpecialStatements
from vse.db.prepared import Given, Prepared, bound_values
from vse.db.tables import contents, directories, files, principals, replicas
from vse.db.tables_names import special_names

_FILE_COLUMNS: tuple[Any, ...] = (
    files.c.id,
    directories.c.path,
    files.c.name,
    files.c.size_bytes,
    files.c.adler32,
    files.c.guid,
    files.c.owner_id,
    files.c.group_id,
    files.c.mode,
    files.c.created_s,
    files.c.modified_s,
    files.c.fresh_until_s,
)
_COPY_COLUMNS: tuple[Any, ...] = (
    replicas.c.element_id,
    replicas.c.url,
    replicas.c.state,
    replicas.c.accessed_s,
    replicas.c.upstream_id,
    contents.c.tree,
    contents.c.entries,
)
_DIRECTORY_COLUMNS: tuple[Any, ...] = (
    directories.c.id,
    directories.c.path,
    directories.c.owner_id,
    directories.c.group_id,
    directories.c.mode,
    directories.c.created_s,
    directories.c.modified_s,
)
_in_directory = files.c.directory_id == directories.c.id
_named = files.join(directories, _in_directory)
_copied = _named.outerjoin(replicas, replicas.c.file_id == files.c.id).outerjoin(
    contents, contents.c.file_id == files.c.id
)


class Matching:
    """How a glob is asked of the database: a condition on the name with the argument ``pattern``."""

    ALL = "all"
    EXACT = "exact"
    GLOB = "glob"


class Statements(SpecialStatements):
    """Those of files, directories and replicas, and with them those of special names."""

    def __init__(self, dialect: sa.Dialect) -> None:
        super().__init__(dialect)
        self._pages: dict[tuple[str, bool], Prepared] = {}

    # -- files ------------------------------------------------------------------------------------

    @cached_property
    def file(self) -> Prepared:
        """(directory, name) -> its file row."""
        query = sa.select(*_FILE_COLUMNS).select_from(_named).where(*_is_name())
        return self.prepared(query, "directory", "name")

    @cached_property
    def files(self) -> Prepared:
        """([[directory, name], ...]) -> a file row each that is there."""
        pairs = self.given("names", 2)
        query = sa.select(*_FILE_COLUMNS).select_from(pairs.table.join(_named, sa.and_(*_is_pair(pairs))))
        return self.prepared(query, "names")

    @cached_property
    def located(self) -> Prepared:
        """(directory, name) -> the located rows of one file."""
        query = sa.select(*_FILE_COLUMNS, *_COPY_COLUMNS).select_from(_copied).where(*_is_name())
        return self.prepared(query, "directory", "name")

    @cached_property
    def located_many(self) -> Prepared:
        """([[directory, name], ...]) -> located rows, those of one file next to each other."""
        pairs = self.given("names", 2)
        joined = pairs.table.join(directories, directories.c.path == pairs.text(0))
        joined = joined.join(files, sa.and_(_in_directory, files.c.name == pairs.text(1)))
        joined = joined.outerjoin(replicas, replicas.c.file_id == files.c.id)
        joined = joined.outerjoin(contents, contents.c.file_id == files.c.id)
        query = sa.select(*_FILE_COLUMNS, *_COPY_COLUMNS).select_from(joined)
        return self.prepared(query if self.sqlite else query.order_by(files.c.id), "names")

    @cached_property
    def children(self) -> Prepared:
        """(directory, name, limit) -> file rows of a directory behind ``name``, in order."""
        query = sa.select(*_FILE_COLUMNS).select_from(_named)
        query = query.where(directories.c.path == bindparam("directory"), files.c.name > bindparam("name"))
        query = query.order_by(files.c.name).limit(bindparam("limit"))
        return self.prepared(query, "directory", "name", "limit")

    def page(self, matching: str, further: bool) -> Prepared:
        """One page of a find: located rows of at most ``limit`` files in order.

        Not ``further``: (pattern, path, name, limit), the files of directory ``path`` behind ``name``.
        ``further``: (pattern, path, end, limit), those of the directories behind ``path``, before ``end``.
        ``pattern`` is left out of the arguments for `Matching.ALL`. The page is the right one, but its
        rows may be in any order: SQLite joins them in order and would sort them all the same, at more
        cost than `list.sort`, which sees that they are.
        """
        found = self._pages.get((matching, further))
        if found is None:
            found = self._pages[matching, further] = self._page(matching, further)
        return found

    def filtered_page(self, matching: str, further: bool, condition: sa.ColumnElement[bool]) -> Prepared:
        """As `page`, of those files alone that meet a ``condition`` on ``files``; made anew each time."""
        return self._page(matching, further, condition)

    def _page(self, matching: str, further: bool, *conditions: sa.ColumnElement[bool]) -> Prepared:
        query = sa.select(*_FILE_COLUMNS).select_from(_named).where(*conditions)
        if further:
            query = query.where(directories.c.path > bindparam("path"), directories.c.path < bindparam("end"))
            arguments = ["path", "end", "limit"]
        else:
            query = query.where(directories.c.path == bindparam("path"), files.c.name > bindparam("name"))
            arguments = ["path", "name", "limit"]
        if matching != Matching.ALL:
            query = query.where(self._matches(matching))
            arguments.insert(0, "pattern")
        page = query.order_by(directories.c.path, files.c.name).limit(bindparam("limit")).subquery("page")
        joined = page.outerjoin(replicas, replicas.c.file_id == page.c.id)
        joined = joined.outerjoin(contents, contents.c.file_id == page.c.id)
        columns = [page.c[column.name] for column in _FILE_COLUMNS]
        whole = sa.select(*columns, *_COPY_COLUMNS).select_from(joined)
        if not self.sqlite:
            whole = whole.order_by(page.c.path, page.c.name)
        return self.prepared(whole, *arguments)

    def _matches(self, matching: str) -> sa.ColumnElement[bool]:
        pattern: Any = bindparam("pattern", type_=sa.Text)
        if matching == Matching.EXACT:
            exact: sa.ColumnElement[bool] = files.c.name == pattern
            return exact
        if self.sqlite:
            matches: sa.ColumnElement[bool] = files.c.name.op("GLOB", is_comparison=True)(pattern)
            return matches
        like: sa.ColumnElement[bool] = files.c.name.like(pattern, escape="\\")
        return like

    # -- directories ------------------------------------------------------------------------------

    @cached_property
    def directory_rows(self) -> Prepared:
        """([path, ...]) -> rows (id, path, owner, group, mode, created, modified)."""
        paths = self.given("paths")
        joined = paths.table.join(directories, directories.c.path == paths.text())
        return self.prepared(sa.select(*_DIRECTORY_COLUMNS).select_from(joined), "paths")

    @cached_property
    def subdirectories(self) -> Prepared:
        """(parent id, path, limit) -> directory rows behind ``path``, in order."""
        query = sa.select(*_DIRECTORY_COLUMNS).where(
            directories.c.parent_id == bindparam("parent"), directories.c.path > bindparam("path")
        )
        query = query.order_by(directories.c.path).limit(bindparam("limit"))
        return self.prepared(query, "parent", "path", "limit")

    @cached_property
    def with_subdirectories(self) -> Prepared:
        """([id, ...]) -> (id,) of each directory that holds directories."""
        ids = self.given("ids")
        child = sa.select(directories.c.id).where(directories.c.parent_id == ids.number()).exists()
        return self.prepared(sa.select(ids.number()).select_from(ids.table).where(child), "ids")

    @cached_property
    def with_files(self) -> Prepared:
        """([id, ...]) -> (id,) of each directory that holds files."""
        ids = self.given("ids")
        child = sa.select(files.c.id).where(files.c.directory_id == ids.number()).exists()
        return self.prepared(sa.select(ids.number()).select_from(ids.table).where(child), "ids")

    @cached_property
    def touch_directory(self) -> Prepared:
        """(modified_s, id)."""
        statement = (
            sa.update(directories)
            .where(directories.c.id == bindparam("which"))
            .values(modified_s=bindparam("modified"))
        )
        return self.prepared(statement, "modified", "which")

    @cached_property
    def remove_directory(self) -> Prepared:
        """(id)."""
        statement = sa.delete(directories).where(directories.c.id == bindparam("which"))
        return self.prepared(statement, "which")

    @cached_property
    def longest_below(self) -> Prepared:
        """(source, from, end, over) -> bytes of the longest name below, of paths longer than ``over``."""
        path, name = self.octets(directories.c.path), self.octets(files.c.name)
        query = (
            sa.select(sa.func.max(path + sa.func.coalesce(name + 1, 0)))
            .select_from(directories.outerjoin(files, _in_directory))
            .where(self.subtree(), path > bindparam("over"))
        )
        return self.prepared(query, "source", "start", "end", "over")

    @cached_property
    def move_directories(self) -> Prepared:
        """(target, length of source + 1 in characters, source, from, end): a whole subtree's paths."""
        tail = sa.func.substr(directories.c.path, bindparam("length", type_=sa.Integer))
        statement = (
            sa.update(directories)
            .where(self.subtree())
            .values(path=bindparam("target", type_=sa.Text).concat(tail))
        )
        return self.prepared(statement, "target", "length", "source", "start", "end")

    @cached_property
    def adopt_directory(self) -> Prepared:
        """(parent id, modified_s, id)."""
        statement = (
            sa.update(directories)
            .where(directories.c.id == bindparam("which"))
            .values(parent_id=bindparam("parent"), modified_s=bindparam("modified"))
        )
        return self.prepared(statement, "parent", "modified", "which")

    # -- writing ----------------------------------------------------------------------------------

    @cached_property
    def last_ids(self) -> Prepared:
        """() -> (greatest id of a directory, greatest id of a file), 0 where there is none."""
        greatest = [
            sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0)).scalar_subquery()
            for table in (directories, files)
        ]
        return self.prepared(sa.select(*greatest))

    @cached_property
    def add_directory(self) -> Prepared:
        """A whole row of ``directories``."""
        return self.adding(directories)

    @cached_property
    def add_file(self) -> Prepared:
        """A whole row of ``files``."""
        return self.adding(files)

    @cached_property
    def describe_file(self) -> Prepared:
        """(size, adler32, guid, modified_s, fresh_until_s, id): what may change of a file."""
        changing = ("size_bytes", "adler32", "guid", "modified_s", "fresh_until_s")
        statement = (
            sa.update(files)
            .where(files.c.id == bindparam("which"))
            .values({name: bindparam("new_" + name, type_=files.c[name].type) for name in changing})
        )
        return self.prepared(statement, *("new_" + name for name in changing), "which")

    @cached_property
    def own(self) -> dict[str, Prepared]:
        """(owner, group, mode, id) by the kind of the object: 'f', 'd' or 's'."""
        return {
            kind: self.prepared(
                sa.update(table)
                .where(table.c.id == bindparam("which"))
                .values(
                    owner_id=bindparam("owner"), group_id=bindparam("new_group"), mode=bindparam("new_mode")
                ),
                "owner",
                "new_group",
                "new_mode",
                "which",
            )
            for kind, table in (("f", files), ("d", directories), ("s", special_names))
        }

    @cached_property
    def move_file(self) -> Prepared:
        """(directory id, name, id)."""
        statement = (
            sa.update(files)
            .where(files.c.id == bindparam("which"))
            .values(directory_id=bindparam("directory"), name=bindparam("new"))
        )
        return self.prepared(statement, "directory", "new", "which")

    @cached_property
    def remove_file(self) -> Prepared:
        """(id): with its replicas and contents."""
        return self.prepared(sa.delete(files).where(files.c.id == bindparam("which")), "which")

    @cached_property
    def put_replica(self) -> Prepared:
        """A whole row of ``replicas``; over one that is there, whose last access stays."""
        statement = self.upserting(replicas).values(bound_values(replicas))
        keep = {name: statement.excluded[name] for name in ("url", "state", "upstream_id", "told_s")}
        statement = statement.on_conflict_do_update(index_elements=["file_id", "element_id"], set_=keep)
        return self.prepared(statement, *(column.name for column in replicas.columns))

    @cached_property
    def tell_replica(self) -> Prepared:
        """As `put_replica`, but only over what the same upstream told before: ours stay."""
        statement = self.upserting(replicas).values(bound_values(replicas))
        keep = {name: statement.excluded[name] for name in ("url", "state", "upstream_id", "told_s")}
        told = statement.excluded
        statement = statement.on_conflict_do_update(
            index_elements=["file_id", "element_id"],
            set_=keep,
            where=sa.and_(replicas.c.upstream_id == told.upstream_id, replicas.c.told_s <= told.told_s),
        )
        return self.prepared(statement, *(column.name for column in replicas.columns))

    @cached_property
    def remove_replica(self) -> Prepared:
        """(file id, element id)."""
        statement = sa.delete(replicas).where(
            replicas.c.file_id == bindparam("file"), replicas.c.element_id == bindparam("element")
        )
        return self.prepared(statement, "file", "element")

    @cached_property
    def holding(self) -> Prepared:
        """(element id, [file id, ...]) -> (file id,) of each that has a copy there."""
        ids = self.given("ids")
        joined = ids.table.join(replicas, replicas.c.file_id == ids.number())
        query = sa.select(replicas.c.file_id).select_from(joined)
        return self.prepared(query.where(replicas.c.element_id == bindparam("element")), "element", "ids")

    @cached_property
    def note_access(self) -> Prepared:
        """(when_s, file id, element id): never back in time."""
        when: Any = bindparam("when", type_=sa.Float)
        accessed = replicas.c.accessed_s
        statement = (
            sa.update(replicas)
            .where(
                replicas.c.file_id == bindparam("file"),
                replicas.c.element_id == bindparam("element"),
                sa.or_(accessed.is_(None), accessed < when),
            )
            .values(accessed_s=when)
        )
        return self.prepared(statement, "when", "file", "element")

    @cached_property
    def put_contents(self) -> Prepared:
        """(file id, tree, entries); over those that are there."""
        statement = self.upserting(contents).values(bound_values(contents))
        keep = {name: statement.excluded[name] for name in ("tree", "entries")}
        statement = statement.on_conflict_do_update(index_elements=["file_id"], set_=keep)
        return self.prepared(statement, "file_id", "tree", "entries")

    @cached_property
    def tell_contents(self) -> Prepared:
        """As `put_contents`, but not over those that are there: ours were verified."""
        statement = self.upserting(contents).values(bound_values(contents))
        return self.prepared(statement.on_conflict_do_nothing(), "file_id", "tree", "entries")

    @cached_property
    def set_replica(self) -> Prepared:
        """(state, file id, element id)."""
        statement = (
            sa.update(replicas)
            .where(replicas.c.file_id == bindparam("file"), replicas.c.element_id == bindparam("element"))
            .values(state=bindparam("new_state"))
        )
        return self.prepared(statement, "new_state", "file", "element")

    @cached_property
    def named_by_guid(self) -> Prepared:
        """(guid) -> (directory, name) of each file of that content, those in the trash too."""
        query = sa.select(directories.c.path, files.c.name).select_from(_named)
        query = query.where(files.c.guid == bindparam("guid", type_=sa.LargeBinary))
        return self.prepared(query.order_by(directories.c.path, files.c.name), "guid")

    @cached_property
    def remove_contents(self) -> Prepared:
        """(file id)."""
        return self.prepared(sa.delete(contents).where(contents.c.file_id == bindparam("which")), "which")

    # -- interned names ---------------------------------------------------------------------------

    def names_of(self, table: sa.Table) -> Prepared:
        """() -> (id, name) of all."""
        return self.prepared(sa.select(table.c.id, table.c.name))

    def add_name(self, table: sa.Table) -> Prepared:
        """(name), where it is not there yet."""
        statement = self.upserting(table).values(name=bindparam("name", type_=principals.c.name.type))
        return self.prepared(statement.on_conflict_do_nothing(), "name")


def _is_name() -> tuple[sa.ColumnElement[bool], ...]:
    return directories.c.path == bindparam("directory"), files.c.name == bindparam("name")


def _is_pair(pairs: Given) -> tuple[sa.ColumnElement[bool], ...]:
    return directories.c.path == pairs.text(0), files.c.name == pairs.text(1)
