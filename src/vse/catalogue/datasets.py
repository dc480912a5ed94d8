"""Datasets as rows: frozen snapshots with versions, and queries under a name.

A snapshot is written in one transaction, so it is there whole or not at all, and its files are then never
added to or taken from; only what verification finds (`Datasets.mark`) is noted. All that goes in or out
is streamed: memory does not grow with the number of files.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import IO, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from vse.catalogue.globs import matcher
from vse.catalogue.sql_rows import Interned, Rows
from vse.db import Database
from vse.db.prepared import Prepared, Row, chunks, inserting
from vse.db.tables_datasets import dataset_files, datasets
from vse.errors import AlreadyExists, BadRequest, NoSuchDataset
from vse.model import Clock, Dataset, DatasetFile, Lfn

CHUNK_FILES = 5000
_IN_MEMORY_BYTES = 32 * 1024 * 1024
_FILE_COLUMNS = (
    dataset_files.c.lfn,
    dataset_files.c.size_bytes,
    dataset_files.c.adler32,
    dataset_files.c.tree,
    dataset_files.c.entries,
    dataset_files.c.corrupt,
    dataset_files.c.source,
    dataset_files.c.member,
)


_Datasets = list[Dataset]  # inside the class, list is a method


class Finding(NamedTuple):
    """What verification says of a file of a frozen dataset, at its ``position``."""

    position: int
    corrupt: bool
    entries: int | None


class Frozen(NamedTuple):
    """A frozen version; ``is_new``: it was made just now."""

    dataset: Dataset
    is_new: bool


class _Unchanged(Exception):
    """Ends a transaction that has nothing to keep: ``version`` holds it all."""

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.version = version


class Datasets:
    """Safe to share between threads and processes."""

    def __init__(self, database: Database, rows: Rows, clock: Clock) -> None:
        self._database = database
        self._principals: Interned = rows.principals
        self._clock = clock

    # -- looking ---------------------------------------------------------------------------------

    def get(self, name: str, version: int | None = None) -> Dataset:
        """Return a dataset by query, or the ``version`` (None: the newest) of a frozen one.

        Raises `NoSuchDataset`, which names those that are alike.
        """
        found = self.versions(name)
        if found and version is None:
            return found[-1]
        for dataset in found:
            if dataset.version == version:
                return dataset
        label = name if version is None else f"{name}@{version}"
        raise self._unknown(label, found)

    def versions(self, name: str) -> _Datasets:
        """Return all versions of a dataset, the oldest first; none where there is no such name."""
        return self._datasets(datasets.c.name == name)

    def list(self, pattern: str = "*") -> Iterator[Dataset]:
        """Yield the datasets whose name matches a glob, by name and version."""
        matches = matcher(pattern)
        return (one for one in self._datasets(sa.true()) if matches(one.name))

    def files(self, dataset: Dataset, after: int = -1) -> Iterator[tuple[int, DatasetFile]]:
        """Yield the files of a frozen dataset in their order, each with its position."""
        while True:
            with self._database.mapped("read the dataset"):
                rows = self._page.rows(self._database.reader(), dataset.id, after, CHUNK_FILES)
            for row in rows:
                yield row[0], _file(row[1:])
            if len(rows) < CHUNK_FILES:
                return
            after = rows[-1][0]

    def files_by_name(self, dataset: Dataset) -> Iterator[DatasetFile]:
        """Yield the files of a frozen dataset in byte order of name and member."""
        lfn, member = "", ""
        while True:
            with self._database.mapped("read the dataset"):
                reader = self._database.reader()
                rows = self._page_by_name.rows(reader, dataset.id, lfn, member, CHUNK_FILES)
            yield from map(_file, rows)
            if len(rows) < CHUNK_FILES:
                return
            lfn, member = rows[-1][0], rows[-1][7]

    def corrupt_files(self, dataset: Dataset) -> int:
        """Return how many files of a frozen dataset are marked corrupt."""
        count = sa.select(sa.func.count()).where(
            dataset_files.c.dataset_id == dataset.id, dataset_files.c.corrupt
        )
        with self._database.read() as connection:
            return int(connection.execute(count).scalar_one())

    # -- changing --------------------------------------------------------------------------------

    def freeze(
        self, name: str, files: Iterable[DatasetFile], *, query: str, tree: str, owner: str, note: str = ""
    ) -> Dataset:
        """Keep ``files`` as the next version of ``name``; of those given twice the first is kept.

        They are all taken before anything is written. Raises `BadRequest` where there are none, and
        `AlreadyExists` where the name is that of a dataset by query.
        """
        about = {"query": query, "tree": tree, "note": note or None}
        return self._freeze(name, files, about, owner, same=None).dataset

    def ensure_frozen(
        self,
        name: str,
        files: Iterable[DatasetFile],
        *,
        query: str,
        tree: str,
        owner: str,
        note: str = "",
        usual_note: str = "",
    ) -> Frozen:
        """As `freeze`, unless the newest version says all of it already: that one is returned then.

        It must have the same query, the same files in the same order, and know all that is known of
        them now; what verification found of them over and above is no difference. ``note`` must be its
        own or empty; ``usual_note`` is kept where none is given, and makes no version.
        """
        about = {"query": query, "tree": tree, "note": note or usual_note or None}
        same = ("query", "tree", "note") if note else ("query", "tree")
        return self._freeze(name, files, about, owner, same)

    def _freeze(
        self,
        name: str,
        files: Iterable[DatasetFile],
        about: dict[str, str | None],
        owner: str,
        same: Sequence[str] | None,
    ) -> Frozen:
        """``about``: query, tree and note. Where ``same`` names those that must not differ, a version that
        would say what the newest one says is not made."""
        owner_id = self._principals.ids([owner])[owner]
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as spool:
            if not _spool(files, spool):
                raise BadRequest(f"make the dataset {name}", "it would hold no file")
            try:
                with self._database.write() as connection:
                    self._one_at_a_time(connection)
                    earlier = _versions(connection, name)
                    if 0 in earlier:
                        raise _taken(name, "by query")
                    newest = max(earlier, default=0)
                    row = {
                        "name": name, "version": newest + 1, "kind": "frozen", "owner_id": owner_id,
                        "created_s": self._clock(), "files": 0, "size_bytes": 0, "entries": None, **about,
                    }  # fmt: skip
                    which = connection.execute(
                        sa.insert(datasets).values(row).returning(datasets.c.id)
                    ).scalar_one()
                    self._fill(connection, which, spool)
                    _total(connection, which)
                    if same is not None and newest and _says_nothing_new(connection, name, newest, same):
                        raise _Unchanged(newest)
            except _Unchanged as unchanged:
                return Frozen(self.get(name, unchanged.version), False)
        return Frozen(self.get(name, newest + 1), True)

    def keep_query(
        self, name: str, *, query: str, tree: str, owner: str, note: str = "", replace: bool = False
    ) -> Dataset:
        """Give a query a name. Raises `AlreadyExists` for one that is taken, unless it is by query too and
        ``replace``."""
        owner_id = self._principals.ids([owner])[owner]
        with self._database.write() as connection:
            self._one_at_a_time(connection)
            earlier = _versions(connection, name)
            if earlier and 0 not in earlier:
                raise _taken(name, "of files")
            if earlier and not replace:
                raise _taken(name, "by query")
            connection.execute(sa.delete(datasets).where(datasets.c.name == name))
            values = {
                "name": name, "version": 0, "kind": "query", "query": query, "tree": tree,
                "owner_id": owner_id, "created_s": self._clock(), "files": 0, "size_bytes": 0,
                "entries": None, "note": note or None,
            }  # fmt: skip
            connection.execute(sa.insert(datasets).values(values))
        return self.get(name)

    def remove(self, dataset: Dataset) -> None:
        """Forget a dataset by query, or one version of a frozen one. No file is touched."""
        with self._database.write() as connection:
            connection.execute(sa.delete(datasets).where(datasets.c.id == dataset.id))

    def mark(self, dataset: Dataset, findings: Sequence[Finding]) -> None:
        """Note what verification found: files that are corrupt or sound (again), entries not known before."""
        with self._database.write() as connection:
            driver = connection.connection.driver_connection
            rows = [(one.corrupt, one.entries, dataset.id, one.position) for one in findings]
            self._mark.many(driver, rows)
            _total(connection, dataset.id)

    # -- inside ----------------------------------------------------------------------------------

    def _datasets(self, where: sa.ColumnElement[bool]) -> _Datasets:
        query = sa.select(datasets).where(where).order_by(datasets.c.name, datasets.c.version)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [
            Dataset(
                row.id, row.name, row.version, row.kind, row.query, row.tree,
                self._principals.name(row.owner_id), row.created_s, row.files, row.size_bytes, row.entries,
                row.note or "",
            )
            for row in rows
        ]  # fmt: skip

    def _unknown(self, label: str, versions: Sequence[Dataset]) -> NoSuchDataset:
        wanted = f"find the dataset {label}"
        if versions and versions[0].kind == "query":
            return NoSuchDataset(wanted, "it is a dataset by query, which has no versions")
        if versions:
            numbers = ", ".join(str(one.version) for one in versions)
            return NoSuchDataset(wanted, f"it has these versions: {numbers}")
        import difflib

        names = list({one.name: None for one in self.list()})
        near = difflib.get_close_matches(label.partition("@")[0], names, n=3, cutoff=0.5)
        todo = f"did you mean {' or '.join(near)}?" if near else "list them: vse dataset list"
        return NoSuchDataset(wanted, "this site has none of that name", todo)

    def _one_at_a_time(self, connection: sa.Connection) -> None:
        """Let two processes that freeze the same name get two versions."""
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE datasets IN SHARE ROW EXCLUSIVE MODE")

    def _fill(self, connection: sa.Connection, which: int, spool: IO[bytes]) -> None:
        driver = connection.connection.driver_connection
        position = 0
        while True:
            try:
                files: Sequence[DatasetFile] = pickle.load(spool)  # noqa: S301  # our own unnamed file
            except EOFError:
                return
            rows = [
                (
                    which, place, file.lfn, file.member, file.size_bytes, file.adler32, file.tree,
                    file.entries, file.corrupt, file.source,
                )
                for place, file in enumerate(files, start=position)
            ]  # fmt: skip
            position += len(rows)
            self._add.many(driver, rows)

    def _prepared(self, statement: sa.ClauseElement, *arguments: str) -> Prepared:
        return Prepared(self._database.engine.dialect, statement, *arguments)

    @cached_property
    def _add(self) -> Prepared:
        names = (
            "dataset_id", "position", "lfn", "member", "size_bytes", "adler32", "tree", "entries", "corrupt",
            "source",
        )  # fmt: skip
        insert: Any = inserting(self._database.engine.dialect)(dataset_files)
        values = {name: bindparam(name, type_=dataset_files.c[name].type) for name in names}
        return self._prepared(insert.values(values).on_conflict_do_nothing(), *names)

    @cached_property
    def _page(self) -> Prepared:
        return self._prepared(
            sa.select(dataset_files.c.position, *_FILE_COLUMNS)
            .where(
                dataset_files.c.dataset_id == bindparam("which", type_=sa.BigInteger),
                dataset_files.c.position > bindparam("after", type_=sa.BigInteger),
            )
            .order_by(dataset_files.c.position)
            .limit(bindparam("most", type_=sa.BigInteger)),
            "which", "after", "most",
        )  # fmt: skip

    @cached_property
    def _page_by_name(self) -> Prepared:
        place = sa.tuple_(dataset_files.c.lfn, dataset_files.c.member)
        after = sa.tuple_(bindparam("lfn", type_=sa.Text), bindparam("member", type_=sa.Text))
        return self._prepared(
            sa.select(*_FILE_COLUMNS)
            .where(dataset_files.c.dataset_id == bindparam("which", type_=sa.BigInteger), place > after)
            .order_by(dataset_files.c.lfn, dataset_files.c.member)
            .limit(bindparam("most", type_=sa.BigInteger)),
            "which", "lfn", "member", "most",
        )  # fmt: skip

    @cached_property
    def _mark(self) -> Prepared:
        return self._prepared(
            sa.update(dataset_files)
            .values(
                corrupt=bindparam("is_corrupt", type_=sa.Boolean),
                entries=bindparam("counted", type_=sa.BigInteger),
            )
            .where(
                dataset_files.c.dataset_id == bindparam("which", type_=sa.BigInteger),
                dataset_files.c.position == bindparam("place", type_=sa.BigInteger),
            ),
            "is_corrupt", "counted", "which", "place",
        )  # fmt: skip


def _spool(files: Iterable[DatasetFile], spool: IO[bytes]) -> int:
    """Write files to ``spool`` in chunks, so that no transaction is held while they come; return how many."""
    count = 0
    for some in chunks(files, CHUNK_FILES):
        pickle.dump(some, spool, protocol=pickle.HIGHEST_PROTOCOL)
        count += len(some)
    spool.seek(0)
    return count


def in_chunks(files: Iterator[Any]) -> Iterator[list[Any]]:
    """Yield what is asked of catalogue and storage at once."""
    while some := list(islice(files, CHUNK_FILES)):
        yield some


def _file(row: Row) -> DatasetFile:
    lfn, size_bytes, adler32, tree, entries, corrupt, source, member = row
    return DatasetFile(Lfn(lfn), size_bytes, adler32, tree, entries, bool(corrupt), source, member)


def _versions(connection: sa.Connection, name: str) -> list[int]:
    rows = connection.execute(sa.select(datasets.c.version).where(datasets.c.name == name))
    return [version for (version,) in rows]


def _says_nothing_new(connection: sa.Connection, name: str, newest: int, same: Sequence[str]) -> bool:
    """Whether the version after ``newest`` tells nothing that ``newest`` does not tell."""
    query = sa.select(datasets).where(datasets.c.name == name, datasets.c.version >= newest)
    before, after = connection.execute(query.order_by(datasets.c.version)).all()
    if before.files != after.files or any(getattr(before, one) != getattr(after, one) for one in same):
        return False
    old, new = dataset_files.alias("old"), dataset_files.alias("new")
    there = sa.and_(
        old.c.dataset_id == before.id,
        old.c.position == new.c.position,
        old.c.lfn == new.c.lfn,
        old.c.member == new.c.member,
    )
    told = [
        sa.and_(new.c.size_bytes >= 0, new.c.size_bytes != old.c.size_bytes),
        new.c.tree != old.c.tree,
        new.c.source.is_distinct_from(old.c.source),
        sa.and_(new.c.corrupt, sa.not_(old.c.corrupt)),
    ]
    told += [
        sa.and_(new.c[one].is_not(None), new.c[one].is_distinct_from(old.c[one]))
        for one in ("adler32", "entries")
    ]
    further = (
        sa.select(new.c.position)
        .select_from(new.outerjoin(old, there))
        .where(new.c.dataset_id == after.id, sa.or_(old.c.lfn.is_(None), *told))
        .limit(1)
    )
    return connection.execute(further).first() is None


def _total(connection: sa.Connection, which: int) -> None:
    files, known = sa.func.count(), sa.func.count(dataset_files.c.entries)
    told = sa.case((dataset_files.c.size_bytes > 0, dataset_files.c.size_bytes), else_=0)
    totals = sa.select(files, sa.func.sum(told), known, sa.func.sum(dataset_files.c.entries)).where(
        dataset_files.c.dataset_id == which
    )
    count, size_bytes, counted, entries = connection.execute(totals).one()
    connection.execute(
        sa.update(datasets)
        .where(datasets.c.id == which)
        .values(
            files=count,
            size_bytes=int(size_bytes or 0),
            entries=int(entries or 0) if counted == count else None,
        )
    )


def _taken(name: str, what: str) -> AlreadyExists:
    return AlreadyExists(
        f"make the dataset {name}",
        f"a dataset {what} has that name",
        f"choose another name, or forget that one: vse dataset rm {name}",
    )
