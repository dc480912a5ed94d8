"""Storage elements: one storage under one name, spoken to by LFN, whatever the protocol."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from vse.config.settings import DataManagement, ElementSettings, ProtocolSettings, Settings
from vse.errors import BadRequest, BadSettings, NoPlan, NoSuchElement, Unsupported, VseError
from vse.model import BulkResult, Checksum, Lfn, Replica, Space
from vse.storage import negotiation
from vse.storage.contract import Capabilities, Driver, Reader, StoredFile, Upload
from vse.storage.drivers import build, plugin_of
from vse.storage.negotiation import Operation, Rejected

T = TypeVar("T")

_NO_PROGRESS_S = 60.0


def path_at(base: str, lfn: str) -> str:
    """Return where ``lfn`` is in a storage whose Path is ``base``; raise `BadRequest` if outside of it.

    The rule of seed 003: the path finishes with the LFN.
    """
    if not lfn.startswith("/") or ".." in lfn.split("/"):
        raise BadRequest(f"find the path of {lfn!r}", "it is no logical file name")
    return (base.rstrip("/") + lfn).rstrip("/") or "/"


def lfn_at(base: str, path: str) -> Lfn:
    """Return the LFN of a path: the inverse of `path_at`; raise `BadRequest` if outside of ``base``."""
    below = base.rstrip("/")
    if path != below and not path.startswith(f"{below}/"):
        raise BadRequest(f"find the logical name of {path}", f"it lies outside of Path {base}")
    return Lfn.parse(path[len(below) :] or "/")


class ReadSource(NamedTuple):
    """A copy of a file with how it is read."""

    lfn: Lfn
    se: str
    section: str
    protocol: str
    url: str


class ReadSources(NamedTuple):
    """The copies of a file that can be read, the best first, and why the others cannot."""

    sources: tuple[ReadSource, ...]
    rejected: tuple[Rejected, ...]


class StorageElement:
    """One storage element. Every call goes by the protocol that negotiation prefers and that can do it.

    Safe to share between threads. ``at_site`` is whether this process runs at the element's site;
    ``no_progress_s`` is how long a server may stay silent. Raises `BadSettings` for a section that no
    driver speaks.
    """

    def __init__(
        self,
        settings: ElementSettings,
        preferences: DataManagement | None = None,
        *,
        at_site: bool = True,
        no_progress_s: float = _NO_PROGRESS_S,
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self.at_site = at_site
        self._preferences = preferences or DataManagement()
        self._no_progress_s = no_progress_s
        self._drivers: dict[str, Driver] = {}
        self._lock = threading.Lock()
        for section in settings.protocols:
            try:
                plugin_of(section)
            except BadSettings as error:
                wanted = f"use the storage element {self.name}"
                raise BadSettings(wanted, f"{section.section}: {error.found}", error.todo) from error

    def plan(self, operation: Operation) -> negotiation.Plan:
        """Return the sections that serve an operation; `NoPlan` with every reason where none does."""
        return negotiation.plan(self.settings, self._preferences, operation, at_site=self.at_site)

    def can(self, operation: Operation) -> bool:
        """Whether the settings and the drivers allow an operation at all."""
        able: dict[Operation, Callable[[Capabilities], bool]] = {
            "write": lambda one: one.write,
            "remove": lambda one: one.remove,
        }
        try:
            self._best(operation, able.get(operation, lambda _: True), operation)
        except (NoPlan, Unsupported):
            return False
        return True

    def url(self, lfn: Lfn, operation: Operation = "read") -> str:
        """Return the URL of a file, as the preferred protocol for ``operation`` writes it."""
        section, driver = self._best(operation)
        return driver.url(path_at(section.path, lfn))

    def lfn_of(self, url: str) -> Lfn:
        """Return the LFN of a URL in this element; `BadRequest` where it is none of its sections'."""
        for section in self.settings.protocols:
            try:
                return lfn_at(section.path, self._driver(section).path_of(url))
            except BadRequest:
                continue
        raise BadRequest(f"find the logical name of {url}", f"it is not a URL of {self.name}")

    def stat(self, lfns: Sequence[Lfn]) -> BulkResult[StoredFile]:
        """Describe files and directories; ``path`` of an answer is the path in the storage."""
        section, driver = self._best("check")
        return _by_lfn(section, lfns, driver.stat)

    def checksum(self, lfns: Sequence[Lfn], algorithm: str = "adler32") -> BulkResult[Checksum]:
        """Return what the storage says the checksums are."""
        section, driver = self._best("check", lambda one: algorithm in one.checksums, algorithm)
        return _by_lfn(section, lfns, lambda paths: driver.checksum(paths, algorithm))

    def remove(self, lfns: Sequence[Lfn]) -> BulkResult[None]:
        """Remove files and empty directories."""
        section, driver = self._best("remove", lambda one: one.remove, "remove")
        return _by_lfn(section, lfns, driver.remove)

    def open(self, lfn: Lfn) -> Reader:
        """Open a file for reading."""
        section, driver = self._best("read")
        return driver.open(path_at(section.path, lfn))

    def source(self, replica: Replica, section: ProtocolSettings) -> ReadSource:
        """Return how a copy here is read by a section that a plan chose."""
        driver = self._driver(section)
        url = replica.url or driver.url(path_at(section.path, replica.lfn))
        return ReadSource(replica.lfn, self.name, section.section, driver.protocol, url)

    def open_source(self, source: ReadSource) -> Reader:
        """Open a copy by the section and the URL that a plan chose."""
        section = next(one for one in self.settings.protocols if one.section == source.section)
        driver = self._driver(section)
        return driver.open(driver.path_of(source.url))

    def put(self, lfn: Lfn, size_bytes: int, checksum: Checksum | None = None) -> Upload:
        """Begin to write a new file; see `vse.storage.contract.Driver.put`."""
        section, driver = self._best("write", lambda one: one.write, "write")
        return driver.put(path_at(section.path, lfn), size_bytes, checksum)

    def list(self, lfn: Lfn) -> Iterator[StoredFile]:
        """Yield the children of a directory, their ``path`` as in the storage (see `lfn_in`)."""
        section, driver = self._best("check", lambda one: one.list, "list")
        return driver.list(path_at(section.path, lfn))

    def lfn_in(self, stored: StoredFile) -> Lfn:
        """Return the LFN of what `list` or `stat` told of."""
        for section, _ in self._planned("check"):
            try:
                return lfn_at(section.path, stored.path)
            except BadRequest:
                continue
        raise BadRequest(f"find the logical name of {stored.path}", f"it is not in {self.name}")

    def rename(self, source: Lfn, target: Lfn) -> None:
        """Move within the storage, never over an existing name."""
        section, driver = self._best("write", lambda one: one.rename, "rename")
        driver.rename(path_at(section.path, source), path_at(section.path, target))

    def space(self) -> Space:
        """Return the space of the storage."""
        section, driver = self._best("check", lambda one: one.space, "space")
        return driver.space(path_at(section.path, "/"))

    def local_path(self, lfn: Lfn) -> Path | None:
        """Return where a file can be opened on this machine; None where it can not be."""
        try:
            section, driver = self._best("read", lambda one: one.local_paths, "local paths")
        except (NoPlan, Unsupported):
            return None
        return driver.local_path(path_at(section.path, lfn))

    def mounted(self) -> tuple[Driver, str]:
        """Return the driver that opens files by path on this machine, and the Path its LFNs begin at.

        For what serves the files to others. Raises `Unsupported` where no section has one.
        """
        section, driver = self._best("read", lambda one: one.local_paths, "local paths")
        return driver, section.path

    def sweep_partials(self, older_than_s: float, now_s: float) -> int:
        """Remove what uploads that died left on storage of this machine; return how many files.

        Those whose writer lives are kept; where that cannot be told, those written to within
        ``older_than_s``.
        """
        from vse.storage.drivers.file import FileDriver

        mounted = {
            section.path: driver
            for section, driver in self._planned("write")
            if isinstance(driver, FileDriver)
        }
        return sum(driver.sweep_partials(older_than_s, now_s) for driver in mounted.values())

    def close(self) -> None:
        """Drop connections."""
        for driver in list(self._drivers.values()):
            driver.close()

    def _driver(self, section: ProtocolSettings) -> Driver:
        """Return the driver of a section, made when it is first needed."""
        with self._lock:
            driver = self._drivers.get(section.section)
            if driver is None:
                driver = self._drivers[section.section] = build(section, self._no_progress_s)
            return driver

    def _planned(self, operation: Operation) -> tuple[tuple[ProtocolSettings, Driver], ...]:
        return tuple((one, self._driver(one)) for one in self.plan(operation).sections)

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
    section: ProtocolSettings, lfns: Sequence[Lfn], ask: Callable[[Sequence[str]], BulkResult[T]]
) -> BulkResult[T]:
    """Ask a driver for the paths of ``lfns`` and key its answers by LFN."""
    result: BulkResult[T] = BulkResult()
    paths: dict[str, Lfn] = {}
    for lfn in lfns:
        try:
            paths[path_at(section.path, lfn)] = lfn
        except VseError as error:
            result.failed[lfn] = error
    answers = ask(list(paths))
    result.ok.update({paths[path]: answer for path, answer in answers.ok.items()})
    result.failed.update({paths[path]: error for path, error in answers.failed.items()})
    return result


