"""The trash of a site: having names back, and removing for good what has expired, copies first."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from vse.app.namespace import relink
from vse.app.site import Site
from vse.catalogue.guarded import Guarded
from vse.errors import BadRequest, NoSuchFile, VseError
from vse.model import BulkResult, Expired, Identity, Lfn, Replica, Trashed
from vse.staging.protection import stored_as
from vse.storage.element import StorageElement

_BATCH = 500
_AGAIN_S = 60.0


def chosen(names: Guarded, words: Sequence[str]) -> list[Trashed]:
    """Return what ``words`` mean, trash numbers or names; of a name, what was removed last.

    Raises `BadRequest` for what the trash does not hold.
    """
    held = list(names.trash())
    by_word: dict[str, Trashed] = {one.lfn: one for one in held} | {str(one.id): one for one in held}
    found = []
    for word in words:
        one = by_word.get(word) or by_word.get(Lfn.parse(word) if word.startswith(("/", "lfn:")) else "")
        if one is None:
            raise BadRequest(f"take {word} from the trash", "it is not there", "see vse trash list")
        found.append(one)
    return list(dict.fromkeys(found))


def restore(site: Site, trashed: Iterable[Trashed]) -> BulkResult[Lfn]:
    """Give names their place back, and their links."""
    result = site.names_for(Identity.of_process()).undelete([one.id for one in trashed])
    for lfn in result.ok.values():
        relink(site, lfn)
    return result


def empty(site: Site, names: Guarded, expired: Iterable[Expired]) -> BulkResult[Trashed]:
    """Remove what has expired: the copies on storages, then the names; keyed by the number in the trash.

    What a storage would not remove stays in the trash, with the error under ``failed``. A copy at whose
    place a living name has one now is left alone.
    """
    result: BulkResult[Trashed] = BulkResult()
    rest = iter(expired)
    while batch := list(islice(rest, _BATCH)):
        living = site.catalogue.resolve([one.trashed.lfn for one in batch if one.replicas]).ok
        done: list[int] = []
        for one in batch:
            now = living.get(one.trashed.lfn)
            kept = {(copy.se, copy.url) for copy in now.replicas} if now else set()
            try:
                for copy in one.replicas:
                    if (copy.se, copy.url) not in kept:
                        _remove_copy(site, copy, one.guid)
            except VseError as error:
                result.failed[str(one.trashed.id)] = error
            else:
                result.ok[str(one.trashed.id)] = one.trashed
                done.append(one.trashed.id)
        names.forget_trash(done)
    return result


def make_way(site: Site, lfns: Sequence[Lfn], element: StorageElement) -> list[Trashed]:
    """Remove for good what the trash has of ``lfns`` with a copy at ``element``, where new ones are to go.

    Such a copy keeps its place as long as it is in the trash, and storages are write-once. Of whoever may
    make a name it is asked nothing more. Returns what was removed; raises what the storage does.
    """
    held = [
        one
        for one in site.catalogue.trashed(lfns)
        if any(site.elements.name_of(copy.se) == element.name for copy in one.replicas)
    ]
    if not held:
        return []
    acting = site.catalogue.acting(Identity.of_process().name)
    result = empty(site, Guarded(acting, Identity("root")), held)
    for error in result.failed.values():
        raise error
    return [*result.ok.values()]


def _remove_copy(site: Site, copy: Replica, guid: bytes | None) -> None:
    element = site.elements.get(copy.se)
    stored, known = stored_as(element, copy, guid)
    with contextlib.suppress(NoSuchFile):
        element.remove([stored], {stored: known}).one(stored)


def tend(site: Site, stop: threading.Event, tell: Callable[[BulkResult[Trashed]], None]) -> None:
    """Remove what has expired, every ``upkeep.expire_every_s`` until ``stop``, as the site itself.

    Where the catalogue does not answer, it is asked again within a minute.
    """
    names = Guarded(site.catalogue, Identity("root"))
    while not stop.is_set():
        wait_s = site.settings.upkeep.expire_every_s
        try:
            result = empty(site, names, names.expired(site.clock()))
        except VseError as error:
            result, wait_s = BulkResult(failed={"": error}), min(wait_s, _AGAIN_S)
        if result.ok or result.failed:
            tell(result)
        stop.wait(wait_s)
