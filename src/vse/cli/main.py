"""The ``vse`` command: options in front of every command, and the one place where errors are shown."""

from __future__ import annotations

import io
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from vse import __version__, errors
from vse.cli import (
    acl,
    analyse,
    audit,
    bench,
    cat,
    catalogue,
    checksum,
    chmod,
    collection,
    config,
    consistency,
    cp,
    dataset,
    dataset_check,
    dataset_lists,
    demo,
    doctor,
    find,
    get,
    init,
    ln,
    ls,
    mkdir,
    mv,
    pin,
    pool,
    quarantine,
    quota,
    register,
    request,
    rm,
    se,
    se_check,
    se_matrix,
    se_space,
    se_url,
    serve,
    stage,
    stage_out,
    stager,
    stat,
    status,
    tag,
    trash,
    unpin,
    upstream,
    upstream_prefetch,
    vaf,
    why,
    xrootd,
)
from vse.cli.context import Context
from vse.cli.helptext import Commands
from vse.cli.output import err

_INTERRUPTED = 130
_BROKEN_PIPE = 141

app = Commands(
    name="vse",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Every logical file of an experiment is a path at your site; what is missing comes by itself, "
    "verified; an analysis over a dataset name runs in parallel.\n\nNew here? Run [bold]vse demo[/bold].",
)

for command in (
    init,
    demo,
    ls,
    stat,
    find,
    register,
    mkdir,
    mv,
    rm,
    ln,
    chmod,
    acl,
    audit,
    stage,
    stage_out,
    status,
    why,
    pin,
    unpin,
    cat,
    get,
    cp,
    checksum,
    analyse,
    consistency,
    serve,
    doctor,
):
    command.add_to(app)
app.add_typer(config.app, name="config", rich_help_panel="Sites")
app.add_typer(bench.app, name="bench", rich_help_panel="Sites")
for command in (dataset_check, dataset_lists):
    command.add_to(dataset.app)
app.add_typer(dataset.app, name="dataset", rich_help_panel="Names")
app.add_typer(catalogue.app, name="catalogue", rich_help_panel="Names")
app.add_typer(tag.app, name="tag", rich_help_panel="Names")
app.add_typer(collection.app, name="collection", rich_help_panel="Names")
app.add_typer(trash.app, name="trash", rich_help_panel="Names")
se_matrix.add_to(se.app)
for command in (se_check, se_space, se_url):
    command.add_to(se.app)
app.add_typer(se.app, name="se", rich_help_panel="Sites")
app.add_typer(request.app, name="request", rich_help_panel="Data")
app.add_typer(pool.app, name="pool", rich_help_panel="Data")
app.add_typer(quota.app, name="quota", rich_help_panel="Data")
app.add_typer(quarantine.app, name="quarantine", rich_help_panel="Data")
upstream_prefetch.add_to(upstream.app)
app.add_typer(upstream.app, name="upstream", rich_help_panel="Sites")
app.add_typer(vaf.app, name="vaf", rich_help_panel="Data")
app.add_typer(stager.app, name="stager", rich_help_panel="Sites")
app.add_typer(xrootd.app, name="xrootd", rich_help_panel="Sites")


def _version(asked: bool) -> None:
    if asked:
        print(f"vse {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    site: Annotated[
        Path | None,
        typer.Option("--site", "-s", help="The site: its vse.toml or the directory of it.", metavar="PATH"),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting, e.g. --set stager.slots=4.", metavar="KEY=VALUE"),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no upstream catalogue; serve what they told before.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = Context(site, [*(setting or ()), *(["catalogue.offline=true"] if offline else ())])
    if debug:
        os.environ["VSE_DEBUG"] = "1"


def run() -> None:
    """Run the command line; end with the exit code of the error tree."""
    if sys.stdout is None:  # closed by who started us
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process lives
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()  # what cannot be written is told here, not at the interpreter's end
        if code == _INTERRUPTED:  # the command-line library turns Ctrl-C into this
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except errors.VseError as error:
        _show(error)
        sys.exit(errors.exit_code(error))
    except (KeyboardInterrupt, typer.Abort):
        err.print("\n[yellow]Stopped.[/yellow] Nothing is lost: the same command goes on where this one was.")
        sys.exit(_INTERRUPTED)
    except (BrokenPipeError, SystemExit) as ended:
        # the command-line library answers a closed pipe by ending with 1
        if isinstance(ended, SystemExit) and not isinstance(ended.__context__, BrokenPipeError):
            raise
        _write_no_more()
        sys.exit(_BROKEN_PIPE)
    except Exception as error:
        usage = _as_usage_error(error)
        if usage is not None:
            sys.exit(usage)
        said = _as_said_by_the_machine(error)
        _write_no_more()
        _show(said or error)
        sys.exit(errors.exit_code(said) if said else 1)


def _write_no_more() -> None:
    """Let what is still to be written vanish, so that the interpreter does not try it again at its end."""
    with suppress(io.UnsupportedOperation):  # it is no file, where a test listens
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _as_said_by_the_machine(error: Exception) -> errors.VseError | None:
    """Return what a person can mend: no space, no permission, no such place."""
    from vse.storage.drivers.os_errors import KINDS

    if not isinstance(error, OSError) or error.errno not in KINDS:
        return None
    kind = KINDS[error.errno]
    wanted = f"use {error.filename}" if error.filename else "write what was asked for"
    todo = "make room on the disk that it goes to" if kind is errors.StorageFull else "--debug shows where"
    said = kind(wanted, error.strerror or str(error), todo)
    said.__cause__ = error
    return said


def _as_usage_error(error: Exception) -> int | None:
    """Let the command-line library show its own kind of error; return its exit code."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if callable(show) and isinstance(code, int):
        _say_what_was_given(error)
        show()
        return code
    return None


def _say_what_was_given(error: Any) -> None:
    """Complete what is said of a value that cannot be one."""
    reasons = getattr(error.__cause__, "errors", None)  # pydantic's
    if callable(reasons) and isinstance(getattr(error, "message", None), str):
        first = reasons()[0]
        said = first["msg"].partition(", unable to parse")[0]
        error.message = f"{said}, not {str(first.get('input'))!r}"


def _show(error: Exception) -> None:
    if os.environ.get("VSE_DEBUG"):
        err.print("".join(traceback.format_exception(error)), markup=False)
    message = str(error) if isinstance(error, errors.VseError) else f"{type(error).__name__}: {error}"
    err.print("[bold red]error:[/bold red]", end=" ")
    err.print(message, markup=False)
    if not isinstance(error, errors.VseError) and not os.environ.get("VSE_DEBUG"):
        err.print("This is a fault of VSE itself; --debug shows where. Please report it.", markup=False)