class Elements:
    """Every storage element of a site, in the order of the settings."""

    def __init__(self, elements: Iterable[StorageElement], preferences: DataManagement | None = None) -> None:
        self._elements = {element.name: element for element in elements}
        self._preferences = preferences or DataManagement()

    @classmethod
    def from_settings(cls, settings: Settings, *, elsewhere: Collection[str] = ()) -> Self:
        """Build all elements; ``elsewhere`` names those that are not at our site."""
        return cls(
            (
                StorageElement(
                    element,
                    settings.data_management,
                    at_site=name not in elsewhere,
                    no_progress_s=settings.stager.no_progress_s,
                )
                for name, element in settings.storage_elements.items()
            ),
            settings.data_management,
        )

    def __iter__(self) -> Iterator[StorageElement]:
        return iter(self._elements.values())

    def __len__(self) -> int:
        return len(self._elements)

    def __contains__(self, name: object) -> bool:
        return name in self._elements

    def get(self, name: str) -> StorageElement:
        """Return an element; `NoSuchElement` names the nearest one and all there are."""
        element = self._elements.get(name)
        if element is not None:
            return element
        existing = ", ".join(self._elements) or "none"
        near = difflib.get_close_matches(name, self._elements, n=1, cutoff=0.5)
        todo = f"did you mean {near[0]}?" if near else "add it to vse.toml, in [StorageElements]"
        raise NoSuchElement(
            f"find the storage element {name!r}", f"the settings have these: {existing}", todo
        )

    def plan_read(self, replicas: Iterable[Replica]) -> ReadSources:
        """Return how the copies of a file can be read, the best first; `NoPlan` with every reason."""
        plan = negotiation.plan_read(
            replicas,
            {name: element.settings for name, element in self._elements.items()},
            self._preferences,
            elsewhere=[element.name for element in self if not element.at_site],
        )
        sources = (self._elements[replica.se].source(replica, section) for replica, section in plan.pairs)
        return ReadSources(tuple(sources), plan.rejected)

    def open(self, source: ReadSource) -> Reader:
        """Open a copy that `plan_read` chose."""
        return self.get(source.se).open_source(source)

    def default_destination(self, name: str = "") -> StorageElement:
        """Return the element that staged files go to: the one named, else the first that can be written.

        Raises `NoSuchElement`, or `NoPlan` with the reason of every element that cannot.
        """
        if name:
            return self.get(name)
        reasons: list[str] = []
        for element in self:
            if element.can("write"):
                return element
            try:
                element.plan("write")
                reasons.append(f"{element.name}: its drivers cannot write")
            except NoPlan as error:
                reasons.append(error.found)
        raise NoPlan(
            "choose where staged files go",
            "; ".join(reasons) or "the settings have no storage element",
            "give one WriteAccess and a protocol of WriteProtocols, or name it in stager.destination",
        )

    def close(self) -> None:
        for element in self:
            element.close()
