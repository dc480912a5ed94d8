"""The catalogue in a database: SQLite for one machine, PostgreSQL for a site, the same code."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

from vse.catalogue.directories import MODE
from vse.catalogue.links import ask_real, real_names, target_of
from vse.catalogue.port import NewReplica
from vse.catalogue.sql_access import change, people
from vse.catalogue.sql_details import SqlDetails
from vse.catalogue.sql_names import (
    ForEver,
    IntoTrash,
    Writing,
    each,
    forget_names,
    make_names,
    make_special,
    remove_names,
    rename_name,
    undelete_names,
)
from vse.catalogue.sql_reading import BULK_NAMES
from vse.catalogue.sql_rows import join, split
from vse.catalogue.sql_writing import CHUNK_FILES, register
from vse.db import Database
from vse.db.prepared import Row, as_json, chunks
from vse.errors import AlreadyExists, BadRequest, LinkLoop, NoSuchEntry, NoSuchReplica
from vse.model import BulkResult, Clock, Lfn, NewAccess, NewFile, NewLink, ReplicaState

_ROOT = "root"
_LINK_MODE = 0o777
_COLLECTION_MODE = 0o644
_Rows = list[Row]  # inside the class, list is the method


class SqlCatalogue(SqlDetails):
    """The catalogue (`vse.catalogue.port.Catalogue`) in ``database``.

    Safe to share between threads. Reading calls wait for no writer. `find` and `list` read page by
    page, each page a snapshot of its own: what is added or removed meanwhile may be in the answer or not,
    what stays is in it exactly once, and nothing is held while the caller thinks.

    ``trash_s``: how long removed names can be had back; 0 removes at once. ``who``: whom the audit names.
    Nobody is refused anything here: that is `vse.catalogue.guarded`.
    """

    def __init__(self, database: Database, clock: Clock, trash_s: float = 0.0, who: str = _ROOT) -> None:
        super().__init__(database, clock)
        self.trash_s = trash_s
        self.who = who
        self._ensure_root()

    def acting(self, who: str) -> Self:
        """Return the same catalogue, whose changes are ``who``'s in the audit."""
        other = copy.copy(self)
        other.who = who
        return other

    # -- files and replicas -----------------------------------------------------------------------

    def register(self, files: Iterable[NewFile]) -> BulkResult[Lfn]:
        """Add files; see `vse.catalogue.port.Catalogue.register`.

        A size that is known to differ, or a checksum known on both sides, makes another file; a
        checksum or GUID not known before is taken in. The same name given twice is treated as in two
        calls, and stands under ``failed`` if either failed. Missing directories get the owner and
        group of the first file that needs them.
        """
        wanted = [_with_adler32(file) if file.checksums else file for file in files]
        result: BulkResult[Lfn] = BulkResult()
        self.rows.principals.ids({name for file in wanted for name in (file.owner, file.group)})
        self.rows.elements.ids({file.se for file in wanted if file.se is not None})
        with self._writing() as writing:
            for part in chunks(wanted, CHUNK_FILES):
                done = self._register(writing, part)
                result.ok.update(done.ok)
                result.failed.update(done.failed)
            for lfn in result.failed:
                result.ok.pop(lfn, None)
            where = {file.se for file in wanted}
            self._note(writing, "register", result.ok, se=where.pop() if len(where) == 1 else None, most=1)
        return result

    def _register(self, writing: Writing, files: Sequence[NewFile]) -> BulkResult[Lfn]:
        lfns = [file.lfn for file in files]
        reals = real_names(writing.driver, self.statements, lfns, follow_last=False)
        led = list(files)
        if reals:
            there = {lfn: reals.get(lfn, lfn) for lfn in lfns}
            led = [replace(one, lfn=real) for one in files if isinstance(real := there[one.lfn], Lfn)]
        driver, run, now_s = writing.driver, self.statements, writing.now_s
        return ask_real(lfns, reals, lambda _: register(driver, run, self.rows, self.beside, led, now_s))

    def add_replicas(self, replicas: Iterable[NewReplica]) -> BulkResult[None]:
        """Add copies or update them; see `vse.catalogue.port.Catalogue.add_replicas`."""
        wanted = [*replicas]
        result: BulkResult[None] = BulkResult()
        elements = self.rows.elements.ids({replica.se for replica in wanted})
        with self._writing() as writing:
            ids = self._ids(writing.driver, [replica.lfn for replica in wanted])
            copies: _Rows = []
            inside: _Rows = []
            origins: _Rows = []
            noted: dict[tuple[str, str], list[str]] = {}
            for one in wanted:
                lfn, which = one.lfn, ids.get(one.lfn)
                if which is None:
                    found = "it is not a file of the catalogue"
                    result.failed[lfn] = NoSuchEntry(f"add a replica of {lfn}", found, "register it first")
                    continue
                state, element = str(one.state), elements[one.se]
                copies.append((which, element, one.url, state, None, None, None))
                if one.contents is not None:
                    inside.append((which, *one.contents))
                if one.source is not None or one.master:
                    origins.append((which, element, one.master, one.source, writing.now_s))
                noted.setdefault((one.se, state), []).append(lfn)
                result.ok[lfn] = None
            self.statements.put_replica.many(writing.driver, copies)
            self.statements.put_contents.many(writing.driver, inside)
            self.beside.put_origins(writing.driver, origins)
            for (se, state), lfns in noted.items():
                self._note(writing, "add replica", lfns, se=se, state=state)
        return result

    def mark_replicas(
        self, lfns: Sequence[Lfn], se: str, state: ReplicaState | None = None, *, master: bool = False
    ) -> BulkResult[None]:
        """Change what is said of copies; see `vse.catalogue.port.Catalogue.mark_replicas`."""
        element = self.rows.elements.known(se)
        with self._writing() as writing:
            held = self._held(writing, lfns, element)
            if state is not None:
                rows = [(str(state), which, element) for which in held.values()]
                self.statements.set_replica.many(writing.driver, rows)
            if master and element is not None:
                self.beside.set_master(writing.driver, [(which, element) for which in held.values()])
            said = None if state is None else str(state)
            self._note(writing, "mark replica", held, se=se, state=said, master=master or None)
        return _of_copies("mark", lfns, held, se)

    def remove_replicas(self, lfns: Sequence[Lfn], se: str) -> BulkResult[None]:
        """Forget copies at ``se``; see `vse.catalogue.port.Catalogue.remove_replicas`."""
        element = self.rows.elements.known(se)
        with self._writing() as writing:
            held = self._held(writing, lfns, element)
            rows = [(which, element) for which in held.values() if element is not None]
            self.statements.remove_replica.many(writing.driver, rows)
            self.beside.forget_origins(writing.driver, rows)
            self._note(writing, "remove replica", held, se=se)
        return _of_copies("forget", lfns, held, se)

    def note_access(self, lfns: Sequence[Lfn], se: str, when_s: float) -> None:
        """Record reads; see `vse.catalogue.port.Catalogue.note_access`. Never goes back in time."""
        element = self.rows.elements.known(se)
        if element is None:
            return
        with self.database.write_names() as driver:
            ids = self._ids(driver, lfns)
            rows = [(when_s, which, element) for which in ids.values()]
            self.statements.note_access.many(driver, rows)

    # -- names ------------------------------------------------------------------------------------

    def remove(self, lfns: Sequence[Lfn], *, forever: bool = False) -> BulkResult[None]:
        """Remove names; see `vse.catalogue.port.Catalogue.remove`.

        Files go first and deeper directories before those above them, so that a directory can be given
        together with all that it holds, in any order.
        """
        with self._writing() as writing:
            kept = self.trash_s > 0 and not forever
            expires_s = writing.now_s + self.trash_s
            disposal = IntoTrash(writing, self.bin, expires_s) if kept else ForEver(writing)
            result = self._really(writing, lfns, lambda real: remove_names(writing, disposal, real))
            self._note(writing, "trash" if kept else "remove", result.ok)
        return result

    def undelete(self, ids: Sequence[int]) -> BulkResult[Lfn]:
        """Take names out of the trash; see `vse.catalogue.port.Catalogue.undelete`."""
        with self._writing() as writing:
            result = undelete_names(writing, self.bin, self.bin.rows(writing.driver, ids))
            self._note(writing, "restore", [*result.ok.values()])
        for which in map(str, ids):
            if which not in result.ok and which not in result.failed:
                result.failed[which] = NoSuchEntry(f"restore {which}", "the trash does not hold it")
        return result

    def forget_trash(self, ids: Sequence[int]) -> None:
        """Remove what is in the trash for good; see `vse.catalogue.port.Catalogue.forget_trash`."""
        with self._writing() as writing:
            rows = self.bin.rows(writing.driver, ids)
            forget_names(writing, self.bin, rows)
            self._note(writing, "remove", [row[1] for row in rows])

    def make_directories(self, lfns: Sequence[Lfn], owner: str, group: str) -> BulkResult[None]:
        """Make directories and those missing above them; see `vse.catalogue.port.Catalogue`."""
        ids = self.rows.principals.ids({owner, group})
        owners = ids[owner], ids[group]
        with self._writing() as writing:
            result = self._really(writing, lfns, lambda real: make_names(writing, real, owners))
            self._note(writing, "make directory", result.ok)
        return result

    def make_links(self, links: Iterable[NewLink]) -> BulkResult[None]:
        """Make symbolic links; see `vse.catalogue.port.Catalogue.make_links`."""
        wanted = {link.lfn: link for link in links}
        ids = self.rows.principals.ids({name for one in wanted.values() for name in (one.owner, one.group)})
        with self._writing() as writing:
            reals = real_names(writing.driver, self.statements, wanted, follow_last=False)

            def make(lfn: Lfn) -> None:
                link, real = wanted[lfn], _real(reals, lfn)
                target = Lfn.parse(target_of(real, _checked_target(link)))
                kept = target if link.target.startswith("/") else link.target
                make_special(writing, real, "link", kept, (ids[link.owner], ids[link.group]), _LINK_MODE)

            result = each(wanted, make)
            self._note(writing, "link", result.ok)
        return result

    def put_collection(self, collection: Lfn, members: Iterable[Lfn], owner: str, group: str) -> None:
        """Make a collection or give it other members; see `vse.catalogue.port.Catalogue`."""
        ids = self.rows.principals.ids({owner, group})
        with self._writing() as writing:
            driver, run = writing.driver, self.statements
            real = _real(real_names(driver, run, [collection], follow_last=True), collection)
            named = writing.named([real]).get(real)
            if named is not None and named.kind != "collection":
                raise AlreadyExists(
                    f"make the collection {collection}", f"it is a {named.kind}", "choose another name"
                )
            if named is None:
                owners = ids[owner], ids[group]
                which = make_special(writing, real, "collection", None, owners, _COLLECTION_MODE)
            else:
                which = named.id
                run.touch_special.run(driver, writing.now_s, which)
            run.remove_members.run(driver, which)
            count = 0
            for start, part in enumerate(chunks(dict.fromkeys(members), CHUNK_FILES)):
                first = start * CHUNK_FILES
                run.add_member.many(driver, [(which, first + place, lfn) for place, lfn in enumerate(part)])
                count += len(part)
            self._note(writing, "collect", [real], members=count)

    def rename(self, source: Lfn, target: Lfn) -> None:
        """Rename a name; see `vse.catalogue.port.Catalogue.rename`.

        Missing directories above ``target`` are made. Of a directory only directory rows are touched,
        however many files are below it. Also raises `BadRequest` (the root, a directory into itself)
        and `BadLfn` where a name below would become too long.
        """
        with self._writing() as writing:
            reals = real_names(writing.driver, self.statements, [source, target], follow_last=False)
            old, new = _real(reals, source), _real(reals, target)
            rename_name(writing, old, new)
            self._note(writing, "rename", [old], to=new)
            self._note(writing, "rename", [new], source=old)

    def change_access(self, changes: Iterable[NewAccess]) -> BulkResult[None]:
        """Change owners, modes and access lists; see `vse.catalogue.port.Catalogue.change_access`."""
        wanted = {new.lfn: new for new in changes}
        self.rows.principals.ids(people(wanted.values()))
        with self._writing() as writing:
            reals = real_names(writing.driver, self.statements, wanted, follow_last=True)
            leads = [reals.get(lfn, lfn) for lfn in wanted]
            there = writing.named({real for real in leads if not isinstance(real, LinkLoop)})

            def make(lfn: Lfn) -> None:
                real = _real(reals, lfn)
                change(writing, self.rows, real, there.get(real), wanted[lfn])

            result = each(wanted, make)
            for lfn in result.ok:
                self._note(writing, "access", [lfn], **_said(wanted[Lfn(lfn)]))
        return result

    # -- inside a transaction ---------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[Writing]:
        who_id = self.rows.principals.ids((self.who,))[self.who]
        now_s = self.clock()
        with self.database.write_names() as driver:
            yield Writing(driver, self.statements, self.beside, now_s, who_id)

    def _note(
        self, writing: Writing, action: str, lfns: Iterable[str], most: int | None = None, **detail: Any
    ) -> None:
        limit = {} if most is None else {"most": most}
        self.audit.note(writing.driver, writing.now_s, self.who, action, [*lfns], detail, **limit)

    def _really(self, writing: Writing, lfns: Sequence[Lfn], call: Any) -> BulkResult[None]:
        """Make a bulk call with names whose directories are no links."""
        reals = real_names(writing.driver, self.statements, lfns, follow_last=False)
        return ask_real(lfns, reals, call)

    def _held(self, writing: Writing, lfns: Sequence[Lfn], element: int | None) -> dict[str, int]:
        """Return the ids of those ``lfns`` that have a copy at ``element``."""
        if element is None:
            return {}
        ids = self._ids(writing.driver, lfns)
        rows = self.statements.holding.rows(writing.driver, element, as_json(ids.values()))
        holding = {row[0] for row in rows}
        return {lfn: which for lfn, which in ids.items() if which in holding}

    def _ids(self, driver: Any, lfns: Sequence[Lfn]) -> dict[str, int]:
        """Return the ids of those ``lfns`` that are files or lead to one, inside a transaction."""
        found = self._ids_of(driver, lfns)
        missing = [lfn for lfn in lfns if lfn not in found]
        reals = real_names(driver, self.statements, missing, follow_last=True)
        if reals:
            behind = self._ids_of(driver, [real for real in reals.values() if isinstance(real, Lfn)])
            found.update((lfn, behind[real]) for lfn, real in reals.items() if real in behind)
        return found

    def _ids_of(self, driver: Any, lfns: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for part in chunks(dict.fromkeys(lfns), BULK_NAMES):
            for row in self.statements.files.rows(driver, as_json(map(split, part))):
                found[join(row[1], row[2])] = row[0]
        return found

    def _ensure_root(self) -> None:
        if self._directory_rows(["/"]):
            return
        root = self.rows.principals.ids([_ROOT])[_ROOT]
        with self.database.write_names() as driver:
            if not self.statements.directory_rows.rows(driver, as_json(["/"])):
                next_id = self.statements.last_ids.rows(driver)[0][0] + 1
                now_s = self.clock()
                row = (next_id, "/", None, root, root, MODE, now_s, now_s)
                self.statements.add_directory.many(driver, [row])


def _real(reals: Mapping[str, Lfn | LinkLoop], lfn: Lfn) -> Lfn:
    real = reals.get(lfn, lfn)
    if isinstance(real, LinkLoop):
        raise real
    return real


def _checked_target(link: NewLink) -> str:
    if not link.target or "\0" in link.target or len(link.target.encode()) > 2048:
        raise BadRequest(f"make the link {link.lfn}", f"{link.target[:40]!r} is no target", "name an LFN")
    return link.target


def _of_copies(what: str, lfns: Sequence[Lfn], held: Mapping[str, int], se: str) -> BulkResult[None]:
    result: BulkResult[None] = BulkResult()
    for lfn in dict.fromkeys(lfns):
        if lfn in held:
            result.ok[lfn] = None
        else:
            result.failed[lfn] = NoSuchReplica(f"{what} the replica of {lfn}", f"none is known at {se}")
    return result


def _with_adler32(file: NewFile) -> NewFile:
    """Return the file with its adler32, where it is among the other checksums, in its own place."""
    others = tuple(one for one in file.checksums if one.algorithm != "adler32")
    told = next((one for one in file.checksums if one.algorithm == "adler32"), None)
    if told is None or file.adler32 is not None:
        return replace(file, checksums=others)
    return replace(file, checksums=others, adler32=int(told.value, 16))


def _said(new: NewAccess) -> dict[str, Any]:
    lists = {"acl": new.entries, "defaults": new.defaults}
    said: dict[str, Any] = {key: list(map(str, one)) for key, one in lists.items() if one is not None}
    mode = None if new.mode is None else f"{new.mode:04o}"
    return {"owner": new.owner, "group": new.group, "mode": mode, **said}
