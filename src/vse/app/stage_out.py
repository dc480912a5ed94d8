"""Writing back: files of this machine, or of the catalogue, on their way to a storage element (seed 001).

Asked for here, moved by a stager like anything else: queued, tried again, verified. The new name is in the
catalogue once the file is at its storage, and upstreams that want to be told are told then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vse.app.copy import Origin, origin_of
from vse.app.places import Place, real_place
from vse.app.site import Site
from vse.errors import AlreadyExists, BadRequest, Unsupported
from vse.model import Entry, FindQuery, Identity, Lfn, Located, Replica, ReplicaState
from vse.staging.values import Conditions, Request

_PLAIN = Conditions()


def stage_out(
    site: Site, files: Mapping[Lfn, Place], destination: str, conditions: Conditions = _PLAIN
) -> list[Request]:
    """Ask for each file to be brought to ``destination`` under its new name; return the requests, in order.

    A file of this machine is read once now, for its checksum: what arrives later has to be the same bytes.
    It has to stay where it is, readable for the stager, until its request is done. Asked for again, an open
    request is the same one. Raises `AlreadyExists` where the catalogue has another file of a name,
    `NoSuchFile`, `NoSuchEntry`, `Denied`, and `NoPlan` where ``destination`` cannot be written; nothing was
    asked for then.
    """
    element, owner = site.writable(destination), Identity.of_process()
    located = {real_place(site, lfn): _located(site, lfn, place) for lfn, place in files.items()}
    return [
        site.staging.request(
            FindQuery(base=lfn), owner.name, element.name, conditions, None if one is None else [one]
        )
        for lfn, one in located.items()
    ]


def names_for(site: Site, places: Sequence[Place], name: str) -> dict[Lfn, Place]:
    """Return the names that files get: ``name`` or, where that is a directory, their own ones below it.

    Without ``name`` all have to be of the catalogue, and keep theirs. Raises `BadRequest`.
    """
    if not name:
        nameless = [place for place in places if place.lfn is None]
        if nameless:
            raise BadRequest(
                f"stage out {nameless[0]}", "it has no logical name yet", "give it one: --as LFN"
            )
        return {place.lfn: place for place in places if place.lfn is not None}
    target = Lfn.parse(name)
    known = site.lookup.stat([target]).ok.get(target)
    is_directory = name.endswith("/") or (known is not None and known.kind == "directory")
    if not is_directory and len(places) > 1:
        raise BadRequest(
            f"stage out {len(places)} files as {target}", "it is one name", "name a directory: --as DIR/"
        )
    if not is_directory:
        return {target: places[0]}
    named = {target.child(_last_part(place)): place for place in places}
    if len(named) < len(places):
        raise BadRequest(
            f"stage out to {target}", "two of the files have the same name", "do it in two steps"
        )
    return named


def _last_part(place: Place) -> str:
    return (place.lfn or (place.path.name if place.path else place.url)).rpartition("/")[2]


def _located(site: Site, lfn: Lfn, place: Place) -> Located | None:
    """Return a file as it is to be read; None for one of the catalogue that keeps its name."""
    if place.lfn == lfn and not place.se:
        site.lookup.resolve([lfn]).one(lfn)
        return None
    origin = origin_of(site, place)
    if origin.checksum is None or origin.checksum.algorithm != "adler32":
        raise Unsupported(
            f"stage out {place}", "its adler32 is not known", "copy it to this machine first: vse get, vse cp"
        )
    number = int(origin.checksum.value, 16)
    _refuse_other(site, lfn, origin, number)
    site.names_for(Identity.of_process()).ensure_makable([lfn])
    entry = Entry(lfn, "file", origin.size_bytes, number, None, "", "", 0o644, 0.0, 0.0)
    replica = Replica(lfn, "", _url(site, place, origin), ReplicaState.AVAILABLE, None, "")
    return Located(entry, (replica,))


def _url(site: Site, place: Place, origin: Origin) -> str:
    if place.path is not None:
        return place.path.resolve().as_uri()
    if origin.located is None:
        return place.url
    return site.elements.plan_read(origin.located.replicas, origin.located.entry.guid).sources[0].url


def _refuse_other(site: Site, lfn: Lfn, origin: Origin, adler32: int) -> None:
    """Raise `AlreadyExists` where the catalogue has another file of a name."""
    known = site.lookup.stat([lfn]).ok.get(lfn)
    if known is not None and (known.kind, known.size_bytes, known.adler32) != (
        "file",
        origin.size_bytes,
        adler32,
    ):
        raise AlreadyExists(
            f"stage out {origin.shown} as {lfn}",
            f"the catalogue has another {known.kind} of this name",
            "files are write-once: choose another name, or remove it first",
        )
