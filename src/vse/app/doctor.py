"""Look at every part of a site as its administrator would, and say what is wrong and what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import sqlalchemy as sa

from vse.app.namespace import local_path
from vse.app.site import Site
from vse.catalogue.upstream import build as build_upstream
from vse.config.settings import UpstreamSettings
from vse.db.tables import directories
from vse.errors import VseError
from vse.linktree.tree import Synced
from vse.model import Lfn
from vse.storage.element import StorageElement

_LOW_SPACE = 0.05


class Finding(NamedTuple):
    """One thing that was looked at. ``todo`` is empty where all is well."""

    subject: str
    state: Literal["good", "warning", "bad"]
    found: str
    todo: str = ""


def examine(site: Site) -> Iterator[Finding]:
    """Yield a finding for each part of the site; a part that fails does not stop the others."""
    for remark in site.remarks:
        yield Finding("settings", "warning", str(remark), "take it out of the settings, or see vse se show")
    yield _tried("database", lambda: _database(site))
    for element in site.elements:
        yield _tried(f"storage element {element.name}", partial(_element, element))
    yield _tried(
        "destination", lambda: Finding("destination", "good", f"staged files go to {site.destination.name}")
    )
    for name, settings in site.settings.upstreams.items():
        yield _tried(f"upstream {name}", partial(_upstream, settings))
    yield _tried("queue", lambda: _queue(site))


def mend_links(site: Site) -> Synced:
    """Make the link tree hold exactly the files that are here."""
    return site.links.sync(_linkable(site))


def _tried(subject: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except VseError as error:
        return Finding(subject, "bad", str(error), error.todo)


def _database(site: Site) -> Finding:
    with site.database.write() as connection:
        directories_known = connection.scalar(sa.select(sa.func.count()).select_from(directories)) or 0
    return Finding("database", "good", f"it can be written, {directories_known:,} directories are known")


def _element(element: StorageElement) -> Finding:
    subject = f"storage element {element.name}"
    element.stat([Lfn("/")]).one("/")
    try:
        space = element.space()
    except VseError:
        return Finding(subject, "good", "it answers (its space is not known)")
    if not space.total_bytes or space.free_bytes is None:
        return Finding(subject, "good", "it answers")
    free = f"{space.free_bytes / 1e9:,.1f} of {space.total_bytes / 1e9:,.1f} GB free"
    if space.free_bytes < _LOW_SPACE * space.total_bytes and element.can("write"):
        return Finding(subject, "warning", free, "make room: staging stops when it is full")
    return Finding(subject, "good", free)


def _upstream(settings: UpstreamSettings) -> Finding:
    upstream = build_upstream(settings)
    started = time.monotonic()
    upstream.probe()
    wait_ms = (time.monotonic() - started) * 1000
    return Finding(f"upstream {upstream.name}", "good", f"answers in {wait_ms:.0f} ms")


def _queue(site: Site) -> Finding:
    tallies = {str(state): tally.files for state, tally in site.queue.tallies().items() if tally.files}
    failed = tallies.get("failed", 0)
    found = ", ".join(f"{count:,} {state}" for state, count in tallies.items()) or "empty"
    if failed:
        return Finding("queue", "warning", found, "see why: vse status")
    return Finding("queue", "good", found)


def _linkable(site: Site) -> Iterator[tuple[Lfn, Path]]:
    for located in site.catalogue.find(Lfn("/"), "*"):
        for replica in located.replicas:
            path = local_path(site, replica, located.entry.guid)
            if path is not None:
                yield located.entry.lfn, path
                break
