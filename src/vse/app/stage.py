"""Stage a dataset: ask for it, and run a stager in this process until it is here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from vse.app.site import Site
from vse.errors import RequestIncomplete
from vse.model import BulkResult, DatasetQuery, Identity, Lfn, ReplicaState
from vse.staging.values import FileStaged, ItemState, News, Request, RequestStatus


class StagingJob:
    """A request and the means to bring it to its end."""

    def __init__(self, site: Site, query: DatasetQuery, request: Request) -> None:
        self._site = site
        self._query = query
        self._request = request
        status = self.status()
        self.waiting_files = status.files[ItemState.WAITING]
        self.waiting_bytes = status.total_bytes - status.here_bytes
        self.moved_bytes = 0

    @property
    def over(self) -> bool:
        return self.status().request.is_over

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
        for located in self._site.catalogue.find(self._query.base, self._query.pattern):
            held = any(
                replica.se == element.name and replica.state == ReplicaState.AVAILABLE
                for replica in located.replicas
            )
            path = element.local_path(located.entry.lfn) if held else None
            if path is not None:
                targets[located.entry.lfn] = path
        return self._site.links.ensure(targets)


def stage_dataset(site: Site, query: DatasetQuery, destination: str = "") -> StagingJob:
    """Ask for ``query`` at ``destination`` (default: the site's). Raises `NoSuchEntry` for no file."""
    element = site.elements.get(destination) if destination else site.destination
    request = site.staging.request(query, Identity.of_process().name, element.name)
    return StagingJob(site, query, request)


def end_of(status: RequestStatus, waited: bool) -> None:
    """Raise `RequestIncomplete` where a request that was waited for ended with files missing."""
    missing = status.total_files - status.here_files
    if waited and missing:
        raise RequestIncomplete(
            f"stage all of {status.request.query}",
            f"{missing} of {status.total_files} files did not come",
            f"see why for each: vse status {status.request.id}; to try again: the same command",
        )
