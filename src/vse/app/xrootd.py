"""What a site does for its root:// door: files are located, staged and linked; a prepare is a request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from vse.app.namespace import local_path
from vse.app.site import Site
from vse.app.starting import signature
from vse.catalogue.permissions import may
from vse.config.load import FILE_NAME
from vse.doors.xrootd.port import Answer, Coming, Here, Name, Prepared
from vse.doors.xrootd.redirector import Redirector
from vse.errors import BadLfn, BadRequest, Denied, GivenUp, NoPlan, NoSuchEntry, Unsupported, VseError
from vse.model import (
    Access,
    BulkResult,
    DatasetQuery,
    Entry,
    FindQuery,
    Identity,
    Lfn,
    Located,
    ReplicaState,
)
from vse.model.access import READ
from vse.staging.approval import ApprovalRule
from vse.staging.requests import Staging
from vse.staging.values import Conditions, Request
from vse.transfer.lifecycle import ENDED, State, Transfer

OWNER = "xrootd"
"""Who asks for what is opened through root://, in the list of requests."""
ANYBODY = Identity("nobody", ("nobody",))
"""Clients do not say who they are: they see what others than owner and group may read."""
_ROOT = ("root", "xroot", "roots", "xroots")
_REMEMBERED = 100_000
_LOOK_S = 0.5

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PreparedFiles(DatasetQuery):
    """The files of one prepare, by the number that its client knows it by."""

    number: str = ""
    lfns: tuple[Lfn, ...] = ()

    def __str__(self) -> str:
        return f"Prepare;Id={self.number};Files={len(self.lfns)}"


