"""Making directories, removing, trashing and renaming names, inside a transaction of the SQL catalogue."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from vse.catalogue.beside import DIRECTORY, FILE, SPECIAL, Beside
from vse.catalogue.directories import Directories, InTheWay
from vse.catalogue.sql_rows import join, split
from vse.catalogue.sql_statements import Statements
from vse.catalogue.trash import PLACE, Trash
from vse.db.prepared import Row, as_json
from vse.errors import AlreadyExists, BadLfn, BadRequest, NoSuchEntry, NotEmpty, VseError
from vse.model import BulkResult, Lfn
from vse.model.lfn import MAX_LFN_BYTES, MAX_NAME_BYTES


@dataclass(slots=True)
class Writing:
    """One transaction that changes names."""

    driver: Any
    statements: Statements
    beside: Beside
    now_s: float
    who_id: int

    def directories(self) -> Directories:
        """Return a working set of directories; one at a time, as it gives out ids."""
        next_id = self.statements.last_ids.rows(self.driver)[0][0] + 1
        return Directories(self.driver, self.statements, self.beside, self.now_s, next_id)

    def named(self, lfns: Iterable[str]) -> dict[str, Named]:
        """Return what is there of ``lfns``."""
        names = list(lfns)
        pairs = as_json(map(split, names))
        run, driver = self.statements, self.driver
        found = {
            join(row[1], row[2]): Named(FILE, "file", row[0], (row[6], row[7]), row[8], row)
            for row in run.files.rows(driver, pairs)
        }
        others = [name for name in names if name not in found]
        if others:
            for row in run.directory_rows.rows(driver, as_json(others)):
                found[row[1]] = Named(DIRECTORY, "directory", row[0], (row[2], row[3]), row[4], row)
            if run.any_specials.rows(driver):
                for row in run.specials.rows(driver, pairs):
                    found[join(row[1], row[2])] = Named(
                        SPECIAL, row[3], row[0], (row[5], row[6]), row[7], row
                    )
        return found

    def touch(self, paths: Collection[str]) -> None:
        """Note that the names in these directories changed."""
        rows = self.statements.directory_rows.rows(self.driver, as_json(paths))
        self.statements.touch_directory.many(self.driver, [(self.now_s, row[0]) for row in rows])


class Named(NamedTuple):
    """One name as the tables hold it. ``object`` is its kind there: 'f', 'd' or 's'."""

    object: str
    kind: str
    id: int
    owners: tuple[int, int]
    mode: int
    row: Row


def make_names(writing: Writing, lfns: Sequence[Lfn], owners: tuple[int, int]) -> BulkResult[None]:
    """Make directories and those missing above them; one that is there stays as it is."""
    result: BulkResult[None] = BulkResult()
    directories = writing.directories()
    directories.look_up(lfns)
    for lfn in dict.fromkeys(lfns):
        try:
            directories.ensure(lfn, *owners)
        except InTheWay as way:
            result.failed[lfn] = AlreadyExists(f"make the directory {lfn}", str(way))
        else:
            result.ok[lfn] = None
    directories.flush()
    return result


# -- removing ----------------------------------------------------------------------------------------


class Disposal(Protocol):
    """Where removed names go."""

    def take(self, names: Sequence[tuple[str, Named]]) -> None:
        """Take names away; a directory among them holds nothing."""
        ...


class ForEver:
    """Removed names are no more, with all that is beside them."""

    def __init__(self, writing: Writing) -> None:
        self._writing = writing

    def take(self, names: Sequence[tuple[str, Named]]) -> None:
        run, driver = self._writing.statements, self._writing.driver
        self._writing.beside.remove(driver, [(named.object, named.id) for _, named in names])
        for kind, remove in (
            (FILE, run.remove_file),
            (SPECIAL, run.remove_special),
            (DIRECTORY, run.remove_directory),
        ):
            remove.many(driver, [(named.id,) for _, named in names if named.object == kind])


class IntoTrash:
    """Removed names go to the trash until ``expires_s``."""

    def __init__(self, writing: Writing, trash: Trash, expires_s: float) -> None:
        self._writing = writing
        self._trash = trash
        self._expires_s = expires_s
        self._places: dict[str, tuple[int, str]] = {}

    def take(self, names: Sequence[tuple[str, Named]]) -> None:
        writing = self._writing
        kept: list[Row] = []
        for lfn, named in names:
            parent, name = split(lfn)
            place_id, place = self._place(parent)
            move(writing, named, lfn, (place_id, join(place, name)))
            kept.append((lfn, named.kind, place, writing.now_s, writing.who_id, self._expires_s))
        self._trash.add(writing.driver, kept)

    def _place(self, parent: str) -> tuple[int, str]:
        if parent not in self._places:
            writing = self._writing
            which = writing.statements.last_ids.rows(writing.driver)[0][0] + 1
            writing.beside.clear_new(writing.driver, DIRECTORY, which)
            path = f"{PLACE}{which}"
            row = (which, path, None, writing.who_id, writing.who_id, 0, writing.now_s, writing.now_s)
            writing.statements.add_directory.many(writing.driver, [row])
            self._places[parent] = which, path
        return self._places[parent]


def move(writing: Writing, named: Named, old: str, new: tuple[int, str]) -> None:
    """Give a name its new parent's id and whole new name; all below a directory goes with it."""
    run, driver = writing.statements, writing.driver
    parent_id, lfn = new
    if named.object == FILE:
        run.move_file.run(driver, parent_id, split(lfn)[1], named.id)
    elif named.object == SPECIAL:
        run.move_special.run(driver, parent_id, split(lfn)[1], named.id)
    else:
        run.move_directories.run(driver, lfn, len(old) + 1, *_subtree(old))
        run.adopt_directory.run(driver, parent_id, named.row[6], named.id)


