"""A site: its parts, each built once from the settings when first used, and closed together."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import sqlalchemy as sa

from vse.catalogue.datasets import Datasets
from vse.catalogue.guarded import Guarded
from vse.catalogue.guarded_metadata import GuardedMetadata
from vse.catalogue.lookup import Lookup
from vse.catalogue.metadata import Metadata
from vse.catalogue.port import Names
from vse.catalogue.registrations import Recipient, Registrar, Registrations
from vse.catalogue.selection import Selector
from vse.catalogue.sql import SqlCatalogue
from vse.catalogue.upstream import Mapped
from vse.catalogue.upstream import build as build_upstream
from vse.config.load import FILE_NAME, Loaded
from vse.config.remarks import Remark
from vse.config.settings import Settings
from vse.config.topology import elements_for
from vse.db import Database
from vse.errors import StorageFault, VseError
from vse.linktree.tree import LinkTree
from vse.model import Clock, Closing, DatasetQuery, Identity, Located, Replica
from vse.model.identity import user_name
from vse.staging.approval import ApprovalRule
from vse.staging.external import External
from vse.staging.filters import Filters
from vse.staging.filters_names import WithVirtual
from vse.staging.pins import Pins
from vse.staging.quarantine import Quarantine
from vse.staging.quotas import Quotas
from vse.staging.readers import Accesses, Noted
from vse.staging.replication import Replication
from vse.staging.requests import Staging
from vse.staging.stager import Parts, Stager
from vse.staging.status import Progress
from vse.staging.values import FileStaged, LinkRefused, News
from vse.staging.why import Explainer
from vse.storage.element import Elements, StorageElement
from vse.transfer.lifecycle import Policy
from vse.transfer.queue import Queue
from vse.transfer.verification import Readers, Verifier, reader_command

if TYPE_CHECKING:
    from vse.monitor.metrics import Metrics
    from vse.staging.pool import Pool

_SQLITE = "sqlite:///"


class Site(Closing):
    """The parts of one site. Use it as a context manager; it may be shared between threads."""

    def __init__(
        self, settings: Settings, root: Path, clock: Clock = time.time, remarks: Sequence[Remark] = ()
    ) -> None:
        self.settings = settings
        self.remarks = tuple(remarks)
        self.root = root
        self.clock = clock

    @classmethod
    def open(cls, loaded: Loaded, clock: Clock = time.time) -> Self:
        """Build a site from settings as `vse.config.load.load` returns them."""
        return cls(loaded.settings, loaded.root, clock, loaded.remarks)

    @classmethod
    def open_existing(cls, loaded: Loaded, clock: Clock = time.time) -> Self:
        """As `open`; raises `StorageFault` where the site's catalogue is a file, and that cannot be found."""
        site = cls.open(loaded, clock)
        path = site.database_file
        if path is None:
            return site
        wanted = f"open the database {path}"
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            missing = next(one for one in (path, *path.parents) if one.parent.is_dir())
            found = "it is not there" if missing == path else f"there is no {missing}"
            again = f"vse init {shlex.quote(str(loaded.root))}"
            todo = f"mount the disk that it lies on; for a new, empty catalogue: {again}"
            raise StorageFault(wanted, found, todo) from error
        except OSError as error:
            todo = f"let {user_name(os.geteuid())} pass the directories above it, and read it"
            raise StorageFault(wanted, error.strerror or str(error), todo) from error
        return site

    @property
    def database_file(self) -> Path | None:
        """Where SQLite keeps the catalogue; None for a database server, and for what is no URL of one."""
        try:
            url = sa.make_url(self._database_url())
        except sa.exc.ArgumentError:
            return None
        return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None

    @cached_property
    def database(self) -> Database:
        return Database.open(self._database_url())

    @cached_property
    def catalogue(self) -> SqlCatalogue:
        """The names this site knows, and those that upstreams told of, without asking anybody."""
        return SqlCatalogue(self.database, self.clock, self.settings.catalogue.trash_s)

    @cached_property
    def administrators(self) -> frozenset[str]:
        """Who may do all in the catalogue: those of the settings, and the owner of this site's vse.toml."""
        named = frozenset(self.settings.catalogue.administrators)
        path = self.root / FILE_NAME
        return named | {user_name(path.stat().st_uid)} if path.exists() else named

    def names_for(self, identity: Identity) -> Guarded:
        """The catalogue as ``identity`` may see and change it."""
        return Guarded(self.catalogue.acting(identity.name), identity, self.administrators)

    def lookup_for(self, identity: Identity) -> Guarded:
        """Likewise, reading what upstreams tell, too."""
        acting = self.catalogue.acting(identity.name)
        return Guarded(acting, identity, self.administrators, self.names)

    @cached_property
    def lookup(self) -> Lookup:
        """The names of the catalogue and of the upstreams behind it; who may only read asks none of these."""
        upstreams, settings = list(self.upstreams.values()), self.settings
        silent = settings.catalogue.offline or self.database.read_only  # an answer could not be kept
        return Lookup(self.catalogue, upstreams, self.clock, settings.upstreams, silent)

    @cached_property
    def filters(self) -> Filters:
        """What can be made of files on their way in."""
        return Filters(self.settings.filters, self.lookup, self.verifier, self.settings.stager.scratch)

    @cached_property
    def names(self) -> Names:
        """What `lookup` knows, and beside it the names that filters can make."""
        return WithVirtual(self.lookup, self.filters) if self.filters else self.lookup

    @cached_property
    def quarantine(self) -> Quarantine:
        """What failed verification."""
        return Quarantine(
            self.database,
            self.catalogue,
            self.elements,
            self.settings.quarantine,
            self.clock,
            lambda: self.pool.reservations,
        )

    @cached_property
    def upstreams(self) -> dict[str, Mapped]:
        """The clients of the upstream catalogues, by name, in the order of the settings."""
        return {name: build_upstream(settings) for name, settings in self.settings.upstreams.items()}

    @cached_property
    def registrations(self) -> Registrations:
        """What upstreams are to be told of copies made here."""
        return Registrations(self.database, self.catalogue.rows.upstreams.ids)

    @cached_property
    def registrar(self) -> Registrar:
        """Tells the upstreams that want to be told."""
        recipients = {
            name: Recipient(self.upstreams[name], settings, settings.batch)
            for name, settings in self.settings.upstreams.items()
            if settings.register_replicas
        }
        return Registrar(self.registrations, recipients, self.catalogue, self._url_of, self.clock)

    def _url_of(self, replica: Replica, guid: bytes | None) -> str | None:
        """Return where others find a copy, for their catalogue."""
        if replica.url is not None:
            return replica.url
        try:
            return self.elements.get(replica.se).registration_url(replica.lfn, guid)
        except VseError:
            return None

    @cached_property
    def metadata(self) -> Metadata:
        """The tags of names, and finding by them."""
        return Metadata(self.catalogue)

    def metadata_for(self, identity: Identity) -> GuardedMetadata:
        """Likewise, as ``identity`` may see and change them."""
        return GuardedMetadata(self.metadata, self.names_for(identity))

    @cached_property
    def metrics(self) -> Metrics:
        """Figures that the door tells; empty until a part is added."""
        from vse.monitor.metrics import Metrics

        return Metrics()

    @cached_property
    def datasets(self) -> Datasets:
        return Datasets(self.database, self.catalogue.rows, self.clock)

    @cached_property
    def selector(self) -> Selector:
        """Answers dataset queries of every kind, asking upstreams where that is due."""
        return Selector(
            self.lookup,
            self.datasets,
            self.settings.datasets,
            WithVirtual(self.lookup, self.filters).widened,
        )

    @cached_property
    def known_selector(self) -> Selector:
        """Likewise, but nobody is asked."""
        return Selector(self.catalogue, self.datasets, self.settings.datasets)

    @cached_property
    def elements(self) -> Elements:
        return Elements.from_settings(self.settings)

    @property
    def destination(self) -> StorageElement:
        """The storage element that staged files go to."""
        return self.writable()

    def writable(self, name: str = "") -> StorageElement:
        """Return where files go that are sent to ``name`` (where empty: to ``stager.destination``).

        That is the storage element of this name; or of what the name stands for at this site (a group, and
        AssociatedSEs) the first that can be written. Raises `NoSuchElement`, and `NoPlan` with every reason.
        """
        name = name or self.settings.stager.destination
        if not name or name in self.elements:
            return self.elements.default_destination(name)
        return self.elements.first_writable(elements_for(self.settings, name), f"write to {name}")

    def names_in(self, name: str) -> frozenset[str]:
        """Return the storage elements that ``name`` stands for, by their own names; `NoSuchElement`."""
        if name in self.elements:
            return frozenset({self.elements.name_of(name)})
        return frozenset(map(self.elements.name_of, elements_for(self.settings, name)))

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
            names=self.names,
            catalogue=self.catalogue,
            elements=self.elements,
            queue=self.queue,
            clock=self.clock,
            find=self.selector.find,
            filters=self.filters,
            approval=ApprovalRule.of(self.settings.stager),
            allowed=self._allowed,
        )

    def _allowed(self, owner: str, query: DatasetQuery, files: Iterator[Located]) -> Iterator[Located]:
        """Yield what the owner of a request may read; all of it for a service of the site."""
        from vse.app.seen import readable_by
        from vse.app.xrootd import OWNER

        who = Identity.known(owner)
        services = (Identity.of_process().name, OWNER, self.settings.replication.owner)
        if who is None or owner in services:
            return files
        return readable_by(self, who, query, files)[0]

    @cached_property
    def progress(self) -> Progress:
        return Progress(self.database, self.clock, self.settings.stager)

    @cached_property
    def explainer(self) -> Explainer:
        return Explainer(
            database=self.database,
            names=self.names,
            elements=self.elements,
            queue=self.queue,
            progress=self.progress,
        )

    @cached_property
    def pool(self) -> Pool:
        """The storage elements that make room by themselves; its `reservations` keep space for files."""
        from vse.app.pool import build_pool

        return build_pool(self)

    @cached_property
    def accesses(self) -> Accesses:
        """What is read, and was."""
        return Accesses(self.database, self.catalogue, self.elements, self.clock)

    @cached_property
    def noted(self) -> Noted:
        """Reads that were served and are still to be recorded."""
        return Noted(self.accesses.note)

    @cached_property
    def pins(self) -> Pins:
        return Pins(self.database, self.clock)

    @cached_property
    def quotas(self) -> Quotas:
        return Quotas(self.database)

    @cached_property
    def replication(self) -> Replication:
        """Copies files that are read often."""
        settings = self.settings.replication
        return Replication(self.database, self.names, self.elements, self.staging, settings, self.clock)

    @cached_property
    def verifier(self) -> Verifier:
        settings = self.settings.stager
        command = reader_command(settings.verify_memory_bytes)
        return Readers(min(settings.slots, 2), settings.verify_timeout_s, command, settings.verify)

    @cached_property
    def external(self) -> External:
        """The site's own staging command."""
        settings = self.settings.stager
        return External(settings.external, self.elements, self.catalogue, settings.scratch / "external")

    def stager(self, tell: Callable[[News], None] = lambda _: None) -> Stager:
        """Return a stager that links every file it stages, and tells of both."""

        def link_and_tell(news: News) -> None:
            failed = {}
            if isinstance(news, FileStaged) and news.path is not None:
                failed = self.links.ensure({news.lfn: news.path}).failed
            tell(news)
            for error in failed.values():
                tell(LinkRefused(news.lfn, error))

        parts = Parts(
            self.lookup,
            self.catalogue,
            self.elements,
            self.queue,
            self.staging,
            self.verifier,
            self.registrar,
            self.filters,
            self.quarantine.keep,
            self.external,
            self.pool.reservations,
        )
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
        for name in ("lookup", "verifier", "pool", "elements", "database"):
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