class XrootdOpening:
    """`vse.doors.xrootd.port.Opening` for a site. Safe to share between threads.

    ``wake`` is called when there is something new to move.
    """

    def __init__(self, site: Site, wake: Callable[[], None] = lambda: None) -> None:
        self._site = site
        self._settings = site.settings.doors.xrootd
        self._export = export_of(site)
        self._destination = site.destination
        self._names = site.lookup_for(ANYBODY)
        self._wake = wake
        self._asked: dict[Lfn, int] = {}  # only saves questions: what counts are the rows
        self._staging = Staging(
            database=site.database,
            names=site.lookup,
            catalogue=site.catalogue,
            elements=site.elements,
            queue=site.queue,
            clock=site.clock,
            find=self._find,
            filters=site.filters,
            approval=ApprovalRule.of(site.settings.stager),
        )

    def lfn_of(self, path: str) -> Lfn:
        lfn = Lfn.parse(path.partition("?")[0])
        if lfn == self._export:
            return Lfn("/")
        return Lfn(lfn[len(self._export) :]) if lfn.is_below(self._export) else lfn

    # -- opening ---------------------------------------------------------------------------------

    def open(self, lfns: Sequence[Lfn]) -> BulkResult[Answer]:
        result: BulkResult[Answer] = BulkResult()
        located = self._readable(lfns)
        result.failed.update(located.failed)
        for lfn, file in located.ok.items():
            try:
                result.ok[lfn] = self._here(file) or self._coming(file)
            except VseError as error:
                result.failed[lfn] = error
        return result

    def _readable(self, lfns: Sequence[Lfn]) -> BulkResult[Located]:
        """Locate files that anybody may read; one that a filter is to make is as what it is made of."""
        located = self._names.resolve(lfns)
        read = {lfn: Lfn(file.entry.target or lfn) for lfn, file in located.ok.items()}
        access = self._names.access([*dict.fromkeys(read.values())])
        for lfn, name in read.items():
            held: Access | None = access.ok.get(name)
            why = may(ANYBODY, held, READ) if held else access.failed[name].found
            if why:
                del located.ok[lfn]
                located.failed[lfn] = Denied(f"read {lfn}", why, "ask its owner to let others read it")
        return located

    def _here(self, file: Located) -> Here | None:
        """Return where a copy at the destination is read; its link is made where it is missing."""
        lfn, element = file.entry.lfn, self._destination
        copies = [
            one
            for one in file.replicas
            if self._site.elements.name_of(one.se) == element.name and one.state is ReplicaState.AVAILABLE
        ]
        for replica in copies:
            path = local_path(self._site, replica, file.entry.guid)
            if path is not None and self._settings.data:
                if not self._site.links.path(lfn).is_file():
                    self._site.links.ensure({lfn: path}).one(lfn)
                return Here(f"root://{self._settings.data}/{self._export}{lfn}", element.name)
        try:
            sources = self._site.elements.plan_read(copies, file.entry.guid).sources if copies else ()
        except NoPlan:
            return None
        return next((Here(one.url, element.name) for one in sources if one.protocol in _ROOT), None)

    def _coming(self, file: Located) -> Answer:
        """Ask for a file that is not here. Raises why it failed to come a moment ago."""
        lfn = file.entry.lfn
        transfer = self._transfer(lfn)
        if transfer is not None:
            if transfer.state not in ENDED and self._asked.get(lfn) == transfer.id:
                return Coming(transfer.id)
            self._refuse_failed(transfer)
        request = self.request(FindQuery(base=lfn))
        transfer = self._transfer(lfn)
        if transfer is not None and transfer.state is State.HELD:
            raise not_approved(lfn, request)
        if transfer is None or transfer.state is State.DONE:
            here = self._here(self._site.lookup.resolve([lfn]).one(lfn))
            if here is None:
                raise NoPlan(
                    f"give a root:// URL of {lfn}",
                    f"{self._destination.name} holds it, and neither doors.xrootd.data nor a section of "
                    f"its own says how it is read there by root://",
                    "name the xrootd that exports the link tree in doors.xrootd.data",
                )
            return here
        if len(self._asked) >= _REMEMBERED:
            self._asked.clear()
        self._asked[lfn] = transfer.id
        return Coming(transfer.id)

    def _refuse_failed(self, transfer: Transfer) -> None:
        failed = transfer.state in (State.FAILED, State.CANCELLED)
        age_s = self._site.clock() - (transfer.finished_s or 0.0)
        if failed and age_s < self._settings.deny_s:
            raise why_not(transfer)

    def _transfer(self, lfn: Lfn) -> Transfer | None:
        here = self._destination.name
        return next((one for one in self._site.queue.of_lfn(lfn) if one.destination == here), None)

    def ended(self, coming: Sequence[int]) -> set[int]:
        known = self._site.queue.get(coming)
        return {key for key in coming if key not in known or known[key].state in ENDED}

    def note_access(self, read: dict[str, list[Lfn]]) -> None:
        for se, lfns in read.items():
            self._site.accesses.note(se, lfns)

    # -- names -----------------------------------------------------------------------------------

    def stat(self, lfn: Lfn) -> Name:
        return self._described([self._names.stat([lfn]).one(lfn)])[0]

    def children(self, lfn: Lfn) -> list[Name]:
        return self._described(list(self._names.list(lfn)))

    def _described(self, entries: Sequence[Entry]) -> list[Name]:
        files = self._names.resolve([one.lfn for one in entries if one.kind != "directory"]).ok
        return [self._name(entry, files.get(entry.lfn)) for entry in entries]

    def _name(self, entry: Entry, file: Located | None) -> Name:
        size_bytes = (file.entry if file else entry).size_bytes or 0
        online = entry.kind == "directory" or (file is not None and self._online(file))
        return Name(entry.lfn.name, size_bytes, entry.modified_s, entry.kind == "directory", online)

    def _online(self, file: Located) -> bool:
        return any(
            self._site.elements.name_of(one.se) == self._destination.name
            and one.state is ReplicaState.AVAILABLE
            for one in file.replicas
        )

    def locate(self, lfn: Lfn) -> tuple[str, bool]:
        server = self._settings.data
        if not server:
            raise Unsupported(f"tell which server has {lfn}", "doors.xrootd.data names none", "open it")
        return server, self.stat(lfn).online

    def checksum(self, lfn: Lfn) -> str:
        entry = self._names.resolve([lfn]).one(lfn).entry
        if entry.adler32 is None:
            raise Unsupported(f"tell the checksum of {lfn}", "the catalogue has none for it")
        return f"adler32 {entry.adler32:08x}"

    # -- prepare ---------------------------------------------------------------------------------

    def prepare(self, number: str, paths: Sequence[str]) -> str:
        known = self._readable([lfn for path in paths if (lfn := self._parsed(path)) is not None])
        if not known.ok:
            raise next(iter(known.failed.values()), NoSuchEntry("stage files", f"{paths[0]} is no name here"))
        self.request(PreparedFiles(number=number, lfns=tuple(file.entry.lfn for file in known.ok.values())))
        return number

    def request(self, query: DatasetQuery) -> Request:
        """Ask for files at the destination, as a request of this door's.

        It may have to be approved, unless the settings name this door among the approvers: whoever opens a
        file is unknown, whatever the user is called that runs this process.
        """
        asked = Conditions(trusted=OWNER in self._site.settings.stager.approvers)
        request = self._staging.request(query, OWNER, self._destination.name, asked)
        self._wake()
        return request

    def cancel(self, number: str) -> None:
        mine = [
            one.id
            for one in self._staging.list(open_only=True, limit=_REMEMBERED)
            if one.owner == OWNER and one.query.startswith(f"Prepare;Id={number};")
        ]
        if not mine:
            raise BadRequest(f"cancel the prepare {number}", "there is none of this number, or it has ended")
        for key in mine:
            self._staging.cancel(key)

    def prepared(self, number: str, paths: Sequence[str]) -> list[Prepared]:
        parsed = {path: self._parsed(path) for path in paths}
        files = self._names.resolve([lfn for lfn in parsed.values() if lfn is not None]).ok
        return [self._prepared(path, files.get(lfn or "")) for path, lfn in parsed.items()]

    def _prepared(self, path: str, file: Located | None) -> Prepared:
        if file is None:
            return Prepared(path, False, False, False, None, "")
        if self._online(file):
            return Prepared(path, True, True, False, None, "")
        transfer = self._transfer(file.entry.lfn)
        if transfer is None:
            return Prepared(path, True, False, False, None, "")
        failed = transfer.state in (State.FAILED, State.CANCELLED)
        why = str(why_not(transfer)) if failed else ""
        return Prepared(path, True, False, transfer.state not in ENDED, transfer.created_s, why)

    def _parsed(self, path: str) -> Lfn | None:
        try:
            return self.lfn_of(path)
        except BadLfn:
            return None

    def _find(self, query: DatasetQuery) -> Iterator[Located]:
        if isinstance(query, PreparedFiles):
            return iter(self._site.lookup.resolve(query.lfns).ok.values())
        return self._site.selector.find(query)


