"""Changing owners, modes and access lists, inside a transaction of the SQL catalogue."""

from __future__ import annotations

from collections.abc import Iterable

from vse.catalogue.beside import DIRECTORY
from vse.catalogue.sql_names import Named, Writing
from vse.catalogue.sql_rows import Rows
from vse.errors import BadRequest, NoSuchEntry
from vse.model import AccessEntry, Lfn, NewAccess
from vse.model.access import MAX_MODE, with_mask


def change(writing: Writing, rows: Rows, lfn: Lfn, named: Named | None, new: NewAccess) -> None:
    """Make one change of the name that is really ``lfn``. People must have been interned.

    chmod of a name with an access list sets its mask too, as POSIX.1e has it: what a mode takes from the
    group is taken from all that the list names. Raises `NoSuchEntry`, `BadRequest`.
    """
    wanted = f"change the access of {new.lfn}"
    if named is None:
        raise NoSuchEntry(wanted, "it is not in the catalogue")
    if new.mode is not None and not 0 <= new.mode <= MAX_MODE:
        raise BadRequest(wanted, f"{new.mode:o} is no mode", f"modes are 0 to {MAX_MODE:o}")
    if new.defaults and named.object != DIRECTORY:
        raise BadRequest(wanted, f"it is a {named.kind}", "only directories have default entries")
    ids = rows.principals.ids(())
    owner_id = named.owners[0] if new.owner is None else ids[new.owner]
    group_id = named.owners[1] if new.group is None else ids[new.group]
    mode = named.mode if new.mode is None else new.mode
    run, driver = writing.statements, writing.driver
    run.own[named.object].run(driver, owner_id, group_id, mode, named.id)
    which = (named.object, named.id)
    entries = new.entries
    if entries is None and new.mode is not None:
        entries = _remasked(writing.beside.access(driver, [which]).get(which, ((), ()))[0], mode)
    for told, inherited in ((entries, False), (new.defaults, True)):
        if told is not None:
            whole = with_mask(told, mode >> 3 & 7)
            writing.beside.put_access(driver, which, whole, inherited=inherited)


def _remasked(entries: Iterable[AccessEntry], mode: int) -> tuple[AccessEntry, ...] | None:
    known = tuple(one for one in entries if one.whom != "mask")
    return (*known, AccessEntry("mask", "", mode >> 3 & 7)) if known else None


def people(changes: Iterable[NewAccess]) -> set[str]:
    """Return every user and group that ``changes`` speak of."""
    found: set[str] = set()
    for new in changes:
        found |= {name for name in (new.owner, new.group) if name is not None}
        found |= {one.name for one in (*(new.entries or ()), *(new.defaults or ())) if one.name}
    return found
