"""The environment scripts of a session and of its workers, in the order of seed 002 E.5.1.

Each script is looked for in the system-wide directory, then in the user's; the first one found is loaded, so
that what a site has set no user overrides. A script that is nowhere is skipped.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vse.errors import BadSettings

LOCAL = ("common.before", "local.before", "local.conf", "common.after", "local.after")
REMOTE = ("common.before", "remote.before", "remote.conf", "common.after", "remote.after")
PAYLOAD = "payload"
PAYLOAD_S = 60.0


def system_directory() -> Path:
    """Return where the scripts of the installation are: ``etc/vaf`` beside its ``bin``."""
    return Path(sys.prefix) / "etc" / "vaf"


def user_directory() -> Path:
    return Path.home() / ".vaf"


def find(name: str, directories: Sequence[Path]) -> Path | None:
    """Return the first script of that name; ``directories`` system-wide first."""
    return next((path for path in (one / name for one in directories) if path.is_file()), None)


def compose(names: Sequence[str], directories: Sequence[Path]) -> str:
    """Return one bash script made of those that are there, in the order of ``names``.

    Raises `BadSettings` for one that cannot be read.
    """
    parts = []
    for name in names:
        path = find(name, directories)
        if path is None:
            continue
        try:
            parts.append(f"# {name}: {shlex.quote(str(path))}\n{path.read_text()}\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"load the environment script {path}", str(error)) from error
    return "".join(parts)


def run_payload(directories: Sequence[Path]) -> str:
    """Run ``payload`` and return what it prints: lines of shell, with secrets in them. Empty without one.

    Raises `BadSettings` where it fails; what it printed is in no message.
    """
    path = find(PAYLOAD, directories)
    if path is None:
        return ""
    command = [str(path)] if os.access(path, os.X_OK) else ["/bin/bash", str(path)]
    wanted = f"run the environment's payload {path}"
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PAYLOAD_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadSettings(wanted, type(error).__name__) from error
    if done.returncode != 0:
        raise BadSettings(wanted, f"it ended with {done.returncode}", "run it by hand to see why")
    return done.stdout


def remote(directories: Sequence[Path]) -> str:
    """Return the script of a worker: the payload's output, then the others."""
    payload = run_payload(directories)
    return f"{payload}\n{compose(REMOTE, directories)}"


def local(directories: Sequence[Path]) -> str:
    """Return the script of a session (``vaf-enter``)."""
    return compose(LOCAL, directories)


def enter(script: str, command: Sequence[str]) -> list[str]:
    """Return an argument list, for an exec, that loads ``script`` and becomes ``command``.

    The script is in memory, seen by the process and its children only: never an argument, never a file.
    """
    descriptor = in_memory(script.encode())
    loader = f'source /dev/fd/{descriptor}; exec {descriptor}<&-; exec "$@"'
    return ["/bin/bash", "--noprofile", "--norc", "-c", loader, "vaf-enter", *command]


def in_memory(content: bytes) -> int:
    """Return a descriptor, to be inherited, at the beginning of a file that has no name."""
    descriptor = os.memfd_create("vaf", 0)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.set_inheritable(descriptor, True)
    return descriptor