def why_not(transfer: Transfer) -> VseError:
    """Return why a transfer ended without its file."""
    if transfer.error is not None:
        return transfer.error
    when = datetime.fromtimestamp(transfer.finished_s or 0.0, UTC).strftime("%H:%M:%S")
    return GivenUp(f"stage {transfer.lfn}", f"it was cancelled at {when} UTC", "open it again to ask anew")


def not_approved(lfn: Lfn, request: Request) -> VseError:
    """Return what somebody is told who opens a file whose request waits for approval."""
    return Denied(
        f"stage {lfn}",
        f"request {request.id} for it waits for approval",
        f"ask one of stager.approvers (vse request approve {request.id}), then open it again",
    )


def export_of(site: Site) -> str:
    """Return the path below which the link tree is exported: the name of its directory."""
    return f"/{site.links.root.name}"


class Served:
    """The redirector of a site, and (unless ``moving`` is false) a stager beside it."""

    def __init__(self, site: Site, moving: bool = True) -> None:
        self._stop = threading.Event()
        self._settings_path = site.root / FILE_NAME
        self._stager = site.stager() if moving else None
        wake = self._stager.wake if self._stager is not None else lambda: None
        settings = site.settings.doors.xrootd
        self.redirector = Redirector(XrootdOpening(site, wake), settings.host, settings.port)

    def run(self, ready: Callable[[str], None]) -> None:
        """Serve until a signal or `stop`; then the stager is ended as well."""
        threads = [threading.Thread(target=self._watch_settings, name="vse-settings", daemon=True)]
        if self._stager is not None:
            threads.append(threading.Thread(target=self._stager.run, args=(self._stop,), name="vse-stager"))
        for one in threads:
            one.start()
        try:
            self.redirector.run(ready)
        finally:
            self._stop.set()
            if self._stager is not None:
                self._stager.wake()
            for one in threads:
                one.join()

    def _watch_settings(self) -> None:
        """Say in the log that vse.toml has changed: what runs here goes on as it began."""
        before = signature(self._settings_path)
        while not self._stop.wait(_LOOK_S):
            now = signature(self._settings_path)
            if now != before:
                before = now
                _log.warning(
                    "settings.wait-for-restart",
                    settings=str(self._settings_path),
                    todo="restart vse serve xrootd: it goes on with those that it was started with",
                )

    def stop(self) -> None:
        self.redirector.stop()
