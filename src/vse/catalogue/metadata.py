"""Tags of files and directories: schemas, values, and finding by them (as AliEn's tag tables).

Nobody is refused anything here: that is `vse.catalogue.guarded_metadata`. Changes are audited.
"""

from __future__ import annotations

import difflib
from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from vse.catalogue.directories import with_ancestors
from vse.catalogue.globs import matcher
from vse.catalogue.links import upwards
from vse.catalogue.metadata_filters import holds
from vse.catalogue.metadata_find import PAGE_FILES, Search
from vse.catalogue.metadata_statements import DIRECTORY, FILE, TagStatements, tag_columns, tag_value
from vse.catalogue.sql import SqlCatalogue
from vse.catalogue.sql_rows import join, split
from vse.db.prepared import as_json, chunks
from vse.errors import AlreadyExists, BadQuery, BadRequest, NoSuchEntry, NotEmpty, VseError
from vse.model import BulkResult, Lfn, Located
from vse.model.expression import Expression, names
from vse.model.expression_grammar import parse
from vse.model.expression_types import check
from vse.model.tags import FIELDS, Tag, TagDefinition, TagType, TagValue, check_name, read_value

CHUNK_OBJECTS = 10_000
_Schema = Mapping[str, TagDefinition]
_Object = tuple[str, int]


