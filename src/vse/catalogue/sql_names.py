"""Making directories, removing and renaming names, inside a transaction of the SQL catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vse.catalogue.directories import Directories, InTheWay
from vse.catalogue.sql_rows import join, split
from vse.catalogue.sql_statements import Statements
from vse.db.prepared import as_json
from vse.errors import AlreadyExists, BadLfn, BadRequest, NoSuchEntry, NotEmpty
from vse.model import BulkResult, Lfn
from vse.model.lfn import MAX_LFN_BYTES, MAX_NAME_BYTES


def make_names(
    driver: Any, statements: Statements, lfns: Sequence[Lfn], owners: tuple[int, int], now_s: float
) -> BulkResult[None]:
    """Make directories and those missing above them; one that is there stays as it is."""
    result: BulkResult[None] = BulkResult()
    directories = Directories(driver, statements, now_s, statements.last_ids.rows(driver)[0][0] + 1)
    directories.look_up(lfns)
    for lfn in dict.fromkeys(lfns):
        try:
            directories.ensure(lfn, *owners)
        except InTheWay as way:
            result.failed[lfn] = AlreadyExists(f"make the directory {lfn}", f"{way} is a file")
        else:
            result.ok[lfn] = None
    directories.flush()
    return result


def remove_names(driver: Any, statements: Statements, lfns: Sequence[Lfn], now_s: float) -> BulkResult[None]:
    """Remove files, then empty directories from the deepest up."""
    result: BulkResult[None] = BulkResult()
    names = list(dict.fromkeys(lfns))
    rows = statements.files.rows(driver, as_json(map(split, names)))
    files = {join(row[1], row[2]): row[0] for row in rows}
    statements.remove_file.many(driver, [(which,) for which in files.values()])
    directories = {
        row[1]: row[0] for row in statements.directory_rows.rows(driver, as_json(set(names) - files.keys()))
    }
    for lfn in sorted(names, key=lambda name: name.count("/"), reverse=True):
        if lfn in files:
            result.ok[lfn] = None
        elif lfn == "/":
            result.failed[lfn] = BadRequest("remove /", "it is the root of the catalogue")
        elif lfn not in directories:
            result.failed[lfn] = NoSuchEntry(f"remove {lfn}", "it is not in the catalogue")
        elif _holds_something(driver, statements, directories[lfn]):
            todo = "remove what it holds first"
            result.failed[lfn] = NotEmpty(f"remove the directory {lfn}", "it is not empty", todo)
        else:
            statements.remove_directory.run(driver, directories[lfn])
            result.ok[lfn] = None
    parents = as_json({split(lfn)[0] for lfn in result.ok})
    touched = [(now_s, row[0]) for row in statements.directory_rows.rows(driver, parents)]
    statements.touch_directory.many(driver, touched)
    return result


def _holds_something(driver: Any, statements: Statements, which: int) -> bool:
    ids = as_json([which])
    return bool(statements.with_files.rows(driver, ids) or statements.with_subdirectories.rows(driver, ids))


def rename_name(driver: Any, statements: Statements, source: Lfn, target: Lfn, now_s: float) -> None:
    """Give the file or directory ``source`` the name ``target``."""
    wanted = f"rename {source} to {target}"
    if source == "/" or (target != source and target.is_below(source)):
        raise BadRequest(wanted, "a directory cannot be moved into itself")
    file = next(iter(statements.files.rows(driver, as_json([split(source)]))), None)
    directory = next(iter(statements.directory_rows.rows(driver, as_json([source]))), None)
    if file is None and directory is None:
        raise NoSuchEntry(wanted, f"{source} is not in the catalogue")
    directories = Directories(driver, statements, now_s, statements.last_ids.rows(driver)[0][0] + 1)
    parent, name = split(target)
    directories.look_up([parent, target, split(source)[0]])
    if target in directories.ids or statements.files.rows(driver, as_json([(parent, name)])):
        raise AlreadyExists(wanted, f"{target} is there already", "choose another name")
    owners = (file[6], file[7]) if file is not None else directory[2:4] if directory is not None else (0, 0)
    try:
        parent_id = directories.ensure(parent, *owners)
    except InTheWay as way:
        raise AlreadyExists(wanted, f"{way} is a file, not a directory") from None
    directories.touch(parent_id)
    directories.touch(directories.ids[split(source)[0]])
    directories.flush()
    if file is not None:
        statements.move_file.run(driver, parent_id, name, file[0])
    elif directory is not None:
        _check_length(driver, statements, source, target)
        statements.move_directories.run(driver, target, len(source) + 1, *_subtree(source))
        statements.adopt_directory.run(driver, parent_id, directory[6], directory[0])


def _subtree(path: str) -> tuple[str, str, str]:
    """The arguments of a condition on a directory and all below it."""
    return path, path + "/", path + "0"


def _check_length(driver: Any, statements: Statements, source: Lfn, target: Lfn) -> None:
    """Raise `BadLfn` where a name below ``source`` would be too long below ``target``."""
    growth = len(target.encode()) - len(source.encode())
    if growth <= 0:
        return
    over = MAX_LFN_BYTES - MAX_NAME_BYTES - 1 - growth  # no file in a directory shorter than this can be
    longest = statements.longest_below.rows(driver, *_subtree(source), over)[0][0] or 0
    if longest + growth > MAX_LFN_BYTES:
        found = f"a name below it would have {longest + growth} bytes; at most {MAX_LFN_BYTES} are possible"
        raise BadLfn(f"rename {source} to {target}", found)
