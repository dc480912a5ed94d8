"""A stager with one version of the settings: it takes work, goes on without, and ends on its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property

from vse.app.site import Site
from vse.app.stager_figures import MoveFigures
from vse.config.load import Loaded
from vse.config.topology import elements_for
from vse.errors import VseError
from vse.model import Clock
from vse.monitor.events import Events
from vse.staging.afdsmgrd import Repository
from vse.staging.requests import Staging
from vse.staging.values import News, Request
from vse.staging.watched import WatchedQueue
from vse.transfer.lifecycle import Failed, Policy, State, Succeeded, Transfer
from vse.transfer.queue import Report

_RESUME_S = 10.0
"""How often to look for requests whose listing was broken off."""
Chore = Callable[[Site, threading.Event], None]
"""What is done beside staging until the event is set; it has a thread of its own."""


class ServedSite(Site):
    """A site whose queue tells of all that happens to the transfers this process moves."""

    events: Events
    figures: MoveFigures

    @cached_property
    def queue(self) -> WatchedQueue:
        self._sources: dict[int, str] = {}
        policy = Policy.of(self.settings.stager)
        return WatchedQueue(self.database, policy, self.clock, self._claimed, self._reported)

    @cached_property
    def staging(self) -> Staging:
        staging = super().staging
        staging.tell_ended = self._request_ended
        return staging

    def _claimed(self, transfer: Transfer) -> None:
        self._sources[transfer.id] = transfer.source_se or ""
        self.events.tell("transfer.running", **_about(transfer))

    def _reported(self, report: Report, after: Transfer) -> None:
        claimed_from = self._sources.pop(after.id, "")
        source_se = claimed_from
        if isinstance(report.event, Succeeded):
            source_se = after.source_se or claimed_from
        self.figures.count(report, source_se, after)
        about = _about(after) | {"bytes": getattr(report.event, "bytes_done", None)}
        if isinstance(report.event, Failed):
            name = "transfer.failed" if after.state is State.FAILED else f"transfer.{after.state}"
            self.events.tell(name, report.event.error, **about, failures=after.failures)
        else:
            self.events.tell(f"transfer.{after.state}", **about)

    def _request_ended(self, request: Request) -> None:
        self.events.tell(
            f"request.{request.state}",
            request=request.id,
            owner=request.owner,
            destination=request.destination,
            query=request.query,
        )


class Generation:
    """The parts that work with one version of the settings, in threads of their own."""

    def __init__(
        self,
        loaded: Loaded,
        clock: Clock,
        events: Events,
        figures: MoveFigures,
        tell: Callable[[News], None],
        chores: Sequence[Chore],
    ) -> None:
        """Build the parts; raises the errors of settings that cannot be worked with."""
        self.began_s = clock()
        self.error: BaseException | None = None
        self.repository: Repository | None = None
        self.site = ServedSite(loaded.settings, loaded.root, clock, loaded.remarks)
        self.site.events, self.site.figures = events, figures
        self._events = events
        self._stop, self._chores_stop = threading.Event(), threading.Event()
        try:
            self._stager = self.site.stager(tell)
            self.repository = self._repository()
        except BaseException:
            self.site.close()
            raise
        work: list[Callable[[], None]] = [self._go_on_listing]
        work += [self._scan] if self.repository is not None else []
        work += [lambda chore=chore: chore(self.site, self._chores_stop) for chore in chores]  # type: ignore[misc]
        self._threads = [threading.Thread(target=one, name="vse-upkeep", daemon=True) for one in work]
        self._thread = threading.Thread(target=self._run, name="vse-stager", daemon=True)

    def _repository(self) -> Repository | None:
        settings = self.site.settings.afdsmgrd
        if settings.repository is None:
            return None
        name = settings.destination
        if name and name not in self.site.elements:
            name = elements_for(self.site.settings, name)[0]
        element = self.site.elements.get(name) if name else self.site.destination
        return Repository(
            settings=settings,
            directory=settings.repository,
            destination=element.name,
            database=self.site.database,
            queue=self.site.queue,
            catalogue=self.site.catalogue,
            clock=self.site.clock,
            tell=self._events.tell,
        )

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        ended = self.site.external.sweep()
        if ended:
            self._events.tell("external.ended", commands=ended)
        for thread in (self._thread, *self._threads):
            thread.start()

    def hold(self) -> None:
        """Take no more transfers; those that run go on."""
        self.site.queue.close()

    def go_on(self) -> None:
        self.site.queue.open()
        self._stager.wake()

    def retire(self) -> None:
        """Take no more work of any kind: another generation does."""
        self.hold()
        self._chores_stop.set()

    @property
    def running(self) -> int:
        return self.site.queue.running

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        """Put back what runs, and close the site. Returns when all has ended."""
        self._stop.set()
        self._chores_stop.set()
        self._stager.wake()
        for thread in (self._thread, *self._threads):
            if thread.ident is not None:
                thread.join()
        self.site.close()

    # -- threads ---------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._stager.run(self._stop)
        except BaseException as error:  # the daemon sees it, tells of it, and starts another
            self.error = error

    def _go_on_listing(self) -> None:
        """Go on with requests whose files were being listed by a process that is gone."""
        while not self._chores_stop.is_set():
            with suppress(VseError):  # the next time
                if self.site.staging.resume():
                    self._stager.wake()
            self._chores_stop.wait(_RESUME_S)

    def _scan(self) -> None:
        """Look after the lists of the repository."""
        told = ""
        while not self._chores_stop.is_set() and self.repository is not None:
            try:
                self.repository.scan()
                told = ""
            except VseError as error:
                if str(error) != told:
                    told = str(error)
                    self._events.tell("datasets.unreadable", error)
            self._stager.wake()
            until_s = time.monotonic() + self.site.settings.afdsmgrd.scan_every_s
            self._chores_stop.wait(max(0.0, until_s - time.monotonic()))


def _about(transfer: Transfer) -> dict[str, object]:
    return {
        "transfer": transfer.id,
        "lfn": transfer.lfn,
        "destination": transfer.destination,
        "attempt": transfer.attempts,
        "source": transfer.source,
        "source_se": transfer.source_se,
        "size_bytes": transfer.size_bytes,
    }
