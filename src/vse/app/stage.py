"""Stage a dataset: ask for it, and run a stager in this process until it is here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from vse.app.namespace import local_path
from vse.app.seen import ensure_findable, stageable
from vse.app.site import Site
from vse.app.volumes import expire
from vse.errors import Denied, NoPlan, NoSuchEntry, RequestIncomplete
from vse.model import BulkResult, DatasetQuery, Identity, Lfn
from vse.staging.values import (
    Conditions,
    FileStaged,
    ItemState,
    News,
    Request,
    RequestState,
    RequestStatus,
)


class StagingJob:
    """A request and the means to bring it to its end.

    ``left_out`` says what it does not hold because who asked may not read it.
    """

    def __init__(
        self, site: Site, query: DatasetQuery, request: Request, left_out: Sequence[Denied] = ()
    ) -> None:
        self._site = site
        self._query = query
        self._request = request
        self.left_out = left_out
        status = self.status()
        self.waiting_files = status.files[ItemState.WAITING]
        self.waiting_bytes = status.total_bytes - status.here_bytes
        self.moved_bytes = 0

    @property
    def over(self) -> bool:
        return self.status().request.is_over

    @property
    def is_held(self) -> bool:
        """Whether it waits for somebody's approval."""
        return self.status().request.state is RequestState.HELD

    def status(self) -> RequestStatus:
        (request,) = self._site.staging.get([self._request.id])
        (status,) = self._site.progress.status([request])
        return status

    def run(self, tell: Callable[[News], None], stop: threading.Event | None = None) -> None:
        """Move the files until the request has ended (or ``stop`` is set)."""

        def count_and_tell(news: News) -> None:
            if isinstance(news, FileStaged):
                self.moved_bytes += news.size_bytes
            tell(news)

        self._site.stager(count_and_tell).run(stop or threading.Event(), [self._request.id])

    def link(self) -> BulkResult[Path]:
        """Make the links of all files of the dataset that are here, also of those that were before."""
        element = self._site.elements.get(self._request.destination)
        targets: dict[Lfn, Path] = {}
        for located in self._site.known_selector.find(self._query):
            for replica in located.replicas:
                held = self._site.elements.name_of(replica.se) == element.name
                path = local_path(self._site, replica, located.entry.guid) if held else None
                if path is not None:
                    targets[located.entry.lfn] = path
        return self._site.links.ensure(targets)


def stage_dataset(
    site: Site, query: DatasetQuery, destination: str = "", conditions: Conditions | None = None
) -> StagingJob:
    """Ask for ``query`` at ``destination`` (default: the site's): for those files that may be read by whoever
    runs this process. Raises `NoSuchEntry` for no file, `Denied` where all there are may not be read."""
    asked, _ = site.selector.resolve(query)
    ensure_findable(site, asked)
    element = site.writable(destination)
    if any(section.volumes for section in element.settings.protocols):
        with suppress(NoPlan):
            expire(site, element)  # makes room, and what is too old is not taken for here
    files, left_out = stageable(site, asked)
    try:
        request = site.staging.request(
            asked, Identity.of_process().name, element.name, conditions or Conditions(), files
        )
    except NoSuchEntry:
        for error in left_out:
            raise error from None
        raise
    return StagingJob(site, asked, request, left_out)


def end_of(status: RequestStatus, waited: bool) -> None:
    """Raise `RequestIncomplete` where a request that was waited for ended with files missing."""
    missing = status.total_files - status.here_files
    if waited and missing:
        raise RequestIncomplete(
            f"stage all of {status.request.query}",
            f"{missing} of {status.total_files} files did not come",
            f"see why for each: vse status {status.request.id}; to try again: the same command",
        )
