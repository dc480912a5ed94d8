"""The upkeep of storage elements of several volumes (seed 004 §II.2.2): expiry, and counting anew."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from vse.app.namespace import relink
from vse.app.site import Site
from vse.config.settings import ProtocolSettings
from vse.errors import NoSuchReplica, Unsupported, VseError
from vse.model import BulkResult
from vse.storage.drivers import build
from vse.storage.drivers.volumes import Resynchronised, VolumesDriver
from vse.storage.element import StorageElement, lfn_at


def expire(site: Site, element: StorageElement) -> BulkResult[int]:
    """Erase what has outlived its volume, and make catalogue and link tree forget those copies.

    ``ok`` maps each LFN to the bytes that became free. The names stay: their files can be staged again.
    Raises `Unsupported` for an element without volumes, `NoPlan` where nothing may be removed from it.
    """
    element.plan("remove")
    result: BulkResult[int] = BulkResult()
    for section, driver in _volumes(element):
        erased = driver.expire(site.clock())
        for path, size_bytes in erased.ok.items():
            lfn = lfn_at(section.path, path)
            with suppress(NoSuchReplica):
                site.catalogue.remove_replicas([lfn], element.name).one(lfn)
            relink(site, lfn)
            result.ok[lfn] = size_bytes
        result.failed.update(erased.failed)
    return result


def tend(site: Site, stop: threading.Event, tell: Callable[[str, BulkResult[int]], None]) -> None:
    """Expire the files of every element with volumes, every ``upkeep.expire_every_s`` until ``stop``.

    ``tell`` hears of each element where something was erased, or could not be.
    """
    tended = [one for one in site.elements if any(section.volumes for section in one.settings.protocols)]
    while tended and not stop.is_set():
        for element in tended:
            result: BulkResult[int]
            try:
                result = expire(site, element)
            except VseError as error:
                result = BulkResult(failed={element.name: error})
            if result.ok or result.failed:
                tell(element.name, result)
        stop.wait(site.settings.upkeep.expire_every_s)


def recount(element: StorageElement) -> list[Resynchronised]:
    """Make the accounts from what is really on the volumes; raises `Unsupported` as `expire`."""
    return [one for _, driver in _volumes(element) for one in driver.resynchronise()]


def _volumes(element: StorageElement) -> list[tuple[ProtocolSettings, VolumesDriver]]:
    built = [(section, build(section, 60.0)) for section in element.settings.protocols if section.volumes]
    found = [(section, driver) for section, driver in built if isinstance(driver, VolumesDriver)]
    if not found:
        raise Unsupported(f"tend the volumes of {element.name}", "it has none", "see the driver VOLUMES")
    return found
