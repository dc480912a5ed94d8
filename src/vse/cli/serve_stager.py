"""``vse serve stager``: the staging daemon alone, in the foreground."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

import typer

from vse.cli.context import Context, open_site, settings_path
from vse.cli.output import err, out
from vse.errors import BadSettings
from vse.staging.values import FileFailed, FileStaged, LinkRefused, News

if TYPE_CHECKING:
    from vse.app.daemon import Daemon
    from vse.app.generation import Chore
    from vse.app.site import Site
    from vse.config.load import Loaded


T = TypeVar("T")


def add_to(app: typer.Typer) -> None:
    app.command("stager")(serve_stager)


def serve_stager(context: typer.Context) -> None:
    """Run the staging daemon until SIGTERM or Ctrl-C; any number may run side by side on one database.

    It can be killed at any moment and started again. Changes of vse.toml take effect within a second; while
    the file is wrong nothing new is begun, and `vse status` says why. Started while it is wrong, it waits
    (at a terminal it ends, and says what is wrong).

    Examples:

      vse serve stager

      vse --set monitor.metrics=127.0.0.1:9101 serve stager
    """
    from vse.cli.serve import CHORES
    from vse.monitor.log import log_to_stderr

    log_to_stderr()
    stop = threading.Event()
    with until_told(stop), ExitStack() as parts:
        built = built_when_right(context, stop, parts, lambda site: build_daemon(context, site, CHORES))
        if built is None:
            return
        site, daemon = built
        parts.enter_context(told(site))
        out.print(f"Staging for {site.settings.site.name}.")
        daemon.run(stop)


def built_when_right(
    context: typer.Context, stop: threading.Event, parts: ExitStack, build: Callable[[Site], T]
) -> tuple[Site, T] | None:
    """Open the site and build what serves it; with a bad vse.toml a service waits, and a person is told.

    None where ``stop`` was set before the settings were right.
    """
    from vse.app.starting import when_right
    from vse.monitor.events import Events
    from vse.transfer.instance import new_owner

    def opened() -> tuple[Site, T]:
        with ExitStack() as own:
            site = own.enter_context(open_site(context))
            built = build(site)
            parts.push(own.pop_all())
        return site, built

    if sys.stderr.isatty():
        return opened()
    return when_right(opened, settings_path(context), stop, Events(service=new_owner()))


def build_daemon(context: typer.Context, site: Site, chores: Sequence[Chore]) -> Daemon:
    """Return the staging daemon of a site, whose figures are among those of ``site``."""
    from vse.app.daemon import Daemon
    from vse.config.load import load, parse_flags

    asked: Context = context.obj
    path, flags, environment = settings_path(context), parse_flags(asked.flags), dict(os.environ)

    def reread() -> Loaded:
        return load(path, environment, flags)

    people = sys.stderr.isatty()
    tell: Callable[[News], None] = tell_people if people else lambda _: None
    return Daemon(reread, reread(), metrics=site.metrics, tell=tell, chores=chores, quiet=people)


def tell_people(news: News) -> None:
    """Say in a line what happened to a file."""
    if isinstance(news, FileStaged):
        err.print(f"staged {news.lfn}", markup=False)
    elif isinstance(news, FileFailed):
        err.print(f"{'given up' if news.final else 'failed'} {news.lfn}: {news.error}", markup=False)
    elif isinstance(news, LinkRefused):
        err.print(f"no link for {news.lfn}: {news.error}", markup=False)


@contextmanager
def until_told(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM set ``stop``, and Ctrl-C too."""

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def told(site: Site) -> Iterator[None]:
    """Tell the figures of staging, over HTTP too where ``monitor.metrics`` says so."""
    from vse.app.stager_figures import site_figures

    site.metrics.add(lambda: site_figures(site))
    address = site.settings.monitor.metrics
    if not address:
        yield
        return
    host, _, port = address.rpartition(":")
    try:
        end = site.metrics.serve(host.strip("[]"), int(port))
    except OSError as error:
        raise BadSettings(
            f"tell figures at {address}", error.strerror or str(error), "see monitor.metrics"
        ) from error
    try:
        yield
    finally:
        end()
