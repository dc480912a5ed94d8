"""``vse serve xrootd``: the root:// redirector of this site, in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from vse.cli.context import open_site
from vse.cli.output import out


def add_to(app: typer.Typer) -> None:
    app.command("xrootd")(serve_xrootd)


def serve_xrootd(
    context: typer.Context,
    stager: Annotated[
        bool,
        typer.Option("--stager/--no-stager", help="Move here what is asked for, or leave it to another."),
    ] = True,
) -> None:
    """Run the root:// redirector until Ctrl-C: whoever opens a missing file waits for it and then reads it.

    It listens at doors.xrootd.host and .port, for reading, to whoever reaches it. Clients read from the
    xrootd that `vse xrootd config` describes.

    Examples:

      vse serve xrootd

      vse --set doors.xrootd.port=11095 serve xrootd --no-stager
    """
    from vse.app.xrootd import Served
    from vse.monitor.log import log_to_stderr

    log_to_stderr()
    with open_site(context) as site:

        def ready(address: str) -> None:
            out.print(f"Redirecting for {site.settings.site.name} at root://{address}")

        Served(site, stager).run(ready)