def remove_names(writing: Writing, disposal: Disposal, lfns: Sequence[Lfn]) -> BulkResult[None]:
    """Remove files, links and collections, then empty directories from the deepest up."""
    result: BulkResult[None] = BulkResult()
    there = writing.named(dict.fromkeys(lfns))
    disposal.take([(lfn, named) for lfn, named in there.items() if named.object != DIRECTORY])
    for lfn in sorted(dict.fromkeys(lfns), key=lambda name: name.count("/"), reverse=True):
        named = there.get(lfn)
        error = _unremovable(writing, lfn, named)
        if error is not None:
            result.failed[lfn] = error
            continue
        if named is not None and named.object == DIRECTORY:
            disposal.take([(lfn, named)])
        result.ok[lfn] = None
    writing.touch({split(lfn)[0] for lfn in result.ok})
    return result


def _unremovable(writing: Writing, lfn: Lfn, named: Named | None) -> VseError | None:
    if lfn == "/":
        return BadRequest("remove /", "it is the root of the catalogue")
    if named is None:
        return NoSuchEntry(f"remove {lfn}", "it is not in the catalogue")
    if named.object == DIRECTORY and holds_something(writing.driver, writing.statements, named.id):
        return NotEmpty(f"remove the directory {lfn}", "it is not empty", "remove what it holds first")
    return None


def holds_something(driver: Any, statements: Statements, which: int) -> bool:
    """Whether a directory holds any name."""
    ids = as_json([which])
    run = statements
    return any(ask.rows(driver, ids) for ask in (run.with_files, run.with_subdirectories, run.with_specials))


def undelete_names(writing: Writing, trash: Trash, rows: Sequence[Row]) -> BulkResult[Lfn]:
    """Give trashed names their place back, making the directories above them; keyed by id."""
    result: BulkResult[Lfn] = BulkResult()
    back: list[Row] = []
    for row in sorted(rows, key=lambda one: (one[2] != "directory", one[1].count("/"))):
        lfn, held = Lfn(row[1]), join(row[3], split(row[1])[1])
        named = writing.named([held])[held]
        try:
            parent_id = _new_place(writing, f"restore {lfn}", lfn, named.owners)
        except AlreadyExists as error:
            result.failed[str(row[0])] = error
            continue
        move(writing, named, held, (parent_id, lfn))
        back.append(row)
        result.ok[str(row[0])] = lfn
    trash.forget(writing.driver, back)
    return result


