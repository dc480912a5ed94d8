"""A site: its parts, each built once from the settings when first used, and closed together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from vse.catalogue.lookup import Lookup
from vse.catalogue.sql import SqlCatalogue
from vse.catalogue.upstream import build as build_upstream
from vse.config.load import Loaded
from vse.config.settings import Settings
from vse.db import Database
from vse.linktree.tree import LinkTree
from vse.model import Clock, Closing
from vse.staging.requests import Staging
from vse.staging.stager import Parts, Stager
from vse.staging.status import Progress
from vse.staging.values import FileStaged, LinkRefused, News
from vse.staging.why import Explainer
from vse.storage.element import Elements, StorageElement
from vse.transfer.lifecycle import Policy
from vse.transfer.queue import Queue
from vse.transfer.verification import NoVerifier, Readers, Verifier

_SQLITE = "sqlite:///"


class Site(Closing):
    """The parts of one site. Use it as a context manager; it may be shared between threads."""

    def __init__(self, settings: Settings, root: Path, clock: Clock = time.time) -> None:
        self.settings = settings
        self.root = root
        self.clock = clock

    @classmethod
    def open(cls, loaded: Loaded, clock: Clock = time.time) -> Self:
        """Build a site from settings as `vse.config.load.load` returns them."""
        return cls(loaded.settings, loaded.root, clock)

    @cached_property
    def database(self) -> Database:
        return Database.open(self._database_url())

    @cached_property
    def catalogue(self) -> SqlCatalogue:
        """The names this site knows, and those that upstreams told of, without asking anybody."""
        return SqlCatalogue(self.database, self.clock)

    @cached_property
    def lookup(self) -> Lookup:
        """The names of the catalogue and of the upstreams behind it."""
        upstreams = [build_upstream(upstream) for upstream in self.settings.upstreams.values()]
        return Lookup(self.catalogue, upstreams, self.clock, self.settings.upstreams)

    @cached_property
    def elements(self) -> Elements:
        return Elements.from_settings(self.settings)

    @property
    def destination(self) -> StorageElement:
        """The storage element that staged files go to."""
        return self.elements.default_destination(self.settings.stager.destination)

    @cached_property
    def links(self) -> LinkTree:
        return LinkTree(self.settings.linktree.path, self.database, self.clock)

    @cached_property
    def queue(self) -> Queue:
        return Queue(self.database, Policy.of(self.settings.stager), self.clock)

    @cached_property
    def staging(self) -> Staging:
        return Staging(
            database=self.database,
            names=self.lookup,
            catalogue=self.catalogue,
            elements=self.elements,
            queue=self.queue,
            clock=self.clock,
        )

    @cached_property
    def progress(self) -> Progress:
        return Progress(self.database, self.clock)

    @cached_property
    def explainer(self) -> Explainer:
        return Explainer(
            database=self.database,
            names=self.lookup,
            elements=self.elements,
            queue=self.queue,
            clock=self.clock,
        )

    @cached_property
    def verifier(self) -> Verifier:
        settings = self.settings.stager
        if settings.verify == "checksum":
            return NoVerifier()
        return Readers(min(settings.slots, 2), settings.verify_timeout_s)

    def stager(self, tell: Callable[[News], None] = lambda _: None) -> Stager:
        """Return a stager that links every file it stages, and tells of both."""

        def link_and_tell(news: News) -> None:
            failed = {}
            if isinstance(news, FileStaged) and news.path is not None:
                failed = self.links.ensure({news.lfn: news.path}).failed
            tell(news)
            for error in failed.values():
                tell(LinkRefused(news.lfn, error))

        parts = Parts(self.lookup, self.catalogue, self.elements, self.queue, self.staging, self.verifier)
        return Stager(parts, self.settings.stager, link_and_tell, self.clock)

    def _database_url(self) -> str:
        """Return the URL with SQLite's relative path anchored at the site, and the password filled in."""
        url = self.settings.database.url
        if url.startswith(_SQLITE) and not url.startswith(f"{_SQLITE}/"):
            return f"{_SQLITE}{self.root / url.removeprefix(_SQLITE)}"
        password = self.settings.database.password
        if password is None:
            return url
        return (
            sa.make_url(url).set(password=password.get_secret_value()).render_as_string(hide_password=False)
        )

    def close(self) -> None:
        """Close what was opened. The site cannot be used after it."""
        made = self.__dict__
        for name in ("verifier", "elements", "database"):
            if name in made:
                made[name].close()


class BackgroundStager:
    """A stager that runs in a thread until its requests have ended or the ``with`` block does."""

    def __init__(self, site: Site, requests: list[int], tell: Callable[[News], None]) -> None:
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._stager = site.stager(tell)
        self._requests = requests
        self.thread = threading.Thread(target=self._run, name="vse-stager", daemon=True)

    def _run(self) -> None:
        try:
            self._stager.run(self._stop, self._requests)
        except BaseException as error:  # raised again in `join`, in the caller's thread
            self._error = error

    def join(self) -> None:
        """Wait for the end; raise what ended the stager, if it was an error."""
        self.thread.join()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._stager.wake()
        self.thread.join()
