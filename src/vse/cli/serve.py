"""``vse serve``: this site's door and stager, in the foreground."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from vse.cli.context import open_site
from vse.cli.output import err, out
from vse.errors import BadRequest
from vse.staging.values import FileFailed, FileStaged, LinkRefused, News

if TYPE_CHECKING:
    from vse.app.site import Site


def add_to(app: typer.Typer) -> None:
    app.command("serve", rich_help_panel="Sites")(serve)


def serve(
    context: typer.Context,
    door: Annotated[bool, typer.Option("--door/--no-door", help="Offer files and names over HTTP.")] = True,
    stager: Annotated[bool, typer.Option("--stager/--no-stager", help="Move what is asked for.")] = True,
) -> None:
    """Run this site's services until Ctrl-C: the HTTP door (as the settings say) and the stager.

    Example:

      vse --site /srv/vse serve
    """
    if not (door or stager):
        raise BadRequest(
            "serve", "neither door nor stager is left", "leave one of --no-door, --no-stager out"
        )
    from vse.monitor.log import log_to_stderr

    log_to_stderr()
    with open_site(context) as site:
        stop = threading.Event()
        worker = threading.Thread(target=_stage, args=(site, stop), name="vse-stager") if stager else None
        if worker is not None:
            worker.start()
        try:
            if door:
                _open_door(site)
            elif worker is not None:
                worker.join()
        finally:
            stop.set()
            if worker is not None:
                worker.join()


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


def _stage(site: Site, stop: threading.Event) -> None:
    def tell(news: News) -> None:
        if isinstance(news, FileStaged):
            err.print(f"staged {news.lfn}", markup=False)
        elif isinstance(news, FileFailed):
            err.print(f"{'given up' if news.final else 'failed'} {news.lfn}: {news.error}", markup=False)
        elif isinstance(news, LinkRefused):
            err.print(f"no link for {news.lfn}: {news.error}", markup=False)

    site.stager(tell).run(stop)
