"""The ways to learn how full a storage is, by the names they have in OccupancyPlugin (seed 003)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from vse.config.settings import ElementSettings
from vse.errors import (
    BadSettings,
    Denied,
    NoSuchFile,
    ServerFault,
    SourceUnavailable,
    StorageFault,
    Unsupported,
)
from vse.model import Lfn, Space
from vse.storage.contract import Reader
from vse.storage.occupancy.reports import capped, plain, wlcg

REPORT_BYTES = 16 * 1024 * 1024
"""The largest report that is read."""
_TIMEOUT_S = 20.0
_REPORT_LFN = "/spaceReport.json"


class Element(Protocol):
    """What an occupancy plugin needs of a storage element (`vse.storage.element.StorageElement`)."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> ElementSettings: ...

    def space(self) -> Space: ...

    def open(self, lfn: Lfn) -> Reader: ...


class Asked(NamedTuple):
    """An element, and the experiment whose space is meant."""

    element: Element
    vo: str = ""

    @property
    def wanted(self) -> str:
        return f"learn the space of {self.element.name}"


def by_driver(asked: Asked) -> Space:
    """What the storage itself says: statvfs for files of this machine, XRootD's and WebDAV's own answers."""
    space = asked.element.space()
    return capped(space.total_bytes, space.free_bytes)


def by_file(asked: Asked) -> Space:
    """The plain JSON at OccupancyLFN, read through the element itself."""
    return plain(_report(asked, asked.element.settings.occupancy_file(asked.vo)), asked.wanted)


def by_wlcg(asked: Asked) -> Space:
    """WLCG's JSON at OccupancyLFN: an LFN of the element, or the URL of a file or of a web server."""
    settings = asked.element.settings
    where = settings.occupancy_lfn or _REPORT_LFN
    path = settings.protocols[0].path if settings.protocols else "/"
    return wlcg(_report(asked, where), settings.space_reservation, path, asked.wanted)


def by_default(asked: Asked) -> Space:
    """As DIRAC: the driver's own way, else the plain JSON at OccupancyLFN."""
    try:
        return by_driver(asked)
    except Unsupported:
        return by_file(asked)


PLUGINS: Mapping[str, Callable[[Asked], Space]] = {
    "": by_default,
    "StatVFS": by_driver,
    "XRootD": by_driver,
    "OccupancyJson": by_file,
    "WLCGAccountingJson": by_wlcg,
    "WLCGAccountingHTTPJson": by_wlcg,
}


def measure(element: Element, vo: str = "") -> Space:
    """Ask for the space of an element now, however long that takes.

    Raises `BadSettings` for an OccupancyPlugin that there is not, or what stood in the way.
    """
    named = element.settings.occupancy_plugin
    plugin = {name.lower(): one for name, one in PLUGINS.items()}.get(named.lower())
    asked = Asked(element, vo)
    if plugin is None:
        known = ", ".join(name for name in PLUGINS if name)
        raise BadSettings(asked.wanted, f"there is no OccupancyPlugin {named!r}", f"set it to one of {known}")
    return plugin(asked)


def _report(asked: Asked, where: str) -> bytes:
    """Return a report by its LFN in the element, or by its URL (file, http, https)."""
    scheme = urlsplit(where).scheme
    if scheme in ("http", "https"):
        return _fetched(asked, where)
    if scheme == "file":
        return _read(asked, Path(unquote(urlsplit(where).path)))
    try:
        with asked.element.open(Lfn.parse(where)) as reader:
            _check_size(asked, reader.size_bytes)
            return reader.pread(0, reader.size_bytes)
    except NoSuchFile as error:
        todo = "have the storage write it there, or set OccupancyLFN or OccupancyPlugin"
        raise NoSuchFile(asked.wanted, f"its report {where} is not there", todo) from error


def _read(asked: Asked, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(REPORT_BYTES + 1)
    except FileNotFoundError as error:
        raise NoSuchFile(asked.wanted, f"the report {path} is not there") from error
    except OSError as error:
        raise StorageFault(asked.wanted, f"the report {path}: {error.strerror}") from error
    _check_size(asked, len(text))
    return text


def _fetched(asked: Asked, url: str) -> bytes:
    import urllib3

    timeout = urllib3.Timeout(total=_TIMEOUT_S)
    try:
        with urllib3.PoolManager(timeout=timeout, retries=False) as pool:
            answer = pool.request("GET", url, preload_content=False, redirect=True, retries=2)
            try:
                text = answer.read(REPORT_BYTES + 1)
            finally:
                answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise SourceUnavailable(asked.wanted, f"the report {url} cannot be had ({error})") from error
    if answer.status == 404:
        raise NoSuchFile(asked.wanted, f"the report {url} is not there")
    if answer.status in (401, 403):
        raise Denied(asked.wanted, f"the report {url} is not for us (HTTP {answer.status})")
    if answer.status != 200:
        raise ServerFault(asked.wanted, f"HTTP {answer.status} for the report {url}")
    _check_size(asked, len(text))
    return text


def _check_size(asked: Asked, size_bytes: int) -> None:
    if size_bytes > REPORT_BYTES:
        raise ServerFault(asked.wanted, f"the report is larger than {REPORT_BYTES} bytes")
