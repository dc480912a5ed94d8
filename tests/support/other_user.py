"""Commands run as another user, wherever the interpreter of these tests lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.command_line import Answer, clean_environment

AS_NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]
_PASS = "dac_override"
_PASS_READING = "dac_read_search"


def open_to_others(program: Path) -> bool:
    """Whether any user may run a program: it, and where its links lead to."""
    places = {place for path in (program.absolute(), program.resolve()) for place in path.parents}
    return all(place.stat().st_mode & 0o001 for place in places)


def with_our_python(command: list[str], *, writing: bool = True) -> list[str]:
    """Return a ``setpriv`` command that can run our interpreter.

    Where that lies in a directory which is closed to others (one in root's home), the user is let through
    file permissions (those of reading only, where not ``writing``); what VSE itself refuses to them, it
    refuses all the same.
    """
    if open_to_others(Path(sys.executable)):
        return command
    program, *words = command
    right = _PASS if writing else _PASS_READING
    return [program, f"--inh-caps=+{right}", f"--ambient-caps=+{right}", *words]


@contextmanager
def shared_place() -> Iterator[Path]:
    """A directory that others than its owner may be let into: those of pytest are closed to them."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a command as somebody else")
    place = Path(tempfile.mkdtemp(prefix="vse-shared-"))
    try:
        yield place
    finally:
        shutil.rmtree(place)


def open_to_all(site: Path) -> None:
    """Let everybody read and write the files of a site in a shared place."""
    site.parent.chmod(0o755)
    for path in (site, *site.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def as_nobody(site: Path, *words: str, writing: bool = True) -> Answer:
    """Run ``vse`` in the directory of a site as the user nobody, whatever the environment says of a user."""
    command = [*AS_NOBODY, sys.executable, "-m", "vse.cli", *words]
    done = subprocess.run(
        with_our_python(command, writing=writing),
        cwd=site,
        env={**clean_environment(), "USER": "root", "LOGNAME": "root", "HOME": "/"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)
