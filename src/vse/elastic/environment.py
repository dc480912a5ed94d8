"""The environment scripts of a session and of its workers, in the order of seed 002 E.5.1.

Each script is looked for in the system-wide directory, then in the user's; the first one found is loaded, so
that what a site has set no user overrides. A script that is nowhere is skipped.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
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
        code, printed = _output_of(command)
        if code == 0:
            return printed.decode()
    except subprocess.TimeoutExpired as error:
        todo = "run it by hand to see what it waits for"
        raise BadSettings(wanted, f"it did not end within {PAYLOAD_S:.0f} s", todo) from error
    except OSError as error:
        raise BadSettings(
            wanted, error.strerror or str(error), "correct its first line, or its mode"
        ) from error
    except UnicodeDecodeError as error:
        todo = "let it print lines of shell only, the rest to its error output"
        raise BadSettings(wanted, "what it prints is not UTF-8 text", todo) from error
    raise BadSettings(wanted, f"it ended with {code}", "run it by hand to see why")


def _output_of(command: Sequence[str]) -> tuple[int, bytes]:
    """Return a program's exit code and what it printed; where it takes too long, all it began ends."""
    null = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdin=null, stdout=subprocess.PIPE, stderr=null, start_new_session=True
    ) as process:
        try:
            printed, _ = process.communicate(timeout=PAYLOAD_S)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, printed


def remote(directories: Sequence[Path]) -> str:
    """Return the script of a worker: the payload's output, then the others."""
    payload = run_payload(directories)
    return f"{payload}\n{compose(REMOTE, directories)}"


def local(directories: Sequence[Path]) -> str:
    """Return the script of a session (``vaf-enter``)."""
    return compose(LOCAL, directories)


def enter(script: str, command: Sequence[str], *, keeps_input: bool = True) -> list[str]:
    """Return an argument list, for an exec, that loads ``script`` and becomes ``command``.

    The script is in memory, seen by the process and its children only: never an argument, never a file.
    ``keeps_input`` False: the script finds nothing on its input, which is meant for ``command``.
    """
    descriptor = in_memory(script.encode())
    silent = "" if keeps_input else " </dev/null"
    loader = f'source /dev/fd/{descriptor}{silent}; exec {descriptor}<&-; exec "$@"'
    return ["/bin/bash", "--noprofile", "--norc", "-c", loader, "vaf-enter", *command]


def in_memory(content: bytes) -> int:
    """Return a descriptor, to be inherited, at the beginning of a file that has no name."""
    descriptor = os.memfd_create("vaf", 0)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.set_inheritable(descriptor, True)
    return descriptor
