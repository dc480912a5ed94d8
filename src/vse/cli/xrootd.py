"""``vse xrootd``: an xrootd in front of the site whose missing files come when they are opened."""

from __future__ import annotations

import json
import os
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vse.cli.context import Json, open_site
from vse.cli.helptext import Commands
from vse.cli.output import emit_json, err, out
from vse.errors import BadRequest, BadSettings, VseError

app = Commands(help="An xrootd in front of the site whose missing files come when they are opened.")

_FAILED = 2
User = Annotated[str, typer.Option(help="Who xrootd runs as, when root starts it.", metavar="USER")]


class Mode(StrEnum):
    REDIRECT = "redirect"
    STAGECMD = "stagecmd"


@app.command()
def config(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Where to write it; made where it is missing.")],
    mode: Annotated[
        Mode,
        typer.Option(
            help="redirect: the link tree, and `vse serve xrootd` for what is missing in it; "
            "stagecmd: xrootd runs a program for each missing file.",
            metavar="redirect|stagecmd",
        ),
    ] = Mode.REDIRECT,
    port: Annotated[
        int | None, typer.Option(help="Of xrootd; default: that of doors.xrootd.data.", metavar="PORT")
    ] = None,
    user: User = "xrootd",
) -> None:
    """Write the configuration of an xrootd (Debian's xrootd-server 5.5), with the programs that it calls.

    Keep DIRECTORY below one that is not the user's own: xrootd closes those to all others.

    Examples:

      vse xrootd config /etc/vse-xrootd

      vse xrootd config --mode stagecmd --port 11094 --user anna /srv/vse-xrootd
    """
    from vse.app.xrootd_setup import setup_for, write_setup

    with open_site(context) as site:
        setup = setup_for(site, mode.value, directory, port)
        for path in write_setup(setup, user):
            out.print(f"wrote {path}", markup=False)
        as_root = os.geteuid() == 0
        out.print(f"start it:  {shlex.join(setup.command(user if as_root else ''))}", markup=False)
        if mode is Mode.REDIRECT:
            out.print(
                f"and:       {shlex.join(['vse', '-s', str(site.root), 'serve', 'xrootd'])}", markup=False
            )
            data = site.settings.doors.xrootd.data
            if not data.endswith(f":{setup.port}"):
                err.print(
                    f"[yellow]doors.xrootd.data is {data!r}[/yellow]: it must name this xrootd, "
                    f"HOST:{setup.port}"
                )
        out.print(f"then open: root://HOST:{setup.port}/{setup.export}/LFN", markup=False)


@app.command()
def check(
    context: typer.Context,
    directory: Annotated[Path | None, typer.Argument(help="What `vse xrootd config` wrote.")] = None,
    user: User = "xrootd",
    as_json: Json = False,
) -> None:
    """Look whether all is there: programs, rights of the user, the servers. Exit code 2 if something is not.

    Examples:

      vse xrootd check

      vse xrootd check /etc/vse-xrootd --user anna
    """
    from vse.app.xrootd_setup import check as look

    with open_site(context) as site:
        findings = list(look(site, directory, user))
    if as_json:
        emit_json([one._asdict() for one in findings])
    else:
        for one in findings:
            out.print("[green]ok[/green]  " if not one.todo else "[red]no[/red]  ", end="")
            out.print(
                f"{one.what}: {one.found}{f'. {one.todo.capitalize()}' if one.todo else ''}", markup=False
            )
    wrong = sum(bool(one.todo) for one in findings)
    if wrong:
        raise BadSettings("serve root:// here", f"{wrong} of {len(findings)} things are not as they must be")


@app.command()
def stage(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The missing file, as clients name it.", metavar="LFN")],
    local: Annotated[Path, typer.Argument(help="Where it is to appear.", metavar="LOCALPATH")],
    move: Annotated[
        bool, typer.Option("--move/--no-move", help="Move it here, or leave that to a stager that runs.")
    ] = True,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for it; 0 is no limit.", metavar="SECONDS")
    ] = 3600.0,
) -> None:
    """Bring one missing file: what xrootd's `oss.stagecmd sync` calls.

    It appears as a link to the copy here (or a copy of one elsewhere). If it cannot be had, LOCALPATH.fail
    holds the reason and the exit code is 2.

    Example:

      vse xrootd stage /vse/lhc/a.root /srv/vse-xrootd/tree/vse/lhc/a.root
    """
    from vse.app.xrootd_setup import stage_to, write_failure

    try:
        with open_site(context) as site:
            stage_to(site, name, local, moving=move, timeout_s=timeout)
    except Exception as error:  # whatever it is: without the file of the reason, xrootd tries for ever
        write_failure(local, str(error))
        err.print(str(error), markup=False)
        raise typer.Exit(_FAILED) from error


@app.command()
def prepare(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="NUMBER stage|prep|cancel|query [PATH ...], as xrootd writes it.", metavar="REQUEST"
        ),
    ] = None,
    spool: Annotated[
        Path | None, typer.Option(help="Carry out what was written down there.", metavar="DIRECTORY")
    ] = None,
) -> None:
    """Carry out a prepare: what xrootd's libXrdOfsPrepGPI.so calls. Files are asked for, not waited for.

    Examples:

      vse xrootd prepare -- 17:anna.42@host stage /vse/lhc/a.root /vse/lhc/b.root

      vse xrootd prepare -- 17:anna.42@host query /vse/lhc/a.root

      vse xrootd prepare --spool /etc/vse-xrootd/spool
    """
    from vse.app.xrootd import XrootdOpening
    from vse.app.xrootd_setup import handle_prepare, take_spool
    from vse.doors.xrootd.port import prepared_as_dict

    failed: VseError | None = None
    with open_site(context) as site:
        if spool is not None:
            for what, error in take_spool(site, spool):
                err.print(f"{what}: {error}", markup=False)
                failed = None if words else error
        if words and len(words) > 1 and words[1] == "query":
            files = XrootdOpening(site).prepared(words[0], words[2:])
            print(json.dumps(prepared_as_dict(words[0], files), separators=(",", ":")))
        elif words:
            handle_prepare(site, words)
        elif spool is None:
            raise BadRequest("prepare files", "there is no request", "NUMBER stage PATH ..., or --spool")
    if failed is not None:
        raise failed
