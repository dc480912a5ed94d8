"""The storage elements of a site, by name: which there are, how a file is read, and copied between two."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Self
from urllib.parse import unquote, urlsplit

from vse.config.settings import DataManagement, ProtocolSettings, Settings
from vse.config.topology import elements_elsewhere
from vse.errors import BadRequest, BadSettings, NoPlan, NoSuchElement
from vse.model import Checksum, Lfn, Replica
from vse.storage import negotiation
from vse.storage.contract import Driver, Note, Reader, Upload
from vse.storage.drivers import Terms, steady
from vse.storage.drivers.limited import HostLimits
from vse.storage.matrix import Cell, protocol_matrix
from vse.storage.negotiation import Operation, Rejected, no_plan
from vse.storage.pairs import Side, Way, plan_copy, plan_urls
from vse.storage.placement import at_vo, lfn_at, origin_of, path_at
from vse.storage.plugins import plugin_of, protocol_of, refusal
from vse.storage.single import NO_GUIDS, Guids, StorageElement
from vse.storage.values import Copying, ReadSource, ReadSources, UrlPair, WriteTarget

__all__ = [
    "NO_GUIDS",
    "Copying",
    "Elements",
    "Guids",
    "Operation",
    "ReadSource",
    "ReadSources",
    "StorageElement",
    "UrlPair",
    "WriteTarget",
    "lfn_at",
    "path_at",
]


class Elements:
    """Every storage element of a site, in the order of the settings.

    ``aliases`` maps further names to those of elements (seed 003: Alias); one may lead to another. An alias
    is found by its name and never iterated over.
    """

    def __init__(
        self,
        elements: Iterable[StorageElement],
        preferences: DataManagement | None = None,
        aliases: Mapping[str, str] | None = None,
        terms: Terms | None = None,
    ) -> None:
        self._elements = {element.name: element for element in elements}
        self._preferences = preferences or DataManagement()
        self._aliases = {name: to for name, to in (aliases or {}).items() if name not in self._elements}
        self._terms = terms or Terms()
        self._by_url: dict[str, Driver] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_settings(cls, settings: Settings, *, elsewhere: Collection[str] | None = None) -> Self:
        """Build all elements, as the site's experiment sees them (VOPath).

        ``elsewhere`` names those that are not at our site; where left out, the settings tell (Sites).
        """
        described = settings.storage_elements
        away = elements_elsewhere(settings) if elsewhere is None else elsewhere
        terms = _terms(settings)
        return cls(
            (
                StorageElement(
                    at_vo(element, settings.site.vo),
                    settings.data_management,
                    at_site=name not in away,
                    terms=terms,
                )
                for name, element in described.items()
                if not element.alias
            ),
            settings.data_management,
            {name: one.alias for name, one in described.items() if one.alias} | settings.aliases,
            terms,
        )

    def __iter__(self) -> Iterator[StorageElement]:
        return iter(self._elements.values())

    def __len__(self) -> int:
        return len(self._elements)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._real(name) in self._elements

    @property
    def aliases(self) -> dict[str, str]:
        """The further names there are, each with the element it leads to."""
        return {name: self._real(name) for name in self._aliases}

    def get(self, name: str) -> StorageElement:
        """Return an element by its name or an alias; `NoSuchElement` names the nearest and all there are."""
        real = self._real(name)
        element = self._elements.get(real)
        if element is not None:
            return element
        existing = ", ".join([*self._elements, *self._aliases]) or "none"
        near = difflib.get_close_matches(real, self._elements, n=1, cutoff=0.5)
        todo = f"did you mean {near[0]}?" if near else "add it to vse.toml, in [StorageElements]"
        shown = repr(name) if real == name else f"{name!r}, an alias of {real!r}"
        raise NoSuchElement(f"find the storage element {shown}", f"the settings have these: {existing}", todo)

    def name_of(self, name: str) -> str:
        """Return an element's own name where ``name`` is another one of it; any other name as it is."""
        return self._real(name)

    def _real(self, name: str) -> str:
        """Follow aliases to the end; one that leads in a circle stays what it is."""
        passed: set[str] = set()
        while name in self._aliases and name not in passed:
            passed.add(name)
            name = self._aliases[name]
        return name

    # -- reading -------------------------------------------------------------------------------------

    def plan_read(self, replicas: Iterable[Replica], guid: bytes | None = None) -> ReadSources:
        """Return how the copies of a file can be read, the best first; `NoPlan` with every reason.

        ``guid`` is the file's in the catalogue, for elements that store by it.
        """
        known = [*self._elements, *(name for name in self._aliases if name in self)]
        plan = negotiation.plan_read(
            replicas,
            {name: self.get(name).settings for name in known},
            self._preferences,
            elsewhere=[name for name in known if not self.get(name).at_site],
        )
        sources: list[ReadSource] = []
        rejected = list(plan.rejected)
        for replica, section in plan.pairs:
            try:
                sources.append(self.get(replica.se).source(replica, section, guid))
            except (BadRequest, BadSettings) as error:
                rejected.append(Rejected(replica.se, section.section, error.found))
        if not sources:
            raise no_plan(f"read {plan.pairs[0].replica.lfn}", rejected)
        return ReadSources(tuple(sources), tuple(rejected))

    def open(self, source: ReadSource) -> Reader:
        """Open a copy that `plan_read` or `plan_copy` chose."""
        return self.get(source.se).open_source(source)

    def default_destination(self, name: str = "") -> StorageElement:
        """Return the element that staged files go to: the one named, else the first that can be written.

        Raises `NoSuchElement`, or `NoPlan` with the reason of every element that cannot.
        """
        return self.get(name) if name else self.first_writable(self._elements, "choose where staged files go")

    def first_writable(self, names: Iterable[str], wanted: str) -> StorageElement:
        """Return the first of some elements that can be written; `NoPlan` with the reason of every one."""
        reasons: list[str] = []
        for element in map(self.get, names):
            if element.can("write"):
                return element
            try:
                element.plan("write")
                reasons.append(f"{element.name}: its drivers cannot write")
            except NoPlan as error:
                reasons.append(error.found)
        raise NoPlan(
            wanted,
            "; ".join(reasons) or "the settings have no storage element",
            "give one WriteAccess and a protocol of WriteProtocols, or name it in stager.destination",
        )

    # -- copying -------------------------------------------------------------------------------------

    def plan_copy(
        self,
        source: str,
        destination: str,
        lfn: Lfn,
        *,
        guid: bytes | None = None,
        target: Lfn | None = None,
        target_guid: bytes | None = None,
        protocols: Sequence[str] | None = None,
    ) -> Copying:
        """Return the best way to copy a file from one element to another, by whoever moves its bytes.

        ``target`` is its name there, where not the same; ``guid`` and ``target_guid`` (where not the same)
        are for elements that store by GUID; ``protocols`` takes the place of ThirdPartyProtocols. Raises
        `NoPlan` with every reason, `NoSuchElement`, or `BadRequest` where a GUID is missing.
        """
        one, other = self.get(source), self.get(destination)
        plan = plan_copy(
            _side(one),
            _side(other),
            self._preferences,
            one.abilities(),
            other.abilities(),
            protocols=protocols,
        )
        from_url = one.url_for_drivers(plan.source, lfn, guid)
        new, new_guid = target or lfn, target_guid or guid
        to_url = other.url_for_drivers(plan.destination, new, new_guid)
        return Copying(
            ReadSource(lfn, one.name, plan.source.section, protocol_of(plan.source), from_url),
            WriteTarget(
                new, new_guid, other.name, plan.destination.section, protocol_of(plan.destination), to_url
            ),
            plan.protocol,
            plan.way,
            plan.rejected,
        )

    def copy_directly(
        self,
        copying: Copying,
        size_bytes: int,
        checksum: Checksum | None = None,
        note: Note = lambda _: None,
    ) -> None:
        """Have the storages make a copy themselves, as `plan_copy` said: by a pull or a push.

        See `vse.storage.contract.Driver.pull` for ``note``, and for what holds after an error. Raises
        `BadRequest` for one that is to be streamed: use `open` and `put`.
        """
        source, target = copying.source, copying.target
        if copying.way is Way.PULL:
            self.get(target.se).pull(source.url, target, size_bytes, checksum, note)
        elif copying.way is Way.PUSH:
            self.get(source.se).push(source, target.url, size_bytes, checksum, note)
        else:
            raise BadRequest(f"copy {source.url} directly", "the plan says to stream it")

    def put(self, target: WriteTarget, size_bytes: int, checksum: Checksum | None = None) -> Upload:
        """Begin to write the file that `plan_copy` chose the place of."""
        return self.get(target.se).put_target(target, size_bytes, checksum)

    def plan_urls(
        self,
        source: str,
        destination: str,
        lfn: Lfn,
        *,
        guid: bytes | None = None,
        protocols: Sequence[str] | None = None,
    ) -> UrlPair:
        """Return the two URLs for a service that copies by itself, such as FTS; `NoPlan` as `plan_copy`.

        No driver is needed for them (but for S3 and other stores with URLs of their own form).
        """
        one, other = self.get(source), self.get(destination)
        best = plan_urls(one.settings, other.settings, self._preferences, protocols=protocols).pairs[0]
        return UrlPair(
            one.url_by(best.source, lfn, guid),
            other.url_by(best.destination, lfn, guid),
            best.protocol,
            best.source.space_token,
            best.destination.space_token,
            one.settings.bring_online_timeout_s if one.settings.is_tape else None,
            other.settings.archive_timeout_s if other.settings.is_tape else None,
        )

    def matrix(self) -> list[Cell]:
        """Return what a copy between each two elements would use, and why none where there is none."""
        abilities = {element.name: element.abilities() for element in self}
        return protocol_matrix([_side(element) for element in self], self._preferences, abilities)

    def driver_for(self, url: str) -> tuple[Driver, str]:
        """Return who speaks a URL, and its path there: the element it belongs to, else its protocol alone.

        Raises `BadRequest` for one that no driver speaks, or with ``..`` in its path.
        """
        if ".." in unquote(url).split("/"):
            raise BadRequest(
                f"use {url}", "'..' in a URL leads out of the place it names", "write it without"
            )
        for element in self:
            with suppress(BadRequest):
                return element.driver_at(url)
        try:
            parts = urlsplit(url)
            server = f"{parts.scheme}://{parts.netloc}"
            given = {
                "Section": f"{parts.scheme}://",
                "Protocol": parts.scheme,
                "Host": parts.hostname or "",
                "Port": parts.port,
            }
            with self._lock:
                if server not in self._by_url:
                    self._by_url[server] = steady(ProtocolSettings.model_validate(given), self._terms)
                driver = self._by_url[server]
        except (ValueError, BadSettings) as error:
            found = error.found if isinstance(error, BadSettings) else str(error)
            raise BadRequest(
                f"use {url}", f"no driver speaks it ({found})", "see which there are: vse se list"
            ) from error
        return driver, driver.path_of(url)

    def close(self) -> None:
        for element in self:
            element.close()
        for driver in self._by_url.values():
            driver.close()


def _terms(settings: Settings) -> Terms:
    """Return what all drivers of a site have in common."""
    limits = settings.limits
    sections = (one for element in settings.storage_elements.values() for one in element.protocols)
    return Terms(
        settings.stager.no_progress_s,
        HostLimits(limits.hosts, limits.calls_per_host, limits.wait_s),
        {
            origin_of(section): section.token_file
            for section in sections
            if section.token_file and not refusal(section) and plugin_of(section).driver == "http"
        },
    )


def _side(element: StorageElement) -> Side:
    return Side(element.settings, element.at_site)
