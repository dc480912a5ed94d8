"""``vse serve``: this site's door and stager, in the foreground."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli import pool, serve_stager, serve_xrootd
from vse.cli.helptext import Commands
from vse.cli.output import err, out, size
from vse.cli.serve_stager import build_daemon, built_when_right, told, until_told
from vse.errors import BadRequest
from vse.model import BulkResult, Trashed
from vse.model.words import counted

if TYPE_CHECKING:
    from vse.app.daemon import Daemon
    from vse.app.site import Site


def add_to(app: typer.Typer) -> None:
    group = Commands(invoke_without_command=True, no_args_is_help=False)
    group.callback()(serve)
    serve_stager.add_to(group)
    serve_xrootd.add_to(group)
    app.add_typer(group, name="serve", rich_help_panel="Sites")


def serve(
    context: typer.Context,
    door: Annotated[bool, typer.Option("--door/--no-door", help="Offer files and names over HTTP.")] = True,
    stager: Annotated[bool, typer.Option("--stager/--no-stager", help="Move what is asked for.")] = True,
) -> None:
    """Run this site's services until Ctrl-C: the HTTP door (as the settings say) and the stager.

    Changes of vse.toml take effect within a second, but for those of the door and the database. Started
    while it is wrong, they wait until it is right (at a terminal they end, and say what is wrong).

    Volumes and the trash are tended as well: files that have outlived theirs, and removed names that have
    expired, are erased (upkeep.expire_every_s).

    Example:

      vse --site /srv/vse serve
    """
    if context.invoked_subcommand is not None:
        return
    if not (door or stager):
        raise BadRequest(
            "serve", "neither door nor stager is left", "leave one of --no-door, --no-stager out"
        )
    from vse.monitor.log import log_to_stderr

    log_to_stderr()
    stop = threading.Event()

    def build(site: Site) -> Daemon | None:
        return build_daemon(context, site, CHORES) if stager else None

    with ExitStack() as parts:
        with until_told(stop):
            built = built_when_right(context, stop, parts, build)
        if built is None or stop.is_set():
            return
        site, daemon = built
        if daemon is None:
            _serve(site, [partial(chore, site, stop) for chore in CHORES], stop)
            return
        parts.enter_context(told(site))
        if door:
            _serve(site, [partial(_run, daemon, stop)], stop)
        else:
            with until_told(stop):
                daemon.run(stop)


def _serve(site: Site, work: list[Callable[[], None]], stop: threading.Event) -> None:
    """Open the door, and do ``work`` beside it until it closes."""
    threads = [threading.Thread(target=one, name="vse-work") for one in work]
    for thread in threads:
        thread.start()
    try:
        _open_door(site)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _run(daemon: Daemon, stop: threading.Event) -> None:
    import structlog

    try:
        daemon.run(stop)
    except Exception:
        structlog.get_logger().exception("service.failed")  # the door stays open: files can be read
        raise


def _open_door(site: Site) -> None:
    from vse.app.door import build_door

    def ready(url: str) -> None:
        settings = site.settings.doors.http
        out.print(
            f"Serving {site.settings.site.name} at {url} (read: {settings.read}, write: {settings.write})."
        )
        if settings.read == "token":
            out.print(f"The token is in {settings.token_file}.")

    build_door(site).run(ready=ready)


def _tend(site: Site, stop: threading.Event) -> None:
    from vse.app.volumes import tend

    def tell(name: str, result: BulkResult[int]) -> None:
        if result.ok:
            size_bytes = sum(result.ok.values())
            files = counted(len(result.ok), "expired file")
            err.print(f"{name}: {files} erased, {size(size_bytes)}", markup=False)
        for error in result.failed.values():
            err.print(f"{name}: {error}", markup=False)

    tend(site, stop, tell)


def _empty_trash(site: Site, stop: threading.Event) -> None:
    from vse.app.trash import tend

    def tell(result: BulkResult[Trashed]) -> None:
        for trashed in result.ok.values():
            err.print(f"removed {trashed.lfn} from the trash", markup=False)
        for error in result.failed.values():
            err.print(f"left in the trash: {error}", markup=False)

    tend(site, stop, tell)


def _tend_pools(site: Site, stop: threading.Event) -> None:
    from vse.app.pool import tend

    tend(site, stop, pool.tell)


CHORES = (_tend, _empty_trash, _tend_pools)
"""What is done beside staging."""
