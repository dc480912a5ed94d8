"""One storage element: one storage under one name, spoken to by LFN, whatever the protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from vse.config.settings import DataManagement, ElementSettings, ProtocolSettings
from vse.errors import BadRequest, BadSettings, NoPlan, Unsupported, VseError
from vse.model import BulkResult, Checksum, Lfn, Replica, Space
from vse.storage import negotiation
from vse.storage.contract import Capabilities, Driver, Locality, Note, Reader, Resumable, StoredFile, Upload
from vse.storage.drivers import Terms, plugin_of, steady
from vse.storage.negotiation import Operation
from vse.storage.pairs import Ability
from vse.storage.placement import Place, check_inside, path_below, path_in, place_of, placed, url_of
from vse.storage.plugins import protocol_of, refusal
from vse.storage.sweeping import sweep_by_age
from vse.storage.values import ReadSource, WriteTarget

T = TypeVar("T")
Guids = Mapping[str, bytes | None]
"""The GUID of each LFN, from the catalogue; for elements that store by it, all others need none."""

NO_GUIDS: Guids = MappingProxyType({})


class StorageElement:
    """One storage element. Every call goes by the protocol that negotiation prefers and that can do it.

    Where a section's Placement is ``guid`` (seed 000), a call needs the GUID of the file from the catalogue,
    and raises `BadRequest` without it; directories and names are the catalogue's alone there, so that
    `make_directory`, `rename` and `link` have nothing to do.

    Safe to share between threads. ``at_site`` is whether this process runs at the element's site;
    ``terms`` are what its drivers are built with. Raises `BadSettings` for a section that names no driver
    there is; a plugin of DIRAC's that is refused (`vse.storage.plugins`) only takes its section out
    of every plan, with the reason.
    """

    def __init__(
        self,
        settings: ElementSettings,
        preferences: DataManagement | None = None,
        *,
        at_site: bool = True,
        terms: Terms | None = None,
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self.at_site = at_site
        self._preferences = preferences or DataManagement()
        self._terms = (terms or Terms())._replace(bring_online_s=settings.bring_online_timeout_s)
        self._drivers: dict[str, Driver] = {}
        self._lock = threading.Lock()
        for section in settings.protocols:
            try:
                plugin_of(section)
            except BadSettings as error:
                wanted = f"use the storage element {self.name}"
                raise BadSettings(wanted, f"{section.section}: {error.found}", error.todo) from error

    @property
    def by_guid(self) -> bool:
        """Whether files are stored by GUID, in one of its sections at least."""
        return any(one.placement == "guid" for one in self.settings.protocols)

    # -- what is possible ----------------------------------------------------------------------------

    def plan(self, operation: Operation) -> negotiation.Plan:
        """Return the sections that serve an operation; `NoPlan` with every reason where none does."""
        return negotiation.plan(self.settings, self._preferences, operation, at_site=self.at_site)

    def can(self, operation: Operation) -> bool:
        """Whether the settings and the drivers allow an operation at all."""
        able: dict[Operation, Callable[[Capabilities], bool]] = {
            "write": lambda one: one.write,
            "remove": lambda one: one.remove,
            "stage": lambda one: one.stage,
        }
        try:
            self._best(operation, able.get(operation, lambda _: True), operation)
        except (NoPlan, Unsupported, BadSettings):
            return False
        return True

    def abilities(self) -> dict[str, Ability]:
        """Return what the driver of each section can do, or the error that says why it has none."""
        found: dict[str, Ability] = {}
        for section in self.settings.protocols:
            try:
                found[section.section] = self._driver(section).capabilities
            except VseError as error:
                found[section.section] = error
        return found

    # -- names ---------------------------------------------------------------------------------------

    def url(self, lfn: Lfn, operation: Operation = "read", guid: bytes | None = None) -> str:
        """Return the URL of a file, as the preferred protocol for ``operation`` writes it."""
        section, _ = self._best(operation)
        return self.url_by(section, lfn, guid)

    def url_by(self, section: ProtocolSettings, lfn: Lfn, guid: bytes | None = None) -> str:
        """Return the URL of a file by one section, as the world writes it; mostly no driver is needed."""
        path = place_of(section, lfn, guid)
        if plugin_of(section).own_urls:
            return self._driver(section).url(path)
        return url_of(section, path)

    def url_for_drivers(self, section: ProtocolSettings, lfn: Lfn, guid: bytes | None = None) -> str:
        """Return the URL of a file as its driver writes it, and others take it (`Driver.pull`)."""
        path = place_of(section, lfn, guid)
        try:
            return self._driver(section).url(path)
        except BadSettings:
            return url_of(section, path)

    def registration_url(self, lfn: Lfn, guid: bytes | None = None) -> str:
        """Return the URL for a catalogue, by the first of RegistrationProtocols that a section has."""
        order = self._preferences.registration_protocols
        for protocol in order:
            for section in self.settings.protocols:
                if not refusal(section) and protocol_of(section) == protocol:
                    return self.url_by(section, lfn, guid)
        raise NoPlan(
            f"give a URL of {lfn} at {self.name} to the catalogue",
            f"none of its sections speaks one of RegistrationProtocols ({', '.join(order)})",
            "add the protocol of one of them",
        )

    def place_at(self, url: str) -> Place:
        """Return what a URL in this element stands for; `BadRequest` where it is none of its sections'."""
        for section in self.settings.protocols:
            if refusal(section):
                continue
            try:
                return placed(section, self._path_by(section, url))
            except BadRequest:
                continue
        raise BadRequest(f"find the logical name of {url}", f"it is not a URL of {self.name}")

    def lfn_of(self, url: str) -> Lfn:
        """Return the LFN of a URL in this element; `BadRequest` as `place_at`, or where it is by GUID."""
        return self._named(self.place_at(url), url)

    def place_in(self, stored: StoredFile) -> Place:
        """Return what a path stands for that `list` or `stat` told of."""
        for section, _ in self._planned("check"):
            try:
                return placed(section, stored.path)
            except BadRequest:
                continue
        raise BadRequest(f"find the logical name of {stored.path}", f"it is not in {self.name}")

    def lfn_in(self, stored: StoredFile) -> Lfn:
        """Return the LFN of what `list` or `stat` told of; `BadRequest` for what is stored by GUID."""
        return self._named(self.place_in(stored), stored.path)

    def stored_path(self, lfn: Lfn, guid: bytes | None = None, url: str | None = None) -> str:
        """Return the path that `list` tells of a file; ``url`` where the catalogue knows it by one."""
        return self.stored_paths()(lfn, guid, url)

    def stored_paths(self) -> Callable[[Lfn, bytes | None, str | None], str]:
        """Return `stored_path` for many files: the section is chosen once."""
        section, _ = self._best("check", lambda one: one.list, "list")

        def stored_path(lfn: Lfn, guid: bytes | None, url: str | None) -> str:
            if url is None:
                return place_of(section, lfn, guid)
            place = self.place_at(url)
            return place_of(section, place.lfn or lfn, place.guid or guid)

        return stored_path

    def place_of_path(self, path: str) -> Place:
        """Return what a path stands for that `list` told of; `BadRequest` where it is no name here."""
        return self.place_in(StoredFile(path, None, None))

    def driver_at(self, url: str) -> tuple[Driver, str]:
        """Return who speaks a URL in this element, and its path there; `BadRequest` as `place_at`."""
        for section in self.settings.protocols:
            with suppress(BadRequest, BadSettings):
                path = self._path_by(section, url)
                check_inside(section, path)
                return self._driver(section), path
        raise BadRequest(f"use {url}", f"it is not a URL of {self.name}")

    def _named(self, place: Place, shown: str) -> Lfn:
        if place.lfn is None:
            raise BadRequest(
                f"find the logical name of {shown}",
                f"{self.name} stores by GUID, this is {(place.guid or b'').hex()}",
                "ask the catalogue which name it has",
            )
        return place.lfn

    def _path_by(self, section: ProtocolSettings, url: str) -> str:
        if plugin_of(section).own_urls:
            return self._driver(section).path_of(url)
        return path_in(section, url)

    # -- files ---------------------------------------------------------------------------------------

    def stat(self, lfns: Sequence[Lfn], guids: Guids = NO_GUIDS) -> BulkResult[StoredFile]:
        """Describe files and directories; ``path`` of an answer is the path in the storage."""
        section, driver = self._best("check")
        return _by_lfn(section, lfns, guids, driver.stat)

    def checksum(
        self, lfns: Sequence[Lfn], algorithm: str = "adler32", guids: Guids = NO_GUIDS
    ) -> BulkResult[Checksum]:
        """Return what the storage says the checksums are."""
        section, driver = self._best("check", lambda one: algorithm in one.checksums, algorithm)
        return _by_lfn(section, lfns, guids, partial(driver.checksum, algorithm=algorithm))

    def remove(self, lfns: Sequence[Lfn], guids: Guids = NO_GUIDS) -> BulkResult[None]:
        """Remove files and empty directories."""
        section, driver = self._best("remove", lambda one: one.remove, "remove")
        return _by_lfn(section, lfns, guids, driver.remove)

    def open(self, lfn: Lfn, guid: bytes | None = None) -> Reader:
        """Open a file for reading."""
        section, driver = self._best("read")
        return driver.open(place_of(section, lfn, guid))

    def put(
        self, lfn: Lfn, size_bytes: int, checksum: Checksum | None = None, guid: bytes | None = None
    ) -> Upload:
        """Begin to write a new file; see `vse.storage.contract.Driver.put`."""
        section, driver = self._best("write", lambda one: one.write, "write")
        return driver.put(place_of(section, lfn, guid), size_bytes, checksum)

    def resume(
        self, lfn: Lfn, size_bytes: int, checksum: Checksum | None, name: str, guid: bytes | None = None
    ) -> Resumable | None:
        """Begin or go on with the upload called ``name``, which stays when it is left half-done.

        None where the storage has no such uploads, and while somebody else writes to this one.
        """
        from vse.storage.drivers.file import FileDriver

        section, driver = self._best("write", lambda one: one.write, "write")
        if not isinstance(driver, FileDriver):
            return None
        return driver.resume(place_of(section, lfn, guid), size_bytes, checksum, name)

    def kept(self) -> list[str]:
        """Return the names of half-done uploads, also of those that are being written."""
        from vse.storage.drivers.file import FileDriver

        drivers = [driver for _, driver in self._planned("write") if isinstance(driver, FileDriver)]
        return sorted({name for driver in drivers for name in driver.kept()})

    def drop(self, names: Sequence[str]) -> int:
        """Remove half-done uploads that nobody is writing; return how many."""
        from vse.storage.drivers.file import FileDriver

        return sum(
            driver.drop(names) for _, driver in self._planned("write") if isinstance(driver, FileDriver)
        )

    def rename(self, source: Lfn, target: Lfn) -> None:
        """Move within the storage, never over an existing name."""
        section, driver = self._best("write", lambda one: one.rename, "rename")
        if section.placement != "guid":
            driver.rename(place_of(section, source), place_of(section, target))

    def link(self, existing: Lfn, lfn: Lfn) -> None:
        """Give a file a second name, never over an existing one."""
        section, driver = self._best("write", lambda one: one.link, "link")
        if section.placement != "guid":
            driver.link(place_of(section, existing), place_of(section, lfn))

    def make_directory(self, lfn: Lfn) -> None:
        """Make a directory and its missing parents; idempotent."""
        section, driver = self._best("write", lambda one: one.make_directory, "make_directory")
        if section.placement != "guid":
            driver.make_directory(place_of(section, lfn))

    def list(self, lfn: Lfn) -> Iterator[StoredFile]:
        """Yield the children of a directory, their ``path`` as in the storage (see `place_in`, `lfn_in`)."""
        section, driver = self._best("check", lambda one: one.list, "list")
        return driver.list(place_of(section, lfn))

    # -- tape ----------------------------------------------------------------------------------------

    def stage(self, lfns: Sequence[Lfn], lifetime_s: float, guids: Guids = NO_GUIDS) -> BulkResult[str]:
        """Ask for files to be brought from tape and kept so long; returns the request of each."""
        section, driver = self._best("stage", lambda one: one.stage, "stage")
        return _by_lfn(section, lfns, guids, partial(driver.stage, lifetime_s=lifetime_s))

    def poll(self, lfns: Sequence[Lfn], guids: Guids = NO_GUIDS) -> BulkResult[Locality]:
        """Return where the bytes of each file are now."""
        section, driver = self._best("stage", lambda one: one.stage, "poll")
        return _by_lfn(section, lfns, guids, driver.poll)

    def release(self, lfns: Sequence[Lfn], guids: Guids = NO_GUIDS) -> BulkResult[None]:
        """Tell that staged files are no longer needed on disk."""
        section, driver = self._best("stage", lambda one: one.stage, "release")
        return _by_lfn(section, lfns, guids, driver.release)

    # -- what a plan chose ---------------------------------------------------------------------------

    def source(self, replica: Replica, section: ProtocolSettings, guid: bytes | None = None) -> ReadSource:
        """Return how a copy here is read by a section that a plan chose."""
        driver = self._driver(section)
        if replica.url is None:
            path = place_of(section, replica.lfn, guid)
        elif self.settings.use_catalog_url and not plugin_of(section).own_urls:
            path = path_below(replica.url)
        else:
            path = self._path_by(section, replica.url)
        check_inside(section, path)
        return ReadSource(replica.lfn, replica.se, section.section, driver.protocol, driver.url(path))

    def open_source(self, source: ReadSource) -> Reader:
        """Open a copy by the section and the URL that a plan chose."""
        driver = self._driver(self.section(source.section))
        return driver.open(driver.path_of(source.url))

    def put_target(self, target: WriteTarget, size_bytes: int, checksum: Checksum | None = None) -> Upload:
        """Begin to write a new file by the section that a plan chose."""
        driver, path = self._at(target.section, target.lfn, target.guid)
        return driver.put(path, size_bytes, checksum)

    def pull(
        self,
        source_url: str,
        target: WriteTarget,
        size_bytes: int,
        checksum: Checksum | None = None,
        note: Note = lambda _: None,
    ) -> None:
        """Have the storage fetch a file; see `vse.storage.contract.Driver.pull`."""
        driver, path = self._at(target.section, target.lfn, target.guid)
        driver.pull(source_url, path, size_bytes, checksum, note)

    def push(
        self,
        source: ReadSource,
        target_url: str,
        size_bytes: int,
        checksum: Checksum | None = None,
        note: Note = lambda _: None,
    ) -> None:
        """Have the storage send a file; see `vse.storage.contract.Driver.push`."""
        driver = self._driver(self.section(source.section))
        driver.push(driver.path_of(source.url), target_url, size_bytes, checksum, note)

    def section(self, name: str) -> ProtocolSettings:
        """Return a protocol section by its name."""
        return next(one for one in self.settings.protocols if one.section == name)

    # -- the storage as a whole ----------------------------------------------------------------------

    def space(self) -> Space:
        """Return the space of the storage."""
        section, driver = self._best("check", lambda one: one.space, "space")
        return driver.space(place_of(section, Lfn("/")))

    def local_path(self, lfn: Lfn, guid: bytes | None = None) -> Path | None:
        """Return where a file can be opened on this machine; None where it can not be."""
        try:
            section, driver = self._best("read", lambda one: one.local_paths, "local paths")
            path = place_of(section, lfn, guid)
        except (NoPlan, Unsupported, BadRequest):
            return None
        return driver.local_path(path)

    def mounted(self) -> tuple[Driver, str]:
        """Return the driver that opens files by path on this machine, and the Path its LFNs begin at.

        For what serves the files to others. Raises `Unsupported` where no section has one.
        """
        section, driver = self._best("read", lambda one: one.local_paths, "local paths")
        if section.placement == "guid":
            raise Unsupported(f"serve {self.name} by path", "it stores by GUID, its paths hold no names")
        return driver, section.path

    def sweep_partials(
        self, older_than_s: float, now_s: float, *, servers_older_than_s: float | None = None
    ) -> int:
        """Remove what uploads that died left on storage of this machine; return how many files.

        Those whose writer lives are kept; where that cannot be told, those written to within
        ``older_than_s``. Of servers only the age is known, by their own clocks: they are swept where
        ``servers_older_than_s`` is given.
        """
        from vse.storage.drivers.file import FileDriver
        from vse.storage.drivers.volumes import VolumesDriver

        swept = 0
        for base, driver in {section.path: driver for section, driver in self._planned("write")}.items():
            if isinstance(driver, FileDriver | VolumesDriver):
                swept += driver.sweep_partials(older_than_s, now_s)
            elif servers_older_than_s is not None and driver.capabilities.list and driver.capabilities.remove:
                swept += sweep_by_age(driver, base, servers_older_than_s, now_s)
        return swept

    def close(self) -> None:
        """Drop connections."""
        for driver in list(self._drivers.values()):
            driver.close()

    # -- drivers -------------------------------------------------------------------------------------

    def _driver(self, section: ProtocolSettings) -> Driver:
        """Return the driver of a section, made when it is first needed."""
        with self._lock:
            driver = self._drivers.get(section.section)
            if driver is None:
                driver = self._drivers[section.section] = steady(section, self._terms)
            return driver

    def _at(self, section: str, lfn: Lfn, guid: bytes | None) -> tuple[Driver, str]:
        chosen = self.section(section)
        return self._driver(chosen), place_of(chosen, lfn, guid)

    def _planned(self, operation: Operation) -> tuple[tuple[ProtocolSettings, Driver], ...]:
        """Return the planned sections whose drivers are installed; raise the first error if none is."""
        found: list[tuple[ProtocolSettings, Driver]] = []
        missing: list[BadSettings] = []
        for section in self.plan(operation).sections:
            try:
                found.append((section, self._driver(section)))
            except BadSettings as error:
                missing.append(error)
        if not found:
            raise missing[0]
        return tuple(found)

    def _best(
        self,
        operation: Operation,
        able: Callable[[Capabilities], bool] = lambda _: True,
        what: str = "",
    ) -> tuple[ProtocolSettings, Driver]:
        planned = self._planned(operation)
        for section, driver in planned:
            if able(driver.capabilities):
                return section, driver
        names = ", ".join(section.section for section, _ in planned)
        raise Unsupported(
            f"{operation} at the storage element {self.name}", f"no driver of {names} can do {what!r}"
        )


def _by_lfn(
    section: ProtocolSettings,
    lfns: Sequence[Lfn],
    guids: Guids,
    ask: Callable[[Sequence[str]], BulkResult[T]],
) -> BulkResult[T]:
    """Ask a driver for the paths of ``lfns`` and key its answers by LFN."""
    result: BulkResult[T] = BulkResult()
    named: dict[str, list[Lfn]] = {}
    for lfn in lfns:
        try:
            named.setdefault(place_of(section, lfn, guids.get(lfn)), []).append(lfn)
        except VseError as error:
            result.failed[lfn] = error
    answers = ask(list(named))
    for path, names in named.items():
        for lfn in names:
            if path in answers.failed:
                result.failed[lfn] = answers.failed[path]
            else:
                result.ok[lfn] = answers.ok[path]
    return result