class Metadata:
    """The tags of the names of ``catalogue``. Safe to share between threads, as the catalogue is."""

    def __init__(self, catalogue: SqlCatalogue) -> None:
        self._catalogue = catalogue
        self._database = catalogue.database
        self._statements = catalogue.statements
        self._run = TagStatements(catalogue.database.engine.dialect)

    def acting(self, who: str) -> Metadata:
        """Return the same tags, whose changes are ``who``'s in the audit."""
        return Metadata(self._catalogue.acting(who))

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """A transaction; who acts has been interned before it, as `_note` needs."""
        self._catalogue.rows.principals.ids((self._catalogue.who,))
        with self._database.write_names() as driver:
            yield driver

    def _note(self, driver: Any, action: str, lfns: Collection[str], **detail: Any) -> None:
        catalogue = self._catalogue
        catalogue.audit.note(driver, catalogue.clock(), catalogue.who, action, lfns, detail)

    # -- schemas ----------------------------------------------------------------------------------

    def schema(self, directory: Lfn) -> tuple[TagDefinition, ...]:
        """Return the tags that may be set in ``directory``, its own and those from above, by name.

        Raises `NoSuchEntry`.
        """
        real = self._directory(directory, f"show the tags of {directory}")
        with self._database.mapped("read the catalogue"):
            known = _Schemas(self._run, self._database.reader(), [real]).of(real)
        return tuple(known[name] for name in sorted(known))

    def definitions(self, base: Lfn) -> tuple[TagDefinition, ...]:
        """Return what defines tags at and below a directory, by directory; what holds from above, as its own.

        Raises `NoSuchEntry`.
        """
        above = {one.name: one._replace(directory=base) for one in self.schema(base) if one.directory != base}
        with self._database.mapped("read the catalogue"):
            rows = self._run.schemas_below.rows(self._database.reader(), *_subtree(base))
        own = [TagDefinition(name, TagType(kind), Lfn(path), note or "") for path, name, kind, note in rows]
        for one in own:
            if one.directory == base:
                above.pop(one.name, None)
        return (*above.values(), *sorted(own, key=lambda one: (one.directory, one.name)))

    def define(self, directory: Lfn, definitions: Iterable[TagDefinition]) -> None:
        """Define tags for ``directory`` and all below it; all of them or none. Idempotent.

        A tag has one type on the whole way down: raises `AlreadyExists` where it has another above or
        below, and `NotEmpty` where its type would change while something has a value; `BadRequest` for a
        name that cannot be one.
        """
        wanted = {one.name: one for one in definitions}
        for name in wanted:
            check_name(name)
        real = self._directory(directory, f"define tags for {directory}")
        with self._writing() as driver:
            which = self._directory_id(driver, real)
            above = _Schemas(self._run, driver, [real]).above(real)
            below = self._run.schemas_below.rows(driver, *_subtree(real))
            for name, one in wanted.items():
                _refuse_conflict(real, one, above.get(name), below)
                own = next((row for row in below if row[:2] == (real, name)), None)
                if own is not None and own[2] != one.type:
                    self._refuse_values(driver, real, name, f"make the tag {name} {one.type}")
            rows = [(which, one.name, str(one.type), one.note or None) for one in wanted.values()]
            self._run.put_schema.many(driver, rows)
            self._note(driver, "define tags", [real], tags=sorted(wanted))

    def undefine(self, directory: Lfn, tags: Sequence[str]) -> None:
        """Take tags out of the schema of ``directory``. Raises `NotEmpty` while something has a value that no
        schema above would define any more, `NoSuchEntry` for a tag that is not in its own schema."""
        real = self._directory(directory, f"change the tags of {directory}")
        with self._writing() as driver:
            which = self._directory_id(driver, real)
            schemas = _Schemas(self._run, driver, [real])
            for name in dict.fromkeys(tags):
                wanted = f"remove the tag {name} from the schema of {directory}"
                defined = schemas.of(real).get(name)
                if defined is None or defined.directory != real:
                    found = f"it is defined by {defined.directory}" if defined else "it is not defined"
                    raise NoSuchEntry(wanted, found)
                if name not in schemas.above(real):
                    self._refuse_values(driver, real, name, wanted)
                self._run.remove_schema.run(driver, which, name)
            self._note(driver, "undefine tags", [real], tags=sorted(set(tags)))

    def _refuse_values(self, driver: Any, directory: Lfn, name: str, wanted: str) -> None:
        tagged = self._run.tagged_below.rows(driver, name, *_subtree(directory))
        if tagged:
            raise NotEmpty(wanted, f"there are values, such as in {tagged[0][0]}", "unset them first")

    # -- values -----------------------------------------------------------------------------------

    def set(self, lfns: Sequence[Lfn], values: Mapping[str, TagValue | datetime]) -> BulkResult[None]:
        """Give each of ``lfns`` (files or directories) all of ``values``, over those it has, or none of them.

        A text is read as the tag's type asks. Under ``failed``: `BadRequest` for a tag of no schema, or a
        value of another type; `NoSuchEntry`.
        """
        result, real = self._reals(lfns, "tag")
        for part in chunks(real.items(), CHUNK_OBJECTS):
            with self._writing() as driver:
                objects = self._objects(driver, [lfn for _, lfn in part])
                schemas = _Schemas(self._run, driver, [_holder(objects, lfn) for _, lfn in part])
                rows = []
                for asked, lfn in part:
                    try:
                        which = _there(objects, lfn, "tag")
                        known = schemas.of(_holder(objects, lfn))
                        typed = [(name, *_typed(asked, name, value, known)) for name, value in values.items()]
                    except VseError as error:
                        result.failed[asked] = error
                        continue
                    rows += [(*which, name, *tag_columns(kind, value)) for name, kind, value in typed]
                    result.ok[asked] = None
                self._run.put_tag.many(driver, rows)
                tagged = [lfn for asked, lfn in part if asked in result.ok]
                self._note(driver, "tag", tagged, tags=sorted(values))
        return result

    def unset(self, lfns: Sequence[Lfn], tags: Sequence[str]) -> BulkResult[None]:
        """Take the own values of ``tags`` from each of ``lfns``, which then inherit again.

        Under ``failed``: `NoSuchEntry` for what is not there, or has none of its own.
        """
        result, real = self._reals(lfns, "untag")
        for part in chunks(real.items(), CHUNK_OBJECTS):
            with self._writing() as driver:
                objects = self._objects(driver, [lfn for _, lfn in part])
                for asked, lfn in part:
                    try:
                        which = _there(objects, lfn, "untag")
                    except VseError as error:
                        result.failed[asked] = error
                        continue
                    gone = [self._run.remove_tag.run(driver, *which, name) for name in dict.fromkeys(tags)]
                    result.ok[asked] = None
                    if not all(gone):
                        name = list(dict.fromkeys(tags))[gone.index(0)]
                        found = "it has no such tag of its own; one it inherits is unset where it was set"
                        result.failed[asked] = NoSuchEntry(f"unset {name} of {asked}", found)
                        del result.ok[asked]
                untagged = [lfn for asked, lfn in part if asked in result.ok]
                self._note(driver, "untag", untagged, tags=sorted(set(tags)))
        return result

    def show(self, lfns: Sequence[Lfn]) -> BulkResult[tuple[Tag, ...]]:
        """Return the tags of each of ``lfns``, its own and those it inherits, by name."""
        found, real = self._reals(lfns, "show the tags of")
        result: BulkResult[tuple[Tag, ...]] = BulkResult(failed=found.failed)
        for part in chunks(real.items(), CHUNK_OBJECTS):
            with self._database.mapped("read the catalogue"):
                reader = self._database.reader()
                objects = self._objects(reader, with_ancestors(lfn for _, lfn in part))
                rows = self._run.tags_of.rows(reader, as_json(objects.values()))
            origins = {which: Lfn(lfn) for lfn, which in objects.items()}
            own: dict[str, dict[str, Tag]] = {}
            for kind, which, *row in rows:
                origin, value = origins[kind, which], tag_value(tuple(row))
                if value is not None:
                    own.setdefault(origin, {})[row[0]] = Tag(row[0], TagType(row[1]), value, origin)
            for asked, lfn in part:
                tags = ChainMap(*(own[up] for up in upwards(lfn) if up in own))
                result.ok[asked] = tuple(tags[name] for name in sorted(tags))
        return result

    # -- finding ----------------------------------------------------------------------------------

    def find(self, base: Lfn, pattern: str, condition: str | Expression) -> Iterator[Located]:
        """Yield files below ``base`` (or it itself) whose name matches the glob, and ``condition`` holds for.

        In the order of `vse.catalogue.port.Names.find`; memory does not grow with the answer. Raises
        `BadQuery` at once: where the condition cannot be understood, for a tag that no schema at, above
        or below ``base`` defines, and for one that two of them define with different types.
        """
        text = condition if isinstance(condition, str) else str(condition)
        expression = parse(condition) if isinstance(condition, str) else condition
        entry = self._catalogue.stat([base]).ok.get(base)
        real = entry.lfn if entry is not None else base
        types = self._types(real, names(expression))
        checked = check(expression, types, text)
        if entry is None:
            return iter(())
        if entry.kind != "directory":
            return self._one(base, pattern, checked)
        parts = (self._database, self._statements, self._run, self._catalogue.rows)
        return Search(parts, real, pattern, checked, types).files()

    def among(self, files: Iterable[Located], condition: str) -> Iterator[Located]:
        """Yield those of ``files`` for which ``condition`` holds, in their order; as `find` otherwise.

        Tags of all schemas are known; those that have two types cannot be asked about.
        """
        expression = parse(condition)
        checked = check(expression, self._types(Lfn("/"), names(expression)), condition)
        return self._among(files, checked)

    def _among(self, files: Iterable[Located], expression: Expression) -> Iterator[Located]:
        tagged = not names(expression) <= FIELDS.keys()
        for part in chunks(files, PAGE_FILES):
            shown = self.show([located.entry.lfn for located in part]).ok if tagged else {}
            for located in part:
                tags = {tag.name: tag.value for tag in shown.get(located.entry.lfn, ())}
                if holds(expression, located, tags):
                    yield located

    def types(self, base: Lfn) -> dict[str, TagType]:
        """Return the tags that a find below ``base`` can speak of; the first type of those that have two."""
        return self._types(base, ())

    def _one(self, lfn: Lfn, pattern: str, expression: Expression) -> Iterator[Located]:
        located = self._catalogue.resolve([lfn]).ok.get(lfn)
        if located is None or not matcher(pattern)(located.entry.lfn.name):
            return
        yield from self._among([located], expression)

    def _types(self, base: Lfn, wanted: Iterable[str]) -> dict[str, TagType]:
        with self._database.mapped("read the catalogue"):
            reader = self._database.reader()
            rows = self._run.schemas_of.rows(reader, as_json(with_ancestors([base])))
            rows += self._run.schemas_below.rows(reader, *_subtree(base))
        types: dict[str, TagType] = {}
        for path, name, kind, _ in sorted(rows):
            if types.setdefault(name, TagType(kind)) != kind and name in wanted:
                other = next(row[0] for row in sorted(rows) if row[1:3] == (name, types[name]))
                raise BadQuery(
                    f"find by the tag {name} below {base}",
                    f"it is {types[name]} in {other}, and {kind} in {path}",
                    "search below one of them",
                )
        return types

    # -- names ------------------------------------------------------------------------------------

    def _directory(self, lfn: Lfn, wanted: str) -> Lfn:
        """Return the real name of a directory."""
        entry = self._catalogue.stat([lfn]).one(lfn)
        if entry.kind != "directory":
            raise BadRequest(wanted, f"{lfn} is a {entry.kind}", "schemas belong to directories")
        return entry.lfn

    def _directory_id(self, driver: Any, path: Lfn) -> int:
        rows = self._statements.directory_rows.rows(driver, as_json([path]))
        if not rows:
            raise NoSuchEntry(f"define tags for {path}", "it is not in the catalogue")
        which: int = rows[0][0]
        return which

    def _reals(self, lfns: Sequence[Lfn], verb: str) -> tuple[BulkResult[None], dict[Lfn, Lfn]]:
        """Return the real names of files and directories, and under ``failed`` those that are none."""
        result: BulkResult[None] = BulkResult()
        stated = self._catalogue.stat(lfns)
        real: dict[Lfn, Lfn] = {}
        for lfn in dict.fromkeys(lfns):
            entry = stated.ok.get(lfn)
            if entry is None:
                error = stated.failed[lfn]
                result.failed[lfn] = type(error)(f"{verb} {lfn}", error.found, error.todo)
            elif entry.kind not in ("file", "directory"):
                found = f"it is a {entry.kind}; files and directories have tags"
                result.failed[lfn] = BadRequest(f"{verb} {lfn}", found)
            else:
                real[lfn] = entry.lfn
        return result, real

    def _objects(self, driver: Any, lfns: Iterable[str]) -> dict[str, _Object]:
        """Return the kind and id of those ``lfns`` that are files or directories."""
        wanted = list(dict.fromkeys(lfns))
        rows = self._statements.directory_rows.rows(driver, as_json(wanted))
        objects: dict[str, _Object] = {row[1]: (DIRECTORY, row[0]) for row in rows}
        others = [split(lfn) for lfn in wanted if lfn not in objects]
        for row in self._statements.files.rows(driver, as_json(others)) if others else ():
            objects[join(row[1], row[2])] = (FILE, row[0])
        return objects