def forget_names(writing: Writing, trash: Trash, rows: Sequence[Row]) -> None:
    """Remove what is in the trash for good."""
    held = {join(row[3], split(row[1])[1]): row for row in rows}
    ForEver(writing).take(list(writing.named(held).items()))
    trash.forget(writing.driver, rows)


# -- renaming and special names ----------------------------------------------------------------------


def _new_place(writing: Writing, wanted: str, lfn: Lfn, owners: tuple[int, int]) -> int:
    """Return the id of the directory for a new name ``lfn``, made where it is missing.

    Raises `AlreadyExists` where the name is taken, or one on its way is no directory.
    """
    if writing.named([lfn]):
        raise AlreadyExists(wanted, f"{lfn} is there already", "choose another name")
    parent = split(lfn)[0]
    directories = writing.directories()
    directories.look_up([parent])
    try:
        parent_id = directories.ensure(parent, *owners)
    except InTheWay as way:
        raise AlreadyExists(wanted, str(way)) from None
    directories.touch(parent_id)
    directories.flush()
    return parent_id


def rename_name(writing: Writing, source: Lfn, target: Lfn) -> None:
    """Give the name ``source`` the name ``target``; of a directory, with all below it."""
    wanted = f"rename {source} to {target}"
    if source == "/" or (target != source and target.is_below(source)):
        raise BadRequest(wanted, "a directory cannot be moved into itself")
    named = writing.named([source]).get(source)
    if named is None:
        raise NoSuchEntry(wanted, f"{source} is not in the catalogue")
    parent_id = _new_place(writing, wanted, target, named.owners)
    if named.object == DIRECTORY:
        _check_length(writing, source, target)
    move(writing, named, source, (parent_id, target))
    writing.touch([split(source)[0]])


def _subtree(path: str) -> tuple[str, str, str]:
    """The arguments of a condition on a directory and all below it."""
    return path, path + "/", path + "0"


def _check_length(writing: Writing, source: Lfn, target: Lfn) -> None:
    """Raise `BadLfn` where a name below ``source`` would be too long below ``target``."""
    growth = len(target.encode()) - len(source.encode())
    if growth <= 0:
        return
    over = MAX_LFN_BYTES - MAX_NAME_BYTES - 1 - growth  # no name in a directory shorter than this can be
    below = (*_subtree(source), over)
    run, driver = writing.statements, writing.driver
    asked = (run.longest_below, run.longest_special_below)
    longest = max(ask.rows(driver, *below)[0][0] or 0 for ask in asked)
    if longest + growth > MAX_LFN_BYTES:
        found = f"a name below it would have {longest + growth} bytes; at most {MAX_LFN_BYTES} are possible"
        raise BadLfn(f"rename {source} to {target}", found)


def make_special(
    writing: Writing, lfn: Lfn, kind: str, target: str | None, owners: tuple[int, int], mode: int
) -> int:
    """Make a link or a collection and return its id; raises `AlreadyExists`."""
    parent_id = _new_place(writing, f"make the {kind} {lfn}", lfn, owners)
    run, driver = writing.statements, writing.driver
    which: int = run.last_special.rows(driver)[0][0] + 1
    writing.beside.clear_new(driver, SPECIAL, which)
    row = (which, parent_id, split(lfn)[1], kind, target, *owners, mode, writing.now_s, writing.now_s)
    run.add_special.many(driver, [row])
    defaults = writing.beside.inherited(driver, [parent_id])
    if kind == "collection" and defaults:
        writing.beside.inherit(driver, [(SPECIAL, which, defaults[parent_id])])
    return which


def each(lfns: Iterable[Lfn], call: Callable[[Lfn], None]) -> BulkResult[None]:
    """Call for each name; what fails is under ``failed`` and does not stop the others."""
    result: BulkResult[None] = BulkResult()
    for lfn in dict.fromkeys(lfns):
        try:
            call(lfn)
        except VseError as error:
            result.failed[lfn] = error
        else:
            result.ok[lfn] = None
    return result