class _Schemas:
    """The schemas in force at some directories, read once."""

    def __init__(self, run: TagStatements, driver: Any, directories: Iterable[str]) -> None:
        self._own: dict[str, dict[str, TagDefinition]] = {}
        rows = run.schemas_of.rows(driver, as_json(with_ancestors(directories)))
        for path, name, kind, note in rows:
            definition = TagDefinition(name, TagType(kind), Lfn(path), note or "")
            self._own.setdefault(path, {})[name] = definition

    def of(self, directory: str) -> _Schema:
        """The nearest definition of each tag."""
        return ChainMap(*(self._own[path] for path in upwards(directory) if path in self._own))

    def above(self, directory: str) -> _Schema:
        """Those of the directories above alone."""
        return self.of(split(directory)[0]) if directory != "/" else {}


def _holder(objects: Mapping[str, _Object], lfn: Lfn) -> str:
    """Return the directory whose schema counts: of a file the one it is in, of a directory itself."""
    return split(lfn)[0] if objects.get(lfn, (DIRECTORY, 0))[0] == FILE else lfn


def _there(objects: Mapping[str, _Object], lfn: Lfn, verb: str) -> _Object:
    if lfn not in objects:
        raise NoSuchEntry(f"{verb} {lfn}", "it was removed a moment ago")
    return objects[lfn]


def _typed(lfn: Lfn, name: str, value: TagValue | datetime, known: _Schema) -> tuple[TagType, TagValue]:
    definition = known.get(name)
    if definition is not None:
        return definition.type, read_value(name, definition.type, value)
    near = difflib.get_close_matches(name, known, 1)
    if near:
        todo = f"did you mean {near[0]!r}?"
    elif known:
        todo = "define it first, with 'vse tag schema'; tags here are " + ", ".join(sorted(known))
    else:
        todo = "define it first, with 'vse tag schema'; no tag is defined here"
    raise BadRequest(f"tag {lfn}", f"no schema at or above it defines {name!r}", todo)


def _refuse_conflict(
    directory: Lfn, one: TagDefinition, above: TagDefinition | None, below: Sequence[Sequence[str]]
) -> None:
    wanted = f"define the tag {one.name} of {directory} as {one.type}"
    todo = "choose another name, or the same type"
    if above is not None and above.type != one.type:
        raise AlreadyExists(wanted, f"it is {above.type} in {above.directory}", todo)
    for path, name, kind, _ in below:
        if name == one.name and kind != one.type and path != directory:
            raise AlreadyExists(wanted, f"it is {kind} in {path}", todo)


def _subtree(path: str) -> tuple[str, str, str]:
    """The arguments of a condition on a directory and all below it."""
    below = path.rstrip("/")
    return path, below + "/", below + "0"
